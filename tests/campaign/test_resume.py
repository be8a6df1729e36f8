"""A campaign that is taken up again: in every phase, with the same rules and with others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from aimspax_core.campaign.actions import Converge, Label, Propagate, Sample, Train
from aimspax_core.campaign.events import (
    ConvergenceAdvanced,
    ExplorationAsked,
    LabelArrived,
    Launched,
    Resumed,
    Sampled,
    SegmentFinished,
    Started,
    TaskLost,
    TrainingFinished,
    TrajectoryResult,
)
from aimspax_core.campaign.members import Errors
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.rules import apply, next_actions
from aimspax_core.campaign.state import CampaignState, Phase, TrajectoryStatus
from aimspax_core.labels.tries import TASK, Tries
from tests.campaign.virtual import VirtualShell, World

RULES = Rules(
    tags=("a", "b", "c"), geometries=2, seed=1, points_per_step=3, initial_epochs=5,
    initial_accuracy=0.4, max_initial_epochs=math.inf, max_initial_set_size=200,
    initial_valid_ratio=0.2, converge_initial=False, num_trajectories=4, epochs_per_round=2,
    valid_ratio=0.0, desired_acc=0.0, max_train_set_size=40, freeze_threshold_dataset=math.inf,
    c_x=0.0, max_md_steps=math.inf, converge_al=True, converge_best=True, max_segments=1,
)  # fmt: skip


def but(rules: Rules = RULES, **changes: object) -> Rules:
    return Rules.model_validate({**rules.model_dump(), **changes})


def played(
    until: Callable[[CampaignState], bool],
    rules: Rules = RULES,
    world: World | None = None,
    seed: int = 0,
) -> VirtualShell:
    """A campaign that has come as far as `until`."""
    shell = VirtualShell(rules, world or World(), np.random.default_rng(seed))
    while not until(shell.state):
        shell.advance()
        if shell.state.phase is Phase.READY and not until(shell.state):
            shell.tell(ExplorationAsked())
    return shell


def at(phase: Phase) -> Callable[[CampaignState], bool]:
    return lambda state: state.phase is phase


def exploring(rules: Rules = RULES) -> CampaignState:
    """The first moment of active learning, its first segment launched."""
    return launch(played(at(Phase.ACTIVE), rules).state)


def launch(state: CampaignState) -> CampaignState:
    for action in next_actions(state):
        state = apply(state, Launched(action=action))
    return state


def crossed(state: CampaignState, *keys: str) -> CampaignState:
    """The first segment ends: the first trajectories cross, the others run."""
    action = next(a for a in state.in_flight.values() if isinstance(a, Propagate))
    results = tuple(
        TrajectoryResult(
            trajectory=index,
            outcome="crossed" if n < len(keys) else "running",
            version=action.number,
            step=25,
            since_crossing=0,
            key=keys[n] if n < len(keys) else None,
        )
        for n, index in enumerate(action.trajectories)
    )
    event = SegmentFinished(action_id=action.id, results=results, uncertainties=())
    return launch(apply(state, event))


def arrived(state: CampaignState, key: str) -> CampaignState:
    return launch(apply(state, LabelArrived(key=key, wall_s=1.0)))


def errors(mae_f: float) -> Errors:
    return Errors(
        epoch=1, train_loss=1.0, valid_loss=1.0, mae_f=mae_f, rmse_f=1.0, mae_e=1.0, rmse_e=1.0,
        mae_e_per_atom=1.0, rmse_e_per_atom=1.0, mae_stress=None, rmse_stress=None, lr=0.1,
        seconds=1.0,
    )  # fmt: skip


def trained(state: CampaignState, mae_f: float = 1.0, epochs: int | None = None) -> CampaignState:
    """The first training in flight comes back."""
    action = next(a for a in state.in_flight.values() if isinstance(a, Train))
    event = TrainingFinished(
        action_id=action.id,
        tag=action.tag,
        checkpoint=action.checkpoint,
        epochs=epochs or action.epochs,
        errors=(errors(mae_f),),
    )
    return launch(apply(state, event))


def resumed(state: CampaignState, rules: Rules) -> CampaignState:
    return launch(apply(state, Resumed(rules=rules)))


def everything_dealt_once(state: CampaignState) -> None:
    initial = [k for m in state.members.values() for k in (*m.training, *m.validation)]
    assert max(Counter([*initial, *state.training, *state.validation]).values()) == 1


@pytest.mark.parametrize("phase", [p for p in Phase if p not in (Phase.FAILED, Phase.ADOPT)])
def test_a_campaign_that_is_cut_in_any_phase_comes_to_its_end(phase: Phase) -> None:
    rules, world = but(converge_initial=True), World(label_fails=0.1)
    shell = played(at(phase), rules, world, seed=1)  # one that ends while it waits for a label
    before = shell.state
    shell.restart()
    assert shell.state.phase is phase
    assert not shell.state.in_flight
    shell.launched.clear()
    state = shell.run()
    assert state.finished
    uncut = played(at(Phase.FINISHED), rules, world, seed=1)
    assert state.stop_reason == uncut.state.stop_reason
    everything_dealt_once(state)
    if before.finished:
        assert state == before
        assert not shell.launched


# ---- the initial dataset --------------------------------------------------------------------


def test_a_tighter_initial_accuracy_reopens_the_initial_dataset() -> None:
    shell = played(at(Phase.READY))
    steps = shell.state.sampling_step
    shell.restart(but(initial_accuracy=0.3))
    assert (shell.state.phase, shell.state.published_initial) == (Phase.INITIAL, False)
    assert all(isinstance(a, Sample) for a in next_actions(shell.state))
    state = shell.run()
    assert state.sampling_step > steps
    assert state.finished
    everything_dealt_once(state)


def test_a_tighter_initial_accuracy_ends_the_initial_convergence() -> None:
    shell = played(at(Phase.INITIAL_CONVERGE), but(converge_initial=True))
    shell.restart(but(converge_initial=True, initial_accuracy=0.3))
    assert shell.state.phase is Phase.INITIAL
    assert not any(m.converging for m in shell.state.members.values())


def test_other_rules_leave_a_ready_campaign_ready_and_hold_when_it_explores() -> None:
    shell = played(at(Phase.READY))
    shell.restart(but(num_trajectories=7))
    assert shell.state.phase is Phase.READY
    assert len(apply(shell.state, ExplorationAsked()).trajectories) == 7


def test_labels_that_arrive_after_a_failure_are_dealt_when_it_is_taken_up() -> None:
    state = launch(apply(None, Started(rules=RULES)))
    state = apply(state, Sampled(action_id="sample:1:0", geometry=0, version=1, found=("p", "q")))
    state = launch(state)
    state = apply(state, TaskLost(action_id="sample:1:1", reason="no such model", final=True))
    assert (state.phase, state.stop_reason) == (Phase.FAILED, "no such model")
    for key in ("p", "q"):
        state = apply(state, LabelArrived(key=key, wall_s=1.0))
    assert next_actions(state) == []
    state = resumed(state, RULES)
    assert (state.phase, state.stop_reason) == (Phase.INITIAL, "")
    assert [a.id for a in state.in_flight.values()] == ["sample:1:1"]
    state = apply(state, Sampled(action_id="sample:1:1", geometry=1, version=1, found=()))
    assert {k for m in state.members.values() for k in m.training} == {"p", "q"}


def test_a_member_that_converges_while_another_fails_goes_on_from_its_best_weights() -> None:
    shell = played(at(Phase.INITIAL_CONVERGE), but(converge_initial=True))
    state = launch(shell.state)
    first, second, third = (a for a in state.in_flight.values() if isinstance(a, Converge))
    state = apply(state, TaskLost(action_id=first.id, reason="diverged", final=True))
    for action in (second, third):
        state = apply(state, converged(action))
    state = resumed(state, state.rules)
    again = [a for a in state.in_flight.values() if isinstance(a, Converge)]
    assert [(a.tag, a.first) for a in again] == [(first.tag, True)]
    state = apply(state, converged(again[0]))
    assert state.phase is Phase.INITIAL_PUBLISH
    assert state.ensemble == (first.checkpoint, second.checkpoint, third.checkpoint)
    assert state.mean_force_mae == 0.01


def converged(action: Converge, done: bool = True) -> ConvergenceAdvanced:
    return ConvergenceAdvanced(
        action_id=action.id, tag=action.tag, checkpoint=action.checkpoint, epochs=5,
        errors=(errors(0.02),), best=errors(0.01), converged=done,
    )  # fmt: skip


# ---- active learning ------------------------------------------------------------------------


def test_a_member_that_has_not_converged_yet_keeps_its_checkpoint_of_training() -> None:
    """What is taken up again from here, should the initial dataset be reopened."""
    state = launch(played(at(Phase.INITIAL_CONVERGE), but(converge_initial=True)).state)
    action = next(a for a in state.in_flight.values() if isinstance(a, Converge))
    before = state.members[action.tag]
    after = apply(state, converged(action, done=False)).members[action.tag]
    assert (after.checkpoint, after.errors) == (before.checkpoint, before.errors)
    assert (after.converging, after.converge_epochs) == (action.checkpoint, 5)


def test_active_learning_forgets_the_initial_convergence() -> None:
    """Else its results would be taken for those of the final data."""
    shell = played(at(Phase.PUBLISH), but(converge_initial=True, converge_al=False))
    assert all(m.converging is None and m.best is None for m in shell.state.members.values())
    assert all(m.converge_epochs == 0 for m in shell.state.members.values())


def test_a_round_that_was_cut_goes_on_with_the_epochs_that_are_left() -> None:
    state = arrived(crossed(exploring(), "k"), "k")
    tag, others = "a", ("b", "c")
    state = resumed(trained(state, epochs=1), RULES)
    trainings = {a.tag: a for a in state.in_flight.values() if isinstance(a, Train)}
    assert {t: a.epochs for t, a in trainings.items()} == {tag: 1, **dict.fromkeys(others, 2)}
    assert trainings[tag].start == state.members[tag].checkpoint
    assert trainings[tag].checkpoint != trainings[tag].start, "each is a file of its own"
    assert {a.round for a in trainings.values()} == {state.round.number if state.round else 0}


def test_trajectories_that_waited_and_trained_still_do_after_a_restart() -> None:
    state = resumed(arrived(crossed(exploring(), "k0", "k1"), "k0"), RULES)
    assert [t.status for t in state.trajectories] == [
        TrajectoryStatus.TRAINING,
        TrajectoryStatus.WAITING,
        TrajectoryStatus.RUNNING,
        TrajectoryStatus.RUNNING,
    ]
    assert "label:k1" in state.in_flight


def test_a_looser_accuracy_is_not_held_against_members_of_before() -> None:
    state = arrived(crossed(exploring(), "k"), "k")
    state = resumed(state, but(desired_acc=10.0))
    assert state.phase is Phase.ACTIVE
    for _ in RULES.tags:
        state = trained(state)
    assert state.phase is not Phase.ACTIVE
    assert state.stop_reason.startswith("validation force MAE 1.0000")


def test_a_label_does_not_stop_what_only_new_errors_can() -> None:
    rules = but(desired_acc=10.0)
    state = arrived(crossed(exploring(rules), "k0", "k1"), "k0")
    assert state.phase is Phase.ACTIVE
    assert arrived(state, "k1").phase is Phase.ACTIVE


def test_longer_trajectories_are_taken_up_while_others_still_run() -> None:
    rules = but(max_md_steps=100.0)
    state = exploring(rules)
    action = next(a for a in state.in_flight.values() if isinstance(a, Propagate))
    result = {"version": 1, "since_crossing": 100, "step": 100}
    results = (
        TrajectoryResult(trajectory=0, outcome="finished", **result),
        *(TrajectoryResult(trajectory=i, outcome="running", **result) for i in (1, 2, 3)),
    )
    event = SegmentFinished(action_id=action.id, results=results, uncertainties=())
    state = apply(state, event)
    assert apply(state, Resumed(rules=rules)).trajectories[0].over
    assert not apply(state, Resumed(rules=but(max_md_steps=200.0))).trajectories[0].over
    assert apply(state, Resumed(rules=but(max_md_steps=100.0, c_x=1.0))).trajectories[0].over


def test_more_trajectories_start_from_their_geometries() -> None:
    state = resumed(exploring(), but(num_trajectories=7))
    assert [(t.index, t.geometry) for t in state.trajectories[4:]] == [(4, 0), (5, 1), (6, 0)]
    assert all(t.status is TrajectoryStatus.IN_SEGMENT for t in state.trajectories)
    fewer = resumed(state, but(num_trajectories=2))
    assert len(fewer.trajectories) == 7


# ---- stopping -------------------------------------------------------------------------------


def draining() -> CampaignState:
    """Two crossed; the first's label makes the training set large enough; a round is cut short."""
    state = crossed(exploring(but(max_train_set_size=10_000)), "k0", "k1", "k2")
    state = arrived(state, "k0")
    enough = state.training_set_size + 1
    state = state.but(rules=but(max_train_set_size=enough))
    state = trained(arrived(state, "k1"))
    assert state.phase is Phase.DRAIN
    assert state.round is not None
    return state


