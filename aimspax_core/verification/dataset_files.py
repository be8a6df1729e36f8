"""Sets: no label twice, none in both of a member's, and files that hold what the journal says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from aimspax_core.run_directory import RunDir
from aimspax_core.settings.misc import Misc
from aimspax_core.verification.accounts import Publication
from aimspax_core.verification.findings import Kind, Report
from aimspax_core.verification.label_files import Labels, StoredLabel
from aimspax_core.verification.ledger import Ledger

ON = ("own", "all", "all-and-analysis")
"""What members train on: see `Accounts.sets_on`."""

ROUNDED = 2e-8
"""Positions (Å) and forces (eV/Å) of extended XYZ have eight decimals."""


def check_sets(journal: Path, ledger: Ledger, report: Report) -> None:
    """Find labels that the journal has in a set twice, or in both sets of a member."""
    for tag, (training, validation) in ledger.sets().items():
        _disjoint(journal, tag, training, validation, report)


def check_round_files(run: RunDir, ledger: Ledger, report: Report) -> None:
    """Look at `aimspax/datasets/`: what a round trains on is part of what the journal says."""
    of = {on: {tag: ledger.sets_on(tag, on) for tag in ledger.sets()} for on in ON}
    for path in sorted(run.dataset("any").parent.glob("[!.]*.json")):
        try:
            content = json.loads(path.read_bytes())
            for tag, found in content.items():
                training, validation = found["training"], found["validation"]
                _disjoint(path, tag, training, validation, report)
                known = of[_on(path)].get(tag, ((), ()))
                for name, keys, all_ in zip(found, (training, validation), known, strict=False):
                    strange = set(keys) - set(all_)
                    if strange:
                        what = f"label {min(strange)[:8]} is in the {name} set of {tag}"
                        report.found(Kind.SETS, path, f"{what}, but not in the journal's")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            report.found(
                Kind.UNREADABLE, path, f"it says no sets ({type(error).__name__}: {error})"
            )


def _on(path: Path) -> str:
    """Return whose sets a file of datasets has, by its name."""
    if not path.stem.startswith("converge-"):
        return "own"
    return next((on for on in ON if path.stem.endswith(f"-{on}")), "own")


def check_published(
    run: RunDir, ledger: Ledger, labels: Labels, misc: Misc, report: Report
) -> None:
    """Hold the files of `data/` and `results/` against the labels that belong in them."""
    for what, publication in ledger.published.items():
        if ledger.publishing == what:  # its files are being written anew
            continue
        for path, keys in _files(run, publication, ledger.adopted).items():
            _file(path, keys, labels, misc, report)


def _files(run: RunDir, published: Publication, adopted: bool) -> dict[Path, tuple[str, ...]]:
    """Return the files that were published, with the keys of their labels in order."""
    found: dict[Path, tuple[str, ...]] = {}
    for number, (kind, name) in enumerate((("training", "train"), ("validation", "valid"))):
        together: list[str] = []
        for tag, sets in published.sets.items():
            keys = sets[number]
            together += keys
            if published.what == "initial":
                folder = run.data / "initial" / kind
                found[folder / f"initial_{name}_set_{tag}.xyz"] = keys
            else:
                found[run.data / "final" / kind / f"{name}_set_{tag}.xyz"] = keys
                found[run.results / f"{name}_set_{tag}.xyz"] = keys
        if published.what == "initial":
            folder = run.data / "initial" / kind
            found[folder / f"combined_initial_{name}_set.xyz"] = tuple(together)
    return found


def _disjoint(
    path: Path, tag: str, training: Sequence[str], validation: Sequence[str], report: Report
) -> None:
    for name, keys in (("training", training), ("validation", validation)):
        for key, times in Counter(keys).items():
            if times > 1:
                what = f"label {key[:8]} is {times} times in the {name} set of {tag}"
                report.found(Kind.TWICE, path, what)
    for key in sorted(set(training) & set(validation)):
        what = f"label {key[:8]} is in the training and in the validation set of {tag}"
        report.found(Kind.MIXED, path, what)


def _file(path: Path, keys: Sequence[str], labels: Labels, misc: Misc, report: Report) -> None:
    try:
        frames = _frames(path)
    except FileNotFoundError:
        report.found(Kind.MISSING, path, "it was published, and is not there")
        return
    # ASE's reader raises whatever its parsing trips over.
    except Exception as error:
        what = f"ASE cannot read it ({type(error).__name__}: {error})"
        report.found(Kind.UNREADABLE, path, what)
        return
    report.looked_at["datasets"] += 1
    if len(frames) != len(keys):
        what = f"it has {len(frames)} structures, but the journal's set has {len(keys)} labels"
        report.found(Kind.SETS, path, what)
    for number, (frame, key) in enumerate(zip(frames, keys, strict=False)):
        label = labels.get(key)
        wrong = "" if label is None else _differs(frame, label, misc)
        if wrong:
            what = f"frame {number} is not label {key[:8]}: {wrong}"
            report.found(Kind.VALUES, path, what)


def _frames(path: Path) -> list[Atoms]:
    if path.stat().st_size == 0:
        return []
    found = ase.io.read(path, ":", format="extxyz", do_not_split_by_at_sign=True)
    assert isinstance(found, list)
    return found


def _differs(frame: Atoms, label: StoredLabel, misc: Misc) -> str:
    """Return in which quantity a frame differs from its label, or nothing."""
    if list(frame.numbers) != list(label.atoms.numbers):
        return "other elements"
    pairs: dict[str, tuple[Any, Any, float]] = {
        "positions": (frame.positions, label.atoms.positions, ROUNDED),
        "the cell": (frame.cell.array, label.atoms.cell.array, 1e-6),
        "the energy": (_value(frame, misc.energy_key, "energy"), label.energy, 1e-6),
        "forces": (_value(frame, misc.forces_key, "forces"), label.forces, ROUNDED),
    }
    if label.stress is not None:
        stress = _value(frame, misc.stress_key, "stress")
        pairs["the stress"] = (stress, label.stress, ROUNDED)
    for name, (found, expected, tolerance) in pairs.items():
        if not _same(found, expected, tolerance):
            return name
    return ""


def _value(frame: Atoms, name: str, of_ase: str) -> Any:
    """Return a quantity by its name; ASE takes those that it knows for results of a calculator."""
    for place in (frame.info, frame.arrays, getattr(frame.calc, "results", {})):
        if name in place:
            return place[name]
    return getattr(frame.calc, "results", {}).get(of_ase)


def _same(found: Any, expected: NDArray[np.float64] | float, tolerance: float) -> bool:
    if found is None:
        return False
    one, other = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    if one.size != other.size:
        return one.shape == (6,) and _same(_full(one), expected, tolerance)
    return bool(np.allclose(one.ravel(), other.ravel(), rtol=1e-9, atol=tolerance))


def _full(voigt: NDArray[np.float64]) -> NDArray[np.float64]:
    xx, yy, zz, yz, xz, xy = voigt
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
