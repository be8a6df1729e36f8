"""A campaign without science: the real rules, a virtual clock, made-up durations and results."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aimspax_core.campaign.actions import (
    Action,
    Adopt,
    Assess,
    Converge,
    Label,
    Propagate,
    Publish,
    Sample,
    Train,
    tasks_of,
)
from aimspax_core.campaign.candidates import refusals
from aimspax_core.campaign.events import (
    Adopted,
    Assessed,
    ConvergenceAdvanced,
    Event,
    ExplorationAsked,
    FileDamaged,
    LabelArrived,
    LabelFailed,
    Launched,
    Look,
    Published,
    Resumed,
    Sampled,
    SegmentFinished,
    Started,
    TaskLost,
    TrainingDiverged,
    TrainingFinished,
    TrajectoryResult,
)
from aimspax_core.campaign.judged import Judged, OfElement
from aimspax_core.campaign.members import Errors
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.rules import apply, next_actions
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.campaign.thresholds import windows
from aimspax_core.uncertainty.threshold import check

Task = tuple[Action, ...]

CHECKS = 8
"""Checks of a trajectory in a segment, unless it crosses before."""


@dataclass(frozen=True)
class World:
    """How long things take in the virtual world, and how often they go wrong.

    Durations are means (s) of exponential distributions; probabilities are per task, or per
    trajectory and segment.
    """

    reference_slots: int = 4
    ml_slots: int = 2
    label_s: float = 10.0
    sample_s: float = 5.0
    segment_s: float = 3.0
    epoch_s: float = 1.0
    label_fails: float = 0.0
    task_lost: float = 0.0
    explodes: float = 0.0
    crosses: float = 0.5
    finishes: float = 0.0
    looks: float = 0.0
    spreads: tuple[float, ...] = ()  # of each geometry, on average; checked in earnest
    factor: float = 0.0  # true error over spread, on average; 0: predictions are not kept
    diverges: float = 0.0
    damaged: float = 0.0
    comes_back: float = 0.0  # that a sampling MD does before it has all its points
    label_core_hours: float = 0.0
    dearer: float = 0.0  # by how much more each geometry's labels take than the one's before
    error_start: float = 0.5
    error_decay: float = 0.02
    settles: bool = False  # energies of the last member are solved for only as it is published
    steady: bool = False  # all tasks take their mean, and training comes back with all its epochs
    around_s: float = 0.0  # what every task takes besides


@dataclass
class VirtualShell:
    """Runs a campaign's actions in a virtual world, one completion after another."""

    rules: Rules
    world: World
    rng: np.random.Generator
    watch: Callable[[CampaignState, Event], None] = lambda state, event: None
    adopt: bool = False
    clock: float = 0.0
    busy_s: dict[str, float] = field(default_factory=lambda: {"ml": 0.0, "reference": 0.0})
    launched: list[Action] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._forget_tasks()
        self._order = itertools.count()
        self._took: dict[str, float] = {}
        self._structures = itertools.count()
        self._judging = np.random.default_rng(7)
        self._assessing = np.random.default_rng(8)
        self._placing = np.random.default_rng(9)
        self._spreads: dict[str, tuple[float, bool]] = {}
        self.state = apply(None, Started(rules=self.rules, adopt=self.adopt))

    def run(self, max_events: int = 100_000) -> CampaignState:
        """Play the campaign to its end.

        Raises:
            RuntimeError: It did not end within `max_events`, or nothing runs though it has not.
        """
        for _ in range(max_events):
            if self.state.phase is Phase.READY:
                self.tell(ExplorationAsked())
            if self.state.phase in (Phase.FINISHED, Phase.FAILED):
                return self.state
            self.advance()
        raise RuntimeError(f"no end after {max_events} events")

    def run_until(self, reached: Callable[[CampaignState], object]) -> CampaignState:
        """Play the campaign until something is reached, which must be before its end."""
        while not reached(self.state):
            assert self.state.phase not in (Phase.FINISHED, Phase.FAILED)
            if self.state.phase is Phase.READY:
                self.tell(ExplorationAsked())
            else:
                self.advance()
        return self.state

    def forget(self, kind: str) -> None:
        """Forget the tasks of actions of one kind, which were put back."""
        for pool, queue in self._queues.items():
            self._queues[pool] = deque(task for task in queue if task[0].kind != kind)
        gone = [entry for entry in self._running if entry[2][0].kind == kind]
        self._running = [entry for entry in self._running if entry[2][0].kind != kind]
        heapq.heapify(self._running)
        for _, _, task in gone:
            self._free[_pool(task[0])] += 1

    def advance(self) -> CampaignState:
        """Launch what the rules want, and play the next completion.

        Raises:
            RuntimeError: Nothing runs, so nothing can complete.
        """
        if (passed_over := refusals(self.state)) is not None:
            self.tell(passed_over)
        wanted = next_actions(self.state)
        self.tell(*(Launched(action=action) for action in wanted))
        for action in wanted:
            self.launched.append(action)
        for task in tasks_of(wanted):
            self._queues[_pool(task[0])].append(task)
        self._start()
        if not self._running:
            raise RuntimeError(f"nothing runs in phase {self.state.phase}")
        self.clock, _, task = heapq.heappop(self._running)
        self._free[_pool(task[0])] += 1
        return self.tell(*(self._outcome(action) for action in task))

    def restart(self, rules: Rules | None = None) -> CampaignState:
        """Lose all that runs, as a crash does, and take the campaign up again.

        Args:
            rules: Those of the new process; none: unchanged.
        """
        self._forget_tasks()
        return self.tell(Resumed(rules=rules or self.state.rules))

    def tell(self, *events: Event) -> CampaignState:
        """Apply events."""
        for event in events:
            self.state = apply(self.state, event)
            self.watch(self.state, event)
        return self.state

    def _forget_tasks(self) -> None:
        self._queues: dict[str, deque[Task]] = {"ml": deque(), "reference": deque()}
        self._free = {"ml": self.world.ml_slots, "reference": self.world.reference_slots}
        self._running: list[tuple[float, int, Task]] = []

    def _start(self) -> None:
        for pool, queue in self._queues.items():
            while queue and self._free[pool] > 0:
                task = queue.popleft()
                self._free[pool] -= 1
                seconds = self.world.around_s + sum(self._seconds(action) for action in task)
                self.busy_s[pool] += seconds
                heapq.heappush(self._running, (self.clock + seconds, next(self._order), task))

    def _seconds(self, action: Action) -> float:
        mean = self._mean_seconds(action)
        self._took[action.id] = mean if self.world.steady else float(self.rng.exponential(mean))
        return self._took[action.id]

    def _mean_seconds(self, action: Action) -> float:
        world = self.world
        match action:
            case Label():
                return world.label_s
            case Sample():
                return world.sample_s
            case Propagate():
                return world.segment_s
            case Train():
                if world.steady:
                    return world.epoch_s * (action.at_most or action.epochs)
                return world.epoch_s * (1 + action.epochs) / 2  # it may come back before all
        return world.epoch_s

    def _outcome(self, action: Action) -> Event:
        # What steers nothing has dice of its own: campaigns with it and without are to agree.
        dice = self._assessing if isinstance(action, Assess) else self.rng
        if not isinstance(action, Publish) and dice.random() < self.world.task_lost:
            return TaskLost(action_id=action.id, reason="virtual worker died")
        if isinstance(action, Train | Converge) and self.rng.random() < self.world.diverges:
            return TrainingDiverged(action_id=action.id, tag=action.tag, reason="virtual NaN")
        if self.world.damaged and self.rng.random() < self.world.damaged:
            found = files_of(self.state, action)
            if found:
                chosen = found[int(self.rng.integers(len(found)))]
                return chosen.but(action_id=action.id, reason="virtual damage")
        match action:
            case Label():
                if self.rng.random() < self.world.label_fails:
                    return LabelFailed(key=action.key, reason="virtual SCF not converged")
                return self._label(action)
            case Sample():
                more = action.points > 1 and self.rng.random() < self.world.comes_back
                count = int(self.rng.integers(1, action.points)) if more else action.points
                return Sampled(
                    action_id=action.id,
                    geometry=action.geometry,
                    version=self.state.samplers[action.geometry].version + 1,
                    found=tuple(self._structure() for _ in range(count)),
                    more=more,
                )
            case Propagate():
                return self._segment(action)
            case Train():
                most = action.at_most or action.epochs
                epochs = most if self.world.steady else int(self.rng.integers(1, most + 1))
                return TrainingFinished(
                    action_id=action.id,
                    tag=action.tag,
                    checkpoint=action.checkpoint,
                    epochs=epochs,
                    errors=(self._errors(),),
                    task_seconds=self._took[action.id],
                )
            case Converge():
                return ConvergenceAdvanced(
                    action_id=action.id,
                    tag=action.tag,
                    checkpoint=action.checkpoint,
                    epochs=5,
                    errors=(self._errors(),),
                    best=self._errors(),
                    converged=bool(self.rng.random() < 0.5),
                )
            case Adopt():
                return self._adopted(action)
            case Assess():
                errors = {tag: self._errors() for tag in action.checkpoints}
                return Assessed(action_id=action.id, number=action.number, errors=errors)
            case Publish():
                late = (
                    {self.rules.tags[-1]: self._errors().but(epoch=1)} if self.world.settles else {}
                )
                return Published(what=action.what, settled=late)

    def _label(self, action: Label) -> LabelArrived:
        world = self.world
        point = self.state.points[action.key]
        judged = None
        if world.factor and point.trajectory is not None:
            spread, above = self._spreads.get(action.key, (0.1, True))
            judged = Judged(
                geometry=point.geometry,
                spread=spread,
                error=world.factor * spread * abs(self._judging.normal(1.0, 0.3)),
                above=above,
                energy_spread=spread / 10,
                energy_error=float(self._judging.normal(5.0, spread / 10)),
                atoms=10,
                elements={"H": OfElement(atoms=10, spread=spread, error=2 * spread)},
            )
        return LabelArrived(
            key=action.key,
            wall_s=world.label_s,
            core_hours=world.label_core_hours + world.dearer * point.geometry,
            judged=judged,
        )

    def _checked(self, action: Propagate) -> SegmentFinished:
        """A segment in which every trajectory is checked as in earnest, until it crosses."""
        memory, results, made = list(windows(self.state)), [], []
        for index in action.trajectories:
            trajectory = self.state.trajectories[index]
            which = trajectory.geometry if len(memory) > 1 else 0
            steps, crossed = 0, False
            while steps < CHECKS and not crossed:
                steps += 1
                spread = self.world.spreads[trajectory.geometry] * self.rng.uniform(0.8, 1.2)
                memory[which], limit, crossed = check(memory[which], spread, self.rules.c_x)
                made.append((index, trajectory.step + steps, spread, limit))
            over = trajectory.step + steps >= self.rules.max_md_steps
            key = self._structure() if crossed else None
            if key:
                self._spreads[key] = spread, True
            results.append(
                TrajectoryResult(
                    trajectory=index,
                    outcome="crossed" if crossed else "finished" if over else "running",
                    version=action.number,
                    step=trajectory.step + steps,
                    since_crossing=0 if crossed else trajectory.since_crossing + steps,
                    key=key,
                    **self._place(key),
                )
            )
        return SegmentFinished(
            action_id=action.id,
            results=tuple(results),
            uncertainties=tuple(spread for _, _, spread, _ in made),
            checked=tuple(index for index, *_ in made),
            at_steps=tuple(step for _, step, *_ in made),
            thresholds=tuple(limit for *_, limit in made),
        )

    def _place(self, key: str | None) -> dict[str, Any]:
        """Where a structure is among others, on a square that is 3 wide."""
        if key is None or not self.rules.novelty:
            return {}
        sketch = tuple(float(x) for x in self._placing.uniform(0, 3, size=2))
        return {"distance": float(self._placing.exponential(2.0)), "sketch": sketch, "unit": 1.0}

    def _segment(self, action: Propagate) -> SegmentFinished:
        if self.world.spreads:
            return self._checked(action)
        results, looks = [], []
        for index in action.trajectories:
            trajectory = self.state.trajectories[index]
            steps = 25 * int(self.rng.integers(1, 5))
            if self.rng.random() < self.world.looks:
                step = trajectory.step + steps // 2
                looks.append(
                    Look(trajectory=index, step=step, key=self._structure(), threshold=None)
                )
            draw, key = self.rng.random(), None
            outcome = "running"
            if draw < self.world.explodes:
                outcome = "exploded"
            elif draw < self.world.explodes + self.world.crosses:
                outcome, key = "crossed", self._structure()
            elif draw < self.world.explodes + self.world.crosses + self.world.finishes:
                outcome = "finished"
            results.append(
                TrajectoryResult(
                    trajectory=index,
                    outcome=outcome,
                    version=action.number,
                    step=trajectory.step + steps,
                    since_crossing=0 if key else trajectory.since_crossing + steps,
                    key=key,
                )
            )
        values = tuple(float(v) for v in self.rng.uniform(0.05, 0.15, size=len(results)))
        return SegmentFinished(
            action_id=action.id,
            results=tuple(results),
            uncertainties=values,
            checked=action.trajectories,
            at_steps=tuple(result.step for result in results),
            thresholds=(self.state.window.threshold(self.rules.c_x),) * len(results),
            looks=tuple(looks),
        )

    def _adopted(self, action: Adopt) -> Adopted:
        tags = self.rules.tags
        return Adopted(
            action_id=action.id,
            checkpoints=dict.fromkeys(tags, "adopted"),
            training={tag: (self._structure(), self._structure()) for tag in tags},
            validation={tag: (self._structure(),) for tag in tags},
            elements=(1, 8),
        )

    def _structure(self) -> str:
        return f"structure-{next(self._structures)}"

    def _errors(self) -> Errors:
        """Errors that fall as the data grow, as they do in the real world."""
        error = self.world.error_start / (1.0 + self.world.error_decay * self.state.labels)
        return Errors(
            epoch=0, train_loss=error, valid_loss=error, mae_f=error, rmse_f=error, mae_e=error,
            rmse_e=error, mae_e_per_atom=error, rmse_e_per_atom=error, mae_stress=None,
            rmse_stress=None, lr=0.01, seconds=1.0,
        )  # fmt: skip


def files_of(state: CampaignState, action: Action) -> list[FileDamaged]:
    """The files that an action begins from, each as if it were damaged."""

    def checkpoint(tag: str, name: str) -> FileDamaged:
        return FileDamaged(what="checkpoint", which=tag, name=name, reason="")

    match action:
        case Train() | Converge():
            return [checkpoint(action.tag, action.start)] if action.start else []
        case Propagate():
            names = zip(state.members, action.checkpoints, strict=True)
            flying = (state.trajectories[i] for i in action.trajectories)
            return [checkpoint(tag, name) for tag, name in names] + [
                FileDamaged(what="trajectory", which=str(t.index), name=str(t.version), reason="")
                for t in flying
                if t.version
            ]
        case Sample():
            s = state.samplers[action.geometry]
            event = FileDamaged(
                what="sampler", which=str(s.geometry), name=str(s.version), reason=""
            )
            return [event] if s.version and not s.lost else []
        case Publish():
            named = [(m.tag, m.converging or m.checkpoint) for m in state.members.values()]
            return [checkpoint(tag, name) for tag, name in named if name]
    return []


def _pool(action: Action) -> str:
    return "reference" if isinstance(action, Label) else "ml"
