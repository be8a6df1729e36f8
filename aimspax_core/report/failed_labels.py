"""Points that have no label: how many for which reason, and the last of them."""

from __future__ import annotations

import re
from collections import Counter

from aimspax_core.campaign.state import CampaignState, Point, PointStatus
from aimspax_core.errors import LabelFailure

_LAST = 20
"""Points that are shown one by one."""

_MANY_REASONS = (LabelFailure.OTHER, LabelFailure.ANSWER, LabelFailure.LOST)
"""Kinds of failure within which messages differ in more than numbers."""

_PATH = re.compile(r" \(/[^()]*\)| /\S+")
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")


def failed_points(state: CampaignState) -> list[Point]:
    """Return the points that have no label and will have none, in the order they were asked for."""
    return [point for point in state.points.values() if point.status is PointStatus.FAILED]


def by_reason(state: CampaignState) -> list[tuple[str, int]]:
    """Return how many points failed for each reason, the most frequent first.

    Points count together by the kind of their failure; the message of the first stands for all.
    Where the kind leaves the reason open, as in journals of release 0.1.0, those count together
    whose messages differ in numbers and paths only.
    """
    texts: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for point in failed_points(state):
        text = _PATH.sub("", point.reason)
        known = point.failure not in _MANY_REASONS
        kind = point.failure.value if known else f"{point.failure}: {_NUMBER.sub('#', text)}"
        texts.setdefault(kind, text)
        counts[kind] += 1
    return [(texts[kind], count) for kind, count in counts.most_common()]


def rows(state: CampaignState) -> list[dict[str, str | int]]:
    """Return the last points without a label, the newest first: key, where from, and why."""
    return [
        {
            "label": point.key[:8],
            "geometry": point.geometry,
            "from": _origin(point),
            "reason": point.reason,
        }
        for point in failed_points(state)[: -_LAST - 1 : -1]
    ]


def _origin(point: Point) -> str:
    if point.sampling_step is not None:
        return f"sampling step {point.sampling_step}"
    return f"trajectory {point.trajectory}"
