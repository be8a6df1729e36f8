"""MACE models that are not trained here: foundation models and files of teachers."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.mixing import SumCalculator
from mace.calculators import MACECalculator, mace_mp
from mace.calculators.foundations_models import (
    download_mace_mp_checkpoint,
    mace_mp_names,
    mace_mp_urls,
)

from aimspax_core.errors import ModelError
from aimspax_core.model.committee import Committee
from aimspax_core.model.driver_calculator import DriverCalculator
from aimspax_core.model.mace.kernel import evaluator, foundation_form
from aimspax_core.model.mace.model_files import load_model, model_lock
from aimspax_core.prediction import Prediction


class Driver:
    """One foundation model in the place of a committee, with M = 1.

    Args:
        committee: The foundation model.
        dispersion: Calculator of what is added for each structure, or none.
    """

    def __init__(self, committee: Committee, dispersion: Calculator | None = None) -> None:
        self._committee, self._dispersion = committee, dispersion

    def __len__(self) -> int:
        """Return the number of members, 1."""
        return len(self._committee)

    def evaluate(self, structures: Sequence[Atoms], stress: bool = False) -> list[Prediction]:
        """Predict energy, forces and, if asked for, stress; see `Committee.evaluate`.

        Raises:
            ModelError: A structure has an element that the model was not made for.
        """
        found = self._committee.evaluate(structures, stress)
        if self._dispersion is None:
            return found
        return [
            _with_dispersion(self._dispersion, atoms, prediction)
            for atoms, prediction in zip(structures, found, strict=True)
        ]


class MaceFoundation:
    """A foundation model, as a calculator and as a driver.

    Args:
        calculator: Of `foundation_calculator`.
        device: Where it runs.
        dtype: "float32" or "float64".
        kernel: `MISC.kernel`.
    """

    def __init__(
        self, calculator: Calculator, device: str, dtype: str, kernel: str = "auto"
    ) -> None:
        self._calculator = calculator
        self._device, self._dtype, self._kernel = device, dtype, kernel

    @cached_property
    def calculator(self) -> Calculator:
        """The model as a calculator of ASE: MACE's own, unless something else computes it."""
        if self._form == "mace":
            return self._calculator
        return DriverCalculator(self.driver)

    @cached_property
    def driver(self) -> Driver:
        """The model in the place of a committee.

        Raises:
            ModelError: The model needs inputs beyond a structure.
        """
        found = Committee(evaluator(self._models, self._device, self._dtype, self._form))
        return Driver(found, self._correction)

    @cached_property
    def _form(self) -> str:
        return foundation_form(self._models, self._kernel)

    @property
    def _models(self) -> list[torch.nn.Module]:
        calculator: Any = self._calculator
        if isinstance(calculator, SumCalculator):
            calculator = calculator.mixer.calcs[0]
        models: list[torch.nn.Module] = calculator.models
        return models

    @property
    def _correction(self) -> Calculator | None:
        """The dispersion correction, or none."""
        calculator: Any = self._calculator
        return calculator.mixer.calcs[1] if isinstance(calculator, SumCalculator) else None


def foundation(
    device: str = "cpu", dtype: str = "float32", kernel: str = "auto", **asked: Any
) -> MaceFoundation:
    """Load a foundation model; arguments of `foundation_calculator`, and `MISC.kernel`.

    Raises:
        ModelError: As `foundation_calculator`.
    """
    calculator = foundation_calculator(device=device, dtype=dtype, **asked)
    return MaceFoundation(calculator, device, dtype, kernel)


def _with_dispersion(calculator: Calculator, atoms: Atoms, found: Prediction) -> Prediction:
    """Add a calculator's energy, forces and stress to a prediction."""
    if not np.isfinite(found.energy):
        return found
    ours = atoms.copy()
    ours.calc = calculator
    ours.set_constraint()  # ASE would take them out of the forces; MD heeds them itself
    energy, forces = ours.get_potential_energy(), ours.get_forces()
    stress = None if found.stress is None else found.stress + ours.get_stress(voigt=False)
    return replace(
        found,
        energy=found.energy + energy,
        forces=found.forces + forces,
        member_energies=found.member_energies + energy,
        member_forces=found.member_forces + forces,
        stress=stress,
    )


def foundation_calculator(
    model: str,
    device: str,
    dtype: str,
    dispersion: bool = False,
    dispersion_xc: str = "pbe",
    dispersion_cutoff: float = 12.0,
    damping: str = "bj",
) -> Calculator:
    """Return MACE's own foundation-model calculator (`mace.calculators.mace_mp`).

    Args:
        model: A name that `mace_mp` knows ("small", "medium", …) or a local `.model` file.
        device: `cpu`, `cuda` or `cuda:N`.
        dtype: "float32" or "float64".
        dispersion: Add Grimme's D3 (package `torch-dftd`).
        dispersion_xc: Functional of the D3 parameters.
        dispersion_cutoff: Cutoff of D3 in Å.
        damping: Damping function of D3.

    Raises:
        ModelError: Neither a known name nor a model file, not downloadable from here, or
            `torch-dftd` is missing.
    """
    if dispersion and importlib.util.find_spec("torch_dftd") is None:
        raise ModelError(
            "dispersion: True needs the package torch-dftd, which is not installed "
            "(pip install torch-dftd)"
        )
    path = foundation_file(model)
    load_model(path)  # says clearly what is wrong with a file; mace_mp would not
    with model_lock:
        return mace_mp(
            model=str(path),
            device=device,
            default_dtype=dtype,
            dispersion=dispersion,
            damping=damping,
            dispersion_xc=dispersion_xc,
            dispersion_cutoff=dispersion_cutoff,
        )


def file_calculator(path: Path, device: str, dtype: str) -> Calculator:
    """Return MACE's own calculator of one `.model` file.

    Args:
        path: A file of MACE or of `save_model`.
        device: `cpu`, `cuda` or `cuda:N`.
        dtype: "float32" or "float64".

    Raises:
        ModelError: There is no such file, or it holds no MACE model.
    """
    model = load_model(path, device, dtype)
    return MACECalculator(models=[model], device=device, default_dtype=dtype)


def foundation_file(model: str) -> Path:
    """Return the local file of a foundation model, downloading it if it is a known name."""
    if model not in mace_mp_names and not str(model).startswith("https:"):
        if Path(model).is_file():
            return Path(model)
        near = get_close_matches(str(model), [n for n in mace_mp_names if n], n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ModelError(
            f"foundation model {model!r} is neither a file nor a name that MACE knows{hint}: "
            + ", ".join(name for name in mace_mp_names if name)
        )
    try:
        return Path(download_mace_mp_checkpoint(model))
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"cannot download foundation model {model!r} from {mace_mp_urls.get(model, model)}: "
            f"this machine has no access to it ({error}). Give a local .model file "
            "instead"
        ) from error
