"""Files that MD leaves: snapshots of trajectories, and predictions for the analysis."""

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
class Snapshot:
    """A trajectory of N atoms at one step: a frame of its file.

    Attributes:
        atoms: The structure, with its momenta; no constraint or calculator.
        step: MD steps made in the trajectory's life.
        energy: In eV; a committee's mean.
        forces: Shape (N, 3), in eV/Å; a committee's mean.
        member_forces: Shape (M, N, 3), in eV/Å; no member where no committee judges.
        uncertainty: By the campaign's measure, if there was a check at this step.
    """

    atoms: Atoms
    step: int
    energy: float
    forces: Array
    member_forces: Sequence[Array] | Array = ()
    uncertainty: float | None = None


def write_snapshots(
    path: Path, snapshots: Sequence[Snapshot], info: Mapping[str, Any], tags: Sequence[str] = ()
) -> None:
    """Write snapshots as extended XYZ, atomically; if there are none, remove the file.

    Args:
        path: The file.
        snapshots: What to write; each with the forces of as many members as there are tags, if any.
        info: What to write in the comment of each frame beside its step and uncertainty.
        tags: The members' names; without any they are numbered.

    Notes:
        Columns: species, positions (Å), `velocities` (ASE's unit, 98.2 Å/ps), `forces` and, for
        each member, `forces_<tag>` (eV/Å). In the comment: the cell (Å), `energy` (eV), `step`,
        and `uncertainty` where there was a check.
    """
    if not snapshots:
        path.unlink(missing_ok=True)
        return
    write_text(path, "".join(_text(snapshot, info, tags) for snapshot in snapshots))


def _text(snapshot: Snapshot, info: Mapping[str, Any], tags: Sequence[str]) -> str:
    """Return a snapshot as extended XYZ; ASE's writer takes three times as long."""
    atoms = snapshot.atoms
    names = tags or [str(number) for number in range(len(snapshot.member_forces))]
    members = zip(names, snapshot.member_forces, strict=True)
    columns = {
        "pos": atoms.positions,
        "velocities": atoms.get_velocities(),
        "forces": snapshot.forces,
        **{"forces_" + re.sub(r'[\s:="]', "_", name): forces for name, forces in members},
    }
    comment = {"Lattice": atoms.cell.array.T} if atoms.cell.any() else {}
    comment |= {"Properties": "species:S:1" + "".join(f":{name}:R:3" for name in columns)}
    comment |= atoms.info | {"step": snapshot.step, **info, "energy": snapshot.energy}
    if snapshot.uncertainty is not None:
        comment["uncertainty"] = snapshot.uncertainty
    comment["pbc"] = atoms.pbc
    numbers = np.concatenate([*columns.values()], axis=1)
    line = "%-2s" + " %16.8f" * numbers.shape[1] + "\n"
    symbols = atoms.get_chemical_symbols()
    rows = ((symbol, *row) for symbol, row in zip(symbols, numbers.tolist(), strict=True))
    body = line * len(atoms) % tuple(chain.from_iterable(rows))
    return f"{len(atoms)}\n{key_val_dict_to_str(comment)}\n{body}"


def save_prediction(
    path: Path,
    prediction: Prediction,
    trajectory: int,
    step: int,
    threshold: float | None,
    free: NDArray[np.bool_] | None = None,
) -> None:
    """Write a prediction of M members for a structure of N atoms as `.npz`, atomically.

    Args:
        path: The file. Its arrays: `member_forces` (M, N, 3) and `forces` (N, 3), their mean, in
            eV/Å, `member_energies` (M,) in eV, `dipole` (3,), in e·Å, their mean, where models
            predict one, and as single numbers `step`, `trajectory` and
            `threshold`, in the unit of the campaign's measure, NaN if there was none.
        prediction: The prediction.
        trajectory: Index of the structure's trajectory.
        step: MD steps made in the trajectory's life.
        threshold: In force then; None during warm-up.
        free: Of which atoms the uncertainty is, (N,), written as `free`; None: of all, not written.
    """
    parts: dict[str, Any] = {} if free is None or free.all() else {"free": free}
    if "dipole" in prediction.beside:
        parts["dipole"] = prediction.beside["dipole"]
    with replacing(path) as aside:
        np.savez(
            aside,
            allow_pickle=False,
            member_forces=prediction.member_forces,
            forces=prediction.forces,
            member_energies=prediction.member_energies,
            step=step,
            trajectory=trajectory,
            threshold=np.nan if threshold is None else threshold,
            **parts,
        )
