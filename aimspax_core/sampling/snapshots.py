"""What is kept of MD on its way: frames of trajectories, predictions of structures looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.io.extxyz import key_val_dict_to_str
from numpy.typing import NDArray

from aimspax_core.safe_files import replacing, write_text

if TYPE_CHECKING:
    from aimspax_core.prediction import Prediction

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """One frame of a trajectory of N atoms.

    Attributes:
        atoms: The structure, with its momenta; no constraint or calculator.
        step: MD steps made in the trajectory's life.
        energy: In eV; a committee's mean.
        forces: Shape (N, 3), in eV/Å; a committee's mean.
        member_forces: Shape (M, N, 3), in eV/Å; no member where no committee judges.
        uncertainty: In eV/Å, if a check fell on this step.
    """

    atoms: Atoms
    step: int
    energy: float
    forces: Array
    member_forces: Sequence[Array] | Array = ()
    uncertainty: float | None = None


def write_frames(
    path: Path, frames: Sequence[Frame], info: Mapping[str, Any], tags: Sequence[str] = ()
) -> None:
    """Write frames as extended XYZ, atomically; without any, see that there is no such file.

    Args:
        path: The file.
        frames: What to write; each with the forces of as many members as there are tags, if any.
        info: What to write of every frame beside its step and uncertainty.
        tags: The members' names; they are numbered where there are none.

    Notes:
        Columns: species, positions (Å), `velocities` (ASE's unit, 98.2 Å/ps), `forces` and, for
        each member, `forces_<tag>` (eV/Å). In the comment: the cell (Å), `energy` (eV), `step`,
        and `uncertainty` (eV/Å) where a check fell.
    """
    if not frames:
        path.unlink(missing_ok=True)
        return
    write_text(path, "".join(_text(frame, info, tags) for frame in frames))


def _text(frame: Frame, info: Mapping[str, Any], tags: Sequence[str]) -> str:
    """Return a frame as extended XYZ; MD on a GPU would notice ASE's writer, which takes thrice."""
    atoms = frame.atoms
    names = tags or [str(number) for number in range(len(frame.member_forces))]
    members = zip(names, frame.member_forces, strict=True)
    columns = {
        "pos": atoms.positions,
        "velocities": atoms.get_velocities(),
        "forces": frame.forces,
        **{"forces_" + re.sub(r'[\s:="]', "_", name): forces for name, forces in members},
    }
    comment = {"Lattice": atoms.cell.array.T} if atoms.cell.any() else {}
    comment |= {"Properties": "species:S:1" + "".join(f":{name}:R:3" for name in columns)}
    comment |= atoms.info | {"step": frame.step, **info, "energy": frame.energy}
    if frame.uncertainty is not None:
        comment["uncertainty"] = frame.uncertainty
    comment["pbc"] = atoms.pbc
    numbers = np.concatenate([*columns.values()], axis=1)
    line = "%-2s" + " %16.8f" * numbers.shape[1] + "\n"
    symbols = atoms.get_chemical_symbols()
    rows = ((symbol, *row) for symbol, row in zip(symbols, numbers.tolist(), strict=True))
    body = line * len(atoms) % tuple(chain.from_iterable(rows))
    return f"{len(atoms)}\n{key_val_dict_to_str(comment)}\n{body}"


def save_prediction(path: Path, prediction: Prediction, trajectory: int, step: int) -> None:
    """Write what a committee of M said of a structure of N atoms as `.npz`, atomically.

    Args:
        path: The file. Its arrays: `member_forces` (M, N, 3) and `forces` (N, 3), their mean, in
            eV/Å, `member_energies` (M,) in eV, `step` and `trajectory` (single numbers).
        prediction: What it said.
        trajectory: Whose structure it is.
        step: At which MD step of its life.
    """
    with replacing(path) as aside:
        np.savez(
            aside,
            allow_pickle=False,
            member_forces=prediction.member_forces,
            forces=prediction.forces,
            member_energies=prediction.member_energies,
            step=step,
            trajectory=trajectory,
        )
