"""Candidates and restarts from labels, as an independent reader chooses and draws them again.

Of the candidates of one geometry the one with the largest spread has the largest expected error,
whatever the calibration is: it never falls as the spread grows. So much is held against what was
launched; which of two geometries comes first is not.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from aimspax_core.verification.exploring import Candidate
from aimspax_core.verification.findings import Kind
from aimspax_core.verification.journal_lines import Event, action_id
from aimspax_core.verification.training import Training

_SAMPLING, _EXPLORING = 7, 8
"""First numbers of the streams that restarts are drawn from."""


class Choosing(Training):
    """The part of a ledger that is about which structures get a label, and what follows them."""

    def chooses(self) -> bool:
        """Return whether candidates are chosen among."""
        rules = self.rules
        return rules.get("candidates") == "largest_error" and rules.get("random_share") is None

    # ---- candidates --------------------------------------------------------------------------

    def doubt_candidates(self) -> None:
        """Expect no label of the candidates so far: under other rules they may be none."""
        for one in self.candidates.values():
            one.sure = False

    def doubt_ensemble(self) -> None:
        """Forget the ensemble, and which has judged candidates: a checkpoint of it is lost."""
        self.ensemble = ()
        for one in self.candidates.values():
            one.ensemble = None

    def candidates_found(self, event: Event, action: dict[str, Any] | None) -> None:
        """Note which structures a segment has found by their uncertainty.

        Args:
            event: The segment.
            action: It, as it was launched; None: that was not told.
        """
        if not self.chooses():
            return
        judged_in = None
        if action is not None and self.ensemble:
            old = tuple(action["checkpoints"]) != self.ensemble
            judged_in = self.ensemble_number - old
        last = dict(zip(event.get("checked", ()), event["uncertainties"], strict=False))
        for result in event["results"]:
            key, index = result.get("key"), result["trajectory"]
            new = result["outcome"] == "crossed" and key is not None and key not in self.points
            if new and index in last and result.get("reason") != "limit":
                self.candidates[key] = Candidate(
                    index % self.rules["geometries"],
                    float(last[index]),
                    judged_in,
                    result.get("distance"),
                    tuple(result.get("sketch", ())),
                    result.get("unit"),
                )

    def candidate_begun(self, key: str) -> None:
        """Note that the label of a structure was launched; `batch_ends` judges that."""
        found = self.candidates.get(key)
        if found is not None and not found.begun:
            found.begun = True
            self.begun_together.append(found)

    def batch_ends(self) -> None:
        """Judge the labels that were launched together: those of the largest error, and no more."""
        together, self.begun_together = self.begun_together, []
        if not together or not self.chooses():
            return
        slots, flying = self.rules.get("label_slots", 1), len(self.labels_flying())
        if flying > slots:
            what = f"{flying} labels are under way, where {slots} are chosen at once"
            self.complain(Kind.CHOICE, what)
        for geometry in {one.geometry for one in together}:
            least = min(one.spread for one in together if one.geometry == geometry)
            for key, one in self.candidates.items():
                waits = one.sure and not one.begun and one.geometry == geometry
                if waits and one.spread > least:
                    what = f"{key[:8]} waits, and one of a smaller expected error is launched"
                    self.complain(Kind.CHOICE, what)

    def candidates_refused(self, event: Event) -> None:
        """Take structures back that get no label, and hold the reason against what is known."""
        if not self.chooses():
            self.complain(Kind.CHOICE, "candidates are refused, but none are chosen among")
        for refusal in event["refusals"]:
            key, why = refusal["key"], refusal["why"]
            point = self.points.get(key)
            if point is None or point.asked or point.status != "requested":
                what = f"{key[:8]} is refused as a candidate, but is not one"
                self.complain(Kind.EVENT, what)
                continue
            known = self.candidates.get(key)
            if known is not None and not self._holds(known, why):
                self.complain(Kind.CHOICE, f"{key[:8]} is refused as {why!r}, and is not")
            del self.points[key]
            self.candidates.pop(key, None)
            self.passed_over[why] = self.passed_over.get(why, 0) + 1
            for trajectory in self.trajectories.values():
                if trajectory.waiting_for == key:
                    trajectory.waiting_for = None

    def _holds(self, one: Candidate, why: str) -> bool:
        if one.ensemble is None or why == "ended":  # when exploring ends no event says
            return True
        if why == "renewed":
            return one.ensemble != self.ensemble_number
        limit = float(self.rules.get("novelty", 0.0))
        if one.ensemble != self.ensemble_number or not limit:
            return False
        others = (other for other in self.candidates.values() if other is not one)
        known = one.unit is None or (one.distance is not None and one.distance < limit)
        return known or any(one.near(other, limit) for other in others)

    # ---- restarts from labels ----------------------------------------------------------------

    def begin_anew(self, index: int, key: str) -> None:
        """Draw whether a trajectory whose label is there begins anew, and from which label."""
        geometry, trajectory = index % self.rules["geometries"], self.trajectories[index]
        which = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
        path = (_EXPLORING, index, which)
        trajectory.origin = self._drawn("restart_shares", geometry, path)
        trajectory.begun_anew += trajectory.origin is not None

    def sampling_launched(self, action: dict[str, Any]) -> None:
        """Hold the label that a sampling step begins anew from against an own draw."""
        if action.get("part"):
            return
        step, geometry = action["step"], action["geometry"]
        drawn = self._drawn("initial_restart_shares", geometry, (_SAMPLING, geometry, step), step)
        if action.get("origin") != drawn:
            what = f"{action_id(action)} begins from {action.get('origin')}, and {drawn} was drawn"
            self.complain(Kind.CHOICE, what)

    def _drawn(
        self, shares: str, geometry: int, path: tuple[int, ...], before: int | None = None
    ) -> str | None:
        """Return a label of a geometry, by chance; None: what it is for goes on."""
        of_each = self.rules.get(shares) or ()
        share = of_each[geometry] if geometry < len(of_each) else 0.0
        if not share:
            return None
        labelled = [
            key
            for key, point in self.points.items()
            if point.geometry == geometry and point.status == "labelled" and not point.analysis
            and (before is None or (point.step is not None and point.step < before))
        ]  # fmt: skip
        sequence = np.random.SeedSequence(self.rules["seed"], spawn_key=path)
        chance = np.random.default_rng(sequence)
        if chance.random() >= share or not labelled:
            return None
        return labelled[int(chance.integers(len(labelled)))]
