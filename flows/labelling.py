"""The loop that labels a dataset: batches through the pool of references, and what comes back."""

from __future__ import annotations

import logging
import queue
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from distributed import KilledWorker
from prefect.client.orchestration import SyncPrefectClient
from prefect_dask.task_runners import PrefectDaskFuture

from aimspax_core.batches import TASK_S, Batches
from aimspax_core.campaign.labels import LabelStore, label_key
from aimspax_core.campaign.rules import MAX_LOSSES, MAX_LOST_LABELS
from aimspax_core.dataset import DataKeys
from aimspax_core.errors import AimspaxError, LabelError, StructureError
from aimspax_core.label_inputs import LabelInputs
from aimspax_core.reference.base import Label
from aimspax_core.reference.engines import build_reference
from aimspax_core.reference.gate import check_label
from aimspax_core.relabelling import Frame, Relabelled, Summary
from flows.futures import elsewhere, give_up, mark_crashed
from flows.label_page import LabelPage
from flows.pools import Pool, reference_pool
from flows.stopping import GRACE_S, POLL_S, Stop
from tasks.label import LabelRequest
from tasks.label_many import LabelManyRecord, LabelManyRequest, label_many
from tasks.structures import keep_structure

SAVE_S = 60.0
"""The output is written again after this time at the latest, if there is something new."""

_SHARE = 20
"""Writing the output takes at most one part of so many of the time."""

TELL_S = 10.0
"""From one line on the progress to the next."""

log = logging.getLogger("aimspax")


@dataclass(frozen=True)
class _Flying:
    """A task that was submitted."""

    name: str
    keys: tuple[str, ...]
    future: PrefectDaskFuture[LabelManyRecord]


