"""The reader's own sums against the rules: after every event both must say the same.

They share no code; a mistake in either shows here.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimspax_core.campaign import final_sets
from aimspax_core.campaign.actions import Label, Train
from aimspax_core.campaign.events import (
    Event,
    FileDamaged,
    LabelArrived,
    Launched,
    ParametersSet,
    Published,
    TaskLost,
)
from aimspax_core.campaign.state import CampaignState, Phase, PointStatus
from aimspax_core.verification import snapshot
from aimspax_core.verification.findings import Report
from aimspax_core.verification.ledger import Ledger
from aimspax_core.verification.members import Member
from tests.campaign.test_rules import make_rules
from tests.campaign.virtual import VirtualShell, World

WORLDS = {
    "ordinary": World(),
    "parts": World(comes_back=0.6, label_fails=0.1, task_lost=0.05),
    "failures": World(label_fails=0.2, explodes=0.1, finishes=0.02),
    "losses": World(task_lost=0.15),
    "looks": World(looks=0.3, label_fails=0.1, factor=1.5),
    "cut short": World(settles=True),
    "divergences": World(diverges=0.2, task_lost=0.05),
    "damage": World(damaged=0.1, explodes=0.1),
    "all": World(
        label_fails=0.1, task_lost=0.1, explodes=0.1, looks=0.1, diverges=0.1, damaged=0.05
    ),
}


class Twin:
    """Adds up what it is told, and compares.

    Args:
        every: After so many events; to write a whole state down takes longest.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.report, self.number, self.last = Report(), 0, ""
        self.published: list[str] = []
        self.ledger = Ledger(complain=lambda kind, what: self.report.found(kind, self.place, what))

    @property
    def place(self) -> Path:
        return Path(f"{self.number} {self.last}")

    def watch(self, state: CampaignState, event: Event) -> None:
        self.number, self.last = self.number + 1, event.kind
        self.ledger.take(json.loads(event.model_dump_json()))
        sets = {tag: final_sets.seen(state, tag) for tag in state.members}
        if isinstance(event, Published):
            told_sets = {tag: (one.training, one.validation) for tag, one in sets.items()}
            assert self.ledger.published[event.what].sets == told_sets
            self.published.append(event.what)
        if self.number % self.every and state.phase not in (Phase.FINISHED, Phase.FAILED):
            assert not self.report.findings, [f"{f.file}: {f.what}" for f in self.report.findings]
            return
        told: dict[str, Any] = json.loads(state.model_dump_json())
        snapshot.compare(self.place, told, self.ledger, self.report)
        assert not self.report.findings, [f"{f.file}: {f.what}" for f in self.report.findings]


def played(world: World, seed: int, restarts: float, adopt: bool = False, **rules: Any) -> Twin:
    """Play a campaign, with restarts, under rules that change on the way."""
    rng, twin = np.random.default_rng(seed), Twin()
    shell = VirtualShell(make_rules(**rules), world, rng, twin.watch, adopt)
    twin.ledger.take(
        {"kind": "started", "rules": json.loads(shell.rules.model_dump_json()), "adopt": adopt}
    )
    for _ in range(400):
        if shell.state.phase in (Phase.FINISHED, Phase.FAILED):
            break
        if rng.random() < restarts:
            c_x = float(rng.choice([-0.1, -0.5]))
            shell.restart(shell.state.rules.but(c_x=c_x) if rng.random() < 0.5 else None)
        elif rng.random() < restarts:
            changed = shell.state.rules.but(valid_ratio=float(rng.choice([0.1, 0.5])))
            shell.tell(ParametersSet(rules=changed, values=()))
        try:
            shell.run(1)
        except RuntimeError as error:
            if "no end after" not in str(error):
                raise
    return twin


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("world", WORLDS)
def test_the_reader_and_the_rules_agree_after_every_event(world: str, seed: int) -> None:
    twin = played(WORLDS[world], seed, restarts=0.03)
    assert twin.number > 50


