"""SO3LR as it comes with its package, or of a file: a foundation model."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from ase.calculators.calculator import Calculator

from aimspax_core.model.committee import Committee
from aimspax_core.model.driver_calculator import DriverCalculator
from aimspax_core.model.so3krates.evaluator import So3kratesEvaluator


class So3lrFoundation:
    """A foundation model, as a calculator and as a driver.

    Args:
        model: With its cutoff radii; it is taken over.
        device: Where it runs.
        dtype: "float32" or "float64".
    """

    def __init__(self, model: torch.nn.Module, device: str, dtype: str) -> None:
        self._model, self._device, self._dtype = model, device, dtype

    @cached_property
    def calculator(self) -> Calculator:
        """The model as a calculator of ASE."""
        return DriverCalculator(self.driver)

    @cached_property
    def driver(self) -> Committee:
        """The model in the place of a committee; M is the number of its heads, mostly 1."""
        return Committee(So3kratesEvaluator([self._model], self._device, self._dtype))


def packaged_file() -> Path:
    """Return the model file that comes with the package."""
    return Path(
        str(importlib.resources.files("so3krates_torch") / "pretrained" / "so3lr" / "so3lr.model")
    )


def foundation(
    load: Callable[[Path], torch.nn.Module],
    device: str = "cpu",
    dtype: str = "float32",
    kernel: str = "auto",
    file: str | None = None,
    r_max_lr: float | None = None,
    dispersion_lr_damping: float | None = None,
) -> So3lrFoundation:
    """Load SO3LR; the file of the package does not say how far its long range goes.

    What neither the arguments nor a file say is as usual (`USUAL_FAR`).

    Args:
        load: Loads a model file; it is a pickle, so only of the package, or one the user named.
        device: Where it runs.
        dtype: Its number format.
        kernel: `MISC.kernel`; there is one way to compute.
        file: The user's; None: the weights of the package.
        r_max_lr: Cutoff radius (Å) of electrostatics and dispersion; None: the file's.
        dispersion_lr_damping: Width (Å) over which dispersion fades out before that; None: the
            file's.

    Raises:
        ModelError: The file cannot be read, or holds no SO3LR.
    """
    model: Any = load(packaged_file() if file is None else Path(file))
    asked = {"r_max_lr": r_max_lr, "dispersion_energy_cutoff_lr_damping": dispersion_lr_damping}
    for name, value in asked.items():
        if value is not None:
            setattr(model, name, value)
    return So3lrFoundation(model, device, dtype)