class Labelling:
    """A dataset that is being labelled in this process.

    Attributes:
        waiting: The labels that are still to be computed.
        found: What has become of the frames.
        broken: Why the reference itself counts as broken; empty if it does not.
    """

    def __init__(self, inputs: LabelInputs) -> None:
        self._inputs, self._run, settings = inputs, inputs.run, inputs.settings
        self._keys, self._store = DataKeys.of(settings.misc), LabelStore(inputs.run.labels)
        self._began = self._saved = self._told = time.monotonic()
        reference = build_reference(inputs.reference, settings.directory)
        self._identity = reference.identity()
        self.found = Relabelled(inputs.frames, self._keys, inputs.properties, settings.gate)
        self._frames: dict[str, Frame] = {}
        self.broken = ""
        self._given_up: dict[str, str] = {}  # since the last label came, and why
        self._shunned: dict[str, set[str]] = {}
        self._flying: dict[str, _Flying] = {}
        self._back: queue.Queue[_Flying] = queue.Queue()
        self._unsaved, self._save_took = 1, 0.0  # it may be that all frames have failed already
        for frame in inputs.frames:
            self._take_up(frame)
        self._stored = frozenset(self.found.labels)
        missing = (key for key in self._frames if key not in self._stored)
        self.waiting = Batches(missing, settings.cluster.max_workers)
        log.info(
            "%s: %d frames, %d of them are in the label store, %d structures to label",
            inputs.file, len(inputs.frames), len(self.found.labelled), len(self.waiting),
        )  # fmt: skip

    def _take_up(self, frame: Frame) -> None:
        """Look for a frame's label in the store."""
        try:
            key = label_key(frame.structure(self._keys), self._identity)
        except StructureError as error:
            self.found.unfit(frame, str(error))
            return
        self.found.belongs(frame, key)
        if self._frames.setdefault(key, frame) is frame:
            self._admit(key)

    def drive(self, client: SyncPrefectClient, stopped: Stop) -> None:
        """The loop: submit batches, and see what comes back."""
        with reference_pool(self._inputs.settings) as pool:
            page = LabelPage(self._inputs, pool)
            try:
                while (self.waiting or self._flying) and not (self.broken or stopped.asked()):
                    self._launch(pool)
                    self._settle(client, min(POLL_S, self.waiting.due_in(time.monotonic())))
                    self._report(page)
                end = time.monotonic() + GRACE_S
                while self._flying and (left := end - time.monotonic()) > 0:
                    self._settle(client, left)
                if not self.waiting and not self._flying:
                    self._blame_structures()
            finally:
                give_up(client, [flying.future for flying in self._flying.values()])
                self.save()
                page.end(self.found)

    def summary(self) -> Summary:
        """Return how it went."""
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

    def _launch(self, pool: Pool) -> None:
        """Submit a batch for every worker that has none.

        One that waited behind another on the same worker would be counted as lost with it.
        """
        while len(self._flying) < pool.workers:
            keys = self.waiting.next(time.monotonic())
            if not keys:
                return
            frames = [self._frames[key] for key in keys]
            for frame in frames:
                keep_structure(self._run, frame.structure(self._keys), self._identity)
            places = [frame.index for frame in frames]
            first, last = min(places), max(places)
            name = f"{first}..{last}" if last > first else str(first)
            request = LabelManyRequest(name, keys, self._request(keys[0]), self._run, TASK_S)
            with elsewhere(pool.runner, self._shunned.get(keys[0], ())):
                future = pool.runner.submit(label_many, parameters={"request": request})
            flying = _Flying(name, keys, future)
            self._flying[keys[0]] = flying
            future.add_done_callback(partial(self._came_back, flying))

    def _came_back(self, flying: _Flying, _: Any) -> None:
        self._back.put(flying)

    def _request(self, key: str) -> LabelRequest:
        inputs = self._inputs
        return LabelRequest(
            key=key,
            structure=self._run.structure(key),
            store=self._run.labels,
            reference=inputs.reference,
            gate=inputs.settings.gate,
            directory=inputs.settings.directory,
            refused=self._run.refused,
            stress=inputs.stress,
        )

    def _settle(self, client: SyncPrefectClient, timeout_s: float) -> None:
        """Take in what one task has done, if one comes back within the time."""
        try:
            flying = self._back.get(timeout=timeout_s)
        except queue.Empty:
            return
        del self._flying[flying.keys[0]]
        try:
            record = flying.future.result()
        except KilledWorker:
            mark_crashed(client, [flying.future], "its worker died")
            self._broken(flying, "its worker died")
        except AimspaxError:
            raise  # what is wrong with one is wrong with all
        # Whatever else a task raises must not end the run: it is counted, and told in full.
        except Exception as error:
            log.debug("label-%s", flying.name, exc_info=True)
            self._broken(flying, f"{type(error).__name__}: {error}")
        else:
            self._take_in(flying, record)
        finally:
            # Dask computes a finished task again when its worker dies, for as long as it is held.
            flying.future.wrapped_future.release()
        if self._save_due():
            self.save()

    def _take_in(self, flying: _Flying, record: LabelManyRecord) -> None:
        for one in record.done:
            self.waiting.took(one.seconds)
            if one.transient:
                self._shunned.setdefault(one.key, set()).add(one.worker)
                self._lost(one.key, one.reason)
            elif one.reason:
                self._failed(one.key, one.reason)
            elif not self._admit(one.key):
                self._lost(one.key, "its label is gone from the store")
        self.waiting.give_back(flying.keys[len(record.done) :])

    def _broken(self, flying: _Flying, why: str) -> None:
        """A task was lost: the first structure without a label is the suspect, and counted."""
        left = [key for key in flying.keys if not self._admit(key)]
        if left:
            self._lost(left[0], why)
            self.waiting.give_back(left[1:])

    def _lost(self, key: str, why: str) -> None:
        """Try a label again, or give it up; after a few in a row it is not the structures' fault.

        So what is given up does not count as failed before another label comes.
        """
        if self.waiting.lost(key, time.monotonic()):
            log.warning("frame %d: %s; it is tried again", self._frames[key].index, why)
            return
        reason = f"{why} ({MAX_LOSSES} times)"
        log.warning("frame %d: %s", self._frames[key].index, reason)
        self._given_up[key] = reason
        if len(self._given_up) >= MAX_LOST_LABELS:
            self.broken = (
                f"{MAX_LOST_LABELS} labels in a row could not be computed; the last was frame "
                f"{self._frames[key].index}: {reason}"
            )

    def _blame_structures(self) -> None:
        """Let what was given up count as failed, unless the reference is broken."""
        if self._given_up and not self.broken:
            self.found.reasons |= self._given_up
            self._unsaved += len(self._given_up)
            self._given_up.clear()

    def _failed(self, key: str, reason: str) -> None:
        self.found.reasons[key] = reason
        self._unsaved += 1
        log.warning("frame %d: %s", self._frames[key].index, reason)

    def _admit(self, key: str) -> bool:
        """Take a label from the store, if it is there and the gate lets it pass."""
        stored = self._store.get(key)
        if stored is None:
            return False
        try:
            check_label(stored.atoms, stored.label, self._inputs.settings.gate, self._inputs.stress)
        except LabelError:
            return False  # the task tells why, and keeps it aside
        label = stored.label
        self.found.labels[key] = Label(label.energy, label.forces, label.stress)
        self._unsaved += 1
        self._blame_structures()
        return True

    def _save_due(self) -> bool:
        """Whether it is time to write the output: often, but not most of the time."""
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

    def _report(self, page: LabelPage) -> None:
        """Tell how far it is, now and then."""
        if time.monotonic() - self._told < TELL_S:
            return
        self._told = time.monotonic()
        done, failed = len(self.found.labels), len(self.found.reasons)
        rate = (done - len(self._stored)) / (self._told - self._began)
        left = len(self._frames) - done - failed
        ends = f", about {left / rate / 60:.0f} min left" if rate else ""
        told = (
            f"{done} of {len(self._frames)} structures labelled, {failed} failed, "
            f"{60 * rate:.0f} a minute{ends}"
        )
        log.info("%s", told)
        page.show((done + failed) / len(self._frames), told)
