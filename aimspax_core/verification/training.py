"""Rounds and convergences as an independent reader adds them up, and what sets them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aimspax_core.verification.findings import Kind
from aimspax_core.verification.journal_lines import Event
from aimspax_core.verification.members import Round
from aimspax_core.verification.spending import Spending

IN_A_ROW = 3
"""After so many divergences in a row a member sits its round out, or ends its convergence; after so
many rounds in a row that it has sat out the campaign fails."""


@dataclass
class Training(Spending):
    """The part of a ledger that is about training."""

    def landed(self, name: str) -> dict[str, Any] | None:
        """Take an action that came back out of flight; return it."""
        action = self.in_flight.pop(name, None)
        if action is None:
            self.complain(Kind.EVENT, f"{name} comes back, but was not in flight")
        return action

    def training_goes_on(self) -> None:
        """Forget convergences: rounds or exploring go on."""
        for member in self.members.values():
            member.forget_convergence()

    def train_launched(self, action: dict[str, Any]) -> None:
        """Note that a member trains; a round may begin with it."""
        number, tag, epochs = action["round"], action["tag"], action["epochs"]
        member = self.members[tag]
        if self.round is None or self.round.number != number:
            self.round = Round(number, action["stage"], self.sets(), {})
        before = self.round.left.get(tag)
        if before is not None and before != epochs and not member.set_back:
            self.complain(
                Kind.TWICE,
                f"{tag} is to train {epochs} epochs of round {number}, but {before} are left",
            )
        self.round.left[tag] = epochs
        last = member.checkpoint
        if not member.begins_from(action["start"]):
            self.complain(
                Kind.TWICE,
                f"round {number} of {tag} begins from {action['start']}, "
                f"not from its last checkpoint {last}",
            )

    def training_finished(self, event: Event) -> None:
        """Note what a member has trained."""
        self.landed(event["action_id"])
        tag = event["tag"]
        member = self.members[tag]
        if event["errors"]:
            member.errors = event["errors"][-1]
            member.measured_on = self._measured_on(tag)
        elif event["epochs"]:
            member.measured_on = None  # its errors are those of an earlier checkpoint
        member.train(event["epochs"])
        member.reach(event["checkpoint"])
        if self.round is None or tag not in self.round.left:
            self.complain(Kind.EVENT, f"{tag} has trained, but no round was begun")
            return
        self.round.left[tag] -= event["epochs"]
        self.close_if_done()

    def close_if_done(self) -> None:
        """End the round if all members have trained their epochs of it."""
        if self.round is not None and all(left <= 0 for left in self.round.left.values()):
            ensemble = tuple(str(member.checkpoint) for member in self.members.values())
            self.ensembles += ensemble != self.ensemble
            self.rounds, self.round, self.ensemble = self.rounds + 1, None, ensemble
            self.round_closed()

    @property
    def ensemble_number(self) -> int:
        """Number of the ensemble; where the rules count none, of rounds that are over."""
        return self.ensembles if self.rules.get("counts_ensembles") else self.rounds

    def round_closed(self) -> None:
        """Go on with what has waited for the end of a round."""

    def _measured_on(self, tag: str) -> tuple[str, ...] | None:
        """Return the validation set of this round; None where only a part of it was drawn."""
        if self.round is None:
            return None
        drawn = self.round.stage == "active" and self.rules.get("valid_subset") is not None
        return None if drawn else self.round.sets[tag][1]

    def converge_launched(self, action: dict[str, Any]) -> None:
        """Note that a member converges, or goes on with that."""
        tag, start = action["tag"], action["start"]
        member = self.members[tag]
        if action["first"]:
            member.forget_convergence()
            last = member.checkpoint
            sound = member.begins_from(start)
            member.converging = start
        else:
            last = member.converging
            sound = member.converges_from(start)
        member.converged_on = action.get("on", "own")
        member.best_measured_on = self.sets_on(tag, member.converged_on)[1]
        if not sound:
            self.complain(
                Kind.TWICE,
                f"the convergence of {tag} begins from {start}, "
                f"not from its last checkpoint {last}",
            )
        self.unsure_of_convergence = False

    def convergence_advanced(self, event: Event) -> None:
        """Note how far a member has converged."""
        action = self.landed(event["action_id"])
        member = self.members[event["tag"]]
        if action is not None and action["start"] != member.converging:
            return  # training goes on meanwhile: settings were changed
        member.converge(event["checkpoint"], event["epochs"], event["best"])
        if event["converged"] and action is not None and action["stage"] == "initial":
            member.take_converged()

    def training_diverged(self, event: Event) -> None:
        """Note a divergence; after some in a row a member goes on as it is."""
        action = self.landed(event["action_id"])
        member = self.members[event["tag"]]
        if action is None:
            return
        converging = action["kind"] == "converge"
        if converging and action["start"] != member.converging:
            return
        member.diverged += 1
        if member.diverged < IN_A_ROW:
            return
        if converging:
            member.diverged = 0
            if action["stage"] == "initial" and member.converge_epochs:
                member.take_converged()
        elif member.checkpoint is not None and self.round is not None:
            member.diverged, member.sat_out = 0, member.sat_out + 1
            self.round.left[event["tag"]] = 0
            if member.sat_out < IN_A_ROW:  # else the campaign has failed
                active = self.round.stage == "active"
                self.close_if_done()
                self.dropped_perhaps += active and self.round is None

    def checkpoint_lost(self, tag: str, name: str) -> None:
        """Set a member back that has lost a checkpoint; what it goes on from, a launch will say."""
        for action in self.in_flight.values():
            if action.get("tag") == tag and action.get("start") == name:
                return  # it is in the memory of the task that goes on from it
        member = self.members[tag]
        member.set_back |= member.checkpoint == name
        member.converge_set_back |= member.converging == name
        if member.set_back and self.round is not None and tag in self.round.left:
            self.round.left[tag] = max(1, self.round.left[tag])  # it trains more than was left
