"""Temperature, energy and density along trajectories, from the frames that were saved.

Files may be large: of each, evenly spaced frames are looked up and read, and no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from ase import units
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from aimspax_core.report.document import contents
from aimspax_core.report.document.source import Source
from aimspax_core.settings.settings import Settings

ATOMS = 150_000
"""Atoms that are read of all files together."""

FRAMES = 200
"""Frames of a file that are read at most."""

FILES = 60
"""Trajectories that are read at most: the first ones."""

_NAME = re.compile(r"(trajectory|initial)_(\d+)\.extxyz")
_LATTICE = re.compile(r'\bLattice="([^"]*)"')
_ENERGY = re.compile(r"\benergy=(\S+)")
_STEP = re.compile(r"\bstep=(\d+)")
_GEOMETRY = re.compile(r"\bgeometry=(\d+)")
_COLUMNS = re.compile(r"\bProperties=(\S+)")
_PBC = re.compile(r'\bpbc="T T T"')
_HEAD = 1 << 16
"""The comment of a frame is shorter than so many bytes."""


@dataclass(frozen=True)
class Frame:
    """A frame of a trajectory: masses (u), velocities in ASE's unit, energy (eV), volume (Å³)."""

    step: int
    geometry: int
    masses: NDArray[np.float64]
    velocities: NDArray[np.float64]
    energy: float
    volume: float | None


def series(source: Source) -> list[contents.Series]:
    """Return every saved trajectory in time; none where none was saved."""
    found = []
    files = source.run.trajectories.glob("*.extxyz")
    paths = [(match, path) for path in files if (match := _NAME.fullmatch(path.name))]
    paths.sort(key=lambda one: (one[0][1] != "trajectory", int(one[0][2])))
    for match, path in paths[:FILES]:
        kind: Literal["exploring", "initial"] = (
            "exploring" if match[1] == "trajectory" else "initial"
        )
        one = _series(source, kind, int(match[2]), path, min(len(paths), FILES))
        if one is not None:
            found.append(one)
    return found


def _series(
    source: Source, kind: Literal["exploring", "initial"], index: int, path: Path, files: int
) -> contents.Series | None:
    try:
        frames = list(read(path, ATOMS // files))
    except OSError:  # gone since, or not to be read: the campaign itself does not need it
        return None
    if not frames:
        return None
    number = min(frames[0].geometry, len(source.geometries) - 1)
    timestep = source.settings.md_section(number).timestep
    freedoms = _freedoms(source.settings, number, len(frames[0].masses))
    cells = [frame.volume for frame in frames]
    mass = float(frames[0].masses.sum())
    return contents.Series(
        kind=kind,
        index=index,
        geometry=number,
        time_ps=[frame.step * timestep / 1000 for frame in frames],
        temperature_K=[temperature(frame, freedoms) for frame in frames],
        energy_eV_per_atom=[frame.energy / len(frame.masses) for frame in frames],
        density_g_per_cm3=None
        if None in cells
        else [density(mass, volume) for volume in cells if volume is not None],
    )


def _freedoms(settings: Settings, geometry: int, atoms: int) -> int:
    """Return the degrees of freedom that have kinetic energy."""
    held, md = settings.held_atoms(geometry), settings.md(geometry)
    resting = len(held.common_directions()) if md.ensemble.holds_centre(md) else 0
    return max(1, 3 * atoms - held.removed() - resting)


def temperature(frame: Frame, freedoms: int) -> float:
    """Return the kinetic temperature (K): twice the kinetic energy over k and all freedoms."""
    kinetic = 0.5 * float((frame.masses[:, None] * frame.velocities**2).sum())
    return 2 * kinetic / (freedoms * units.kB)


def density(mass: float, volume: float) -> float:
    """Return a density (g/cm³) from a mass (u) and a volume (Å³)."""
    return mass * 1.66053906660 / volume


def read(path: Path, atoms: int) -> Iterator[Frame]:
    """Yield evenly spaced frames of a file of extended XYZ, such as campaigns write.

    Args:
        path: The file.
        atoms: How many atoms may be read, all frames together; one frame is read in any case.

    Raises:
        OSError: It cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = _frame(file)
        if first is None:
            return
        length = file.tell()
        yield first
        there = size // max(1, length)
        number = min(FRAMES, atoms // len(first.masses))
        step = first.step
        for place in range(1, min(number, there)):
            if there > number and not _seek_frame(file, size * place // number, len(first.masses)):
                return
            frame = _frame(file)
            if frame is None:
                return
            if frame.step != step:
                step = frame.step
                yield frame


def _seek_frame(file: BinaryIO, place: int, atoms: int) -> bool:
    """Go to the first frame behind a place in a file; return whether there is one."""
    file.seek(place)
    head = b"%d\n" % atoms
    window = b""
    while True:
        chunk = file.read(_HEAD)
        window = (b"\n" if not place and not window else b"") + window + chunk
        at = window.find(b"\n" + head)
        if at >= 0:
            file.seek(file.tell() - len(window) + at + 1)
            return True
        if not chunk:
            return False
        window = window[-len(head) - 1 :]


def _frame(file: BinaryIO) -> Frame | None:
    """Read the frame that a file is at; None if it is not whole, or has no velocities."""
    try:
        number = int(file.readline())
        comment = file.readline().decode()
        rows = [file.readline().decode().split() for _ in range(number)]
        energy, step, geometry = (
            pattern.search(comment) for pattern in (_ENERGY, _STEP, _GEOMETRY)
        )
        columns = _COLUMNS.search(comment)
        at = None if columns is None else _place(columns[1], "velocities")
        if energy is None or step is None or at is None:
            return None
        velocities = np.array([row[at : at + 3] for row in rows], dtype=float)
        masses = atomic_masses[[atomic_numbers[row[0]] for row in rows]]
        return Frame(
            step=int(step[1]),
            geometry=0 if geometry is None else int(geometry[1]),
            masses=masses,
            velocities=velocities.reshape(number, 3),
            energy=float(energy[1]),
            volume=_volume(comment),
        )
    except (ValueError, IndexError, KeyError):
        return None


def _volume(comment: str) -> float | None:
    lattice = _LATTICE.search(comment)
    if lattice is None or _PBC.search(comment) is None:
        return None
    cell = np.array(lattice[1].split(), dtype=float).reshape(3, 3)
    return abs(float(np.linalg.det(cell)))


def _place(columns: str, name: str) -> int | None:
    """Return at which column of a row a property begins, by `Properties` of the comment."""
    parts, place = columns.split(":"), 0
    for title, width in zip(parts[::3], parts[2::3], strict=True):
        if title == name:
            return place
        place += int(width)
    return None
