"""The label store: each file's checksum and key, computed anew from what it holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from aimspax_core.run_directory import RunDir
from aimspax_core.verification.findings import Kind, Report
from aimspax_core.verification.ledger import Ledger

_NO_PART_OF_THE_KEY = ("masses", "config_type")
"""Of a structure, what no energy depends on."""


@dataclass(frozen=True)
class StoredLabel:
    """A label as its file has it.

    Attributes:
        atoms: The structure (Å).
        energy: eV.
        forces: (N, 3), eV/Å.
        stress: (3, 3), eV/Å³; None if there is none.
    """

    atoms: Atoms
    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None


class Labels:
    """The labels of a campaign, read from their files when they are asked for, once."""

    def __init__(self, run: RunDir, report: Report) -> None:
        self._run, self._report = run, report
        self._read: dict[str, StoredLabel | None] = {}

    def get(self, key: str) -> StoredLabel | None:
        """Return a label; None if its file is missing or wrong, which is a finding once."""
        if key not in self._read:
            self._read[key] = _label(self.path(key), key, self._report)
        return self._read[key]

    def path(self, key: str) -> Path:
        """Return the file of a label."""
        return self._run.labels / key[:2] / f"{key}.json"


def check(run: RunDir, ledger: Ledger, labels: Labels, report: Report) -> None:
    """Find labels that are missing, wrong or unused, and structures that cannot be labelled."""
    counted = ledger.labelled()
    for key in counted:
        labels.get(key)
    _others(run, ledger, labels, set(counted), report)
    for key, point in ledger.points.items():
        if point.asked and point.status == "requested" and not labels.path(key).exists():
            _structure(run.structure(key), report)


def _others(run: RunDir, ledger: Ledger, labels: Labels, counted: set[str], report: Report) -> None:
    """Look at the labels that are not counted; in a store that campaigns share, only at our own."""
    there = (
        ledger.points
        if run.store is not None
        else (path.stem for path in sorted(run.labels.glob("*/[!.]*.json")))
    )
    for key in _not_in(there, counted):
        if not labels.path(key).exists() or labels.get(key) is None:
            continue
        point = ledger.points.get(key)
        if ledger.finished and point is not None and point.asked and point.status == "requested":
            what = "it was computed, but the campaign has finished without it"
            report.found(Kind.UNUSED, labels.path(key), what)


def _not_in(keys: Iterable[str], known: set[str]) -> list[str]:
    return [key for key in keys if key not in known]


def _label(path: Path, key: str, report: Report) -> StoredLabel | None:
    try:
        content = json.loads(path.read_bytes(), parse_constant=_refused)
    except FileNotFoundError:
        report.found(Kind.MISSING, path, "the journal counts this label, and it is not there")
        return None
    except (ValueError, OSError) as error:
        report.found(Kind.UNREADABLE, path, f"it is no label ({error})")
        return None
    try:
        report.looked_at["labels"] += 1
        if wrong := _wrong(content, key):
            report.found(Kind.CHANGED, path, wrong)
            return None
        return _stored(content)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        report.found(Kind.UNREADABLE, path, f"it is no label ({type(error).__name__}: {error})")
        return None


def _refused(constant: str) -> float:
    raise ValueError(f"it holds {constant}")


def _wrong(content: dict[str, Any], key: str) -> str:
    """Return what is wrong with a label's file, or nothing."""
    if content["key"] != key:
        return f"it holds the label {content['key'][:8]}"
    checksum = content.pop("checksum", None)
    if checksum is not None and checksum != digest(content):
        return "its checksum is that of another content"
    structure = {k: v for k, v in content["structure"].items() if k not in _NO_PART_OF_THE_KEY}
    if "reference" in content:
        own = digest({"structure": structure, "reference": content["reference"]})
        if own != key:
            return f"the key of this structure and reference is {own[:8]}"
    return ""


def digest(content: dict[str, Any]) -> str:
    """Return the SHA-256 of JSON data, independent of the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _stored(content: dict[str, Any]) -> StoredLabel:
    """Return a label.

    Raises:
        ValueError: It has not one force an atom, or is not of finite numbers.
    """
    atoms = _atoms(content["structure"])
    forces = np.array(content["forces"], dtype=float)
    stress = None if content["stress"] is None else np.array(content["stress"], dtype=float)
    if forces.shape != (len(atoms), 3):
        raise ValueError(f"forces of shape {forces.shape} on {len(atoms)} atoms")
    if not np.isfinite([content["energy"], *forces.ravel()]).all():
        raise ValueError("energy or forces are not finite")
    return StoredLabel(atoms, float(content["energy"]), forces, stress)


def _atoms(data: dict[str, Any]) -> Atoms:
    positions = np.array(data["positions"], dtype=float)
    if not np.isfinite(positions).all():
        raise ValueError("positions are not finite")
    atoms = Atoms(data["numbers"], positions, cell=data["cell"], pbc=data["pbc"])
    atoms.info.update({name: data[name] for name in ("charge", "spin") if name in data})
    return atoms


def _structure(path: Path, report: Report) -> None:
    """Look at a structure that waits for its label."""
    try:
        _atoms(json.loads(path.read_bytes()))
    except FileNotFoundError:
        report.found(Kind.MISSING, path, "its label is asked for, and the structure is not there")
    except (ValueError, KeyError, TypeError) as error:
        report.found(Kind.UNREADABLE, path, f"it is no structure ({error})")
