"""Models that this process has built: another one of the same kind is a copy.

Building a MACE model is e3nn's generation of code, which takes a second; a copy takes a twentieth.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache

import torch

from aimspax_core.model.family import Constants, family_of
from aimspax_core.model.recent import Recent
from aimspax_core.settings.model import ModelSettings

MAX_SKELETONS = 4
"""Kinds of models, by their settings and elements."""


class Skeletons:
    """Built models of which nobody uses the weights; one for each settings and elements."""

    def __init__(self) -> None:
        self._kept: Recent[tuple[str, tuple[int, ...]], torch.nn.Module] = Recent(MAX_SKELETONS)
        self._lock = threading.Lock()

    def build(
        self, settings: ModelSettings, elements: Sequence[int], constants: Constants, seed: int
    ) -> torch.nn.Module:
        """Build a model with the weights of a seed; see `family.Build`.

        Raises:
            ModelError: These settings cannot be built.
        """
        family = family_of(settings)
        model = family.build(settings, elements, constants, seed)
        with self._lock:
            self._kept.get([_key(settings, elements)], lambda _: (family.copy(model), 1.0))
        return model

    def copy(
        self, settings: ModelSettings, elements: Sequence[int], constants: Constants
    ) -> torch.nn.Module:
        """Return a model with these constants, whose weights mean nothing: load others into it.

        Raises:
            ModelError: These settings cannot be built.
        """
        family = family_of(settings)
        with self._lock:
            (kept,) = self._kept.get(
                [_key(settings, elements)],
                lambda _: (family.build(settings, elements, constants, 0), 1.0),
            )
            copied = family.copy(kept)
        family.set_constants(copied, constants, elements)
        return copied

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()


@cache
def skeletons() -> Skeletons:
    """Return those of this process."""
    return Skeletons()


def _key(settings: ModelSettings, elements: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    return settings.model_dump_json(), tuple(elements)
