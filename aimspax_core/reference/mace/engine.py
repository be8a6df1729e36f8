"""Teachers: MACE models that label in place of DFT, a file or one of the foundation models."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.mixing import SumCalculator
from ase.data import chemical_symbols

from aimspax_core.errors import LabelError, ModelError
from aimspax_core.labels.label import Label
from aimspax_core.model.mace.foundation import file_calculator, foundation_calculator
from aimspax_core.reference.mace.section import MaceMpReference, MaceReference
from aimspax_core.safe_files import sha256
from aimspax_core.versions import version_of


class _Teacher:
    """What both kinds of teacher do: load the model once, refuse unknown elements, label.

    Args:
        settings: Of either kind.
        path: The model's file; none if MACE knows where to get it.
    """

    def __init__(self, settings: MaceReference | MaceMpReference, path: Path | None) -> None:
        self._path = path
        self._sha256 = None if path is None else _sha256(path)
        self._common = {
            "engine": settings.engine,
            "default_dtype": settings.default_dtype,
            "version": version_of("mace-torch"),
        }
        self._calculator: Calculator | None = None
        self._lock = threading.Lock()

    @property
    def _name(self) -> str:
        assert self._path is not None
        return self._path.name

    def _load(self) -> Calculator:
        raise NotImplementedError

    def calculator(self) -> Calculator:
        """See `Reference.calculator`.

        Raises:
            ModelError: The model cannot be loaded, or has changed since `identity` was computed.
        """
        with self._lock:
            if self._calculator is None:
                made = self._load()
                if self._path is not None and _sha256(self._path) != self._sha256:
                    raise ModelError(f"{self._path} was replaced while the run was using it")
                self._calculator = made
            return self._calculator

    def label(self, atoms: Atoms) -> Label:
        """See `Reference.label`; an element that the model does not know is not transient."""
        began = time.perf_counter()
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        bare.calc = self.calculator()
        unknown = sorted(chemical_symbols[z] for z in set(bare.numbers.tolist()) - self._elements())
        if unknown:
            raise LabelError(f"the teacher {self._name} does not know {', '.join(unknown)}")
        energy, forces = float(bare.get_potential_energy()), np.array(bare.get_forces(), float)
        stress = np.array(bare.get_stress(voigt=False), float) if bare.pbc.all() else None
        seconds = time.perf_counter() - began
        provenance = {"engine": self._common["engine"], "version": self._common["version"]}
        return Label(energy, forces, stress, {**provenance, "model": self._name, "wall_s": seconds})

    def _elements(self) -> set[int]:
        model: Any = self.calculator()
        if isinstance(model, SumCalculator):  # dispersion, which knows more elements, comes second
            model = model.mixer.calcs[0]
        return {int(z) for z in model.z_table.zs}


class MaceTeacher(_Teacher):
    """A reference that evaluates one MACE model file; the model is loaded once.

    Args:
        settings: Which file, and how it runs.
        directory: The run directory; a relative path begins there.

    Raises:
        ModelError: The file cannot be read.
    """

    def __init__(self, settings: MaceReference, directory: Path) -> None:
        super().__init__(settings, directory / settings.model_path)
        self._settings = settings

    def identity(self) -> dict[str, Any]:
        """See `Reference.identity`; the model counts by its content, not by its path."""
        return {**self._common, "model_sha256": self._sha256}

    def _load(self) -> Calculator:
        settings = self._settings
        assert self._path is not None
        return file_calculator(self._path, settings.device, settings.default_dtype)


class FoundationTeacher(_Teacher):
    """A reference that is one of MACE's foundation models, by name or local file.

    Args:
        settings: Which model, its dispersion correction, and how it runs.
        directory: The run directory; a relative path begins there.

    Raises:
        ModelError: There is such a file, but it cannot be read.
    """

    def __init__(self, settings: MaceMpReference, directory: Path) -> None:
        local = directory / settings.mace_model
        super().__init__(settings, local if local.is_file() else None)
        self._settings, self._directory = settings, directory

    @property
    def _name(self) -> str:
        return self._settings.mace_model if self._path is None else self._path.name

    def identity(self) -> dict[str, Any]:
        """See `Reference.identity`; nothing is downloaded for it.

        A file counts by its content, a name together with the version of MACE that knows where
        it is. Dispersion counts if it is on.
        """
        settings = self._settings
        by_name = self._path is None
        model = {"model": settings.mace_model} if by_name else {"model_sha256": self._sha256}
        dispersion = {
            "dispersion_xc": settings.dispersion_xc,
            "dispersion_cutoff": settings.dispersion_cutoff,
            "damping": settings.damping,
            "dispersion_version": version_of("torch-dftd"),
        }
        return {**self._common, **model, **(dispersion if settings.dispersion else {})}

    def _load(self) -> Calculator:
        settings = self._settings
        return foundation_calculator(
            device=settings.device,
            dtype=settings.default_dtype,
            **settings.for_mace(self._directory),
        )


def _sha256(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise ModelError(f"the teacher {path} cannot be read: {error}") from error
