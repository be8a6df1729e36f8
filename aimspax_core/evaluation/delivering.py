"""The models of a finished campaign are calibrated as they are delivered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aimspax_core.evaluation.calculator import committees_of, side_by_side
from aimspax_core.evaluation.delivered import FILE, Committees, Whose, deliver
from aimspax_core.evaluation.whose import files_of
from aimspax_core.labels.store import StoredLabel


def calibrate_results(
    results: Path,
    points: Sequence[StoredLabel],
    device: str = "cpu",
    kernel: str = "auto",
    batch: int = 5,
) -> bool:
    """Calibrate the models in `results/`, as one calculator and side by side.

    A calibration that is there is of models before, and goes, whatever comes of it.

    Args:
        results: The folder, with its models and `errors.csv`.
        points: Labels that no model was trained on.
        device: `cpu`, `cuda` or `cuda:N`.
        kernel: What computes the network; see `MISC.kernel`.
        batch: How many structures are computed at a time, as `TRAINING.valid_batch_size`.

    Returns:
        Whether there were points enough, and `calibration.json` is there.
    """
    (results / FILE).unlink(missing_ok=True)
    files = files_of(results)
    pair = committees_of(files, device, kernel)
    committees: dict[Whose, Committees] = {"calculator": pair, "models": pair}
    if pair[0] is not pair[1]:
        beside = side_by_side(list(files.all.values()), device, kernel)
        committees["models"] = beside, beside
    return deliver(results, [(one.atoms, one.label) for one in points], committees, batch)
