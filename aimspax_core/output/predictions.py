"""What a committee had said of structures, held against their labels."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path

import numpy as np

from aimspax_core.campaign.judged import Judged
from aimspax_core.labels.store import StoredLabel
from aimspax_core.prediction import Prediction
from aimspax_core.run_directory import RunDir
from aimspax_core.uncertainty.measures import UncertaintyType, measure_of

log = logging.getLogger(f"aimspax.{__name__}")


def judged(
    run: RunDir, stored: StoredLabel, geometry: int, measure: UncertaintyType
) -> Judged | None:
    """Hold a label against what the committee had said of its structure; None if it was not kept.

    Args:
        run: The run directory.
        stored: The label, as the store has it.
        geometry: Of which geometry the structure is.
        measure: Name of the campaign's measure of uncertainty.
    """
    kept = read_prediction(run.prediction(stored.key))
    if kept is None:
        return None
    return Judged.of(*kept, stored.atoms, stored.label, geometry, measure_of(measure))


def read_prediction(path: Path) -> tuple[Prediction, float | None] | None:
    """Return a prediction that `sampling.snapshots` wrote, and the threshold in force then.

    Returns:
        None where there is no such file, where it was cut off, or where an earlier release wrote
        it, which did not keep the threshold.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            forces, members = found["forces"], found["member_forces"]
            energies, threshold = found["member_energies"], float(found["threshold"])
    except (FileNotFoundError, KeyError):
        return None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        log.warning("%s is left out of the calibration: %s", path, error)
        return None
    mean = float(np.mean(energies, dtype=float))
    said = Prediction(mean, np.asarray(forces, dtype=float), energies, members)
    return said, None if np.isnan(threshold) else threshold
