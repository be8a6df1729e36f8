"""The trajectories that explore: conditions, steps, labels, setbacks."""

from __future__ import annotations

from collections import Counter

from aimspax_core.campaign.state import PointStatus
from aimspax_core.report.conditions import condition_text
from aimspax_core.report.document import contents
from aimspax_core.report.document.source import Source
from aimspax_core.report.progress import AFTER, status_text


def trajectories(source: Source) -> list[contents.Trajectory]:
    """Return a row for each trajectory."""
    state, settings = source.state, source.settings
    labelled = Counter(
        point.trajectory
        for point in state.points.values()
        if point.status is PointStatus.LABELLED and not point.analysis
    )
    over = state.phase in AFTER
    found = []
    for one in state.trajectories:
        md = settings.md(one.geometry, one.index // state.rules.geometries)
        found.append(
            contents.Trajectory(
                index=one.index,
                geometry=one.geometry,
                conditions=condition_text(md),
                status="exploring ended" if over and not one.over else status_text(one.status),
                steps=one.step,
                time_ps=one.step * md.timestep / 1000,
                labels=labelled[one.index],
                rollbacks=one.rollbacks,
                begun_anew=one.begun_anew,
                setbacks=[reason for reason in one.setbacks if reason],
            )
        )
    return found