def test_nothing_but_labels_is_launched_once_it_stops() -> None:
    state = draining()
    lost = apply(state, Resumed(rules=state.rules))
    assert lost.phase is Phase.DRAIN
    assert next_actions(lost) == [Label(key="k2")]


def test_it_converges_when_the_last_label_is_there_and_nothing_runs() -> None:
    state = arrived(draining(), "k2")
    assert state.phase is Phase.DRAIN, "trainings and a segment still run"
    for action in tuple(state.in_flight.values()):
        assert state.phase is Phase.DRAIN
        state = apply(state, TaskLost(action_id=action.id, reason="gone", counted=False))
    assert state.phase is Phase.CONVERGE
    assert state.training == ("k0", "k1", "k2")


def test_losing_a_training_that_is_not_needed_any_more_is_no_failure() -> None:
    state = draining()
    (action, *_) = (a for a in state.in_flight.values() if isinstance(a, Train))
    state = state.but(losses={action.id: Tries(died=TASK.died - 1)})
    assert apply(state, TaskLost(action_id=action.id, reason="gone")).phase is Phase.DRAIN
    final = TaskLost(action_id=action.id, reason="diverged", final=True)
    assert apply(state, final).phase is Phase.DRAIN


def test_a_failure_while_stopping_can_be_taken_up() -> None:
    state = draining()
    reason = state.stop_reason
    state = apply(state, TaskLost(action_id="label:k2", reason="no model", final=True))
    assert (state.phase, state.stop_reason) == (Phase.FAILED, "no model")
    for action in tuple(state.in_flight.values()):
        state = apply(state, TaskLost(action_id=action.id, reason="gone", counted=False))
    state = apply(state, LabelArrived(key="k2", wall_s=1.0))
    assert state.phase is Phase.FAILED
    state = resumed(state, state.rules)
    assert (state.phase, state.stop_reason) == (Phase.CONVERGE, reason)


