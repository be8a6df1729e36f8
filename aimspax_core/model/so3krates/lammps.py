"""SO3LR models as LAMMPS loads them, by the package's own class.

Source: `so3krates_torch.cli.create_lammps_model`, for LAMMPS's `pair_style mliap unified`. There it
takes every structure for neutral and without unpaired electrons, and has no way for several heads.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from so3krates_torch.calculator.lammps_mliap_so3 import LAMMPS_MLIAP_SO3

from aimspax_core.errors import ModelError
from aimspax_core.model.number_format import number_format
from aimspax_core.model.so3krates.network import elements_of
from aimspax_core.safe_files import replacing


def write_lammps(
    load: Callable[[Path], torch.nn.Module], model: Path, folder: Path, form: str
) -> Path:
    """Write a model for LAMMPS, in double precision; return its file.

    Args:
        load: Loads a model file of the family.
        model: The model file.
        folder: Where to write.
        form: For which of LAMMPS's pair styles: `mliap`.

    Raises:
        ModelError: The model cannot be read, or there is no such form of it.
    """
    if form != "mliap":
        raise ModelError(
            f"so3krates-torch cannot write {model} for LAMMPS ({form}); allowed: mliap"
        )
    loaded: Any = load(model).double().eval()
    path = folder / f"{model.name}-mliap_lammps.pt"
    archive = io.BytesIO()
    with number_format("float64"):
        torch.save(LAMMPS_MLIAP_SO3(loaded, atomic_numbers=list(elements_of(loaded))), archive)
    with replacing(path) as aside:
        aside.write_bytes(archive.getvalue())
    return path
