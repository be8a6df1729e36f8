"""What the rules do about files that are damaged or gone, and training that diverges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aimspax_core.campaign.actions import Converge, Propagate, Publish, Sample, Train
from aimspax_core.campaign.events import (
    ConvergenceAdvanced,
    Event,
    ExplorationAsked,
    FileDamaged,
    LabelArrived,
    Launched,
    Resumed,
    Sampled,
    SegmentFinished,
    TaskLost,
    TrainingDiverged,
    TrainingFinished,
    TrajectoryResult,
)
from aimspax_core.campaign.members import Earlier, Errors
from aimspax_core.campaign.obsolete_files import remove_obsolete
from aimspax_core.campaign.rounds import MAX_DIVERGED, MAX_SAT_OUT, exploded
from aimspax_core.campaign.rules import apply, next_actions
from aimspax_core.campaign.state import CampaignState, Phase, TrajectoryStatus
from aimspax_core.campaign.trajectories import MAX_ROLLBACKS
from aimspax_core.report.narrative import lines
from aimspax_core.report.progress import progress_text
from aimspax_core.run_directory import RunDir
from tests.campaign.test_rules import launch, make_rules, segment, through_initial
from tests.campaign.virtual import VirtualShell, World, files_of

TAG = "a-1"


def explored(rounds: int = 3, **changes: object) -> CampaignState:
    """A campaign that explores, between two rounds, nothing in flight but MD or labels."""
    rules = make_rules(max_train_set_size=10_000, desired_acc=0.0, **changes)
    shell = VirtualShell(rules, World(), np.random.default_rng(4))
    while shell.state.rounds < rounds or shell.state.round is not None:
        if shell.state.phase is Phase.READY:
            shell.tell(ExplorationAsked())
        shell.advance()
    return shell.restart()


def in_phase(phase: Phase, **changes: object) -> CampaignState:
    """A campaign that has just come into a phase, nothing in flight."""
    shell = VirtualShell(make_rules(**changes), World(), np.random.default_rng(4))
    while shell.state.phase is not phase:
        if shell.state.phase is Phase.READY:
            shell.tell(ExplorationAsked())
        shell.advance()
    return shell.restart()


def lost(state: CampaignState, name: str | None, tag: str = TAG) -> FileDamaged:
    return FileDamaged(what="checkpoint", which=tag, name=str(name), reason="a changed byte")


def trained(state: CampaignState, action: Train) -> CampaignState:
    state = apply(state, Launched(action=action))
    return apply(
        state,
        TrainingFinished(
            action_id=action.id, tag=action.tag, checkpoint=action.checkpoint,
            epochs=action.epochs, errors=(errors(),),
        ),
    )  # fmt: skip


def errors(mae: float = 0.3) -> Errors:
    return Errors(
        epoch=0, train_loss=mae, valid_loss=mae, mae_f=mae, rmse_f=mae, mae_e=mae, rmse_e=mae,
        mae_e_per_atom=mae, rmse_e_per_atom=mae, mae_stress=None, rmse_stress=None, lr=0.01,
        seconds=1.0,
    )  # fmt: skip


def training_of(state: CampaignState, tag: str = TAG) -> Train:
    return next(a for a in next_actions(state) if isinstance(a, Train) and a.tag == tag)


# ---- checkpoints ----------------------------------------------------------------------------


def test_a_lost_checkpoint_costs_the_epochs_since_the_one_before_and_they_are_trained_again() -> (
    None
):
    state = explored()
    before = state.members[TAG]
    to = before.earlier[0]
    after = apply(state, lost(state, before.checkpoint))
    member = after.members[TAG]
    assert (member.checkpoint, member.epochs, member.errors) == (
        to.checkpoint, to.epochs, to.errors,
    )  # fmt: skip
    action = training_of(after)
    assert (action.start, action.epochs) == (to.checkpoint, before.epochs - to.epochs)
    assert not any(isinstance(a, Train) and a.tag != TAG for a in next_actions(after))
    made_up = trained(after, action)
    assert made_up.members[TAG].epochs == before.epochs
    assert made_up.round is None
    assert made_up.rounds == state.rounds + 1


def test_a_checkpoint_is_never_written_under_the_name_of_one_that_was_lost() -> None:
    """Workers know the weights of an ensemble by the names of its files."""
    state = explored()
    names = {state.members[TAG].checkpoint}
    for _ in range(3):
        state = apply(state, lost(state, state.members[TAG].checkpoint))
        state = trained(state, training_of(state))
        assert state.members[TAG].checkpoint not in names
        names.add(state.members[TAG].checkpoint)


def test_a_member_without_any_checkpoint_is_trained_anew_for_all_its_epochs() -> None:
    state = explored()
    before = state.members[TAG]
    for name in (before.checkpoint, *(e.checkpoint for e in before.earlier)):
        state = apply(state, lost(state, name))
    assert state.members[TAG].checkpoint is None
    action = training_of(state)
    assert (action.start, action.epochs) == (None, before.epochs)
    assert not any(isinstance(a, Propagate) for a in next_actions(state)), "no ensemble, no MD"
    state = trained(state, action)
    assert all(state.ensemble)
    assert any(isinstance(a, Propagate) for a in next_actions(state))


def test_a_checkpoint_lost_within_a_round_makes_its_member_do_the_round_over() -> None:
    state = explored()
    state = apply(state, lost(state, state.members["a-2"].checkpoint, "a-2"))  # opens a round
    before = state.members[TAG]
    state = apply(state, lost(state, before.checkpoint))
    assert training_of(state).epochs == before.epochs - state.members[TAG].epochs > 0


def test_the_ensemble_goes_on_with_what_is_left_of_it() -> None:
    state = explored()
    name = state.members[TAG].checkpoint
    assert state.ensemble[0] == name
    after = apply(state, lost(state, name))
    assert after.ensemble == (after.members[TAG].checkpoint, *state.ensemble[1:])


def test_a_task_that_trains_from_the_lost_file_is_waited_for() -> None:
    """It may have the member in memory; if it has not, it finds the damage itself."""
    state = explored()
    state = apply(state, lost(state, state.members["a-2"].checkpoint, "a-2"))
    action = training_of(state, "a-2")
    state = apply(state, Launched(action=action))
    waiting = apply(state, lost(state, action.start, "a-2"))
    assert waiting.members["a-2"] == state.members["a-2"]
    done = trained(waiting, action)
    assert done.members["a-2"].checkpoint == action.checkpoint
    found = lost(state, action.start, "a-2").but(action_id=action.id)
    back = apply(waiting, found)
    assert back.members["a-2"].checkpoint != action.start
    assert action.id not in back.in_flight


def test_a_name_that_nobody_uses_changes_nothing_but_the_count() -> None:
    state = explored()
    after = apply(state, lost(state, "train-0-0"))
    assert after.but(damaged_files=0) == state


def test_damage_while_sampling_is_made_up_for_in_the_next_round() -> None:
    shell = VirtualShell(make_rules(initial_accuracy=0.0), World(), np.random.default_rng(1))
    while shell.state.rounds < 2 or shell.state.round is not None:
        shell.advance()
    before = shell.state.members[TAG]
    shell.tell(lost(shell.state, before.checkpoint))
    owed = shell.state.members[TAG].owed
    assert owed == before.epochs - before.earlier[0].epochs > 0
    while shell.state.round is None:
        shell.advance()
    assert training_of(shell.restart()).epochs == shell.state.rules.initial_epochs + owed


def test_weights_that_are_published_as_trained_are_made_up_for_first() -> None:
    state = in_phase(Phase.PUBLISH, converge_al=False)
    after = apply(state, lost(state, state.members[TAG].checkpoint))
    (action,) = next_actions(after)
    assert isinstance(action, Train)
    after = trained(after, action)
    assert after.phase is Phase.PUBLISH
    assert next_actions(after) == [Publish(what="final")]


def test_a_lost_convergence_goes_on_from_the_stretch_before() -> None:
    state = in_phase(Phase.CONVERGE, converge_best=False)
    for _ in range(2):
        action = next(a for a in next_actions(state) if isinstance(a, Converge) and a.tag == TAG)
        state = apply(state, Launched(action=action))
        state = apply(
            state,
            ConvergenceAdvanced(
                action_id=action.id, tag=TAG, checkpoint=action.checkpoint, epochs=5,
                errors=(errors(),), best=errors(), converged=False,
            ),
        )  # fmt: skip
    name = state.members[TAG].converging
    back = apply(state, lost(state, name))
    member = back.members[TAG]
    assert (member.converge_epochs, member.best) == (5, errors())
    action = next(a for a in next_actions(back) if isinstance(a, Converge) and a.tag == TAG)
    assert (action.first, action.start) == (False, member.converging)
    assert action.checkpoint != name
    again = apply(back, lost(back, member.converging))
    action = next(a for a in next_actions(again) if isinstance(a, Converge) and a.tag == TAG)
    assert (action.first, action.start) == (True, again.members[TAG].checkpoint)


def test_a_converged_member_whose_file_is_lost_converges_again_before_it_is_published() -> None:
    state = in_phase(Phase.PUBLISH)
    tag = next(m.tag for m in state.members.values() if m.converge_epochs)
    state = apply(state, lost(state, state.members[tag].converging, tag))
    assert state.phase is Phase.CONVERGE
    assert [a.tag for a in next_actions(state) if isinstance(a, Converge)] == [tag]


def test_given_models_are_not_trained_anew() -> None:
    shell = VirtualShell(make_rules(), World(), np.random.default_rng(1), adopt=True)
    while shell.state.phase is not Phase.ACTIVE or shell.state.rounds < 3:
        if shell.state.phase is Phase.READY:
            shell.tell(ExplorationAsked())
        shell.advance()
    state = shell.restart()
    while state.members[TAG].checkpoint != "adopted":
        state = apply(state, lost(state, state.members[TAG].checkpoint))
        assert state.phase is Phase.ACTIVE
    state = apply(state, lost(state, "adopted"))
    assert state.phase is Phase.FAILED
    assert TAG in state.stop_reason
    assert "--fresh" in state.stop_reason
    assert apply(state, Resumed(rules=state.rules)).phase is Phase.FAILED


# ---- MD states ------------------------------------------------------------------------------


def moved(state: CampaignState, **changes: object) -> CampaignState:
    """The state with trajectory 0 elsewhere."""
    first, *others = state.trajectories
    return state.but(trajectories=(first.but(**changes), *others))


AT = {"version": 9, "step": 90, "checkpoint": 7, "checkpoint_step": 70}


@pytest.mark.parametrize(
    ("damaged", "version", "step", "checkpoint"),
    [
        ((9,), 7, 70, 7),
        ((7,), 9, 90, 0),
        ((9, 7), 0, 0, 0),
        ((7, 9), 0, 0, 0),
        ((3,), 9, 90, 7),
    ],
)
def test_a_lost_md_state_falls_back_to_the_label_then_to_the_geometry(
    damaged: tuple[int, ...], version: int, step: int, checkpoint: int
) -> None:
    state = moved(explored(), **AT, status=TrajectoryStatus.RUNNING, rollbacks=2)
    for number in damaged:
        event = FileDamaged(what="trajectory", which="0", name=str(number), reason="gone")
        state = apply(state, event)
    found = state.trajectories[0]
    assert (found.version, found.step, found.checkpoint) == (version, step, checkpoint)
    assert (found.rollbacks > 2) == (version != 9), "it has new noise wherever it went back"


def test_lost_md_states_do_not_make_a_trajectory_give_up() -> None:
    state = moved(explored(), status=TrajectoryStatus.RUNNING)
    for number in range(2 * MAX_ROLLBACKS):
        state = moved(state, version=100 + number, step=10)
        event = FileDamaged(what="trajectory", which="0", name=str(100 + number), reason="gone")
        state = apply(state, event)
        assert state.trajectories[0].status is TrajectoryStatus.RUNNING


def test_a_trajectory_waits_for_its_label_though_its_state_is_lost() -> None:
    state = moved(explored(), **AT, status=TrajectoryStatus.WAITING, waiting_for="k")
    event = FileDamaged(what="trajectory", which="0", name="9", reason="gone")
    found = apply(state, event).trajectories[0]
    assert (found.status, found.waiting_for, found.version) == ("waiting", "k", 7)


def test_a_segment_whose_state_is_lost_is_asked_for_again_and_not_counted() -> None:
    state = launch(explored())
    action = next(a for a in state.in_flight.values() if isinstance(a, Propagate))
    index = action.trajectories[0]
    version = str(state.trajectories[index].version)
    event = FileDamaged(
        what="trajectory", which=str(index), name=version, reason="gone", action_id=action.id
    )
    state = apply(state, event)
    assert action.id not in state.in_flight
    assert not state.losses
    assert any(isinstance(a, Propagate) for a in next_actions(state))


def test_a_lost_sampler_begins_again_with_new_noise() -> None:
    shell = VirtualShell(make_rules(initial_accuracy=0.0), World(), np.random.default_rng(1))
    while shell.state.sampling_step < 2:
        shell.advance()
    state = shell.restart()
    version = state.samplers[0].version
    event = FileDamaged(what="sampler", which="0", name=str(version), reason="gone")
    state = apply(state, event)
    assert (state.samplers[0].lost, state.samplers[0].restarts) == (True, 1)
    action = next(a for a in next_actions(state) if isinstance(a, Sample) and a.geometry == 0)
    state = apply(state, Launched(action=action))
    done = Sampled(action_id=action.id, geometry=0, version=version + 1, found=("new",))
    state = apply(state, done)
    assert not state.samplers[0].lost


# ---- training that diverges -----------------------------------------------------------------


def diverged(state: CampaignState, action: Train | Converge) -> CampaignState:
    state = apply(state, Launched(action=action))
    return apply(state, TrainingDiverged(action_id=action.id, tag=action.tag, reason="NaN"))


def in_round() -> CampaignState:
    """A campaign that has just begun a round of active learning."""
    shell = through_initial(make_rules(max_segments=1, valid_ratio=0.0))
    state = launch(shell.state)
    state = apply(state, segment(state, outcome="crossed", key="k"))
    for action in [a for a in next_actions(state) if not isinstance(a, Propagate)]:
        state = apply(state, Launched(action=action))
    return apply(state, LabelArrived(key="k", wall_s=1.0))


def test_a_member_that_diverged_tries_again_from_the_same_checkpoint_in_another_way() -> None:
    state = in_round()
    first = training_of(state)
    again = training_of(diverged(state, first))
    assert (again.start, again.epochs) == (first.start, first.epochs)
    assert (first.again, again.again) == (0, 1)


def test_a_stretch_that_goes_well_ends_the_count() -> None:
    state = in_round()
    state = diverged(state, training_of(state))
    state = trained(state, training_of(state))
    assert state.members[TAG].diverged == 0
    assert state.divergences == 1


def test_a_member_that_always_diverges_sits_the_round_out() -> None:
    state = in_round()
    before = state.members[TAG]
    for _ in range(MAX_DIVERGED):
        state = diverged(state, training_of(state))
    for tag in ("a-2", "a-3"):
        state = trained(state, training_of(state, tag))
    assert state.round is None
    assert state.members[TAG].checkpoint == before.checkpoint
    assert state.phase is Phase.ACTIVE
    assert state.trajectories[0].status is TrajectoryStatus.RUNNING


def test_a_member_that_diverges_round_after_round_stops_the_campaign() -> None:
    state = in_round()
    sat_out = state.members[TAG].but(sat_out=MAX_SAT_OUT - 1)
    state = state.but(members={**state.members, TAG: sat_out})
    for _ in range(MAX_DIVERGED):
        state = diverged(state, training_of(state))
    assert state.phase is Phase.FAILED
    assert TAG in state.stop_reason
    assert apply(state, Resumed(rules=state.rules)).phase is Phase.ACTIVE


def test_a_fresh_member_that_always_diverges_stops_the_campaign() -> None:
    shell = VirtualShell(make_rules(), World(), np.random.default_rng(1))
    while shell.state.round is None:
        shell.advance()
    state = shell.restart()
    for _ in range(MAX_DIVERGED):
        state = diverged(state, training_of(state))
    assert state.phase is Phase.FAILED


def test_a_convergence_that_always_diverges_ends_with_its_best() -> None:
    state = in_phase(Phase.CONVERGE)
    (action,) = (a for a in next_actions(state) if isinstance(a, Converge))
    for number in range(MAX_DIVERGED):
        (action,) = (a for a in next_actions(state) if isinstance(a, Converge))
        assert action.again == number
        state = diverged(state, action)
    assert state.phase is Phase.PUBLISH
    assert state.members[action.tag].converging == state.members[action.tag].checkpoint


@pytest.mark.parametrize(
    ("mae", "last", "suspicious"),
    [(0.1, None, False), (0.1, 0.1, False), (0.99, 0.1, False), (1.0, 0.1, True)],
)
def test_ten_times_the_error_of_the_last_round_is_suspicious(
    mae: float, last: float | None, suspicious: bool
) -> None:
    assert exploded(mae, last) is suspicious


# ---- MD that explodes -----------------------------------------------------------------------


def test_a_trajectory_is_given_up_with_its_reasons() -> None:
    state = through_initial(make_rules(max_segments=1)).state
    for _ in range(MAX_ROLLBACKS):
        before = launch(state)
        event = segment(before, outcome="exploded", reason="two atoms too close")
        state = apply(before, event)
    (line,) = (line for line in lines(before, event, state) if "given up" in line)
    assert f"{MAX_ROLLBACKS} × two atoms too close" in line


def test_a_campaign_whose_trajectories_are_all_given_up_stops_and_says_so() -> None:
    state = through_initial(make_rules(max_segments=1, converge_al=False)).state
    for _ in range(MAX_ROLLBACKS):
        state = launch(state)
        action = next(a for a in state.in_flight.values() if isinstance(a, Propagate))
        results = tuple(
            TrajectoryResult(
                trajectory=i, outcome="exploded", version=0, step=0, since_crossing=0, reason="hot"
            )
            for i in action.trajectories
        )
        event = SegmentFinished(action_id=action.id, results=results, uncertainties=())
        before, state = state, apply(state, event)
    assert state.phase is Phase.PUBLISH
    assert f"{len(state.trajectories)} given up" in state.stop_reason
    assert any(state.stop_reason in line for line in lines(before, event, state))


# ---- told -----------------------------------------------------------------------------------


def test_every_damaged_file_is_told_with_what_it_costs() -> None:
    state = explored()
    member = state.members[TAG]
    cost = member.epochs - member.earlier[0].epochs
    event = lost(state, member.checkpoint)
    (line,) = lines(state, event, apply(state, event))
    assert str(member.checkpoint) in line
    assert str(member.earlier[0].checkpoint) in line
    assert f"{cost} epoch" in line
    assert "a changed byte" in line


def test_what_went_wrong_is_counted_where_progress_is_told() -> None:
    state = explored()
    assert "damaged" not in progress_text(state)
    assert "divergence" not in progress_text(state)
    state = apply(state, lost(state, state.members[TAG].checkpoint))
    state = diverged(state, training_of(state))
    assert "1 damaged file, 1 divergence of training" in progress_text(state)


# ---- files ----------------------------------------------------------------------------------


def written(state: CampaignState, event: Event, run: RunDir) -> Iterator[Path]:
    """The files that a task has written when its event comes."""
    match event:
        case Launched(action=Train() as action):
            yield run.dataset(f"{action.stage}-{action.round}")
        case TrainingFinished() | ConvergenceAdvanced():
            yield run.checkpoint(event.tag, event.checkpoint)
        case SegmentFinished():
            for result in event.results:
                if result.outcome != "exploded":
                    yield run.trajectory(result.trajectory, result.version)
        case Sampled():
            yield run.sampler(event.geometry, event.version)


@pytest.mark.parametrize("seed", range(4))
def test_what_the_campaign_falls_back_to_is_there_and_nothing_else_piles_up(
    seed: int, tmp_path: Path
) -> None:
    folders = (tmp_path / name for name in ("data", "logs", "losses", "model", "checkpoints"))
    run = RunDir(tmp_path, *folders)
    world = World(explodes=0.2, task_lost=0.1, diverges=0.1, damaged=0.1)
    most = 0

    def watch(state: CampaignState, event: Event) -> None:
        nonlocal before, most
        for path in written(state, event, run):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        if isinstance(event, FileDamaged):
            folder = run.checkpoints_dir if event.what == "checkpoint" else run.state
            assert [*folder.rglob(f"{event.name}.*")] or event.name.startswith("adopted")
        if before is not None and not isinstance(event, Launched):
            remove_obsolete(run, before, state)
        before = state
        for action in state.in_flight.values():
            for use in files_of(state, action):
                if use.what == "checkpoint":
                    assert run.checkpoint(use.which, use.name).exists(), use
        for tag, member in state.members.items():
            kept = [*member.earlier, *filter(None, [member.converge_earlier])]
            assert all(run.checkpoint(tag, e.checkpoint).exists() for e in kept)
            most = max(most, len([*run.checkpoint(tag, "x").parent.glob("*")]))
        flying = [a for a in state.in_flight.values() if isinstance(a, Train)]
        assert all(run.dataset(f"{a.stage}-{a.round}").exists() for a in flying)
        assert len([*run.dataset("x").parent.glob("*")]) <= 1
        for t in state.trajectories:
            for version in {t.version, t.checkpoint} - {0}:
                assert run.trajectory(t.index, version).exists()

    before: CampaignState | None = None
    rules = make_rules(max_train_set_size=150, desired_acc=0.0, converge_best=False)
    shell = VirtualShell(rules, world, np.random.default_rng(seed), watch)
    state = shell.run()
    assert state.rounds > 10
    assert most <= 6


def test_a_member_keeps_the_checkpoint_before_and_that_of_the_ensemble() -> None:
    shell = VirtualShell(
        make_rules(max_train_set_size=10_000, desired_acc=0.0, epochs_per_round=9),
        World(), np.random.default_rng(2),
    )  # fmt: skip
    while shell.state.rounds < 4 or shell.state.members[TAG].round_epochs in (0, 9):
        if shell.state.phase is Phase.READY:
            shell.tell(ExplorationAsked())
        shell.advance()
    kept = shell.state.members[TAG].earlier
    assert isinstance(kept[0], Earlier)
    assert shell.state.ensemble[0] in [e.checkpoint for e in kept]
    assert len(kept) <= 2


def test_a_lost_task_is_no_damage() -> None:
    state = launch(explored())
    action = next(iter(state.in_flight.values()))
    assert apply(state, TaskLost(action_id=action.id, reason="died")).damaged_files == 0


def test_damage_found_by_the_last_task_does_not_keep_the_phase_from_ending() -> None:
    state = launch(explored(converge_al=False))
    (segment_of,) = [a for a in state.in_flight.values() if isinstance(a, Propagate)][:1]
    index = segment_of.trajectories[0]
    state = state.but(
        phase=Phase.DRAIN, stop_rule="test", stop_reason="test", open_points=(), points={},
        in_flight={segment_of.id: segment_of},
    )  # fmt: skip
    event = FileDamaged(
        what="trajectory", which=str(index), name="1", reason="gone", action_id=segment_of.id
    )
    assert apply(state, event).phase is Phase.PUBLISH
