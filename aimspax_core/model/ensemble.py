"""The committee of the ensemble's present weights; networks are built once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from aimspax_core.errors import ModelError
from aimspax_core.model.checkpoint import read_checkpoint
from aimspax_core.model.committee import Committee
from aimspax_core.model.mace.build import Constants, build, set_constants
from aimspax_core.model.mace.cueq import require_kernels, to_cueq
from aimspax_core.settings.model import ModelSettings


class Ensemble:
    """Gives committees of members' checkpoints; a new version costs reading the weights only.

    Args:
        settings: The members' settings; the committee runs on `MISC.device`.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
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
            self._loaded = ()  # until all are read, the networks belong to no version
            for index, path in enumerate(wanted):
                self._load(index, path)
            if self._committee is None or len(self._committee) != len(wanted):
                self._models = self._models[: len(wanted)]
                self._committee = Committee(self._models, device=self._settings.MISC.device)
            self._loaded = wanted
        return self._committee

    def _load(self, index: int, path: Path) -> None:
        """Put a checkpoint's averaged weights and constants into the network number `index`."""
        state = read_checkpoint(path)
        constants = Constants(**state["constants"])
        if index == len(self._models):
            seed = state["seed"]
            built = build(self._settings, state["elements"], constants, seed)
            self._models.append(to_cueq(built, self._settings))
        model = self._models[index]
        averages, best = state["learner"]["ema"], state["best_weights"]
        try:
            require_kernels(state["learner"], self._settings)
            model.load_state_dict(state["learner"]["model"])
            if best is not None:
                averages = {"shadow_params": [best[n] for n, _ in model.named_parameters()]}
            if averages is not None:
                shadow = averages["shadow_params"]
                with torch.no_grad():
                    for parameter, average in zip(model.parameters(), shadow, strict=True):
                        parameter.copy_(average)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"checkpoint {path} does not fit these settings: {error}") from error
        set_constants(model, constants, state["elements"])
