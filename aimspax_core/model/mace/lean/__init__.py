"""A lean form of MACE: the same network from few, large operations.

The model, a `torch.nn.Module` of MACE's own classes, stays the owner of all weights, buffers and
names. `why_not` says why a model has no lean form; `Lean` is the model in training, and
`LeanEvaluator` a committee of models in MD. What both compute is `network.node_energies`, a pure
function of tensors; its inputs come from `weights`, `geometry`, `neighbours` and `radial`, and
`outputs` makes forces and stress of its derivatives. `forms` has training compiled.
"""

from aimspax_core.model.mace.lean.applicable import why_not
from aimspax_core.model.mace.lean.evaluator import LeanEvaluator
from aimspax_core.model.mace.lean.forms import forms
from aimspax_core.model.mace.lean.training import Lean

__all__ = ["Lean", "LeanEvaluator", "forms", "why_not"]