@pytest.mark.parametrize(
    "rules",
    [
        {"geometries": 3},
        {"distinct_sets": False},
        {"converge_initial": True},
        {"freeze_threshold_dataset": 12.0},
        {"threshold_scope": "geometry", "geometries": 3, "freeze_threshold_dataset": 12.0},
        {"update_checkpoints": False},
        {"train_subset": 4, "valid_subset": 2},
        {"converge_best": False},
        {"converge_on": "all", "converge_best": False, "max_train_set_size": 25},
        {"converge_on": "all", "converge_on_analysis": True, "max_train_set_size": 25},
        {"converge_on": "all", "distinct_sets": False, "max_train_set_size": 25},
        {"assessed": True, "max_train_set_size": 25},
        {"samples_ahead": True, "initial_accuracy": 0.0, "geometries": 1},
        {"samples_ahead": True, "initial_accuracy": 0.15, "max_initial_set_size": 60},
        {"restart_shares": (0.3, 1.0), "initial_restart_shares": (1.0, 0.5)},
    ],
    ids=str,
)
def test_they_agree_under_other_rules(rules: dict[str, Any]) -> None:
    assert played(WORLDS["all"], seed=1, restarts=0.02, **rules).number > 50


CHOSEN = {
    "candidates": "largest_error", "label_slots": 2, "novelty": 0.5, "restart_shares": (0.5, 0.5),
    "initial_restart_shares": (1.0, 0.5), "num_trajectories": 8, "desired_acc": 0.0,
    "limits": {"budget_labels": 80.0}, "initial_accuracy": 0.3,
}  # fmt: skip
"""Rules that choose: which candidates are labelled, and what trajectories begin anew from."""

CROWDED = World(
    spreads=(0.1, 0.3), factor=1.5, label_s=20.0, reference_slots=2, label_fails=0.1,
    task_lost=0.03, damaged=0.01,
)  # fmt: skip


@pytest.mark.parametrize("seed", [18, 28])
def test_they_agree_on_a_campaign_that_fails_because_training_diverges(seed: int) -> None:
    """The last round is not over: it is gone on with when the campaign is."""
    twin, rules = Twin(every=50), make_rules(desired_acc=0.0)
    shell = VirtualShell(rules, World(diverges=0.4), np.random.default_rng(seed), twin.watch)
    twin.ledger.take({"kind": "started", "rules": json.loads(rules.model_dump_json())})
    assert shell.run().phase is Phase.FAILED
    shell.world = World()
    shell.restart()
    assert shell.run().finished, "it goes on where training does not diverge any more"


@pytest.mark.parametrize("counts_ensembles", [True, False])
@pytest.mark.parametrize(("seed", "segment_s"), [(0, 0.5), (3, 0.5), (7, 20.0), (14, 60.0)])
def test_rounds_that_all_members_sit_out_lead_to_no_new_ensemble(
    seed: int, segment_s: float, counts_ensembles: bool
) -> None:
    """What waits then is refused by its distance, and rounds are over nevertheless."""
    twin, tags = Twin(every=10**9), ("a", "b") if seed % 2 else ("a",)
    rules = make_rules(**{**CHOSEN, "tags": tags, "counts_ensembles": counts_ensembles})
    world = replace(CROWDED, diverges=0.7, segment_s=segment_s)
    shell = VirtualShell(rules, world, np.random.default_rng(seed), twin.watch)
    twin.ledger.take({"kind": "started", "rules": json.loads(rules.model_dump_json())})
    state = shell.run(4000)
    assert 0 < state.ensembles < state.rounds


