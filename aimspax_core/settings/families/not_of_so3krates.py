"""Keys of other sections that ask So3krates and SO3LR for what they do not have."""

from __future__ import annotations

from collections.abc import Iterator

from aimspax_core.settings.families.row import ModelSections
from aimspax_core.settings.fine_tuning import PARTS

OF_SO3LR = {
    "zbl": "zbl_repulsion_bool",
    "hirshfeld": "dispersion_energy_bool",
    "partial_charges": "electrostatic_energy_bool",
}
"""Keys of ARCHITECTURE without which a model has no such part; So3krates has none of them."""


def not_of_these(settings: ModelSections) -> Iterator[str]:
    """Yield keys of other sections that ask for what these families do not have."""
    name = settings.ARCHITECTURE.model_choice
    if settings.TRAINING.swa:
        yield f"TRAINING.swa: found True; {name} models have no second stage"
    training = settings.TRAINING
    if training.freeze:
        yield (
            f"TRAINING.freeze: found {training.freeze}, which counts layers of MACE; allowed: 0, "
            "and freeze_embedding and the like"
        )
    if training.replays:
        yield "TRAINING.multiheads_finetuning: found True, which MACE alone has; allowed: False"
    for part in training.frozen_parts:
        if part in OF_SO3LR and not getattr(settings.ARCHITECTURE, OF_SO3LR[part], False):
            yield (
                f"TRAINING.freeze_{part}: found True, but these {name} models have no "
                f"{PARTS[part]}; allowed: False"
            )
    if settings.MISC.kernel == "lean":
        yield f"MISC.kernel: found lean, which {name} models do not have; allowed: auto"
    if settings.MISC.enable_cueq:
        yield f"MISC.enable_cueq: found True; {name} models have no such kernels"
