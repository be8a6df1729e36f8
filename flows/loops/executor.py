"""What a campaign wants to run becomes tasks on the pools; what comes back becomes events."""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from prefect.client.orchestration import SyncPrefectClient

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
    are_trainings,
    label_id,
)
from aimspax_core.campaign.events import (
    Event,
    LabelFailed,
    LabelsGone,
    TaskLost,
    TrainingDiverged,
)
from aimspax_core.campaign.flight import tries_of, work_of
from aimspax_core.campaign.state import CampaignState
from aimspax_core.errors import (
    AimspaxError,
    CampaignError,
    DamagedError,
    DivergedError,
    LabelError,
)
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.inputs.damaged_files import judge, label_gone
from aimspax_core.labels.durations import UNKNOWN, Duration
from aimspax_core.labels.tries import Fate
from aimspax_core.storage import text
from flows.loops.arrived_labels import ArrivedLabels
from flows.loops.losses import Losses
from flows.loops.room import Room
from flows.loops.slow_labels import SlowLabels
from flows.loops.task_requests import TaskRequests
from flows.pools.open import Pools
from flows.pools.pool import Pool
from flows.pools.ticket import Ticket
from flows.pools.workers import WorkerLostError
from flows.runs.failures import LostTasks, cancel_tasks
from tasks.adopt import adopt
from tasks.assess import assess_models
from tasks.label import LabelRecord, label
from tasks.propagate import propagate
from tasks.publish import publish
from tasks.sample import sample
from tasks.train import converge, train
from tasks.train_several import Several, train_several

log = logging.getLogger("aimspax")

ML_TASK_S = 60.0
"""What training and MD with the models take at most, with loading: they come back by themselves."""