def test_a_larger_set_takes_a_stopping_campaign_up_where_it_was() -> None:
    state = draining()
    statuses = [t.status for t in state.trajectories]
    again = resumed(state, but(max_train_set_size=10_000))
    assert (again.phase, again.stop_reason) == (Phase.ACTIVE, "")
    assert [t.status for t in again.trajectories[:3]] == statuses[:3]
    assert statuses[3] is TrajectoryStatus.IN_SEGMENT
    assert again.trajectories[3].status is TrajectoryStatus.RUNNING, "its worker trains first"
    assert again.round == state.round
    assert {a.tag for a in again.in_flight.values() if isinstance(a, Train)} == {"b", "c"}


def test_points_of_a_round_that_was_cut_short_are_learnt_when_exploring_goes_on() -> None:
    state = draining()
    number = state.round.number if state.round else 0
    state = arrived(state, "k2")
    for action in tuple(state.in_flight.values()):
        state = apply(state, TaskLost(action_id=action.id, reason="gone", counted=False))
    assert state.phase is Phase.CONVERGE
    state = resumed(state, but(max_train_set_size=10_000))
    assert state.phase is Phase.ACTIVE
    assert state.round is not None
    assert state.round.points == ("k0", "k1", "k2")
    assert state.round.number > number, "its datasets would be those of the round that was cut"
    assert state.dataset("a")[0][-3:] == ("k0", "k1", "k2")
    assert [t.status for t in state.trajectories[:3]] == [TrajectoryStatus.TRAINING] * 3
    for _ in RULES.tags:
        state = trained(state)
    assert [t.status for t in state.trajectories[:3]] == [TrajectoryStatus.IN_SEGMENT] * 3


