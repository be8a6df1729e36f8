"""The loop that labels a dataset again: batches go to the reference pool, labels come back."""

from __future__ import annotations

import contextlib
import logging
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient

from aimspax_core.errors import AimspaxError, CampaignError, LabelError, StructureError
from aimspax_core.inputs.relabel_inputs import RelabelInputs
from aimspax_core.labels.batches import TASK_S, Batches
from aimspax_core.labels.dataset import DataKeys
from aimspax_core.labels.durations import Duration, Durations
from aimspax_core.labels.gate import check_label
from aimspax_core.labels.label import Label
from aimspax_core.labels.relabelling import Frame, Relabelled, Summary
from aimspax_core.labels.store import LabelStore, label_key
from aimspax_core.labels.tries import Fate, Retry, broken_text, reference_broken
from aimspax_core.labels.waiting import keep_structure
from aimspax_core.reference.registry import make_reference
from aimspax_core.report.now_and_then import NowAndThen
from aimspax_core.storage import text
from aimspax_core.text import duration_text, per_minute
from flows.loops.losses import Losses
from flows.loops.room import Room, look_for_room
from flows.loops.stop import POLL_S, Stop
from flows.page.events import DirectoryEvents
from flows.page.relabel_page import RelabelPage
from flows.pools.open import reference_pool
from flows.pools.pool import Pool
from flows.pools.ticket import Ticket
from flows.pools.workers import WorkerLostError
from flows.runs.best_effort import best_effort
from flows.runs.failures import LostTasks, cancel_tasks
from flows.runs.shown_state import show_waiting
from tasks.label import LabelRequest
from tasks.label_many import LabelManyRecord, LabelManyRequest, label_many

SAVE_S = 60.0
"""The output is written again after this time at the latest, if there is something new."""

_SHARE = 20
"""Writing the output takes at most one part in so many of the time."""

PROGRESS_S = 10.0
"""From one line on the progress to the next, while there is progress."""

log = logging.getLogger("aimspax")


def folders_of(inputs: RelabelInputs) -> tuple[Path, ...]:
    """Return the folders that labelling a dataset writes to."""
    return inputs.run.state, inputs.run.labels, inputs.output.parent


@dataclass(frozen=True)
class _Submitted:
    """A task that was submitted: it labels the structures with these keys."""

    keys: tuple[str, ...]
    ticket: Ticket


