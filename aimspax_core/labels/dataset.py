"""Datasets as MACE reads them: extended XYZ, with energies and forces under names of one's own."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io
import numpy as np
from ase import Atoms
from ase.io.extxyz import per_atom_properties
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from aimspax_core.errors import CampaignError, StructureError
from aimspax_core.labels.label import BESIDE, Label
from aimspax_core.labels.store import StoredLabel
from aimspax_core.safe_files import write_text
from aimspax_core.settings.geometries.own_electrons import own_electrons
from aimspax_core.structures import with_electrons

if TYPE_CHECKING:
    from aimspax_core.settings.misc import Misc


@dataclass(frozen=True)
class DataKeys:
    """Names of the quantities in dataset files; the defaults are those of the settings.

    Attributes:
        energy: Total energy (eV), for a structure.
        forces: Forces (eV/Å), for an atom.
        stress: Stress (eV/Å³, ASE's sign), for a structure.
        virials: Virials (eV, −stress × volume), for a structure.
        dipole: Dipole moment (e·Å), for a structure.
        polarizability: Not trained on; copied from a given dataset to the files that are written.
        hirshfeld_ratios: Hirshfeld volume over that of the free atom, for an atom.
        charges: Copied like `polarizability`.
        head: Copied like `polarizability`.
        total_charge: Total charge (e); `info["charge"]` of the structure.
        total_spin: Spin multiplicity, 2S+1; `info["spin"]` of the structure.
    """

    energy: str = "REF_energy"
    forces: str = "REF_forces"
    stress: str = "REF_stress"
    virials: str = "REF_virials"
    dipole: str = "REF_dipole"
    polarizability: str = "REF_polarizability"
    hirshfeld_ratios: str = "REF_hirshfeld_ratios"
    charges: str = "REF_charges"
    head: str = "head"
    total_charge: str = "total_charge"
    total_spin: str = "total_spin"

    @classmethod
    def of(cls, misc: Misc) -> DataKeys:
        """Return the names in the section MISC of the settings."""
        return cls(**{field.name: getattr(misc, f"{field.name}_key") for field in fields(cls)})

    @property
    def electrons(self) -> dict[str, str]:
        """What `charge` and `spin` of a structure are called."""
        return {"charge": self.total_charge, "spin": self.total_spin}


_CARRIED = "carried"
"""Where the provenance of a label keeps the quantities that are only copied."""

_PER_ATOM = ("hirshfeld_ratios", "charges")
_COPIED = ("dipole", "polarizability", *_PER_ATOM, "head")

DEFAULT_KEYS = DataKeys()
"""The names of aims-PAX, by which a family of models finds labels too."""

GRAPH_KEYS = DataKeys(total_charge="charge", total_spin="spin")
"""The names by which a family finds labels, charge and multiplicity of a structure."""


def labelled(stored: StoredLabel, keys: DataKeys = DEFAULT_KEYS) -> Atoms:
    """Return a structure with its label under the names of the datasets.

    Returns:
        With energy (eV) and, if there is one, stress (3, 3) (eV/Å³) in `info`, forces (N, 3) (eV/Å)
        in `arrays`, charge and multiplicity in `info` if the structure has them.
    """
    atoms = stored.atoms.copy()
    for name, key in (("charge", keys.total_charge), ("spin", keys.total_spin)):
        if name in atoms.info:
            atoms.info[key] = atoms.info.pop(name)
    atoms.info[keys.energy] = stored.label.energy
    atoms.arrays[keys.forces] = np.array(stored.label.forces)
    if stored.label.stress is not None:
        atoms.info[keys.stress] = np.array(stored.label.stress)
    put_beside(atoms, stored.label, keys)
    for quantity, value in stored.label.provenance.get(_CARRIED, {}).items():
        if getattr(stored.label, quantity, None) is not None:
            continue  # the label's own was looked at, what is carried was not
        per_atom = quantity in _PER_ATOM
        (atoms.arrays if per_atom else atoms.info)[getattr(keys, quantity)] = (
            np.array(value) if isinstance(value, list) else value
        )
    return atoms


def put_beside(atoms: Atoms, label: Label, keys: DataKeys = DEFAULT_KEYS) -> None:
    """Write what a label has beside energy, forces and stress to `info` and `arrays`."""
    for quantity in BESIDE:
        if (value := getattr(label, quantity)) is not None:
            place = atoms.arrays if quantity in _PER_ATOM else atoms.info
            place[getattr(keys, quantity)] = np.array(value)


def carried(atoms: Atoms, keys: DataKeys = DEFAULT_KEYS) -> dict[str, Any]:
    """Return the quantities of a structure that are only copied: not computed, nor trained on.

    Args:
        atoms: A structure that `read_labels` read.
        keys: Names of the quantities in the dataset.

    Returns:
        Entries for the provenance of its label, as JSON data; `labelled` writes them again.
    """
    found = {}
    for quantity in _COPIED:
        place = atoms.arrays if quantity in _PER_ATOM else atoms.info
        if (key := getattr(keys, quantity)) in place:
            value = place[key]
            found[quantity] = np.asarray(value).tolist() if not isinstance(value, str) else value
    return {_CARRIED: found} if found else {}


def write(path: Path, structures: Sequence[Atoms]) -> None:
    """Write labelled structures as extended XYZ, atomically; an empty set is an empty file."""
    text = io.StringIO()
    if structures:
        ase.io.write(text, list(structures), format="extxyz")
    write_text(path, text.getvalue())


def read(path: Path, keys: DataKeys = DEFAULT_KEYS) -> list[Atoms]:
    """Read a dataset that `write` wrote; an empty file is an empty set.

    Returns:
        The structures. All quantities of the file are in `info` and `arrays` under their names in
        the file, but charge and multiplicity in `info["charge"]` and `info["spin"]`.

    Raises:
        CampaignError: There is no such file, it is not extended XYZ, or a charge or multiplicity
            is no number.
    """
    if not path.is_file():
        raise CampaignError(f"there is no dataset {path}")
    if path.stat().st_size == 0:
        return []
    try:
        found = ase.io.read(path, index=":", format="extxyz", do_not_split_by_at_sign=True)
    # ASE's reader raises whatever its parsing trips over; any of it means: not extended XYZ.
    except Exception as error:
        raise CampaignError(
            f"{path}: ASE cannot read this as extended XYZ ({type(error).__name__}: {error})"
        ) from error
    return [
        without_calculator(atoms, keys, frame_name(path, n, atoms)) for n, atoms in enumerate(found)
    ]


def read_labels(
    path: Path,
    keys: DataKeys = DEFAULT_KEYS,
    electrons: Mapping[str, float] | None = None,
    beside: Collection[str] = (),
) -> list[tuple[Atoms, Label]]:
    """Read a dataset of aims-PAX, MACE or another program.

    Args:
        path: Extended XYZ.
        keys: Names of the quantities in the file.
        electrons: `charge` (e) and `spin` (2S+1) of frames that say nothing of them.
        beside: Which of `label.BESIDE` to take, where frames have them.

    Returns:
        Structures with their labels, in order. Other quantities of a structure stay in its `info`
        and `arrays`. A stress may be in Voigt order (6), 3 × 3 or flattened (9); if there is none,
        it is computed from the virials. Without periodicity in all directions there is no stress.

    Raises:
        CampaignError: The file cannot be read, or a frame has no energy or forces, or one that is
            not finite; the text names file, frame (from 0) and key.
    """
    found = []
    for frame, atoms in enumerate(read(path, keys)):
        where = frame_name(path, frame, atoms)
        energy = taken(atoms.info, keys.energy, (), "energy", where)
        forces = taken(atoms.arrays, keys.forces, (len(atoms), 3), "forces", where)
        stress = stress_of(atoms, keys, where)
        more = beside_of(atoms, keys, where, beside)
        label = Label(
            float(energy),
            forces,
            stress,
            {"dataset": str(path)},
            dipole=more.get("dipole"),
            hirshfeld_ratios=more.get("hirshfeld_ratios"),
        )
        found.append((with_electrons(atoms, electrons or {}), label))
    return found


def frame_name(path: Path, frame: int, atoms: Atoms) -> str:
    """Return what a frame is called in messages: its file, number (from 0) and formula."""
    return f"{path}, frame {frame} ({atoms.get_chemical_formula()})"


def without_calculator(atoms: Atoms, keys: DataKeys, where: str) -> Atoms:
    """Move quantities that ASE's reader put into a calculator to `info` and `arrays`."""
    if atoms.calc is not None:
        for name, value in atoms.calc.results.items():
            (atoms.arrays if name in per_atom_properties else atoms.info)[name] = value
        atoms.calc = None
    try:
        own = own_electrons(atoms.info, keys.electrons)
    except StructureError as error:
        raise CampaignError(f"{where}: {error}") from error
    for name, key in keys.electrons.items():
        atoms.info.pop(key, None)
        atoms.info.pop(name, None)
    atoms.info.update(own)
    return atoms


def taken(
    place: dict[str, Any], key: str, shape: tuple[int, ...], quantity: str, where: str
) -> NDArray[np.float64]:
    """Take a quantity out of a structure's `info` or `arrays`.

    Raises:
        CampaignError: The quantity is missing, of another shape, or not finite.
    """
    if key not in place:
        near = get_close_matches(key, [str(name) for name in place], n=1, cutoff=0.3)
        hint = f", the nearest that it has is {near[0]!r} (MISC.{quantity}_key)" if near else ""
        raise CampaignError(f"{where}: no {quantity} under {key!r}{hint}")
    try:
        value = np.asarray(place.pop(key), dtype=float)
    except (TypeError, ValueError) as error:
        raise CampaignError(f"{where}: {quantity} under {key!r} is no number: {error}") from error
    if quantity in ("stress", "virials"):
        value = _matrix(value)
    if value.shape != shape:
        raise CampaignError(f"{where}: {quantity} under {key!r} has shape {value.shape}")
    if not np.isfinite(value).all():
        raise CampaignError(f"{where}: {quantity} under {key!r} is not finite")
    return value


def stress_of(atoms: Atoms, keys: DataKeys, where: str) -> NDArray[np.float64] | None:
    """Take out the stress (eV/Å³), or compute it from the virials; None without a volume."""
    if not atoms.pbc.all():
        return None
    if keys.stress in atoms.info:
        return taken(atoms.info, keys.stress, (3, 3), "stress", where)
    if keys.virials in atoms.info:
        virials = taken(atoms.info, keys.virials, (3, 3), "virials", where)
        return -virials / atoms.get_volume()
    return None


def beside_of(
    atoms: Atoms, keys: DataKeys, where: str, wanted: Collection[str]
) -> dict[str, NDArray[np.float64]]:
    """Take out what a structure has of `label.BESIDE`; a periodic structure has no dipole.

    Raises:
        CampaignError: It is of another shape, or not finite.
    """
    found = {}
    for quantity in wanted:
        per_atom, key = quantity in _PER_ATOM, getattr(keys, quantity)
        place = atoms.arrays if per_atom else atoms.info
        if key in place and not (quantity == "dipole" and atoms.pbc.any()):
            shape = (len(atoms),) if per_atom else (3,)
            found[quantity] = taken(place, key, shape, quantity, where)
    return found


def _matrix(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a symmetric tensor as 3 × 3, from ASE's Voigt order or flattened."""
    if value.shape == (6,):
        return voigt_6_to_full_3x3_stress(value)
    return value.reshape(3, 3) if value.shape == (9,) else value
