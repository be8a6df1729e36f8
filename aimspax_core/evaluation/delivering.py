"""The models of a finished campaign are calibrated as they are delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aimspax_core.evaluation.calculator import committees_of, side_by_side
from aimspax_core.evaluation.delivered import FILE, Committees, Point, Whose, deliver
from aimspax_core.evaluation.whose import files_of
from aimspax_core.uncertainty.chosen import Chosen


def forget_calibration(results: Path) -> None:
    """Remove a calibration of models that were in a folder before."""
    (results / FILE).unlink(missing_ok=True)


def calibrate_results(
    results: Path,
    points: Sequence[Point],
    device: str = "cpu",
    kernel: str = "auto",
    batch: int = 5,
    sources: Mapping[str, int] | None = None,
) -> bool:
    """Calibrate the models in `results/`, as one calculator and side by side.

    A calibration that is there is of models before, and goes, whatever comes of it.

    Args:
        results: The folder, with its models and `errors.csv`.
        points: Structures with labels that no model was trained on; see `evaluation.unseen`.
        device: `cpu`, `cuda` or `cuda:N`.
        kernel: What computes the network; see `MISC.kernel`.
        batch: How many structures are computed at a time, as `TRAINING.valid_batch_size`.
        sources: How many of the points are from where.

    Returns:
        Whether there were points enough, and `calibration.json` is there.
    """
    forget_calibration(results)
    files = files_of(results)
    pair = committees_of(files, device, kernel)
    committees: dict[Whose, Committees] = {"calculator": pair, "models": pair}
    if pair[0] is not pair[1]:
        beside = side_by_side(list(files.all.values()), device, kernel)
        committees["models"] = beside, beside
    return deliver(results, points, committees, batch, sources, Chosen.read(results).of)
