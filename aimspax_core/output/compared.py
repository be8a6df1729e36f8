"""The last labels of a campaign, beside what the committee had said of their structures."""

from __future__ import annotations

import numpy as np

from aimspax_core.campaign.state import CampaignState, PointStatus
from aimspax_core.labels.store import LabelStore
from aimspax_core.output.predictions import read_prediction
from aimspax_core.report.compared import Compared
from aimspax_core.report.document.labels import label_content
from aimspax_core.run_directory import RunDir
from aimspax_core.structures import decode


def last_compared(run: RunDir, state: CampaignState, most: int = 50) -> list[Compared]:
    """Return the last labels whose predictions were kept; what cannot be read is left out.

    Args:
        run: The run directory.
        state: The campaign.
        most: So many at most.
    """
    store, found = LabelStore(run.labels), list[Compared]()
    explored = (p for p in reversed(state.points.values()) if p.sampling_step is None)
    for point in explored:
        if point.status is not PointStatus.LABELLED:
            continue
        kept = read_prediction(run.prediction(point.key))
        if kept is None:
            continue
        content = label_content(store, point.key)
        if content is not None:
            forces = np.asarray(content["forces"], dtype=float).reshape(-1, 3)
            symbols = decode(content["structure"]).get_chemical_symbols()
            energies = kept[0].energy, float(content["energy"])
            dipole = content.get("dipole")
            dipoles = (
                kept[0].beside.get("dipole"),
                None if dipole is None else np.asarray(dipole, dtype=float),
            )
            found.append(Compared(tuple(symbols), kept[0].forces, forces, *energies, *dipoles))
        if len(found) == most:
            break
    return found
