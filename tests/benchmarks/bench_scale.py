"""What binds first with hundreds of reference slots: the rules, the journal, or Prefect.

Run as a script: `python tests/benchmarks/bench_scale.py [--slots 4 50 500] [--label-s 10 600]`.

Campaigns run in the virtual shell: labels, segments and training take no time but that of a virtual
clock, so that what is left is what the core itself does. Trajectories are `--per-slot` × slots;
labels, segments and epochs take exponentially distributed times. Real seconds are measured of:

- `apply` and `next_actions` (called once more for that: they are pure)
- `journal`: `Journal.append` without its `apply`: JSON, the wait for the disk, and snapshots, in a
  folder on the disk of `--folder`; what is launched together is recorded together, with one wait
- `narrative`: the lines for the log

An event is a completion with all launches that follow from it. `serves` is 1 / (time a label), all
of a campaign's events included; `needs` is slots / label time, what it takes to keep every slot
busy; `share` is how much of the virtual time the core needs (1 and above: the core binds); on a
disk that lets every wait take `--disk-ms` (that of a network's file system does) it serves fewer.
`growth` is the rules' time a label among the last fifth of the labels over that among the second: 1
if nothing grows with the number of points.

`busy` is the slots' share of time with a label, from the first label of exploring to the end of
exploring, in virtual time and without any cost of the loop: what the rules themselves reach. Where
the trajectories were meanwhile is in the lines below; `how many trajectories` finds how many a slot
takes for 95 %. Both depend on how long training takes (`--epoch-s`) and where (`--ml-slots`).

At the end stands what the shell around the core allows: `--loop-ms` is launch + next_event as
`bench_orchestration.py` measures it, `--server-ms` the CPU time that the API server, one process,
takes for a label. The defaults were measured on two cores with Prefect 3.8.8. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from aimspax_core.campaign import journal as journals
from aimspax_core.campaign.events import Event, Launched, Started
from aimspax_core.campaign.journal import Journal
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.rules import apply, next_actions
from aimspax_core.campaign.state import CampaignState, Phase, TrajectoryStatus
from aimspax_core.report.narrative import lines
from aimspax_core.run_directory import RunDir
from tests.campaign.virtual import VirtualShell, World

BUSY = 0.95
"""The share of busy slots that is wanted."""

TRIED = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
"""Trajectories a slot that are tried for it."""

INITIAL = 100
"""Labels of the initial dataset; it is over quickly, and left out of `busy`."""


@dataclass
class Exploring(VirtualShell):
    """A virtual shell that adds up, in virtual time, what slots and trajectories did.

    Attributes:
        explored_s: Since the first label of exploring was asked for.
        slots_s: Busy time of all reference slots together.
        statuses: Time of all trajectories together in each status.
    """

    explored_s: float = 0.0
    slots_s: float = 0.0
    statuses: defaultdict[TrajectoryStatus, float] = field(
        default_factory=lambda: defaultdict(float)
    )

    def advance(self) -> CampaignState:
        """Play the next completion."""
        before, was = self.state, self.clock
        after = super().advance()
        if before.phase is Phase.ACTIVE and (before.open_points or self.explored_s):
            passed = self.clock - was
            self.explored_s += passed
            # Every open point is launched as soon as it is known.
            self.slots_s += passed * min(len(before.open_points), self.world.reference_slots)
            for status, count in Counter(t.status for t in before.trajectories).items():
                self.statuses[status] += passed * count
        return after

    @property
    def busy(self) -> float:
        """The share of the slots' time in which they had a label."""
        return self.slots_s / max(self.explored_s, 1e-9) / self.world.reference_slots


