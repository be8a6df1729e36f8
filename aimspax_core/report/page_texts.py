"""What the cards on a campaign's page say, in Markdown; the sentence on a card says the main thing.

The page shows cards in no order of ours. So the card "campaign" has all that one looks for first,
in the order in which one does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from aimspax_core.campaign.state import CampaignState, Phase, Point
from aimspax_core.report.document import tables
from aimspax_core.report.document.costs import PoolWork, targets
from aimspax_core.report.document.source import Source
from aimspax_core.report.document.trajectories import trajectories
from aimspax_core.report.doing import doing_text, next_text, under_way
from aimspax_core.report.error_tables import error_rows, have_data
from aimspax_core.report.failed_labels import by_reason
from aimspax_core.report.forecast import BASIS, forecast_rows
from aimspax_core.report.markdown import picture, plain, sections, table
from aimspax_core.report.progress import progress
from aimspax_core.report.summary import Fact, core_hours_text, error_of, goal_rows, summary
from aimspax_core.text import duration_text


def campaign_card(
    source: Source,
    curve: bytes | None,
    links: Mapping[str, str],
    jobs: Mapping[str, str] | None = None,
    seconds: float | None = None,
    stopped: bool = False,
) -> tuple[str, str]:
    """Return what one looks for first, and the sentence on the card.

    Args:
        source: The campaign.
        curve: Its learning curve as a PNG, once there is one.
        links: Addresses, or paths, of other places to look at, by their names.
        jobs: The batch jobs of each pool in a few words, by the pool's name.
        seconds: For how long it has run (s); None: until the last event of its journal.
        stopped: Whether nobody runs it any more, though it is not over.
    """
    state, settings, story = source.state, source.settings, source.story
    epochs = settings.al.max_convergence_epochs
    phase, *facts = summary(state, epochs, story.seconds if seconds is None else seconds)
    told = [phase, *_now(state, jobs or {}, stopped), *facts]
    members = error_rows(state, settings.model.MISC.error_table) if have_data(state) else []
    text = sections(
        {
            "": table([{"": fact.of, " ": fact.text} for fact in told], headings=False),
            "Stopping rules": table(goal_rows(state)),
            "Learning curve": "" if curve is None else picture(curve, "learning curve"),
            "Members": table(members),
            f"What more labels will bring ({BASIS})": table(forecast_rows(story.curves.learning)),
            "More": "\n".join(f"- {name}: {address}" for name, address in links.items()),
        }
    )
    error, labels = error_of(state), next(fact.text for fact in facts if fact.of == "labels")
    sentence = f"**{progress(state, epochs).title}**{f'; force MAE {error}' if error else ''}"
    return text, f"{sentence}; labels: {labels}"


def _now(state: CampaignState, jobs: Mapping[str, str], stopped: bool) -> list[Fact]:
    """Return what is being done, by which jobs, and what comes next; nothing of what is over."""
    if state.phase in (Phase.READY, Phase.FINISHED, Phase.FAILED):
        return []
    if stopped:
        return [Fact("now", "stopped; start it again to go on")]
    facts = {"now": under_way(state) or ("" if state.points else doing_text(state))}
    facts |= {f"{pool} jobs": told for pool, told in jobs.items()}
    facts["next"] = "" if state.paused is not None else next_text(state)
    return [Fact(of, text) for of, text in facts.items() if text]


def trajectories_card(source: Source, figure: bytes | None) -> tuple[str, str]:
    """Return what the trajectories do and how unsure the committee is of them."""
    state = source.state
    by = {fact.of: fact.text for fact in summary(state, 1)}
    rows = [tables.trajectory(one) for one in trajectories(source)]
    shown = "" if figure is None else picture(figure, "uncertainty along each trajectory")
    text = sections({"": table(rows), "Uncertainty against threshold, the last checks": shown})
    told = [f"trajectories: {by['trajectories']}"] if "trajectories" in by else []
    return text, "; ".join([*told, *([by["uncertainty"]] if "uncertainty" in by else [])])


def costs_card(source: Source, pools: Sequence[PoolWork], figure: bytes | None) -> tuple[str, str]:
    """Return what labels and workers took."""
    seconds = source.story.seconds
    text = sections(
        {
            "Labels": table(label_rows(source)),
            "Workers": table([_pool_row(pool, seconds) for pool in pools]),
            "Use over time": "" if figure is None else picture(figure, "use of the pools"),
            "What it cost to reach an error": table(tables.targets(targets(source))),
        }
    )
    spent = core_hours_text(source.state.core_hours)
    return text, f"{spent} for {source.state.labels} labels in {duration_text(seconds)} of running"


def label_rows(source: Source) -> list[dict[str, object]]:
    """Return a row for each geometry: its labels, and what they took."""
    by: dict[int, list[tuple[float, float]]] = defaultdict(list)
    store: dict[int, int] = defaultdict(int)
    for asked in source.story.asked.values():
        point = source.state.points.get(asked.key)
        if point is None or asked.wall_s is None:
            continue
        if asked.from_store:
            store[point.geometry] += 1
        else:
            by[point.geometry].append((asked.wall_s, asked.core_hours or 0.0))
    rows: list[dict[str, object]] = []
    for geometry in sorted({*by, *store}):
        took = by[geometry]
        walls = [wall for wall, _ in took]
        rows.append(
            {
                "geometry": geometry,
                "computed": len(took),
                "from the store": store[geometry],
                "median time": duration_text(median(walls)) if walls else "-",
                "longest": duration_text(max(walls)) if walls else "-",
                "together": core_hours_text(sum(cost for _, cost in took)),
            }
        )
    return rows


def without_label_card(
    state: CampaignState,
    pictures: Sequence[tuple[Point, bytes]],
    rows: Sequence[Mapping[str, object]],
) -> tuple[str, str]:
    """Return the points without a label: why, how often, and what the last of them look like.

    Args:
        state: The campaign.
        pictures: Some of the points, each with its picture as a PNG.
        rows: The last of the points, see `failed_labels.rows`.
    """
    reasons = by_reason(state)
    shown = [
        f"**{point.key[:8]}**: {plain(point.reason)}\n\n{picture(png, point.key[:8])}"
        for point, png in pictures
    ]
    text = sections(
        {
            "": table([{"reason": reason, "points": count} for reason, count in reasons]),
            "The last of them": table(rows),
            "What they look like": "\n\n".join(shown),
        }
    )
    refused = f" ({state.refused} refused by the gate)" if state.refused else ""
    why = "; ".join(f"{count} × {plain(reason)}" for reason, count in reasons[:3])
    return text, f"{state.failed_labels} points have no label{refused}: {why}"


def _pool_row(pool: PoolWork, seconds: float) -> dict[str, object]:
    busy = sum(one.seconds for one in pool.done)
    share = busy / (pool.workers * seconds) if pool.workers and seconds > 0 else 0.0
    return {
        "pool": pool.name,
        "workers at most": pool.workers,
        "tasks": len(pool.done),
        "busy": f"{min(1.0, share):.0%} of their time, {duration_text(busy)} of all together",
    }