class Relabelling:
    """A dataset that is being labelled again in this process.

    Attributes:
        waiting: The labels that are still to be computed.
        found: What has become of the frames.
        broken: Why the reference itself counts as broken; empty if it does not.
    """

    def __init__(self, inputs: RelabelInputs, events: DirectoryEvents) -> None:
        self._events = events
        self._inputs, self._run, settings = inputs, inputs.run, inputs.settings
        self._keys, self._store = DataKeys.of(settings.misc), LabelStore(inputs.run.labels)
        self._began = self._saved = time.monotonic()
        self._reports = NowAndThen(self._began, PROGRESS_S)
        reference = make_reference(inputs.reference, settings.directory)
        self._identity = reference.identity()
        self.found = Relabelled(inputs.frames, self._keys, inputs.properties, settings.gate)
        self._frames: dict[str, Frame] = {}
        self._room: Room | None = None  # nothing waits for room before the loop begins
        self.broken = ""
        self._given_up: dict[str, str] = {}  # labels since the last one that came, and why
        self._losses = Losses()
        self._durations = Durations()
        self._submitted: dict[str, _Submitted] = {}  # by the first of their keys
        self._done: queue.Queue[str] = queue.Queue()  # the first keys of tasks that are over
        self._unsaved, self._save_took = 1, 0.0  # all frames may have failed already
        for frame in inputs.frames:
            self._take_up(frame)
        self._stored = frozenset(self.found.labels)
        missing = (key for key in self._frames if key not in self._stored)
        self.waiting = Batches(missing, settings.cluster.labels_at_once)
        log.info(
            "%s: %d frames, %d of them are in the label store, %d structures to label",
            inputs.file, len(inputs.frames), len(self.found.labelled), len(self.waiting),
        )  # fmt: skip

    def _take_up(self, frame: Frame) -> None:
        """Note the key of a frame's label, and take the label from the store if it is there."""
        try:
            key = label_key(frame.structure(self._keys), self._identity)
        except StructureError as error:
            self.found.unfit(frame, str(error))
            return
        self.found.belongs(frame, key)
        if self._frames.setdefault(key, frame) is frame:
            self._admit(key)

    @property
    def mark(self) -> str:
        """How far the labelling is; see `count_restart`."""
        return f"{len(self.found.labels)} labels, {len(self.found.reasons)} failures"

    def drive(self, client: SyncPrefectClient, stopped: Stop) -> None:
        """Run the loop: submit batches, and take in what they have done.

        Raises:
            StopRequested: A stop came before there were workers.
            StoppedWaitingError: A stop came while the disk had no room.
        """
        look, show = partial(look_for_room, folders_of(self._inputs)), partial(show_waiting, client)
        self._room = Room(look, show, stopped.asked)
        self._losses = Losses(self._room)
        with contextlib.ExitStack() as stack:
            with stopped.at_once():
                pool = stack.enter_context(reference_pool(self._inputs.settings))
            page, lost_tasks = RelabelPage(self._inputs), LostTasks(client)
            page.begin(pool.name, pool.dashboard, pool.capacity)
            try:
                while (self.waiting or self._submitted) and not (self.broken or stopped.asked()):
                    if self._room.free():
                        self._launch(pool)
                    else:
                        self._hold(pool)
                    self._settle(lost_tasks, min(POLL_S, self.waiting.due_in(time.monotonic())))
                    if pool.trouble:
                        raise CampaignError(pool.trouble)
                    self._report(page)
                self._hold(pool)
                end = stopped.grace_ends
                while self._submitted and (left := end - time.monotonic()) > 0:
                    self._settle(lost_tasks, left)
                if not self.waiting and not self._submitted:
                    self._blame_structures()
                self._insist(self.save)
            finally:
                self._hold(pool)
                futures = [task.ticket.future for task in self._submitted.values()]
                cancel_tasks(client, [future for future in futures if future is not None])
                lost_tasks.settle(everything=True)
                with best_effort("writing the output"):  # unless it failed, it is written
                    self.save()
                page.end(self.found)

    def _insist(self, write: Callable[[], object]) -> None:
        """Write something down, and wait for room if there is none."""
        if self._room is None:
            write()
        else:
            self._room.insist(write)

    def summary(self) -> Summary:
        """Return how the labelling went."""
        labelled = self.found.labelled
        return Summary(
            output=self._inputs.output,
            frames=len(self._inputs.frames),
            labelled=len(labelled),
            stored=sum(self.found.key(frame) in self._stored for frame in labelled),
            failed=len(self.found.failed),
            computed=len(self.found.labels) - len(self._stored),
            seconds=time.monotonic() - self._began,
            difference=self.found.difference(),
        )

    def _hold(self, pool: Pool) -> None:
        """Begin no more tasks; labels whose task waited for a worker wait here again."""
        waited = pool.hold()
        for first, task in list(self._submitted.items()):
            if task.ticket in waited:
                del self._submitted[first]
                self.waiting.give_back(task.keys)

    def _launch(self, pool: Pool) -> None:
        """Submit a batch for every worker that there may be."""
        while len(self._submitted) < pool.capacity:
            keys = self.waiting.next(time.monotonic())
            if not keys:
                return
            frames = [self._frames[key] for key in keys]
            for frame in frames:
                structure = frame.structure(self._keys)
                self._insist(partial(keep_structure, self._run, structure, self._identity))
            places = [frame.index for frame in frames]
            first, last = min(places), max(places)
            name = f"{first}..{last}" if last > first else str(first)
            request = LabelManyRequest(name, keys, self._request(keys[0]), self._run, TASK_S)
            avoided = self._losses.avoided(keys[0])
            duration = partial(self._duration, keys)
            done = partial(self._put_done, keys[0])
            plainly = self._losses.plainly(keys[0])
            ticket = pool.submit(label_many, request, done, avoided, duration, plainly)
            self._submitted[keys[0]] = _Submitted(keys, ticket)

    def _duration(self, keys: tuple[str, ...]) -> Duration:
        """Return how long a task takes: its last label may begin just before its time is over."""
        last = self._durations.of(0, self.waiting.tries(keys[0]))
        return last if last is None or len(keys) == 1 else TASK_S + last

    def _put_done(self, first: str, _: Ticket) -> None:
        self._done.put(first)

    def _request(self, key: str) -> LabelRequest:
        inputs = self._inputs
        gate, directory = inputs.settings.gate, inputs.settings.directory
        return LabelRequest.of(key, self._run, inputs.reference, gate, directory, inputs.stress)

    def _settle(self, lost_tasks: LostTasks, timeout_s: float) -> None:
        """Take in what one task has done, if one ends within the time."""
        lost_tasks.settle()
        try:
            task = self._submitted.pop(self._done.get(timeout=timeout_s))
        except queue.Empty:
            return
        try:
            record: LabelManyRecord = task.ticket.result()
        except WorkerLostError as error:
            lost_tasks.add(task.ticket.future, str(error))
            self._losses.taken(task.keys[0], error.fate)
            # Only of a label that was alone it is known that it outlasts a job.
            unsure = error.fate is Fate.OUT_OF_TIME and len(task.keys) > 1
            self._torn(task, Fate.DIED if unsure else error.fate, str(error))
        except AimspaxError:
            raise  # what is wrong with one is wrong with all
        except OSError as error:
            self._unwritten(task, error)
        # Whatever else a task raises must not end the run: it is counted as a loss. The pool has
        # logged the traceback.
        except Exception as error:
            self._torn(task, Fate.DIED, f"{type(error).__name__}: {error}")
        else:
            self._take_in(task, record)
        if self._save_due():
            self._insist(self.save)

    def _take_in(self, task: _Submitted, record: LabelManyRecord) -> None:
        for one in record.done:
            self.waiting.took(one.seconds)
            if not one.transient:
                self._losses.done(one.key, task.ticket.address)
            if not one.reason:
                self._durations.note(0, one.seconds)
            if one.transient:
                self._losses.failed(one.key, one.worker)
                self._lost(one.key, Fate.DIED, one.reason)
            elif one.reason:
                self._failed(one.key, one.reason)
            elif self._admit(one.key):
                self._events.label_stored(one.key, len(self.found.labels))
            else:
                self._lost(one.key, Fate.DIED, "its label is gone from the store")
        self.waiting.give_back(task.keys[len(record.done) :])

    def _unwritten(self, task: _Submitted, error: OSError) -> None:
        """Take back what a task could not write down: no try, if the storage is the reason."""
        left = next((key for key in task.keys if not self._admit(key)), task.keys[0])
        found = self._losses.unwritten(left, task.ticket.address, error)
        self._torn(task, found.fate, text(error))

    def _torn(self, task: _Submitted, fate: Fate, why: str) -> None:
        """Take back what a lost task has not labelled: only the first structure is suspected."""
        left = [key for key in task.keys if not self._admit(key)]
        if left:
            self.waiting.give_back(left[1:])
            self._lost(left[0], fate, why)

    def _lost(self, key: str, fate: Fate, why: str) -> None:
        """Count a loss of a label: it is tried again, or given up.

        A label that is given up counts as failed once another one has come; until then the
        reference may be the cause.
        """
        index = self._frames[key].index
        verdict = self.waiting.lost(key, fate, time.monotonic())
        if isinstance(verdict, Retry):
            log.warning("frame %d: %s; it is tried again", index, why)
            return
        reason = verdict.text(why)
        log.warning("frame %d: %s", index, reason)
        self._given_up[key] = reason
        if reference_broken(len(self._given_up)):
            self.broken = broken_text(f"frame {index}: {reason}")

    def _blame_structures(self) -> None:
        """Count labels that were given up as failed, unless the reference is broken."""
        if self._given_up and not self.broken:
            self.found.reasons |= self._given_up
            self._unsaved += len(self._given_up)
            self._given_up.clear()

    def _failed(self, key: str, reason: str) -> None:
        self.found.reasons[key] = reason
        self._unsaved += 1
        self._events.label_failed(key, reason)
        log.warning("frame %d: %s", self._frames[key].index, reason)

    def _admit(self, key: str) -> bool:
        """Take a label from the store, if it is there and the gate lets it pass."""
        stored = self._store.get(key)
        if stored is None or self._store.doubted(key):
            return False  # of a doubt the task says why
        try:
            check_label(stored.atoms, stored.label, self._inputs.settings.gate, self._inputs.stress)
        except LabelError:
            return False  # the task says why, and keeps the structure aside
        label = stored.label
        self.found.labels[key] = Label(label.energy, label.forces, label.stress)
        self._unsaved += 1
        self._blame_structures()
        return True

    def _save_due(self) -> bool:
        """Return whether to write the output: often, but not most of the time."""
        since = time.monotonic() - self._saved
        enough = self._unsaved >= self._inputs.save_interval or since > SAVE_S
        return bool(self._unsaved) and enough and since > _SHARE * self._save_took

    def save(self) -> None:
        """Write the output, if there is something new."""
        if not self._unsaved:
            return
        began = time.monotonic()
        self.found.write(self._inputs.output)
        self._saved = time.monotonic()
        self._unsaved, self._save_took = 0, self._saved - began

    def _report(self, page: RelabelPage) -> None:
        """Say how far the labelling is, now and then."""
        done, failed = len(self.found.labels), len(self.found.reasons)
        now = time.monotonic()
        if not self._reports.due(now, (done, failed)):
            return
        progress = f"{done} of {len(self._frames)} structures labelled, {failed} failed"
        computed, seconds = done - len(self._stored), now - self._began
        if computed:
            left = (len(self._frames) - done - failed) * seconds / computed
            progress += f", {per_minute(computed, seconds)}, about {duration_text(left)} left"
        elif any(task.ticket.address for task in self._submitted.values()):
            progress += "; the first ones are being computed"
        else:
            progress += "; workers are starting"
        log.info("%s", progress)
        page.show((done + failed) / len(self._frames), progress)