@pytest.mark.parametrize("counts_ensembles", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_they_agree_where_candidates_are_chosen_among(seed: int, counts_ensembles: bool) -> None:
    rules = {**CHOSEN, "counts_ensembles": counts_ensembles}
    twin = played(CROWDED, seed, restarts=0.03, **rules)
    assert set(twin.ledger.passed_over) >= {"near", "renewed"}
    assert sum(one.begun_anew for one in twin.ledger.trajectories.values()) > 0


def test_they_agree_on_a_campaign_that_began_from_given_models() -> None:
    assert played(WORLDS["failures"], seed=2, restarts=0.02, adopt=True).number > 20


def test_they_agree_on_a_finished_campaign_that_more_is_asked_of() -> None:
    twin = Twin()
    rules = make_rules(max_train_set_size=30, desired_acc=0.0)
    shell = VirtualShell(rules, World(), np.random.default_rng(1), twin.watch)
    twin.ledger.take({"kind": "started", "rules": json.loads(rules.model_dump_json())})
    assert shell.run().finished
    shell.tell(ParametersSet(rules=rules.but(c_x=-0.2), values=()))
    shell.tell(ParametersSet(rules=rules.but(max_train_set_size=40.0), values=()))
    assert not shell.state.finished
    assert shell.run().finished
    assert twin.ledger.finished


def test_what_is_trained_on_without_validation_has_no_errors_of_its_own() -> None:
    ledger = Ledger()
    ledger.members["water-511"] = Member(errors={"mae_f": 0.1}, measured_on=("a",))
    done = {"action_id": "train:water-511:train-3-2", "tag": "water-511", "checkpoint": "train-3-2"}
    ledger.training_finished({**done, "epochs": 1, "errors": []})
    assert ledger.errors()["water-511"] == ({"mae_f": 0.1}, None), "from the checkpoint before"


def test_epochs_that_are_made_up_for_before_publishing_leave_convergences_as_they_are() -> None:
    """A member's checkpoint is lost as the converged one is published; both are in the results."""
    twin = Twin()
    rules = make_rules(max_train_set_size=25, desired_acc=0.0, converge_on="all")
    shell = VirtualShell(rules, World(), np.random.default_rng(1), twin.watch)
    twin.ledger.take({"kind": "started", "rules": json.loads(rules.model_dump_json())})
    shell.run_until(lambda state: state.phase is Phase.PUBLISH)
    (converged,) = (m.tag for m in shell.state.members.values() if m.converge_epochs)
    other = next(m for tag, m in shell.state.members.items() if tag != converged)
    shell.tell(
        FileDamaged(what="checkpoint", which=other.tag, name=str(other.checkpoint), reason="gone")
    )
    assert shell.run().finished and shell.state.members[converged].converge_epochs
    assert any(isinstance(a, Train) for a in shell.launched[-4:])
    assert twin.published[-1] == "final"


def test_what_a_label_that_was_lost_too_often_does_to_its_trajectory_is_no_finding() -> None:
    """No event says that it is given up; the snapshot may be of that moment."""
    twin, rules = Twin(), make_rules()
    shell = VirtualShell(rules, World(), np.random.default_rng(1), twin.watch)
    twin.ledger.take({"kind": "started", "rules": json.loads(rules.model_dump_json())})
    shell.run_until(lambda state: any(label.key in found(state) for label in flying(state)))
    label = next(one for one in flying(shell.state) if one.key in found(shell.state))
    while label.key in shell.state.open_points:
        if label.id not in shell.state.in_flight:
            shell.tell(Launched(action=label))
        shell.tell(TaskLost(action_id=label.id, reason="died"))
    assert shell.state.points[label.key].status is PointStatus.FAILED


def test_a_step_whose_last_label_was_lost_too_often_is_dealt_without_an_event() -> None:
    twin, rules = Twin(), make_rules(geometries=1)
    shell = VirtualShell(rules, World(), np.random.default_rng(1), twin.watch)
    twin.ledger.take({"kind": "started", "rules": json.loads(rules.model_dump_json())})
    shell.run_until(lambda state: len(flying(state)) > 1)
    last, *others = flying(shell.state)
    for key in shell.state.open_points:
        if key in {one.key for one in others}:
            shell.tell(LabelArrived(key=key, wall_s=1.0))
    while last.key in shell.state.open_points:
        if last.id not in shell.state.in_flight:
            shell.tell(Launched(action=last))
        shell.tell(TaskLost(action_id=last.id, reason="died"))
    assert all(m.training for m in shell.state.members.values())


def flying(state: CampaignState) -> list[Label]:
    """The labels under way."""
    return [action for action in state.in_flight.values() if isinstance(action, Label)]


def found(state: CampaignState) -> set[str | None]:
    """Structures that trajectories wait for."""
    return {t.waiting_for for t in state.trajectories}
