"""The committee of the members' present weights; models are built once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from aimspax_core.errors import ModelError
from aimspax_core.model.checkpoint import read_checkpoint
from aimspax_core.model.committee import Committee
from aimspax_core.model.family import family_of
from aimspax_core.model.learner import require_kernels
from aimspax_core.settings.model import ModelSettings


class Ensemble:
    """Gives committees of members' checkpoints; a new version costs reading the weights only.

    Args:
        settings: The members' settings; the committee runs on `MISC.device`.
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
            self._loaded = ()  # until all are read, the models belong to no version
            for index, path in enumerate(wanted):
                self._load(index, path)
            if self._committee is None or len(self._committee) != len(wanted):
                self._models = self._models[: len(wanted)]
                device = self._settings.MISC.device
                self._committee = Committee(self._family.evaluator(self._models, device))
            self._loaded = wanted
        return self._committee

    def _load(self, index: int, path: Path) -> None:
        """Put a checkpoint's averaged weights and constants into the model number `index`."""
        state = read_checkpoint(path)
        try:
            constants = self._family.constants(**state["constants"])
            require_kernels(state["learner"], self._family.kernels(self._settings))
            if index == len(self._models):
                elements, seed = state["elements"], state["seed"]
                built = self._family.build(self._settings, elements, constants, seed)
                self._models.append(built)
            _take_averages(self._models[index], state)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ModelError(f"checkpoint {path} does not fit these settings: {error}") from error
        self._family.set_constants(self._models[index], constants, state["elements"])


def _take_averages(model: torch.nn.Module, state: dict[str, Any]) -> None:
    """Load a checkpoint's weights: of the best epoch, averaged, or raw, the first there are."""
    averages, best = state["learner"]["ema"], state["best_weights"]
    model.load_state_dict(state["learner"]["model"])
    if best is not None:
        averages = {"shadow_params": [best[name] for name, _ in model.named_parameters()]}
    if averages is not None:
        with torch.no_grad():
            for parameter, average in zip(
                model.parameters(), averages["shadow_params"], strict=True
            ):
                parameter.copy_(average)
