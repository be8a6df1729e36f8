"""Which MACE models have a lean form."""

from __future__ import annotations

from typing import Any

from e3nn import nn, o3
from mace import modules
from mace.modules import blocks, lora, radial
from mace.modules.symmetric_contraction import Contraction

from aimspax_core.model.mace.lean.shape import DENSITY, RESIDUAL

_INTERACTIONS = (blocks.RealAgnosticInteractionBlock, *RESIDUAL, *DENSITY)
_LORA = (lora.LoRAO3Linear, lora.LoRADenseLinear, lora.LoRAFCLayer)
_BASES = (radial.BesselBasis, radial.GaussianBasis, radial.ChebychevBasis)


def why_not(model: Any) -> str | None:
    """Return, in a few words, why a model has no lean form; none if it has one.

    Exact classes count: a class of another package, or a subclass, may compute anything.
    """
    if type(model) not in (modules.MACE, modules.ScaleShiftMACE):
        return f"the model is a {type(model).__name__}"
    if any(isinstance(part, _LORA) for part in model.modules()):
        return "what is trained is beside the weights (LoRA)"
    for name in ("pair_repulsion", "joint_embedding"):
        if hasattr(model, name):
            return f"the model has a {name.replace('_', ' ')}"
    if len(getattr(model, "heads", None) or ["Default"]) > 1:
        return "the model has several heads"
    if len(model.readouts) != len(model.interactions):
        return "the model reads out its last layer only"
    return next(filter(None, map(_why_not_layer, model.interactions, model.products)), None) or (
        _why_not_ends(model)
    )


def _why_not_layer(interaction: Any, product: Any) -> str | None:
    """Return why an interaction with its product has no lean form."""
    if type(interaction) not in _INTERACTIONS:
        return f"the interaction is a {type(interaction).__name__}"
    if type(interaction.conv_tp) is not o3.TensorProduct or hasattr(interaction, "conv_fusion"):
        return "the model uses kernels of another package"
    if type(interaction.conv_tp_weights) is not nn.FullyConnectedNet:
        return "the radial network is not e3nn's"
    natural = o3.Irreps.spherical_harmonics(11)
    irreps = (interaction.node_feats_irreps, interaction.target_irreps, interaction.hidden_irreps)
    if any(ir not in natural for one in irreps for _, ir in o3.Irreps(one)):
        return "features have the parity that spherical harmonics lack"
    if getattr(product, "use_agnostic_product", False):
        return "the product does not know elements"
    contractions = getattr(product.symmetric_contractions, "contractions", [None])
    if any(type(one) is not Contraction for one in contractions):
        return "the model uses kernels of another package"
    return None


def _why_not_ends(model: Any) -> str | None:
    """Return why embeddings or readouts have no lean form."""
    embedding = model.radial_embedding
    if type(embedding.bessel_fn) not in _BASES:
        return f"the radial basis is a {type(embedding.bessel_fn).__name__}"
    if any(parameter.requires_grad for parameter in embedding.parameters()):
        return "the radial basis is trained, too"
    if not getattr(embedding, "apply_cutoff", True):
        return "the cutoff is not applied to the radial basis"
    *linear, last = model.readouts
    kinds = [blocks.LinearReadoutBlock] * len(linear)
    if [type(one) for one in linear] != kinds or type(last) not in (
        blocks.LinearReadoutBlock,
        blocks.NonLinearReadoutBlock,
    ):
        return "the readouts are not MACE's usual ones"
    hidden = getattr(last, "hidden_irreps", o3.Irreps("0e"))
    if any(ir != o3.Irrep("0e") for _, ir in hidden):
        return "the last readout's hidden layer is not scalar"
    return None
