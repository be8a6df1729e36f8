"""The committee of the members' present weights; models are built once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from aimspax_core.model.committee import Committee
from aimspax_core.model.family import family_of
from aimspax_core.model.trained import trained_model
from aimspax_core.settings.model import ModelSettings


class Ensemble:
    """Gives committees of members' checkpoints; a new version costs reading the weights only.

    Args:
        settings: The members' settings; the committee runs on `MISC.device`, by `MISC.kernel`.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self._family = family_of(settings)
        self._models: list[torch.nn.Module] = []
        self._loaded: tuple[Path, ...] = ()
        self._committee: Committee | None = None

    def committee(self, checkpoints: Sequence[Path]) -> Committee:
        """Return the committee of the members' averaged weights.

        Args:
            checkpoints: What `Member.save` wrote, one file a member.

        Raises:
            ModelError: A checkpoint is missing or does not fit the settings.
        """
        wanted = tuple(checkpoints)
        if self._committee is None or wanted != self._loaded:
            self._committee = None  # until all are read, the models belong to no version
            for index, path in enumerate(wanted):
                self._load(index, path)
            del self._models[len(wanted) :]
            misc = self._settings.MISC
            evaluator = self._family.evaluator(self._models, misc.device, kernel=misc.kernel)
            self._committee, self._loaded = Committee(evaluator), wanted
        return self._committee

    def _load(self, index: int, path: Path) -> None:
        """Put a checkpoint into the model number `index`."""
        there = self._models[index] if index < len(self._models) else None
        self._models[index : index + 1] = [trained_model(path, self._settings, there)]
