"""The delivered models calibrated: their spread and true error on points that none was trained on.

`results/calibration.json` has, for `calculator` (what `CommitteeCalculator` predicts) and `models`
(all models of the folder side by side, as `aimspax evaluate` takes them), by measure of uncertainty
a calibration, and by element the factor of the atoms; and, as `labels`, how many points it is by
from the held-out set, from those for analysis, and from validation sets (see docs/calibration.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from aimspax_core.errors import ModelError
from aimspax_core.evaluation.whose import TABLE, states
from aimspax_core.labels.label import Label
from aimspax_core.prediction import Prediction
from aimspax_core.safe_files import write_text
from aimspax_core.settings.geometries.held_atoms import HeldAtoms
from aimspax_core.uncertainty.calibration import Calibration, calibrated
from aimspax_core.uncertainty.force_spread import atomic_sd
from aimspax_core.uncertainty.judged_atoms import UncertaintyOf, judged
from aimspax_core.uncertainty.measures import MEASURES, Measure, UncertaintyType
from aimspax_core.uncertainty.true_error import mirrored

if TYPE_CHECKING:  # what is written is read without torch
    from aimspax_core.model.committee import Committee

FILE = "calibration.json"

FEWEST = 5
"""With fewer points than these nothing is said of delivered models."""

Whose = Literal["calculator", "models"]


@dataclass(frozen=True)
class Delivered:
    """What is to be expected of delivered models.

    Attributes:
        by_measure: The calibration by each measure of uncertainty.
        by_element: True error over spread of the atoms of each element, by symbol.
    """

    by_measure: dict[UncertaintyType, Calibration]
    by_element: dict[str, float]

    def of_atoms(self, structure: Atoms, spreads: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the force error to be expected of each atom, (N,), in eV/Å; NaN if unknown.

        Args:
            structure: The structure of N atoms.
            spreads: Standard deviation of the forces on each, (N,), in eV/Å.
        """
        symbols = structure.get_chemical_symbols()
        return np.array([self.by_element.get(symbol, np.nan) for symbol in symbols]) * spreads


Point = tuple[Atoms, Label]
"""A structure and its label."""

Committees: TypeAlias = "tuple[Committee, Committee]"
"""The one whose mean is the prediction, and the one whose spread is its uncertainty."""


def deliver(
    folder: Path,
    points: Sequence[Point],
    committees: dict[Whose, Committees],
    batch: int,
    sources: Mapping[str, int] | None = None,
    of: UncertaintyOf = "all",
) -> bool:
    """Calibrate models on points, and write the file.

    Args:
        folder: The folder of the models.
        points: On which no model was trained.
        committees: What is calibrated.
        batch: How many structures are computed at a time.
        sources: How many of the points are from where; it is written beside.
        of: Of which atoms the calculator's uncertainty is; those that structures hold are not
            free. That of models side by side is of all.

    Returns:
        Whether there were points enough; else no file is written.
    """
    if len(points) < FEWEST:
        return False
    found = {
        whose: _calibrated(points, *pair, batch, of if whose == "calculator" else "all")
        for whose, pair in committees.items()
    }
    content: dict[str, Any] = {"labels": dict(sources or {})} | {
        whose: _as_json(one) for whose, one in found.items()
    }
    write_text(folder / FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return True


def delivered(folder: Path, whose: Whose) -> Delivered | None:
    """Return what is to be expected of the models of a folder; None where it has no such file.

    Raises:
        ModelError: The file is none of ours, or was damaged.
    """
    path = folder / FILE
    try:
        content = json.loads(path.read_bytes())[whose]
        by_measure = {name: Calibration.of(one) for name, one in content["by_measure"].items()}
        factors = {str(symbol): float(one) for symbol, one in content["by_element"].items()}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is not the calibration of delivered models ({error!r})") from None
    return Delivered(by_measure, factors)


def delivered_together(files: Sequence[Path]) -> Delivered | None:
    """Return what is to be expected of models side by side, if they were delivered together.

    Args:
        files: Model files; nothing is known unless they are all of one folder's.

    Raises:
        ModelError: See `delivered`; or the folder's table of errors is none.
    """
    folders = {file.resolve().parent for file in files}
    if len(folders) != 1:
        return None
    (folder,) = folders
    if not ((folder / FILE).is_file() and (folder / TABLE).is_file()):
        return None
    if {file.resolve() for file in files} != {folder / f"{tag}.model" for tag in states(folder)}:
        return None
    return delivered(folder, "models")


def _calibrated(
    points: Sequence[Point], mean: Committee, spread: Committee, batch: int, of: UncertaintyOf
) -> Delivered:
    pairs: dict[UncertaintyType, list[tuple[float, float]]] = {one.name: [] for one in MEASURES}
    sums: dict[str, list[float]] = {}
    structures = [structure for structure, _ in points]
    means, spreads = (_predicted(one, structures, batch) for one in (mean, spread))
    for (structure, label), said, unsure in zip(points, means, spreads, strict=True):
        truth = mirrored(said, label.energy, label.forces)
        if not (np.isfinite(truth.member_forces).all() and np.isfinite(unsure.member_forces).all()):
            continue  # a model that breaks down there has no error that could be expected
        for one in MEASURES:
            pair = measured(one, of, unsure, structure), measured(one, of, truth, structure)
            if np.isfinite(pair).all():
                pairs[one.name].append(pair)
        by_atom = (atomic_sd(unsure.member_forces), atomic_sd(truth.member_forces))
        for symbol, *found in zip(structure.get_chemical_symbols(), *by_atom, strict=True):
            before = sums.setdefault(symbol, [0.0, 0.0])
            sums[symbol] = [total + more for total, more in zip(before, found, strict=True)]
    fits = {name: calibrated(*np.array(rows).T) for name, rows in pairs.items() if rows}
    return Delivered(
        by_measure={name: fit for name, fit in fits.items() if fit is not None},
        by_element={symbol: error / sd for symbol, (sd, error) in sorted(sums.items()) if sd > 0},
    )


def measured(
    measure: Measure, of: UncertaintyOf, prediction: Prediction, structure: Atoms
) -> float:
    """Return what a measure says of a prediction, by what the structure holds; see `judged`.

    Where all atoms are fixed, it is of all.
    """
    free = HeldAtoms.of(structure).movable(len(structure))
    return measure.function(*judged(of if free.any() else "all", prediction, structure, free))


def _predicted(committee: Committee, structures: list[Atoms], batch: int) -> list[Prediction]:
    starts = range(0, len(structures), batch)
    batches = (structures[start : start + batch] for start in starts)
    return [one for some in batches for one in committee.evaluate(some)]


def _as_json(found: Delivered) -> dict[str, Any]:
    return {
        "by_measure": {name: one.as_json() for name, one in found.by_measure.items()},
        "by_element": found.by_element,
    }