class Executor:
    """Runs the actions of a campaign on the pools.

    Args:
        inputs: What the user has given.
        pools: Where tasks run.
        client: The Prefect API.
        room: The room that this process has for what it writes.
        explores: Whether this run goes on behind the initial dataset.

    Attributes:
        labels: The labels that have come.
    """

    def __init__(
        self, inputs: Inputs, pools: Pools, client: SyncPrefectClient, room: Room | None = None,
        explores: bool = True,
    ) -> None:  # fmt: skip
        self.inputs, self.pools, self.client = inputs, pools, client
        self.run, self.settings = inputs.run, inputs.settings
        self._requests = TaskRequests(inputs, explores)
        self.labels = ArrivedLabels(inputs)
        self._slow_labels = SlowLabels(self.labels.durations)
        self._lost_tasks = LostTasks(client)
        self._done: queue.Queue[tuple[tuple[Action, ...], Ticket]] = queue.Queue()
        self._losses = Losses(room)
        self._tickets: dict[str, Ticket] = {}  # by the id of their action
        self._put_off: list[tuple[float, Label, CampaignState]] = []  # until this time
        self._geometries: dict[str, int] = {}  # by the key of their label
        self._noticed: list[Event] = []  # beside what became of tasks

    def launch_together(self, actions: tuple[Action, ...], state: CampaignState) -> None:
        """Submit what one task carries out: an action, or trainings one after another.

        Args:
            actions: What to run.
            state: The campaign's, with the actions in flight.
        """
        if len(actions) == 1:
            self.launch(actions[0], state)
            return
        assert are_trainings(actions)
        request = self._requests.train_several(actions, state)
        self._send(self.pools.ml, train_several, request, actions, state)

    def launch(self, action: Action, state: CampaignState) -> None:
        """Submit an action as a task.

        A label that was lost waits for its backoff, and avoids the worker where it was lost.

        Args:
            action: What to run.
            state: The campaign's, with the action in flight.
        """
        delay_s = tries_of(state, action.id).delay_s
        if delay_s and isinstance(action, Label):
            self._put_off.append((time.monotonic() + delay_s, action, state))
        else:
            self._submit(action, state)

    def _submit(self, action: Action, state: CampaignState) -> None:
        pool, task, request = self._task(action, state)
        self._send(pool, task, request, (action,), state)

    def _send(
        self,
        pool: Pool,
        task: Any,
        request: Any,
        actions: tuple[Action, ...],
        state: CampaignState,
    ) -> None:
        works = [work_of(action.id) for action in actions]
        ticket = pool.submit(
            task,
            request,
            lambda ticket: self._done.put((actions, ticket)),
            self._losses.avoided(*works),
            self._duration(actions[0], pool, state),
            any(self._losses.plainly(work) for work in works),
        )
        self._tickets.update(dict.fromkeys((action.id for action in actions), ticket))

    def _duration(self, action: Action, pool: Pool, state: CampaignState) -> Callable[[], Duration]:
        """Return what says how long an action takes: it is asked again until the action begins."""
        if isinstance(action, Label):
            geometry = state.points[action.key].geometry
            self._geometries[action.key] = geometry
            return partial(self.labels.durations.of, geometry, tries_of(state, action.id))
        return lambda: ML_TASK_S if pool is self.pools.ml else UNKNOWN

    def next_events(self, timeout_s: float) -> tuple[Event, ...]:
        """Return what became of the next task that ends; nothing if none ends within the time.

        There is one event for each action that it carried out, then what was noticed beside.

        Raises:
            CampaignError: A pool cannot have workers.
        """
        self._lost_tasks.settle()
        labels = {
            key: self._tickets[label_id(key)]
            for key in self._geometries
            if label_id(key) in self._tickets
        }
        self._slow_labels.look(labels, self._geometries, time.monotonic())
        due = [entry for entry in self._put_off if entry[0] <= time.monotonic()]
        for entry in due:
            self._put_off.remove(entry)
            self._submit(entry[1], entry[2])
        if self._put_off:
            soonest = min(entry[0] for entry in self._put_off) - time.monotonic()
            timeout_s = min(timeout_s, max(0.0, soonest))
        trouble = next((pool.trouble for pool in self.pools if pool.trouble), "")
        if trouble:
            raise CampaignError(trouble)
        try:
            actions, ticket = self._done.get(timeout=timeout_s)
        except queue.Empty:
            return ()
        events = [
            self._ended(action, ticket, partial(_outcome, ticket, position))
            for position, action in enumerate(actions)
        ]
        noticed, self._noticed = self._noticed, []
        return *events, *noticed

    def _ended(self, action: Action, ticket: Ticket, outcome: Callable[[], Any]) -> Event:
        self._tickets.pop(action.id, None)
        event = self._event(action, ticket, outcome)
        if not isinstance(event, TaskLost):
            self._losses.done(work_of(action.id), ticket.address)
        if isinstance(action, Label):
            self._geometries.pop(action.key, None)
        return event

    def follow(self, inputs: Inputs) -> None:
        """Run what is launched from now on under other settings, with the workers that they say."""
        self.inputs, self.settings = inputs, inputs.settings
        self._requests = TaskRequests(inputs, self._requests.explores)
        self.labels.inputs = inputs
        self.pools.follow(inputs.settings)

    def put_back(self) -> list[Event]:
        """Give back what was launched and has not begun; by the events it is asked for again."""
        waited = {ticket for pool in self.pools for ticket in pool.hold()}
        ids = [id_ for id_, ticket in self._tickets.items() if ticket in waited]
        ids += [action.id for _, action, _ in self._put_off]
        self._put_off.clear()
        self._tickets = {id_: t for id_, t in self._tickets.items() if t not in waited}
        return [TaskLost(action_id=id_, reason="not begun", counted=False) for id_ in ids]

    def put_back_labels(self) -> list[Event]:
        """Give back what has not begun if a label is among it, as `put_back` does."""
        labels = (self._tickets.get(label_id(key)) for key in self._geometries)
        waits = any(ticket is not None and not ticket.address for ticket in labels)
        return self.put_back() if waits or self._put_off else []

    def hold(self) -> bool:
        """Begin no more tasks; return whether any still runs."""
        self.put_back()
        return bool(self._tickets)

    def cancel(self) -> None:
        """Give up the tasks that still run: the next start asks for them again."""
        self.hold()
        cancel_tasks(
            self.client, [t.future for t in self._tickets.values() if t.future is not None]
        )
        self._tickets.clear()
        self._lost_tasks.settle(everything=True)

    def _event(self, action: Action, ticket: Ticket, outcome: Callable[[], Any]) -> Event:
        work = work_of(action.id)
        try:
            result = outcome()
        except LabelError as error:
            if error.transient or not isinstance(action, Label):
                self._losses.failed(work, error.worker)
                return TaskLost(action_id=action.id, reason=str(error))
            return LabelFailed(
                key=action.key, reason=str(error), refused=error.refused, failure=error.kind
            )
        except WorkerLostError as error:
            self._lost_tasks.add(ticket.future, str(error))
            self._losses.taken(work, error.fate)
            return TaskLost(action_id=action.id, reason=str(error), fate=error.fate)
        except DamagedError as error:
            try:
                damaged = self._damaged(action, error.file, str(error))
            except OSError as trouble:
                return self._unwritten(action, ticket, trouble)
            # A file that is fine from here is looked at again; a dataset is written anew.
            return damaged or TaskLost(action_id=action.id, reason=str(error))
        except DivergedError as error:
            assert isinstance(action, Train | Converge)
            return TrainingDiverged(action_id=action.id, tag=action.tag, reason=str(error))
        except AimspaxError as error:
            return TaskLost(action_id=action.id, reason=str(error), final=True)
        except OSError as error:
            return self._unwritten(action, ticket, error)
        # Whatever else a task raises must not end the run: it is counted as a loss. The pool has
        # logged the traceback.
        except Exception as error:
            return TaskLost(action_id=action.id, reason=f"{type(error).__name__}: {error}")
        if isinstance(result, LabelRecord):
            try:
                return self.labels.judge(action.id, result, self._geometries[result.key])
            except OSError as error:  # of a network's file system, which may be back in a moment
                return self._unwritten(action, ticket, error)
        return result

    def _unwritten(self, action: Action, ticket: Ticket, error: OSError) -> Event:
        """Return that work was lost to the operating system, or which file cannot be read."""
        work = work_of(action.id)
        found = self._losses.unwritten(work, ticket.address, error)
        if found.suspect and error.filename is not None:
            try:  # if it cannot be read from here either, it is not the worker's storage
                damaged = self._damaged(action, os.fsdecode(error.filename), text(error))
            except OSError as trouble:
                found = self._losses.unwritten(work, ticket.address, trouble)
            else:
                if damaged is not None:
                    return damaged
        return TaskLost(action_id=action.id, reason=text(error), fate=found.fate)

    def _damaged(self, action: Action, file: str, why: str) -> Event | None:
        """Return what follows if a file is damaged that a task found so; None if it is fine.

        Raises:
            OSError: It cannot be read from here either.
        """
        damaged = judge(self.run, file, action.id)
        key = None if damaged is not None else label_gone(self.run, file)
        if key is None:
            return damaged
        self._noticed.append(LabelsGone(keys=(key,)))
        return TaskLost(action_id=action.id, reason=why, fate=Fate.STORAGE)

    def _task(self, action: Action, state: CampaignState) -> tuple[Pool, Any, Any]:
        """Return where an action runs, its task, and the task's request."""
        pools, asked = self.pools, self._requests
        match action:
            case Label():
                vanished = self.labels.vanished.union(state.restoring)
                task = label.with_options(
                    # Prefect's results stay with the run, so that its next process finds them.
                    result_storage=self.run.prefect_results,
                    refresh_cache=action.key in vanished,
                )
                return pools.reference, task, asked.label(action, state)
            case Sample():
                by_reference = self.settings.idg.initial_sampling == "aimd"
                pool = pools.reference if by_reference else pools.ml
                return pool, sample, asked.sample(action, state)
            case Propagate():
                return pools.ml, propagate, asked.segment(action, state)
            case Train():
                return pools.ml, train, asked.train(action, state)
            case Converge():
                return pools.ml, converge, asked.converge(action, state)
            case Adopt():
                return pools.ml, adopt, asked.adopt(action)
            case Assess():
                return pools.ml, assess_models, asked.assess(action, state)
            case Publish():
                return pools.ml, publish, asked.publish(action, state)


def _outcome(ticket: Ticket, position: int) -> Any:
    """Return what a task returned for one of its actions.

    Raises:
        Exception: What the task raised, or told as what became of that action.
    """
    result = ticket.result()
    if not isinstance(result, Several):
        return result
    one = result.outcomes[position]
    if isinstance(one, Exception):
        raise one
    return one
