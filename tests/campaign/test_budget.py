"""A campaign keeps to its budget, ends cleanly with it, and goes on when it is raised."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimspax_core.campaign import budget
from aimspax_core.campaign.actions import Label
from aimspax_core.campaign.events import (
    Event,
    ExplorationAsked,
    LabelArrived,
    LabelsGone,
    Launched,
    ParametersSet,
    Resumed,
    TaskLost,
    TimePassed,
)
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.rules import apply, next_actions
from aimspax_core.campaign.state import CampaignState, Phase, Point, PointStatus
from aimspax_core.verification.ledger import Ledger
from tests.campaign.test_rules import Watch, check_sets, make_rules, rule_sets, worlds
from tests.campaign.virtual import VirtualShell, World
from tests.verification.test_ledger import Twin

ENDLESS = {"desired_acc": 0.0, "max_train_set_size": math.inf}
COSTLY = World(label_core_hours=0.5)


def limited(**limits: float) -> dict[str, float]:
    return {f"budget_{name}": limit for name, limit in limits.items()}


def shell_with(world: World = World(), seed: int = 3, **limits: float) -> VirtualShell:  # noqa: B008
    rules = make_rules(**{**ENDLESS, "limits": limited(**limits)})
    return VirtualShell(rules, world, np.random.default_rng(seed))


def most_labels(shell: VirtualShell) -> CampaignState:
    """Play to the end; at no time were more labels begun than the budget has."""
    limit = shell.rules.limits["budget_labels"]

    def watch(state: CampaignState, _: Event) -> None:
        assert state.labels + state.labels_under_way <= limit

    shell.watch = watch
    return shell.run()


@pytest.mark.key("Budget", "labels")
@pytest.mark.parametrize("labels", [30, 31, 47])
def test_a_campaign_ends_with_as_many_labels_as_it_was_given(labels: int) -> None:
    state = most_labels(shell_with(labels=labels))
    assert (state.phase, state.stop_rule) == (Phase.FINISHED, "budget_labels")
    assert state.labels == labels
    check_sets(state)


def test_a_label_that_fails_leaves_its_place_to_another() -> None:
    state = most_labels(shell_with(World(label_fails=0.3), labels=40))
    assert state.labels == 40 and state.failed_labels > 0


def test_a_budget_may_end_the_initial_dataset() -> None:
    state = most_labels(shell_with(labels=18))
    assert state.initial_set_size == state.labels == 18
    assert state.phase is Phase.FINISHED and not state.explored


def test_a_budget_that_no_member_can_be_trained_with_fails_and_says_so() -> None:
    state = shell_with(labels=2).run()
    assert state.phase is Phase.FAILED
    assert state.stop_reason.startswith("BUDGET.labels")


@pytest.mark.key("Budget", "core_hours")
@pytest.mark.parametrize("hours", [20.0, 20.3])
def test_core_hours_are_not_exceeded_and_what_no_label_fits_into_is_left(hours: float) -> None:
    state = shell_with(COSTLY, core_hours=hours).run()
    assert (state.phase, state.stop_rule) == (Phase.FINISHED, "budget_core_hours")
    assert state.core_hours == 20.0


@pytest.mark.parametrize("cost", [0.5, 0.0])
def test_until_the_first_label_of_a_geometry_has_told_its_cost_it_is_alone(cost: float) -> None:
    shell = shell_with(COSTLY, core_hours=100.0)
    while not shell.state.labels_under_way:
        shell.tell(*(Launched(action=a) for a in next_actions(shell.state)))
        if not shell.state.labels_under_way:
            shell = shell_with(COSTLY, core_hours=100.0)
            shell.advance()
    flying = [a.key for a in shell.state.in_flight.values() if isinstance(a, Label)]
    assert len(flying) == 1 < len(shell.state.open_points)
    shell.tell(LabelArrived(key=flying[0], wall_s=1.0, core_hours=cost))
    assert sum(isinstance(a, Label) for a in next_actions(shell.state)) == len(
        shell.state.open_points
    )


def test_the_initial_dataset_goes_on_while_labels_of_one_of_its_geometries_fit() -> None:
    shell = shell_with(World(label_core_hours=8.0, dearer=-7.95), core_hours=18.0)
    state = shell.run_until(lambda state: state.phase is not Phase.INITIAL)
    assert state.stop_rule != "budget_core_hours" and not budget.used_up(state)


@pytest.mark.parametrize("seed", [0, 4])
def test_labels_that_fit_are_chosen_though_those_of_larger_error_do_not(seed: int) -> None:
    rules = make_rules(**ENDLESS, candidates="largest_error", label_slots=1, geometries=2)
    rules = rules.but(limits=limited(core_hours=100.0))
    world = World(label_core_hours=0.5, dearer=9.0, spreads=(0.1, 0.3))
    state = VirtualShell(rules, world, np.random.default_rng(seed)).run()
    assert (state.phase, state.stop_rule) == (Phase.FINISHED, "budget_core_hours")


def test_labels_of_a_store_cost_nothing_and_are_not_read_one_after_another() -> None:
    shell = shell_with(World(label_core_hours=0.0), core_hours=1.0, labels=40)
    shell.watch = watch = Clocked(shell)
    shell.run_until(lambda state: state.labels_under_way > shell.rules.geometries)
    assert watch.twin.ledger.labels_flying()


@pytest.mark.key("Budget", "hours")
def test_when_the_hours_are_used_up_nothing_new_begins_and_what_runs_is_kept() -> None:
    shell = shell_with(hours=1.0)
    shell.run_until(lambda state: state.phase is Phase.ACTIVE and state.labels_under_way > 1)
    flying = [a.key for a in shell.state.in_flight.values() if isinstance(a, Label)]
    shell.tell(TimePassed(seconds=3599.0))
    assert shell.state.phase is Phase.ACTIVE
    shell.tell(TimePassed(seconds=3600.0))
    assert shell.state.phase is Phase.DRAIN
    assert not any(isinstance(a, Label) for a in next_actions(shell.state))
    state = shell.run()
    assert (state.phase, state.stop_rule) == (Phase.FINISHED, "budget_hours")
    assert {state.points[key].status for key in flying} == {PointStatus.LABELLED}
    check_sets(state)


def test_labels_that_have_not_begun_when_the_hours_are_over_are_not_waited_for() -> None:
    shell = shell_with(hours=1.0)
    shell.run_until(lambda state: state.phase is Phase.ACTIVE and state.labels_under_way > 1)
    shell.tell(TimePassed(seconds=3600.0))
    assert budget.overdrawn(shell.state)
    for action in tuple(shell.state.in_flight.values()):
        if isinstance(action, Label):
            shell.tell(TaskLost(action_id=action.id, reason="not begun", counted=False))
    assert not budget.overdrawn(shell.state)
    shell.forget("label")
    assert shell.run().phase is Phase.FINISHED


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("by_restart", [False, True])
def test_raised_it_goes_on_and_labels_what_was_left_open(ended: bool, by_restart: bool) -> None:
    shell = shell_with(labels=40)
    shell.run_until(lambda state: state.labels == 40 and state.open_points)
    if ended:
        shell.run()
    wanted = set(shell.state.open_points)
    raised = shell.state.rules.but(limits=limited(labels=60))
    if by_restart:
        shell.restart(raised)
    else:
        shell.tell(ParametersSet(rules=raised, values=()))
    asked = {a.key for a in next_actions(shell.state) if isinstance(a, Label)}
    assert shell.state.phase is Phase.ACTIVE and wanted and wanted <= asked
    shell.rules = raised
    state = most_labels(shell)
    assert (state.phase, state.labels) == (Phase.FINISHED, 60)
    check_sets(state)


def test_lowered_below_what_is_there_it_ends_at_once() -> None:
    shell = shell_with(labels=60)
    shell.run_until(lambda state: state.labels >= 45)
    there = shell.state.labels + shell.state.labels_under_way
    shell.tell(ParametersSet(rules=shell.state.rules.but(limits=limited(labels=30)), values=()))
    state = shell.run()
    assert (state.phase, state.stop_rule) == (Phase.FINISHED, "budget_labels")
    assert state.labels <= there


def test_another_start_under_a_used_up_budget_asks_for_nothing() -> None:
    shell = shell_with(labels=40)
    done = shell.run()
    shell.tell(Resumed(rules=shell.state.rules))
    assert shell.state.phase is done.phase is Phase.FINISHED and not next_actions(shell.state)


limits = st.fixed_dictionaries(
    {},
    optional={
        "labels": st.integers(1, 80),
        "core_hours": st.sampled_from([0.01, 3.0, 10.0, 20.3]),
        "hours": st.sampled_from([0.01, 0.1, 1.0]),
    },
)


class Clocked(Watch):
    """Also verifies by the independent reader; no more begins than the budget has."""

    def __init__(self, shell: VirtualShell) -> None:
        super().__init__()
        self.twin, self.shell = Twin(every=10), shell
        rules = Rules.model_dump(shell.rules, mode="json")
        self.twin.ledger.take({"kind": "started", "rules": rules})

    def __call__(self, state: CampaignState, event: Event) -> None:
        super().__call__(state, event)
        self.twin.watch(state, event)
        allowed = state.rules.limits.get("budget_labels", math.inf)
        if isinstance(event, Launched) and isinstance(event.action, Label):
            assert state.labels + state.labels_under_way <= allowed
            left = state.rules.limits.get("budget_core_hours", math.inf)
            assert state.core_hours < left


@settings(max_examples=5, deadline=None)
@given(
    rules=rule_sets,
    world=worlds,
    seed=st.integers(0, 2**32 - 1),
    limits=limits,
    later=limits,
    stop=st.integers(1, 200),
    dearer=st.sampled_from([0.0, 3.0]),
)
def test_any_campaign_with_a_budget_keeps_to_it_and_ends(
    rules: Rules, world: World, seed: int, limits: dict[str, float], later: dict[str, float],
    stop: int, dearer: float,
) -> None:  # fmt: skip
    costs = {"label_core_hours": 0.5, "dearer": dearer}
    world = World(**{**vars(world), **costs, "damaged": 0.0, "task_lost": 0.0})
    small = {"max_initial_set_size": 30, "max_train_set_size": 30}
    rules = rules.but(limits=limited(**limits), **small)
    shell = VirtualShell(rules, world, np.random.default_rng(seed))
    shell.watch = Clocked(shell)
    for number in range(20_000):
        if shell.state.phase in (Phase.FINISHED, Phase.FAILED):
            break
        if number == stop:
            changed = shell.state.rules.but(limits=limited(**later))
            if seed % 2:
                shell.restart(changed)
            else:
                shell.tell(ParametersSet(rules=changed, values=()))
        elif shell.state.phase is Phase.READY:
            shell.tell(ExplorationAsked())
        else:
            shell.advance()
            if "budget_hours" in shell.state.rules.limits:
                shell.tell(TimePassed(seconds=shell.clock))
    state = shell.state
    assert state.phase is Phase.FAILED or (state.phase is Phase.FINISHED and not state.in_flight)
    check_sets(state)


# ---- what is not known to be paid ------------------------------------------------------------


def wanting(spent: float = 0.0, **changes: object) -> tuple[CampaignState, Ledger]:
    """A campaign that wants 20 labels of one geometry, and a first one has come from somewhere."""
    rules = make_rules(
        **{
            **ENDLESS, "geometries": 1, "pays_again": True, "counts_all_costs": True,
            "limits": limited(core_hours=10.0), **changes,
        }
    )  # fmt: skip
    points = {f"k{i}": Point(key=f"k{i}", geometry=0, sampling_step=0) for i in range(20)}
    state = CampaignState.begin(rules).but(points=points, open_points=tuple(points))
    ledger = Ledger()
    ledger.restore(json.loads(state.model_dump_json()))
    assert begun(state) == ["k0"], "to know what one takes"
    assert all(ledger.may_begin(key, ()) for key in points)
    both = after((state, ledger), Launched(action=Label(key="k0")))
    arrived = LabelArrived(key="k0", wall_s=1.0, core_hours=spent, from_store=not spent)
    return after(both, arrived)


def after(both: tuple[CampaignState, Ledger], event: Event) -> tuple[CampaignState, Ledger]:
    """Let a campaign and its reader take an event."""
    both[1].take(event.model_dump(mode="json"))
    return apply(both[0], event), both[1]


def begun(state: CampaignState) -> list[str]:
    return [action.key for action in next_actions(state) if isinstance(action, Label)]


@pytest.mark.parametrize(("counts", "many"), [(True, 1), (False, 19)])
def test_a_label_from_a_store_does_not_tell_that_others_cost_nothing(
    counts: bool, many: int
) -> None:
    both = wanting(counts_all_costs=counts)
    assert len(begun(both[0])) == many
    state, ledger = after(both, Launched(action=Label(key="k1")))
    assert ledger.may_begin("k2", {"k1"}) is not counts
    told = LabelArrived(key="k1", wall_s=1.0)  # a reference that tells no cores
    assert len(begun(after((state, ledger), told)[0])) == 18


@pytest.mark.parametrize("counts", [True, False])
def test_what_is_computed_again_takes_its_core_hours_from_the_budget(counts: bool) -> None:
    state, ledger = after(wanting(5.0, counts_all_costs=counts), LabelsGone(keys=("k0",)))
    assert set(begun(state)) == ({"k0"} if counts else {"k0", "k1"})
    assert ledger.may_begin("k1", ()) is not counts
    unpaid = state.but(rules=state.rules.but(pays_again=False))
    assert "k1" in begun(unpaid)
