"""The files of an evaluation: JSON, arrays, and the dataset with predictions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase.io.extxyz import write_xyz
from ase.units import GPa
from numpy.typing import NDArray

from aimspax_core import __version__
from aimspax_core.evaluation.evaluation import Deviation, Evaluation, FrameErrors, Scores
from aimspax_core.evaluation.frames import QUANTITIES
from aimspax_core.labels.label import BESIDE
from aimspax_core.safe_files import replacing, write_text
from aimspax_core.uncertainty.force_spread import atomic_sd
from aimspax_core.uncertainty.measures import measure_of

_MILLI = 1000.0

_UNWRITABLE = re.compile(r"[^\w.+-]+")
"""What the name of a column of extended XYZ cannot have."""

_SHOWN = (
    ("energy_per_atom", "e", "meV_per_atom", _MILLI),
    ("energy", "e", "meV", _MILLI),
    ("forces", "f", "meV_per_A", _MILLI),
    ("stress", "stress", "meV_per_A3", _MILLI),
    ("stress", "stress", "GPa", 1 / GPa),
)
"""Field of `FrameErrors`, its short name as in `errors.csv`, unit, and that unit in eV and Å."""

_BESIDE = (
    ("dipole", "dipole", "me_A", _MILLI),
    ("hirshfeld_ratios", "hirshfeld_ratios", "per_mille", _MILLI),
)
"""Likewise, of what is there only if it was measured."""

_NAMES = {
    **{"energy_per_atom": "e_per_atom", "energy": "e", "forces": "f", "stress": "stress"},
    **{name: name for name in BESIDE},
}
"""The original's names of the errors."""

_STATISTICS = ("mae", "rmse", "max")


def as_json(found: Evaluation) -> dict[str, Any]:
    """Return an evaluation as JSON data; names end in units, what was not measured is null.

    Returns:
        `aimspax` (version); `dataset`: `file`, `frames`, `atoms` and `labelled`, the frames that
        have `energy`, `forces`, `stress`; `models`: by tag `file`, `dtype`, `r_max_A`, `elements`
        and `errors`; `ensemble_mean`: the errors of the mean prediction, or null; `uncertainty`:
        by measure `frames`, `mean_uncertainty_meV_per_A`, `mean_error_meV_per_A` (or whatever a
        thousandth of the measure's unit is), likewise `mean_expected_error_` and, for quarters of
        the frames by the expected error, both means (null and empty without `calibration.json`),
        `factor` (error over uncertainty), and the correlations `pearson`, `spearman` of the two.
        Errors have `total`, `by_geometry` (both: `frames`, `atoms`, and `mae_`, `rmse_`, `max_`
        with `e_meV_per_atom`, `e_meV`, `f_meV_per_A`, `stress_meV_per_A3`, `stress_GPa`, and where
        they were measured `dipole_me_A` and `hirshfeld_ratios_per_mille`) and `by_element`
        (`atoms`, and the three of `f_meV_per_A`).
    """
    frames = found.frames
    return {
        "aimspax": __version__,
        "dataset": {
            "file": str(frames.path),
            "frames": len(frames),
            "atoms": len(frames.numbers),
            "labelled": {quantity: frames.labelled(quantity) for quantity in QUANTITIES},
        },
        "models": {
            model.tag: {
                "file": str(model.path),
                "dtype": str(model.committee.evaluator.dtype).removeprefix("torch."),
                "r_max_A": model.committee.evaluator.r_max,
                "elements": list(model.elements),
                "errors": _scores(found.scores[model.tag]),
            }
            for model in found.models
        },
        "ensemble_mean": None if found.mean is None else _scores(found.mean),
        "uncertainty": {
            kind: {
                "frames": len(trust.error),
                f"mean_uncertainty_{unit}": _MILLI * float(trust.uncertainty.mean()),
                f"mean_error_{unit}": _MILLI * float(trust.error.mean()),
                f"mean_expected_error_{unit}": None
                if trust.expected is None
                else _MILLI * float(trust.expected.mean()),
                "factor": trust.factor,
                f"quarters_expected_and_true_error_{unit}": [
                    [_MILLI * expected, _MILLI * true] for expected, true in trust.quarters
                ],
                "pearson": trust.pearson,
                "spearman": trust.spearman,
            }
            for kind, trust in found.trust.items()
            for unit in [measure_of(kind).plain_unit]
        },
    }


