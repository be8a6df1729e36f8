"""What the final models converge on: all that was paid for, or each member's own sets."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from aimspax_core.campaign import convergence, final_sets
from aimspax_core.campaign.actions import Converge
from aimspax_core.campaign.events import (
    ConvergenceAdvanced,
    ExplorationAsked,
    Launched,
    ParametersSet,
)
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.rounds import MAX_DIVERGED
from aimspax_core.campaign.state import CampaignState, Phase, PointStatus
from aimspax_core.report.error_tables import error_rows
from aimspax_core.report.narrative import lines
from tests.campaign.test_rules import make_rules
from tests.campaign.virtual import VirtualShell, World

ALL: dict[str, Any] = {"converge_on": "all"}


def converging(world: World | None = None, **rules: Any) -> VirtualShell:
    """A campaign as its last convergence begins."""
    numbers = {"max_train_set_size": 30, "desired_acc": 0.0, **rules}
    shell = VirtualShell(make_rules(**numbers), world or World(), np.random.default_rng(4))
    while shell.state.phase is not Phase.CONVERGE:
        if shell.state.phase is Phase.READY:
            shell.tell(ExplorationAsked())
        else:
            shell.advance()
    return shell


def own(state: CampaignState) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    return {tag: state.dataset(tag) for tag in state.members}


def test_all_that_any_member_was_trained_on_is_trained_on() -> None:
    state = converging(**ALL).state
    found = final_sets.sets_on(state, "a-1", "all")
    assert set(found.training) == {key for training, _ in own(state).values() for key in training}
    assert len(found.training) == len(set(found.training)) > len(state.dataset("a-1")[0])


def test_what_any_member_was_trained_on_validates_none() -> None:
    state = converging(distinct_sets=False, **ALL).state  # each splits the same points its own way
    found = final_sets.sets_on(state, "a-1", "all")
    assert found.validation
    assert not set(found.validation) & set(found.training)
    assert set(found.validation) <= {key for _, tested in own(state).values() for key in tested}


def test_every_label_that_was_paid_for_is_used() -> None:
    state = converging(World(looks=0.5), **ALL).state
    paid = {key for key, p in state.points.items() if p.status is PointStatus.LABELLED}
    looked_at = {key for key in paid if state.points[key].analysis}
    found = final_sets.sets_on(state, "a-1", "all-and-analysis")
    assert looked_at and set(found.analysis) == looked_at
    assert {*found.training, *found.validation} == paid
    without = final_sets.sets_on(state, "a-1", "all")
    assert {*without.training, *without.validation} == paid - looked_at and not without.analysis


def test_what_no_published_model_was_trained_on_is_known_by_where_it_is_from() -> None:
    for rules, looked_at in (
        ({**ALL, "converge_on_analysis": False}, True),
        (ALL | {"converge_on_analysis": True}, False),
        ({"converge_on": "own"}, True),
    ):
        state = converging(World(looks=0.5), **rules).run()
        found = final_sets.unseen(state)
        trained_on = {k for tag in state.members for k in final_sets.seen(state, tag).training}
        assert found.validation and not trained_on & {*found.validation, *found.analysis}
        analysed = {key for key, point in state.points.items() if point.analysis}
        assert bool(found.analysis) is looked_at and set(found.analysis) <= analysed
        assert {*found.analysis.values(), *found.validation.values()} <= {0, 1, None}


def test_a_label_that_is_in_no_set_is_trained_on() -> None:
    state = converging(**ALL).state
    key = state.training[-1]
    without = state.but(training=state.training[:-1])
    assert key in final_sets.sets_on(without, "a-1", "all").training


@pytest.mark.parametrize(
    ("rules", "on"),
    [
        ({}, "own"),
        ({"converge_on": "own"}, "own"),
        ({"converge_on": "own", "converge_on_analysis": True}, "own"),
        (ALL, "all"),
        (ALL | {"converge_on_analysis": True}, "all-and-analysis"),
    ],
)
def test_the_journal_says_what_is_converged_on(rules: dict[str, Any], on: str) -> None:
    shell = converging(**rules)
    shell.advance()
    assert {a.on for a in shell.launched if isinstance(a, Converge)} == {on}


def test_the_convergence_of_the_initial_dataset_is_on_own_sets() -> None:
    shell = converging(converge_initial=True, **ALL)
    found = [a for a in shell.launched if isinstance(a, Converge) and a.stage == "initial"]
    assert {a.on for a in found} == {"own"}


def test_members_without_a_point_that_is_new_to_all_converge_on_their_own() -> None:
    shell = converging(distinct_sets=False, valid_ratio=0.0, **ALL)
    assert not final_sets.together(shell.state).validation
    assert shell.state.converging_on == "own"


def test_a_convergence_goes_on_as_it_began_whatever_is_set_meanwhile() -> None:
    shell = converging(**ALL)
    shell.tell(ParametersSet(rules=shell.state.rules.but(converge_on="own"), values=()))
    assert shell.state.converging_on == "all"


def test_the_sets_of_a_convergence_stay_until_its_end() -> None:
    shell = converging(converge_best=False, **ALL)
    shell.world = World(task_lost=0.2, diverges=0.2)
    began = final_sets.sets_on(shell.state, "a-1", "all")
    while shell.state.phase is Phase.CONVERGE:
        shell.advance()
        assert final_sets.sets_on(shell.state, "a-1", "all") == began


def test_only_what_has_converged_has_seen_all() -> None:
    shell = converging(**ALL)
    shell.run()
    sizes = {row["member"]: row["training"] for row in error_rows(shell.state, "PerAtomMAE")}
    for tag, member in shell.state.members.items():
        seen = final_sets.seen(shell.state, tag)
        assert sizes[tag] == len(seen.training)
        same = (seen.training, seen.validation) == shell.state.dataset(tag)
        assert same is not bool(member.converge_epochs)


def test_exploring_that_goes_on_forgets_what_was_converged_on() -> None:
    shell = converging(**ALL)
    rules = shell.state.rules.but(max_train_set_size=60.0)
    state = shell.tell(ParametersSet(rules=rules, values=()))
    assert state.phase is Phase.ACTIVE and state.converging_on == "own"


def test_a_journal_without_the_rule_goes_on_with_own() -> None:
    old = json.loads(make_rules(**ALL).model_dump_json())
    del old["converge_on"], old["converge_on_analysis"]
    assert Rules.model_validate(old).converge_on is None
    assert converging(converge_on=None).state.converging_on == "own"
    launched = '{"kind":"launched","action":{"kind":"converge","tag":"a","stage":"final",'
    launched += '"start":"x","first":true,"checkpoint":"y"}}'
    action = Launched.model_validate_json(launched).action
    assert isinstance(action, Converge) and action.on == "own"


# ---- what is said ---------------------------------------------------------------------------


def told(**rules: Any) -> list[str]:
    """The lines of the event that the convergence begins with."""
    news: list[str] = []
    before: list[CampaignState] = []

    def watch(state: CampaignState, event: Any) -> None:
        if before and state.phase is Phase.CONVERGE and before[-1].phase is not Phase.CONVERGE:
            news.extend(lines(before[-1], event, state))
        before.append(state)

    numbers = {"max_train_set_size": 30, "desired_acc": 0.0, **ALL, **rules}
    VirtualShell(make_rules(**numbers), World(), np.random.default_rng(4), watch).run()
    return news


def test_idle_workers_are_told_with_what_they_could_do() -> None:
    (said,) = [line for line in told(max_segments=2) if "idle" in line]
    assert "converge_best: False" in said and "1.5 times the time" in said
    (said,) = [line for line in told(max_segments=8) if "idle" in line]
    assert "7 workers" in said and "in the same time" in said


@pytest.mark.parametrize("rules", [{"converge_best": False}, {"max_segments": 1}])
def test_nothing_is_said_where_no_worker_is_idle(rules: dict[str, Any]) -> None:
    assert not [line for line in told(**rules) if "idle" in line]


def test_it_is_told_on_how_many_points_is_converged() -> None:
    (said,) = [line for line in told() if line.startswith("converging")]
    found = final_sets.together(converging(**ALL).state)
    assert f"({len(found.training)} + {len(found.validation)})" in said


def test_a_stretch_that_does_not_end_a_convergence_leaves_constants_alone() -> None:
    state = converging().state
    tag = next(tag for tag, member in state.members.items() if not member.converged)
    known = state.members[tag].but(offsets={"H2O": 0.05})
    state = state.but(members={**state.members, tag: known})
    (action, *_) = convergence.actions(state)
    errors = known.errors
    assert isinstance(action, Converge) and errors is not None
    event = ConvergenceAdvanced(
        action_id=action.id, tag=tag, checkpoint=action.checkpoint, epochs=5, errors=(),
        best=errors, converged=False,
    )  # fmt: skip
    state = convergence.advanced(state, event)
    for _ in range(MAX_DIVERGED):
        state = convergence.diverged(state, tag)
    assert state.members[tag].converged
    assert state.members[tag].offsets == {"H2O": 0.05}