@dataclass
class Measured(Exploring):
    """One that also writes a journal and tells, and measures what that takes in real seconds."""

    journal: Journal = field(kw_only=True)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    kinds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    slowest: float = 0.0
    waits: int = 0
    fifths: dict[int, tuple[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.journal.append(Started(rules=self.rules))

    @property
    def spent(self) -> float:
        """All seconds that the core has taken."""
        return sum(self.seconds.values())

    def advance(self) -> CampaignState:
        """Play the next completion; remember what the event took."""
        began = self.spent
        with self._measured("next_actions"):
            next_actions(self.state)
        after = super().advance()
        self.slowest = max(self.slowest, self.spent - began)
        rules = self.seconds["apply"] + self.seconds["next_actions"]
        fifth = int(5 * after.training_set_size / self.rules.max_train_set_size)
        self.fifths[fifth] = (after.labels, rules)
        return after

    def tell(self, *events: Event) -> CampaignState:
        """Record events, as a campaign's loop does."""
        began = self.spent
        befores = [self.state]
        with self._measured("apply"):
            for event in events:
                befores.append(apply(befores[-1], event))
        applied = self.spent - began
        with self._measured("journal"):
            self.state = self.journal.append(*events)
        self.seconds["journal"] -= applied  # it has applied them once more
        self.waits += bool(events)
        with self._measured("narrative"):
            for before, event, after in zip(befores, events, befores[1:], strict=False):
                lines(before, event, after)
        for event in events:
            kind = f"launched {event.action.kind}" if isinstance(event, Launched) else event.kind
            self.kinds[kind].append((self.spent - began) / len(events))
        return self.state

    @contextmanager
    def _measured(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - began


def rules_for(options: argparse.Namespace, slots: int, per_slot: float, labels: int) -> Rules:
    """Return rules that explore until there are so many labels."""
    return Rules(
        tags=("a", "b", "c", "d"), geometries=1, seed=1, points_per_step=10, initial_epochs=5,
        initial_accuracy=0.0, max_initial_epochs=math.inf, max_initial_set_size=INITIAL,
        initial_valid_ratio=0.1, converge_initial=False, num_trajectories=round(per_slot * slots),
        epochs_per_round=2, valid_ratio=0.1, desired_acc=0.0, max_train_set_size=0.9 * labels,
        freeze_threshold_dataset=math.inf, c_x=0.0, max_md_steps=math.inf, converge_al=False,
        converge_best=True, max_segments=options.ml_slots,
    )  # fmt: skip


def world_of(options: argparse.Namespace, slots: int, label_s: float) -> World:
    """Return the durations."""
    return World(
        reference_slots=slots, ml_slots=options.ml_slots, label_s=label_s, segment_s=2.0,
        epoch_s=options.epoch_s, crosses=0.8,
    )  # fmt: skip


def measure(options: argparse.Namespace, slots: int, label_s: float) -> None:
    """Run one campaign with a journal, and print what it took."""
    rules = rules_for(options, slots, options.per_slot, options.labels)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        run = RunDir(folder, *(folder / part for part in ("data", "logs", "losses", "models", "c")))
        with Journal(run) as journal:
            world, rng = world_of(options, slots, label_s), np.random.default_rng(1)
            shell = Measured(rules, world, rng, journal=journal)
            state = shell.run(10**9)
            report(shell, state, options.disk_ms)
        size = run.snapshot.stat().st_size / 1e6
        with_snapshot = seconds_to_load(run)
        run.snapshot.unlink()
        print(
            f"  taken up again in {with_snapshot:.2f} s; without the snapshot ({size:.1f} MB, one "
            f"in {journals.SNAPSHOT_EVERY} events) in {seconds_to_load(run):.2f} s"
        )


def seconds_to_load(run: RunDir) -> float:
    """Return how long a restart reads the journal."""
    began = time.perf_counter()
    journals.load(run)
    return time.perf_counter() - began


def report(shell: Measured, state: CampaignState, disk_ms: float) -> None:
    """Print what a campaign took."""
    events = sum(len(t) for kind, t in shell.kinds.items() if not kind.startswith("launched"))
    launches = sum(len(times) for times in shell.kinds.values()) - events
    a_label = shell.spent / state.labels
    slots, label_s = shell.world.reference_slots, shell.world.label_s
    print(
        f"\n{slots} slots, {len(state.trajectories)} trajectories, labels of {label_s:g} s: "
        f"{state.labels} labels, {events} events, {launches} launches, {state.rounds} rounds"
    )
    on_slow_disk = a_label + shell.waits / state.labels * disk_ms / 1000
    parts = ", ".join(f"{k} {1000 * s / events:.2f}" for k, s in shell.seconds.items())
    print(f"  an event {1000 * shell.spent / events:.2f} ms ({parts}), at most "
          f"{1000 * shell.slowest:.0f} ms; growth {growth(shell):.1f}")  # fmt: skip
    print(
        f"  serves {1 / a_label:.0f} labels/s, needs {slots / label_s:.2g}, "
        f"share {shell.spent / shell.clock:.2%}; {shell.waits / state.labels:.1f} waits for the "
        f"disk a label, of {disk_ms:g} ms more each: serves {1 / on_slow_disk:.0f}"
    )
    worst = sorted(shell.kinds.items(), key=lambda item: -sum(item[1]))[:4]
    told = (f"{k} {len(t)} × {1000 * sum(t) / len(t):.2f} ms" for k, t in worst)
    print(f"  most of it: {'; '.join(told)}")
    print(f"  busy {shell.busy:.1%}; {whereabouts(shell)}")


def growth(shell: Measured) -> float:
    """Return the rules' time a label at the end over that near the beginning."""
    (l0, s0), (l1, s1), (l3, s3), (l4, s4) = (shell.fifths[i] for i in (0, 1, 3, 4))
    return (s4 - s3) / (l4 - l3) / ((s1 - s0) / (l1 - l0))


def whereabouts(shell: Exploring) -> str:
    """Say where the trajectories were, on average."""
    whole = max(sum(shell.statuses.values()), 1e-9)
    most = sorted(shell.statuses.items(), key=lambda item: -item[1])
    return "trajectories: " + ", ".join(f"{name.value} {s / whole:.0%}" for name, s in most)


def needed(options: argparse.Namespace, slots: int, label_s: float) -> str:
    """Say how busy the slots are with more and more trajectories a slot, until it is enough."""
    told = []
    for per_slot in TRIED:
        labels = INITIAL + max(500, 8 * slots)
        rules = rules_for(options, slots, per_slot, labels)
        shell = Exploring(rules, world_of(options, slots, label_s), np.random.default_rng(1))
        shell.run(10**9)
        told.append(f"{per_slot:g}: {shell.busy:.0%}")
        if shell.busy >= BUSY:
            break
    return ", ".join(told)


def around(options: argparse.Namespace) -> None:
    """Print what the loop's own shell and Prefect's server allow."""
    print("\naround the core, from figures measured elsewhere (--loop-ms, --server-ms)")
    for name, cost in (("loop (Prefect, Dask)", options.loop_ms), ("server", options.server_ms)):
        rate = 1000 / cost
        binds = ", ".join(f"{rate * s:.0f} slots × {s:g} s" for s in options.label_s)
        print(f"  {name:<22}{cost:>6.0f} ms a label: {rate:.0f} labels/s; binds at {binds}")
    print(
        f"  database: {19 * options.labels / 1000:.0f} MB for {options.labels} labels (19 KB each)"
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--slots", type=int, nargs="+", default=[4, 50, 500])
    parser.add_argument("--label-s", type=float, nargs="+", default=[10.0, 600.0])
    parser.add_argument("--labels", type=int, default=5000)
    parser.add_argument("--per-slot", type=float, default=2.0, help="trajectories a slot")
    parser.add_argument("--ml-slots", type=int, default=2)
    parser.add_argument("--epoch-s", type=float, default=1.0, help="one epoch of one member")
    parser.add_argument("--loop-ms", type=float, default=80.0)
    parser.add_argument("--server-ms", type=float, default=40.0)
    parser.add_argument("--disk-ms", type=float, default=10.0, help="a slow disk's fsync")
    parser.add_argument("--folder", type=Path, help="where the journals are written")
    options = parser.parse_args()
    for slots in options.slots:
        for label_s in options.label_s:
            measure(options, slots, label_s)
    print(f"\nhow many trajectories a slot for {BUSY:.0%} busy ({options.ml_slots} ML slots)")
    for slots in options.slots:
        for label_s in options.label_s:
            print(f"  {slots:>4} slots, {label_s:>4g} s  {needed(options, slots, label_s)}")
    around(options)


if __name__ == "__main__":
    main()
