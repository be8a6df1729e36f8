"""How a finished campaign spent its time, from its journal.

Run as a script: `python tests/benchmarks/bench_campaign.py [RUN_DIRECTORY]` (default runs/aspirin).

Definitions. Pauses between two runs of the same campaign are left out throughout, and tasks that
were lost are not counted.

- trajectory steps/s in evaluation: structures evaluated / seconds spent in the committee's batched
  evaluations; mean batch size: structures / evaluations. Of all segments together.
- trajectory steps/s of exploring: steps that the trajectories made / wall time of the phase of
  active learning, in which labels and training share the machine.
- busy, known work: what tasks themselves report as work, over wall time × workers of the pool: for
  a label its `wall_s`, for training the seconds of its epochs, for a segment those in evaluation.
  Sampling and publishing report nothing, nor does what surrounds the work (loading, saving, MD's
  integrators): a lower bound.
- busy, with a task: time integral of min(tasks in flight, workers) / workers. A task counts from
  its launch until the loop records its completion, so transport, Prefect and the loop are in it: an
  upper bound.
- loop: what the campaign's own loop spends on an event. After an event the loop launches what
  follows without waiting for anything, so each gap in the journal that ends in a `launched` is
  work: writing the journal, telling, the dashboard, and submitting the task before. A gap that ends
  in a completion may be waiting and is not counted. Per completion.
- round trip: completion recorded - launched - the task's own seconds - what the loop spent on other
  events in between, of tasks launched while a worker of their pool was free. It holds transport,
  Prefect's states, and what the task did besides its own seconds: next to nothing for a label,
  reading and writing a checkpoint for training. The median, since the first task of a worker also
  imports MACE.
- orchestration an event: loop + round trip of a label.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from aimspax_core.campaign.actions import Action, Label, Sample, Train, tasks_of
from aimspax_core.campaign.events import (
    ConvergenceAdvanced,
    Event,
    LabelArrived,
    LabelFailed,
    Launched,
    Published,
    Resumed,
    Sampled,
    SegmentFinished,
    Started,
    TaskLost,
    TrainingFinished,
)
from aimspax_core.campaign.journal import Entry, entries
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from aimspax_core.settings.settings import Settings

DEFAULT = Path(__file__).parents[2] / "runs" / "aspirin"
EXPLORING = (Phase.ACTIVE, Phase.DRAIN)


class Launch(NamedTuple):
    """When an action was launched, if a worker was free for it, and the loop's time until then (s).

    Trainings that share a task wait for each other, and do not count as such.
    """

    time: float
    free: bool
    loop: float


@dataclass
class Tally:
    """What is added up while the journal is read; seconds."""

    workers: dict[str, int]
    wall: dict[Phase, float] = field(default_factory=lambda: defaultdict(float))
    with_task: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    known: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    loop: float = 0.0
    completions: int = 0
    round_trips: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    steps: int = 0
    segments: list[SegmentFinished] = field(default_factory=list)


def tally(journal: Iterable[Entry], settings: Settings) -> tuple[Tally, CampaignState]:
    """Read a journal."""
    reference, ml = settings.cluster.labels_at_once, settings.ml_workers
    found = Tally({"reference": reference, "ml": ml})
    state: CampaignState | None = None
    now = 0.0
    launched: dict[str, Launch] = {}
    for entry in journal:
        event, before = entry.event, state
        if before is not None and not isinstance(event, Resumed):
            passed = entry.time - now
            tasks = tasks_of(before.in_flight.values())
            in_flight = [pool_of(task[0], settings) for task in tasks]
            found.wall[before.phase] += passed
            for pool, workers in found.workers.items():
                found.with_task[pool] += passed * min(in_flight.count(pool), workers)
            if isinstance(event, Launched):
                pool = pool_of(event.action, settings)
                alone = not (isinstance(event.action, Train) and event.action.task)
                free = alone and in_flight.count(pool) < found.workers[pool]
                found.loop += passed
                launched[event.action.id] = Launch(entry.time, free, found.loop)
        now, state = entry.time, apply(state, event)
        completed(found, event, before, entry.time, launched)
    assert state is not None
    return found, state


def completed(
    found: Tally,
    event: Event,
    before: CampaignState | None,
    now: float,
    launched: dict[str, Launch],
) -> None:
    """Count a completion, and what is known of its task."""
    if isinstance(event, Started | Resumed | Launched | TaskLost):
        return
    action_id = id_of(event)
    if action_id not in launched:
        return
    found.completions += 1
    launch = launched.pop(action_id)
    pool = "reference" if isinstance(event, LabelArrived | LabelFailed) else "ml"
    own = own_seconds(event)
    if own is None:
        return
    found.known[pool] += own
    if isinstance(event, SegmentFinished):
        assert before is not None
        was = {t.index: t.step for t in before.trajectories}
        found.steps += sum(max(0, r.step - was[r.trajectory]) for r in event.results)
        found.segments.append(event)
    elif launch.free:
        others = found.loop - launch.loop
        found.round_trips[event.kind].append(now - launch.time - own - others)


def own_seconds(event: Event) -> float | None:
    """Return the seconds of work that a completion reports; None if it reports none."""
    match event:
        case LabelArrived():
            return event.wall_s
        case Sampled() | SegmentFinished() | TrainingFinished() | ConvergenceAdvanced():
            return event.task_seconds
        case Published():
            return event.task_seconds
    return None


def id_of(event: Event) -> str:
    """Return the id of the action that an event completes; empty if it completes none."""
    match event:
        case LabelArrived() | LabelFailed():
            return f"label:{event.key}"
        case Published():
            return f"publish:{event.what}"
    return str(getattr(event, "action_id", ""))


def pool_of(action: Action, settings: Settings) -> str:
    """Return the pool that an action runs on."""
    aimd = isinstance(action, Sample) and settings.idg.initial_sampling == "aimd"
    return "reference" if isinstance(action, Label) or aimd else "ml"


def show(found: Tally, state: CampaignState) -> None:
    """Print the figures."""
    wall = sum(found.wall.values())
    exploring = sum(found.wall[phase] for phase in EXPLORING)
    print(
        f"{state.labels} labels, {state.rounds} rounds of training, {len(found.segments)} segments"
    )
    print(f"wall time {wall:.0f} s, of it active learning {exploring:.0f} s; phase {state.phase}")
    evaluations = sum(s.evaluations for s in found.segments)
    if evaluations:
        structures = sum(s.structures for s in found.segments)
        inside = sum(s.seconds for s in found.segments)
        print(f"\n{'trajectory steps/s in evaluation':<44}{structures / inside:>10.1f}")
        print(f"{'mean batch size':<44}{structures / evaluations:>10.2f}")
        print(f"{'trajectory steps/s of exploring':<44}{found.steps / exploring:>10.1f}")
    print(f"\n{'pool':<12}{'workers':>8}{'busy, known work':>20}{'busy, with a task':>20}")
    for pool, workers in found.workers.items():
        shares = (found.known[pool] / wall / workers, found.with_task[pool] / wall / workers)
        print(f"{pool:<12}{workers:>8}{shares[0]:>20.1%}{shares[1]:>20.1%}")
    loop = found.loop / max(1, found.completions)
    print(f"\n{'orchestration':<44}{'ms':>10}{'events':>10}")
    print(f"{'loop, an event':<44}{1000 * loop:>10.1f}{found.completions:>10}")
    for kind, trips in found.round_trips.items():
        name = f"round trip, {kind} (median)"
        print(f"{name:<44}{1000 * statistics.median(trips):>10.1f}{len(trips):>10}")
    labels = found.round_trips.get("label-arrived")
    if labels:
        total = loop + statistics.median(labels)
        print(f"{'orchestration an event':<44}{1000 * total:>10.1f}")


def main() -> None:
    """Read the run directory's journal and print what it tells."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("directory", type=Path, nargs="?", default=DEFAULT)
    directory = parser.parse_args().directory
    if not (directory / "aimsPAX.yaml").exists():
        print(f"{directory}: no run here; `make demo` makes one")
        return
    settings = load(directory)
    journal = RunDir.of(settings).journal
    if not journal.exists():
        print(f"{journal}: nothing has been run here yet")
        return
    show(*tally(entries(journal), settings))


if __name__ == "__main__":
    main()
