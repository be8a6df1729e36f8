"""SO3LR in place of DFT."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from aimspax_core.errors import LabelError, ModelError
from aimspax_core.labels.label import Label
from aimspax_core.model.family import Driver, load_foundation
from aimspax_core.reference.as_calculator import LabelCalculator
from aimspax_core.reference.electrons import own_or
from aimspax_core.reference.so3lr.section import So3lrReference
from aimspax_core.safe_files import sha256
from aimspax_core.versions import version_of

PACKAGE = "so3krates-torch"


class So3lrTeacher:
    """A reference that is the foundation model SO3LR; it is loaded once.

    A structure's `info["charge"]` (e) and `info["spin"]` (multiplicity) count if they are there,
    else `charge` and `spin` of the settings.

    Args:
        settings: Which model, and how it runs.
        directory: The run directory; a relative path begins there.

    Raises:
        ModelError: The user's file cannot be read.
    """

    def __init__(self, settings: So3lrReference, directory: Path) -> None:
        self._settings, self._directory = settings, directory
        self._sha256 = self._content()
        self._driver: Driver | None = None
        self._lock = threading.Lock()

    def identity(self) -> dict[str, Any]:
        """See `Reference.identity`; a file counts by its content, the package's by its version."""
        asked = self._settings.for_so3lr(self._directory)
        del asked["file"]
        return {
            **self._settings.model_dump(include={"engine", "charge", "spin", "default_dtype"}),
            **asked,
            "model_sha256": self._sha256,
            "version": version_of(PACKAGE),
        }

    def calculator(self) -> Calculator:
        """See `Reference.calculator`."""
        return LabelCalculator(self)

    def label(self, atoms: Atoms) -> Label:
        """See `Reference.label`; an element that the model does not know is not transient."""
        began = time.perf_counter()
        charge, spin = own_or(atoms, self._settings.charge, self._settings.spin)
        bare = Atoms(
            atoms.numbers,
            atoms.positions,
            cell=atoms.cell,
            pbc=atoms.pbc,
            info={"charge": charge, "spin": spin},
        )
        try:
            (found,) = self._loaded().evaluate([bare], stress=bool(bare.pbc.all()))
        except ModelError as error:
            raise LabelError(f"SO3LR: {error}") from error
        stress = None if found.stress is None else np.asarray(found.stress, float)
        provenance = {"engine": "so3lr", "version": version_of(PACKAGE)}
        seconds = time.perf_counter() - began
        return Label(found.energy, found.forces, stress, {**provenance, "wall_s": seconds})

    def _loaded(self) -> Driver:
        with self._lock:
            if self._driver is None:
                made = load_foundation(
                    "so3lr",
                    device=self._settings.device,
                    dtype=self._settings.default_dtype,
                    **self._settings.for_so3lr(self._directory),
                )
                if self._content() != self._sha256:
                    path = self._settings.model_path
                    raise ModelError(f"{path} was replaced while the run was using it")
                self._driver = made.driver
            return self._driver

    def _content(self) -> str | None:
        """Return the hash of the user's file, if there is one."""
        if self._settings.model_path is None:
            return None
        path = self._directory / self._settings.model_path
        try:
            return sha256(path)
        except OSError as error:
            raise ModelError(f"the teacher {path} cannot be read: {error}") from error
