"""What a committee had said of structures, held against their labels."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aimspax_core.campaign.judged import Judged
from aimspax_core.labels.store import StoredLabel
from aimspax_core.prediction import Prediction
from aimspax_core.run_directory import RunDir
from aimspax_core.uncertainty.judged_atoms import judged as part_of
from aimspax_core.uncertainty.measures import UncertaintyType, measure_of
from aimspax_core.uncertainty.true_error import mirrored

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
    said, threshold, free = kept
    truth = mirrored(said, stored.label.energy, stored.label.forces)
    parts = (part_of("free_atoms", one, stored.atoms, free) for one in (said, truth))
    (said, structure), (truth, _) = parts
    return Judged.of(said, truth, structure, len(free), threshold, geometry, measure_of(measure))


def read_prediction(path: Path) -> tuple[Prediction, float | None, NDArray[np.bool_]] | None:
    """Return a prediction that `sampling.snapshots` wrote, the threshold, and what it was of.

    The threshold is that in force then, None during warm-up. What it was of is a mask of the atoms
    (N,) whose uncertainty was held against it.

    Returns:
        None where there is no such file, where it was cut off, or where an earlier release wrote
        it, which did not keep the threshold.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            forces, members = found["forces"], found["member_forces"]
            energies, threshold = found["member_energies"], float(found["threshold"])
            free = found["free"] if "free" in found else np.ones(len(forces), dtype=bool)
            beside = {"dipole": found["dipole"]} if "dipole" in found else {}
    except (FileNotFoundError, KeyError):
        return None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        log.warning("%s is left out of the calibration: %s", path, error)
        return None
    mean = float(np.mean(energies, dtype=float))
    said = Prediction(mean, np.asarray(forces, dtype=float), energies, members, beside=beside)
    return said, None if np.isnan(threshold) else threshold, free
