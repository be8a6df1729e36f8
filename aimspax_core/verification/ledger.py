"""What the events of a journal add up to, by a reader that knows nothing of the rules' code.

It decides nothing: what ran is what was launched. What no event says (a label that was lost too
often) follows from what was launched next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aimspax_core.verification.accounts import Point, Publication
from aimspax_core.verification.choosing import Choosing
from aimspax_core.verification.exploring import Trajectory
from aimspax_core.verification.findings import Kind
from aimspax_core.verification.journal_lines import Event, action_id
from aimspax_core.verification.members import Member, dealt

_BESIDE = ("label", "train", "assess")
"""What may be launched while a phase ends: labels that are restored, epochs that were lost."""


@dataclass
class Ledger(Choosing):
    """A campaign, event by event."""

    def take(self, event: Event) -> None:
        """Add an event."""
        kind = event["kind"]
        if kind != "launched":
            self.batch_ends()
        handler = _HANDLERS.get(kind)
        if handler is None:
            self.complain(Kind.EVENT, f"this release does not know what {kind!r} is")
        elif not self.rules and kind not in ("started", "state-restored"):
            self.complain(Kind.EVENT, f"{kind!r} before the campaign started")
        else:
            handler(self, event)

    # ---- how a campaign begins, goes on, ends ------------------------------------------------

    def _started(self, event: Event) -> None:
        if self.rules:
            self.complain(Kind.EVENT, "the campaign starts a second time")
        self.rules, self.adopted = event["rules"], event.get("adopt", False)
        self.members = {tag: Member() for tag in self.rules["tags"]}
        self.scope()

    def _resumed(self, event: Event) -> None:
        self.in_flight.clear()
        for member in self.members.values():
            member.diverged = member.sat_out = 0
        self._parameters_set(event)
        self.close_if_done()  # where the campaign failed because a member had sat it out

    def _parameters_set(self, event: Event) -> None:
        before, self.rules = self.rules, event["rules"]
        if before != self.rules:
            self.doubt_candidates()
            self.ending = False
            self.dropped_before += self.dropped_perhaps
            self.dropped_perhaps = 0
        self.unsure_of_convergence |= before != self.rules
        if self.finished and before != self.rules:  # whether they ask for more, a launch will say
            self.finished, self.perhaps_reopened = False, True
        thaws = ("c_x", "freeze_threshold_dataset")
        if any(before.get(name) != self.rules.get(name) for name in thaws):
            for seen in (self.seen, *self.seen_of.values()):
                seen.frozen = None
            self.freeze()
        self.scope()
        self._go_on()

    def _state_restored(self, event: Event) -> None:
        """Go on from the state that a damaged journal was mended with."""
        self.restore(event["state"])

    def _time_passed(self, event: Event) -> None:
        self.ran_s = max(self.ran_s, event["seconds"])
        self._go_on()

    def _go_on(self) -> None:
        """Deal what is there, if the budget leaves the rest without labels."""
        if self.limited:
            self.round_closed()

    def _nothing(self, _: Event) -> None: ...

    def _file_damaged(self, event: Event) -> None:
        """Go on without a file; what is gone on from instead, a later launch says."""
        self.in_flight.pop(event["action_id"], None)
        match event["what"]:
            case "checkpoint":
                self.checkpoint_lost(event["which"], event["name"])
                self.doubt_ensemble()
            case "trajectory":
                self._trajectory(int(event["which"])).lose(int(event["name"]))
            case "sampler":
                self.samplers_lost.add(int(event["which"]))

    def _exploration_asked(self, _: Event) -> None:
        self.ending = False
        self.training_goes_on()
        for key, point in tuple(self.points.items()):  # there was no budget for it
            if point.step and point.status == "requested" and key not in self.restoring:
                del self.points[key]

    def _adopted(self, event: Event) -> None:
        self.landed(event["action_id"])
        for tag, member in self.members.items():
            member.reach(event["checkpoints"][tag])
            member.training = list(event["training"][tag])
            member.validation = list(event["validation"][tag])

    def _assessed(self, event: Event) -> None:
        self.landed(event["action_id"])

    def _published(self, event: Event) -> None:
        what = event["what"]
        self.landed(f"publish:{what}")
        before = {tag: self.members[tag] for tag in event.get("last_ensemble", ())}
        last = {tag: (m.errors, m.measured_on) for tag, m in before.items()}
        sets = self.published_sets()
        late = {tag: (errors, sets[tag][1]) for tag, errors in event.get("settled", {}).items()}
        last |= {t: (one, sets[t][1]) for t, one in event.get("last_settled", {}).items()}
        self.published[what] = Publication(what, sets, {**self.errors(), **late}, last)
        for tag, member in self.members.items():
            member.settled = event.get("settled", {}).get(tag)
        self.publishing, self.finished = "", what == "final"
        for flying in self.in_flight if self.finished else ():
            self.complain(Kind.EVENT, f"the campaign ends, but {flying} has not come back")

    # ---- what is launched --------------------------------------------------------------------

    def _launched(self, event: Event) -> None:
        action = event["action"]
        name, kind = action_id(action), action["kind"]
        if kind == "label" and action["key"] in self.points:
            self.spend_on(action["key"])
        if name in self.in_flight:
            self.complain(Kind.TWICE, f"{name} is launched, and was in flight")
        self.in_flight[name] = action
        self.finished = self.perhaps_reopened = False
        self.ending = kind in ("converge", "publish") or (self.ending and kind in _BESIDE)
        if kind in ("sample", "propagate") or (kind == "train" and not self.ending):
            self.training_goes_on()
        match kind:
            case "label":
                self._label_launched(action["key"])
            case "sample":
                self._deal_before(action["step"])
                self.sampling_launched(action)
            case "train":
                begins = self.round is None or self.round.number != action["round"]
                if action["stage"] == "initial" and begins:
                    self._deal_before(None)
                self.train_launched(action)
            case "converge":
                self.converge_launched(action)
            case "propagate":
                self._segment_launched(action)
            case "publish":
                self.publishing = action["what"]

    def _label_launched(self, key: str) -> None:
        point = self.points.get(key)
        if point is None:
            self.complain(Kind.EVENT, f"label {key[:8]} is launched, but nothing has found it")
        elif point.status == "labelled":
            self.complain(Kind.TWICE, f"label {key[:8]} is launched, and was there")
        else:
            point.asked, point.status, point.lost = True, "requested", False
            self.candidate_begun(key)

    def _segment_launched(self, action: dict[str, Any]) -> None:
        self.segments = max(self.segments, action["number"])
        self.ensemble, self.dropped_perhaps = tuple(action["checkpoints"]), 0
        for index in action["trajectories"]:
            trajectory = self._trajectory(index)
            key = trajectory.waiting_for
            if key is None:
                continue
            # It runs, so it does not wait: the label was lost too often, or never asked for.
            if self.points[key].asked:
                self._give_up(key)
            else:
                trajectory.waiting_for = None

    # ---- the initial dataset -----------------------------------------------------------------

    def _sampled(self, event: Event) -> None:
        self.landed(event["action_id"])
        _, step, geometry, *_ = event["action_id"].split(":")
        self.samplers[int(geometry)] = event["version"]
        self.samplers_lost.discard(int(geometry))
        self.refused += event.get("refused", 0)
        for key in event["found"]:
            if key not in self.points:
                self.points[key] = Point(int(geometry), int(step), asked=True)
        if event.get("more"):
            return
        self.sampled_steps[int(step)] = self.sampled_steps.get(int(step), 0) + 1
        self._deal_if_complete(int(step))

    def round_closed(self) -> None:
        """Deal the step whose labels have come while members trained on those of the one before."""
        for step in tuple(self.sampled_steps):
            self._deal_if_complete(step)

    def _deal_if_complete(self, step: int) -> None:
        if self.round is not None or self.sampled_steps.get(step, 0) < self.rules["geometries"]:
            return
        mine = [k for k, p in self.points.items() if p.step == step and p.status == "requested"]
        if not self.to_come(mine):
            self._deal(step)

    def _deal_before(self, step: int | None) -> None:
        """Deal the steps that must have been dealt, since what follows them is launched."""
        for earlier in self.sampled_steps:
            if earlier not in self.dealt_steps and (step is None or earlier < step):
                for point in self.points.values():
                    given_up = point.lost or not self.limited
                    if point.step == earlier and point.status == "requested" and given_up:
                        point.status = "given-up"
                self._deal(earlier)

    def _deal(self, step: int) -> None:
        if step in self.dealt_steps:
            return
        self.dealt_steps.add(step)
        by_geometry: list[list[str]] = [[] for _ in range(self.rules["geometries"])]
        for key, point in self.points.items():
            if point.step == step and point.status == "requested":
                point.step = step + 1
            elif point.step == step and point.status == "labelled":
                by_geometry[point.geometry].append(key)
        rules = self.rules
        distinct = rules.get("distinct_sets", True)
        shares = dealt(by_geometry, rules["tags"], rules["seed"], step, distinct)
        if any(shares.values()):
            for tag, member in self.members.items():
                member.take_share(shares[tag], rules["initial_valid_ratio"])

    # ---- labels ------------------------------------------------------------------------------

    def _label_arrived(self, event: Event) -> None:
        key = event["key"]
        self.landed(f"label:{key}")
        point = self.points.get(key)
        if point is None:
            self.complain(Kind.EVENT, f"label {key[:8]} arrives, but nothing has found it")
            return
        if point.status == "labelled":
            self.complain(Kind.TWICE, f"label {key[:8]} arrives a second time")
            return
        point.status, computed_at = "labelled", event.get("computed_at", 0.0)
        the_same = computed_at and computed_at == point.computed_at
        point.computed_at, point.from_store = computed_at, event.get("from_store", False)
        if key in self.restoring:
            self.restoring.discard(key)
            if self.rules.get("pays_again") and not the_same:
                self.pay(key, event.get("core_hours", 0.0))
            return
        self.labels += 1
        self.pay(key, event.get("core_hours", 0.0))
        known = any(key in member.training for member in self.members.values())
        if event.get("judged") and not known:
            self.judgement.add(event["judged"])
        if point.step is not None:
            self._deal_if_complete(point.step)
        elif not point.analysis:
            self._place(key)

    def _place(self, key: str) -> None:
        """Put what exploring has found into validation if that is too small, else in training."""
        points = len(self.training) + len(self.validation)
        if len(self.validation) < self.rules["valid_ratio"] * points:
            self.validation.append(key)
        else:
            self.training.append(key)
        for index, trajectory in self.trajectories.items():
            if trajectory.waiting_for == key:
                trajectory.serve(self.rules.get("update_checkpoints", True))
                self.begin_anew(index, key)
        self.freeze()

    def _label_failed(self, event: Event) -> None:
        key = event["key"]
        self.landed(f"label:{key}")
        point = self.points.get(key)
        if point is None or point.status != "requested" or key in self.restoring:
            return
        point.status = "failed"
        self.failed += 1
        self.refused += event.get("refused", False)
        self._without_label(key)

    def _give_up(self, key: str) -> None:
        point = self.points[key]
        if point.status == "requested":
            point.status = "given-up"
            self._without_label(key)

    def _without_label(self, key: str) -> None:
        point = self.points[key]
        if point.step is not None:
            self._deal_if_complete(point.step)
        for trajectory in self.trajectories.values():
            if trajectory.waiting_for == key:
                trajectory.roll_back()

    def _labels_gone(self, event: Event) -> None:
        for key in event["keys"]:
            self.points[key].status = "requested"
            self.restoring.add(key)

    # ---- exploring ---------------------------------------------------------------------------

    def _trajectory(self, index: int) -> Trajectory:
        return self.trajectories.setdefault(index, Trajectory())

    def _segment_finished(self, event: Event) -> None:
        action = self.landed(event["action_id"])
        self.candidates_found(event, action)
        self.judgement.check(event, self.rules["geometries"])
        self.seen.see(event["uncertainties"])
        for geometry, seen in self.seen_of.items():
            pairs = zip(event["checked"], event["uncertainties"], strict=True)
            seen.see([u for index, u in pairs if index % self.rules["geometries"] == geometry])
        self.freeze()
        for result in event["results"]:
            self._moved(result)
        for look in event.get("looks", ()):
            geometry = look["trajectory"] % self.rules["geometries"]
            self.points.setdefault(look["key"], Point(geometry, analysis=True))

    def _moved(self, result: dict[str, Any]) -> None:
        trajectory = self._trajectory(result["trajectory"])
        if result["outcome"] == "exploded":
            trajectory.roll_back()
            return
        trajectory.version, trajectory.step = result["version"], result["step"]
        trajectory.origin = None
        key = result.get("key")
        if result["outcome"] != "crossed" or key is None:
            return
        point = self.points.setdefault(key, Point(result["trajectory"] % self.rules["geometries"]))
        trajectory.waiting_for = key
        if point.analysis:  # it was only looked at; from now on it counts
            point.analysis = False
            if point.status == "labelled":
                self._place(key)
        elif point.status == "labelled":
            trajectory.serve(self.rules.get("update_checkpoints", True))
            self.begin_anew(result["trajectory"], key)
        elif point.status in ("failed", "given-up"):
            trajectory.roll_back()

    def _task_lost(self, event: Event) -> None:
        action = self.in_flight.pop(event["action_id"], None)
        if action is not None and action["kind"] == "label" and action["key"] in self.points:
            self.points[action["key"]].lost = event.get("counted", True)
        self._go_on()


_HANDLERS: dict[str, Callable[[Ledger, Event], None]] = {
    "started": Ledger._started,
    "resumed": Ledger._resumed,
    "parameters-set": Ledger._parameters_set,
    "paused": Ledger._nothing,
    "unpaused": Ledger._nothing,
    "state-restored": Ledger._state_restored,
    "exploration-asked": Ledger._exploration_asked,
    "launched": Ledger._launched,
    "sampled": Ledger._sampled,
    "label-arrived": Ledger._label_arrived,
    "label-failed": Ledger._label_failed,
    "labels-gone": Ledger._labels_gone,
    "candidates-refused": Ledger.candidates_refused,
    "segment-finished": Ledger._segment_finished,
    "training-finished": Ledger.training_finished,
    "convergence-advanced": Ledger.convergence_advanced,
    "training-diverged": Ledger.training_diverged,
    "file-damaged": Ledger._file_damaged,
    "adopted": Ledger._adopted,
    "assessed": Ledger._assessed,
    "published": Ledger._published,
    "task-lost": Ledger._task_lost,
    "time-passed": Ledger._time_passed,
}

KINDS = frozenset(_HANDLERS)
"""The kinds of events that this reader knows."""
