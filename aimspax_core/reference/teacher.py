"""A teacher: a MACE model file that labels in place of DFT."""

from __future__ import annotations

import hashlib
import importlib.metadata
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols

from aimspax_core.errors import LabelError, ModelError
from aimspax_core.model.mace import load_model
from aimspax_core.reference.base import Label
from aimspax_core.settings.project import MaceReference


class MaceTeacher:
    """A reference that evaluates one MACE model; the model is loaded once."""

    def __init__(self, settings: MaceReference, directory: Path) -> None:
        self._settings = settings
        self._path = directory / settings.model_path
        self._calculator: Calculator | None = None
        self._lock = threading.Lock()
        self._sha256 = _sha256(self._path)
        self._version = importlib.metadata.version("mace-torch")

    def identity(self) -> dict[str, Any]:
        """See `Reference.identity`; the model counts by its content, not by its path."""
        return {
            "engine": "mace",
            "model_sha256": self._sha256,
            "default_dtype": self._settings.default_dtype,
            "version": self._version,
        }

    def calculator(self) -> Calculator:
        """See `Reference.calculator`."""
        with self._lock:
            if self._calculator is None:
                self._calculator = self._load()
            return self._calculator

    def _load(self) -> Calculator:
        from mace.calculators import MACECalculator

        settings = self._settings
        model = load_model(self._path, settings.device, settings.default_dtype)
        if _sha256(self._path) != self._sha256:
            raise ModelError(f"{self._path} was replaced while the run was using it")
        return MACECalculator(
            models=[model], device=settings.device, default_dtype=settings.default_dtype
        )

    def label(self, atoms: Atoms) -> Label:
        """See `Reference.label`."""
        began = time.perf_counter()
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        bare.calc = self.calculator()
        known = {int(z) for z in bare.calc.z_table.zs}
        unknown = sorted(chemical_symbols[z] for z in set(bare.numbers.tolist()) - known)
        if unknown:
            raise LabelError(f"the teacher {self._path.name} does not know {', '.join(unknown)}")
        energy, forces = float(bare.get_potential_energy()), np.array(bare.get_forces(), float)
        stress = np.array(bare.get_stress(voigt=False), float) if bare.pbc.all() else None
        seconds = time.perf_counter() - began
        provenance = {"engine": "mace", "model": self._path.name, "version": self._version}
        return Label(energy, forces, stress, {**provenance, "wall_s": seconds})


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"the teacher {path} cannot be read: {error}") from error
