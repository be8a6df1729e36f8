"""What a campaign took: time, core-hours, workers, and what it cost to reach an error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from aimspax_core.report.document import contents
from aimspax_core.report.document.source import Source
from aimspax_core.report.document.story import Work
from aimspax_core.report.forecast import HELD_OUT, IN_VALIDATION
from aimspax_core.settings.settings import Settings

BINS = 60
"""Points of a curve of a pool's use."""

TARGETS = (400.0, 300.0, 200.0, 150.0, 100.0, 75.0, 50.0, 40.0, 30.0, 20.0, 15.0, 10.0, 7.5, 5.0)
"""Force MAE (meV/Å) whose cost is told, as far as they have been reached before the convergence."""


@dataclass(frozen=True)
class PoolWork:
    """A pool of workers: its name, how many it has at most, and the tasks that it has done."""

    name: str
    workers: int
    done: Sequence[Work]


def costs(source: Source) -> contents.Costs:
    """Return what a campaign took so far."""
    story, state = source.story, source.state
    took = [
        one.core_hours
        for one in story.asked.values()
        if one.core_hours is not None and not one.from_store
    ]
    return contents.Costs(
        hours=story.seconds / 3600,
        core_hours=state.core_hours,
        core_seconds_a_label=3600 * float(np.median(took)) if took else None,
        began=utc(story.began),
        ended=utc(story.ended),
        pools=pools(source),
        targets=targets(source),
    )


def utc(time: float | None) -> str | None:
    """Return a time (s since 1970) in ISO 8601; None stays None."""
    return None if time is None else datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")


def pools(source: Source) -> list[contents.Pool]:
    """Return what each pool of workers did; journals of early releases tell of labels only."""
    settings, seconds = source.settings, source.story.seconds
    done = by_pool(settings, source.story.work)
    return [
        _pool("reference", settings.cluster.labels_at_once, seconds, done["reference"]),
        _pool("ml", source.state.rules.max_segments, seconds, done["ml"]),
    ]


def by_pool(settings: Settings, work: Iterable[Work]) -> dict[str, list[Work]]:
    """Return tasks by the name of the pool that did them."""
    by_reference = {"labels"}
    if settings.idg.initial_sampling == "aimd":
        by_reference.add("sampling")
    found: dict[str, list[Work]] = {"reference": [], "ml": []}
    for one in work:
        found["reference" if one.kind in by_reference else "ml"].append(one)
    return found


def _pool(name: str, workers: int, seconds: float, done: list[Work]) -> contents.Pool:
    kinds = dict.fromkeys(one.kind for one in done)
    busy = sum(one.seconds for one in done)
    known = busy > 0 and seconds > 0
    return contents.Pool(
        name=name,
        workers=workers,
        busy_hours=busy / 3600,
        idle_share=max(0.0, 1 - busy / (workers * seconds)) if known else None,
        work=[
            contents.WorkOfKind(
                kind=kind,
                tasks=sum(one.kind == kind for one in done),
                hours=sum(one.seconds for one in done if one.kind == kind) / 3600,
            )
            for kind in kinds
        ],
        use=use(done, seconds) if known else [],
    )


def use(done: list[Work], seconds: float) -> list[tuple[float, float]]:
    """Return how many workers were busy on average, over equal spans of the running time.

    Args:
        done: Tasks; each was on its worker until its end.
        seconds: The running time (s).

    Returns:
        The middle of each span (h), and the workers that were busy in it.
    """
    edges = np.linspace(0.0, seconds, BINS + 1)
    ends = np.array([min(one.end, seconds) for one in done])
    begins = np.maximum(0.0, ends - np.array([one.seconds for one in done]))
    # The time of all tasks before an edge is a sum; its growth is what was done within a span.
    before = [float(np.clip(edge - begins, 0.0, ends - begins).sum()) for edge in edges]
    busy = np.diff(before) / (edges[1] - edges[0])
    middles = (edges[1:] + edges[:-1]) / 2 / 3600
    return list(zip(middles.tolist(), busy.tolist(), strict=True))


def targets(source: Source) -> list[contents.Target]:
    """Return what it cost until an error was at most as large as each target, by set of data."""
    curves = source.story.curves
    found = []
    for on, curve, spent in (
        (HELD_OUT, curves.held_out, curves.held_out_spent),
        (IN_VALIDATION, curves.mean, curves.spent),
    ):
        for target in TARGETS:
            reached = next((i for i, (_, error) in enumerate(curve) if error <= target), None)
            if reached is None:
                continue
            found.append(
                contents.Target(
                    mae_f_meV_per_A=target,
                    on=on,
                    labels=spent[reached].labels,
                    core_hours=spent[reached].core_hours,
                    hours=spent[reached].seconds / 3600,
                    from_the_beginning=reached == 0,
                )
            )
    return found
