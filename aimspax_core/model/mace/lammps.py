"""MACE models as LAMMPS loads them, by MACE's own classes.

Source: `mace.cli.create_lammps_model`; for its `pair_style mace` (libtorch), and for LAMMPS's
`pair_style mliap unified` (mliap).
"""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import torch
from e3nn.util import jit
from mace.calculators import LAMMPS_MACE
from mace.calculators.lammps_mliap_mace import LAMMPS_MLIAP_MACE

from aimspax_core.errors import ModelError
from aimspax_core.model.mace.model_files import load_model, model_lock
from aimspax_core.model.number_format import number_format
from aimspax_core.safe_files import replacing

_ENDINGS = {"mliap": "-mliap_lammps.pt", "libtorch": "-lammps.pt"}


def write_lammps(model: Path, folder: Path, form: str) -> Path:
    """Write a model for LAMMPS, in double precision; return its file, named as MACE names it.

    For `mliap` it has cuEquivariance's kernels if that package is installed, as MACE has it.

    Args:
        model: The model file.
        folder: Where to write.
        form: For which of LAMMPS's pair styles.

    Raises:
        ModelError: The model cannot be read, or MACE cannot convert it.
    """
    loaded: Any = load_model(model, dtype="float64")
    path = folder / f"{model.name}{_ENDINGS[form]}"
    with number_format("float64"), replacing(path) as aside:
        try:
            made = _mliap(loaded) if form == "mliap" else _libtorch(loaded)
        except (AttributeError, KeyError, NotImplementedError, RuntimeError) as error:
            raise ModelError(f"MACE cannot write {model} for LAMMPS ({form}): {error}") from error
        aside.write_bytes(made)
    return path


def _mliap(model: Any) -> bytes:
    if importlib.util.find_spec("cuequivariance_torch") is not None:
        from mace.cli.convert_e3nn_cueq import run

        with model_lock:
            model = run(model)
    model.lammps_mliap = True
    archive = io.BytesIO()
    torch.save(LAMMPS_MLIAP_MACE(model), archive)
    return archive.getvalue()


def _libtorch(model: Any) -> bytes:
    archive = io.BytesIO()
    with model_lock:
        torch.jit.save(jit.compile(LAMMPS_MACE(model)), archive)
    return archive.getvalue()
