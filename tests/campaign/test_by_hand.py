"""A campaign that a person pauses, and whose settings are changed while it runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimspax_core.campaign.actions import Converge, label_id
from aimspax_core.campaign.events import (
    ConvergenceAdvanced,
    ExplorationAsked,
    Launched,
    ParametersSet,
    Paused,
    Resumed,
    TaskLost,
    Unpaused,
)
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.rules import apply, next_actions
from aimspax_core.campaign.state import CampaignState, Phase, SetValue
from tests.campaign.test_resume import RULES, at, but, errors, everything_dealt_once, played
from tests.campaign.virtual import VirtualShell, World


def set_to(rules: Rules, key: str = "ACTIVE_LEARNING.c_x") -> ParametersSet:
    value = SetValue(key=key, value="1", before="0", time=0.0, by="me")
    return ParametersSet(rules=rules, values=(value,))


def paused(state: CampaignState) -> CampaignState:
    return apply(state, Paused(time=5.0, by="me"))


def labels_of(state: CampaignState) -> list[str]:
    return [label_id(key) for key in state.open_points]


@pytest.mark.parametrize(
    "phase", [p for p in Phase if p not in (Phase.ADOPT, Phase.FAILED, Phase.READY, Phase.FINISHED)]
)
def test_nothing_begins_in_a_campaign_that_is_paused(phase: Phase) -> None:
    state = paused(played(at(phase), but(converge_initial=True)).state)
    assert next_actions(state) == []


def test_a_campaign_that_goes_on_wants_what_it_wanted_before() -> None:
    state = played(at(Phase.ACTIVE)).state
    back = apply(paused(state), Unpaused(time=9.0, by="me"))
    assert back == state
    assert next_actions(back) == next_actions(state)


def test_what_comes_back_while_paused_counts() -> None:
    shell = played(
        lambda s: s.phase is Phase.ACTIVE and any(k in s.in_flight for k in labels_of(s))
    )
    labels = shell.state.labels
    shell.tell(Paused(time=5.0, by="me"))
    while shell.state.in_flight:
        shell.advance()
    assert shell.state.labels > labels
    assert shell.state.paused is not None


def test_a_restart_leaves_a_campaign_paused() -> None:
    state = apply(paused(played(at(Phase.ACTIVE)).state), Resumed(rules=RULES))
    assert state.paused is not None
    assert (state.paused.since, state.paused.by) == (5.0, "me")


def test_who_paused_first_is_remembered() -> None:
    state = apply(paused(played(at(Phase.ACTIVE)).state), Paused(time=7.0, by="another"))
    assert state.paused is not None
    assert (state.paused.since, state.paused.by) == (5.0, "me")


def test_a_smaller_limit_ends_the_phase_at_once() -> None:
    state = played(lambda s: s.training_set_size >= 20).state
    limit = state.training_set_size - 1
    after = apply(state, set_to(but(max_train_set_size=limit)))
    assert after.phase in (Phase.DRAIN, Phase.CONVERGE)


def test_a_larger_limit_goes_on_exploring_while_the_last_labels_arrive() -> None:
    shell = played(at(Phase.DRAIN), world=World(label_s=100.0))
    assert shell.state.in_flight
    shell.tell(set_to(but(max_train_set_size=60)))
    assert shell.state.phase is Phase.ACTIVE
    assert shell.run().training_set_size >= 60


def test_a_convergence_under_way_is_forgotten_when_exploring_goes_on() -> None:
    state = played(at(Phase.CONVERGE)).state
    (wanted,) = next_actions(state)
    assert isinstance(wanted, Converge)
    state = apply(state, Launched(action=wanted))
    state = apply(state, set_to(but(max_train_set_size=60)))
    assert state.phase is Phase.ACTIVE
    late = ConvergenceAdvanced(
        action_id=wanted.id, tag=wanted.tag, checkpoint=wanted.checkpoint, epochs=5,
        errors=(errors(0.1),), best=errors(0.1), converged=True,
    )  # fmt: skip
    state = apply(state, late)
    assert state.phase is Phase.ACTIVE
    assert not any(m.converged for m in state.members.values())


def test_a_finished_campaign_goes_on_if_more_is_asked_for() -> None:
    shell = played(at(Phase.FINISHED))
    shell.tell(set_to(but(max_train_set_size=60)))
    assert shell.state.phase is Phase.ACTIVE
    assert shell.run().training_set_size >= 60


def test_a_failed_campaign_stays_failed_and_goes_on_by_the_new_rules() -> None:
    shell = played(at(Phase.CONVERGE))
    (wanted,) = next_actions(shell.state)
    shell.tell(Launched(action=wanted))
    shell.tell(TaskLost(action_id=wanted.id, reason="no room", final=True))
    assert shell.state.phase is Phase.FAILED
    shell.tell(set_to(but(max_train_set_size=60)))
    assert (shell.state.phase, shell.state.stop_reason) == (Phase.FAILED, "no room")
    shell.restart()
    assert shell.state.phase is Phase.ACTIVE
    assert shell.run().training_set_size >= 60


def test_superseded_values_are_forgotten_at_the_next_start() -> None:
    state = apply(played(at(Phase.ACTIVE)).state, set_to(RULES))
    assert list(state.set_values) == ["ACTIVE_LEARNING.c_x"]
    assert list(apply(state, Resumed(rules=RULES)).set_values) == ["ACTIVE_LEARNING.c_x"]
    resumed = Resumed(rules=RULES, superseded=("ACTIVE_LEARNING.c_x",))
    assert apply(state, resumed).set_values == {}


CHANGES = st.sampled_from(
    [
        {"max_train_set_size": 30}, {"max_train_set_size": 55}, {"desired_acc": 0.3},
        {"desired_acc": 0.0}, {"c_x": 0.3}, {"num_trajectories": 6}, {"epochs_per_round": 4},
        {"initial_accuracy": 0.35}, {"max_initial_set_size": 80}, {"converge_best": False},
        {"freeze_threshold_dataset": 10}, {"max_md_steps": 500}, {"valid_ratio": 0.3},
    ]
)  # fmt: skip


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1000),
    changes=st.lists(st.tuples(st.integers(1, 120), CHANGES), max_size=5),
    pause=st.integers(1, 200),
)
def test_a_campaign_ends_well_whatever_is_changed_and_when(
    seed: int, changes: list[tuple[int, dict[str, float]]], pause: int
) -> None:
    rules = but(converge_initial=True, converge_best=False)
    shell = VirtualShell(rules, World(label_fails=0.1, explodes=0.05), np.random.default_rng(seed))
    left, count = dict(changes), 0

    def meddle() -> None:
        if count in left and not shell.state.finished:
            shell.tell(set_to(but(shell.state.rules, **left.pop(count))))
        if count == pause:
            shell.tell(Paused(time=0.0, by="me"))
            while shell.state.in_flight:
                shell.advance()
            shell.tell(Unpaused(time=1.0, by="me"))

    while not shell.state.finished:
        assert shell.state.phase is not Phase.FAILED
        count += 1
        assert count < 20_000
        if shell.state.phase is Phase.READY:
            shell.tell(ExplorationAsked())
        meddle()
        if not shell.state.finished:
            shell.advance()
    everything_dealt_once(shell.state)
    assert not shell.state.in_flight
    assert not shell.state.open_points