def test_a_convergence_goes_on_from_its_last_stretch() -> None:
    state = launch(played(at(Phase.CONVERGE)).state)
    (action,) = (a for a in state.in_flight.values() if isinstance(a, Converge))
    assert action.first
    assert action.start == state.members[action.tag].checkpoint
    state = apply(state, converged(action, done=False))
    state = resumed(state, but(c_x=0.5))
    (again,) = (a for a in state.in_flight.values() if isinstance(a, Converge))
    assert (again.first, again.start) == (False, action.checkpoint)
    assert again.checkpoint != action.checkpoint


def test_a_finished_campaign_is_not_converged_again_for_a_rule_that_changes_nothing() -> None:
    state = played(at(Phase.FINISHED)).state
    changed = apply(state, Resumed(rules=but(c_x=0.3, max_segments=3, desired_acc=1e-9)))
    assert changed.finished
    assert changed.trajectories == state.trajectories
    assert changed.members == state.members


def test_a_reopened_campaign_forgets_its_convergence_and_converges_anew() -> None:
    shell = played(at(Phase.FINISHED))
    first = shell.state
    shell.restart(but(max_train_set_size=60))
    assert not any(m.best or m.converged for m in shell.state.members.values())
    shell.launched.clear()
    state = shell.run()
    assert state.finished
    assert state.training_set_size >= 60 > first.training_set_size
    assert set(first.training) < set(state.training)
    assert next(a.first for a in shell.launched if isinstance(a, Converge))
