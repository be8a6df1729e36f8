"""Data that a model was trained on before, trained on again beside the labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aimspax_core.errors import ModelError
from aimspax_core.labels.dataset import DataKeys
from aimspax_core.model.assessing import labelled_frames
from aimspax_core.model.family import Graph, family_of
from aimspax_core.settings.model import ModelSettings
from aimspax_core.structures import symbols_text


def replayed(
    file: Path, keys: DataKeys, settings: ModelSettings, elements: Sequence[int], seed: int
) -> list[Graph]:
    """Return graphs of what a member trains on beside its labels, in the order of the file.

    Of the frames whose elements the models know, at most `TRAINING.num_samples_pt` are drawn.

    Args:
        file: A labelled dataset.
        keys: What the quantities are called in it.
        settings: Of the members.
        elements: Atomic numbers that they know.
        seed: The member's: each draws its own.

    Raises:
        CampaignError: The file cannot be read, or a frame has no energy or forces.
        ModelError: There is no such frame.
    """
    known = set(elements)
    frames = [
        atoms
        for atoms in labelled_frames(file, keys, settings)
        if known.issuperset(atoms.numbers.tolist())
    ]
    if not frames:
        raise ModelError(f"{file} has no frame of {symbols_text(elements)} alone")
    draw = np.random.default_rng([seed, len(frames)])
    size = min(settings.TRAINING.num_samples_pt, len(frames))
    chosen = sorted(draw.choice(len(frames), size, replace=False))
    make = family_of(settings).replay
    if make is None:
        raise ModelError(f"{settings.family.name} models cannot replay data")
    return make([frames[int(index)] for index in chosen], elements, settings)