def write_json(found: Evaluation, path: Path) -> None:
    """Write `as_json` to a file."""
    text = json.dumps(as_json(found), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def write_arrays(found: Evaluation, path: Path, predictions: bool = False) -> None:
    """Write the original's `ensemble_test_results.npz`, as plain arrays in eV and Å.

    `ensemble_metrics/TAG/NAME` is an error of a model, `avg_ensemble_metrics/NAME` its average
    over the models. Names are the original's: `mae_`, `rmse_`, `max_` with `e_per_atom`, `e`, `f`
    and `stress`; what was not measured is not there.

    Args:
        found: What to write.
        path: The file.
        predictions: Write `ensemble_metrics/TAG/predictions/energy` (F), `forces` (A, 3) and,
            if the dataset has stress, `stress` (F, 3, 3) too, and their means over the models.
    """
    arrays: dict[str, Any] = {}
    for m, model in enumerate(found.models):
        arrays |= _prefixed(f"ensemble_metrics/{model.tag}", _metrics(found, model.tag))
        if predictions:
            place = f"ensemble_metrics/{model.tag}/predictions"
            arrays |= _prefixed(place, _predicted(found, m))
    each = [_metrics(found, model.tag) for model in found.models]
    average = {name: np.mean([metrics[name] for metrics in each]) for name in each[0]}
    arrays |= _prefixed("avg_ensemble_metrics", average)
    if predictions:
        arrays |= _prefixed("avg_ensemble_metrics/predictions", _predicted(found, None))
    with replacing(path) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)


def write_predictions(found: Evaluation, path: Path) -> None:
    """Write a copy of the dataset with the models' predictions added.

    `MACE_energy` (eV), `MACE_forces` (eV/Å) and, if the dataset has stress, `MACE_stress` (eV/Å³)
    are the mean prediction, or that of the one model. With two models and more each one's own
    end in its tag (`MACE_forces_TAG`, blanks and slashes as `_`). `MACE_forces_sd` is each atom's
    uncertainty, of several models or of one with several heads.
    """
    own: list[tuple[str, int | None]] = [("", None)]
    if found.mean is not None:
        own += [("_" + _UNWRITABLE.sub("_", model.tag), m) for m, model in enumerate(found.models)]
    parts = [(suffix, _predicted(found, m)) for suffix, m in own]
    with replacing(path) as aside, aside.open("w", encoding="utf-8") as file:
        read = ase.io.iread(
            found.frames.path, index=":", format="extxyz", do_not_split_by_at_sign=True
        )
        for frame, atoms in enumerate(read):
            atoms_slice = found.frames.own(frame)
            for suffix, predicted in parts:
                atoms.info[f"MACE_energy{suffix}"] = float(predicted["energy"][frame])
                atoms.arrays[f"MACE_forces{suffix}"] = predicted["forces"][atoms_slice]
                if "stress" in predicted and atoms.pbc.all():
                    atoms.info[f"MACE_stress{suffix}"] = predicted["stress"][frame]
            if len(found.predictions.member_forces) > 1:
                spread = atomic_sd(found.predictions.member_forces[:, atoms_slice])
                atoms.arrays["MACE_forces_sd"] = spread
            write_xyz(file, [atoms])


def _scores(scores: Scores) -> dict[str, Any]:
    return {
        "total": _errors(scores.total),
        "by_element": {
            symbol: {"atoms": deviation.count // 3} | _deviation(deviation, *_SHOWN[2][1:])
            for symbol, deviation in scores.by_element.items()
        },
        "by_geometry": {name: _errors(errors) for name, errors in scores.by_geometry.items()},
    }


def _errors(errors: FrameErrors) -> dict[str, Any]:
    shown: dict[str, Any] = {"frames": errors.frames, "atoms": errors.atoms}
    for field, name, unit, factor in _SHOWN:
        shown |= _deviation(getattr(errors, field), name, unit, factor)
    for field, name, unit, factor in _BESIDE:
        if (deviation := getattr(errors, field)) is not None:
            shown |= _deviation(deviation, name, unit, factor)
    return shown


def _deviation(
    deviation: Deviation | None, name: str, unit: str, factor: float
) -> dict[str, float | None]:
    values = {statistic: getattr(deviation, statistic, None) for statistic in _STATISTICS}
    return {
        f"{statistic}_{name}_{unit}": None if value is None else factor * value
        for statistic, value in values.items()
    }


def _metrics(found: Evaluation, tag: str) -> dict[str, float]:
    """Return the errors of a model under the original's names, in eV and Å."""
    total = found.scores[tag].total
    measured = {name: getattr(total, field) for field, name in _NAMES.items()}
    return {
        f"{statistic}_{name}": getattr(deviation, statistic)
        for name, deviation in measured.items()
        if deviation is not None
        for statistic in _STATISTICS
    }


def _predicted(found: Evaluation, model: int | None) -> dict[str, NDArray[np.float64]]:
    """Return what a model, or the mean of all, predicts."""
    energy, forces, stress = found.predictions.of(model)
    predicted = {"energy": energy, "forces": forces}
    return predicted | ({"stress": stress} if found.frames.labelled("stress") else {})


def _prefixed(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}/{name}": value for name, value in values.items()}
