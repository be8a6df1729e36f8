"""Members that begin as somebody's trained models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aimspax_core.errors import ModelError
from aimspax_core.model.family import family_of
from aimspax_core.model.member import Member
from aimspax_core.settings.model import ModelSettings


def adopt(
    model_path: Path, settings: ModelSettings, tag: str, seed: int, checkpoint_path: Path
) -> tuple[int, ...]:
    """Make a member of a trained model: write a checkpoint that active learning goes on from.

    The member is in `Stage.INITIAL` at epoch 0, has weights and constants of the file in the number
    format of the settings, and keeps the file's atomic energies when its training set grows,
    unless the settings give some. Where the family asks for it, it keeps all constants.

    Args:
        model_path: A model file of the family that the settings name.
        settings: Settings of the members; its ARCHITECTURE must be that of the file.
        tag: Name of the member.
        seed: The member's seed, for the order of its batches.
        checkpoint_path: What to write.

    Returns:
        The atomic numbers that the model knows, sorted.

    Raises:
        ModelError: The file cannot be read, is of another architecture, or the family takes no
            given models.
    """
    family = family_of(settings)
    if family.given_model is None:
        raise ModelError(f"a campaign cannot begin from {settings.family.name} models")
    given = family.given_model(Path(model_path), settings, seed)
    member = Member(settings, given.elements, tag, seed, given.constants, given.model)
    named = settings.ARCHITECTURE.atomic_energies
    member.keeps_energies = named is None
    if family.keeps_given_constants:
        member.keeps_scaling = True
        if named is not None:
            known = {z: float(e) for z, e in named.items() if z in given.elements}
            energies = given.constants.atomic_energies | known
            member.set_constants(replace(given.constants, atomic_energies=energies))
    member.save(Path(checkpoint_path))
    return given.elements
