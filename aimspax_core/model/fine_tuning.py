"""Members that begin: from random weights, or from a trained model that is to be fine-tuned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aimspax_core.errors import ModelError
from aimspax_core.model.energies import Moves, solve
from aimspax_core.model.family import Graph, family_of
from aimspax_core.model.member import Member
from aimspax_core.settings.fine_tuning import Pretrained
from aimspax_core.settings.model import ModelSettings


def begin_member(
    settings: ModelSettings,
    elements: Sequence[int],
    tag: str,
    seed: int,
    train: Sequence[Graph],
    directory: Path,
) -> Member:
    """Return a fresh member in `Stage.INITIAL`.

    Args:
        settings: The user's.
        elements: Atomic numbers that the member is to know.
        tag: Its name.
        seed: Its own.
        train: Its training set.
        directory: The run directory, where names of files in the settings begin.

    Raises:
        ModelError: The model that it is to begin from cannot be used.
    """
    source = settings.TRAINING.pretrained(directory)
    if source is None:
        return Member.create(settings, elements, tag, seed, train)
    return tuned_member(settings, elements, tag, seed, train, source)


def tuned_member(
    settings: ModelSettings,
    elements: Sequence[int],
    tag: str,
    seed: int,
    train: Sequence[Graph],
    source: Pretrained,
) -> Member:
    """Return a member with weights and constants of a trained model.

    Of weights in a network of the settings, constants are those of the training set.

    The model's energies of free atoms are of its own reference. For the new one they are those of
    the settings, or follow by least squares from what the model misses of the training set; where
    compositions do not determine all of them, those nearest to the model's are taken.

    Raises:
        ModelError: The model cannot be used.
    """
    family = family_of(settings)
    if family.pretrained is None:
        raise ModelError(f"{settings.family.name} models cannot be fine-tuned")
    given = family.pretrained(source, settings, elements, seed)
    named = settings.ARCHITECTURE.atomic_energies
    constants: Any = given.constants
    if source.model is None:  # weights say no more than themselves, and the energies among them
        constants = family.constants_of(train, given.elements, settings, constants.atomic_energies)
        family.set_constants(given.model, constants, given.elements)
    if named is not None:
        energies = {z: float(named[z]) for z in given.elements}
        constants = replace(constants, atomic_energies=energies)
        family.set_constants(given.model, constants, given.elements)
    member = Member(settings, given.elements, tag, seed, constants, given.model)
    member.keeps_scaling = True
    if named is None:
        solve(member, train, Moves.ELEMENTS)
    return member
