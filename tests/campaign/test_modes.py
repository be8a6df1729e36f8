"""Modes of a campaign beyond the ordinary: analysis, replay, shared sets, adopted members."""

from __future__ import annotations

import numpy as np
import pytest

from aimspax_core.campaign.actions import Adopt, Label, Propagate
from aimspax_core.campaign.events import (
    ExplorationAsked,
    LabelArrived,
    LabelFailed,
    Launched,
    Look,
    Resumed,
    SegmentFinished,
    TrajectoryResult,
)
from aimspax_core.campaign.rounds import replayed
from aimspax_core.campaign.rules import apply, next_actions
from aimspax_core.campaign.state import CampaignState, Phase, PointStatus, TrajectoryStatus
from tests.campaign.test_rules import make_rules
from tests.campaign.virtual import VirtualShell, World

ORDINARY = World()


def exploring(world: World = ORDINARY, **changes: object) -> VirtualShell:
    """A campaign at the beginning of active learning."""
    shell = VirtualShell(make_rules(**changes), world, np.random.default_rng(3))
    while shell.state.phase is not Phase.ACTIVE:
        if shell.state.phase is Phase.READY:
            shell.tell(ExplorationAsked())
        else:
            shell.advance()
    return shell


def segment(shell: VirtualShell, *looks: Look, crossed: str | None = None) -> CampaignState:
    """Launch a segment of trajectory 0 and let it come back."""
    number = shell.state.segments + 1
    action = Propagate(number=number, trajectories=(0,), checkpoints=shell.state.ensemble)
    shell.tell(Launched(action=action))
    result = TrajectoryResult(
        trajectory=0,
        outcome="crossed" if crossed else "running",
        version=number,
        step=100 * number,
        since_crossing=0,
        key=crossed,
    )
    return shell.tell(
        SegmentFinished(action_id=action.id, results=(result,), uncertainties=(0.1,), looks=looks)
    )


def look(key: str) -> Look:
    return Look(trajectory=0, step=50, key=key, threshold=0.1)


def sets(state: CampaignState) -> set[str]:
    return {key for tag in state.members for part in state.dataset(tag) for key in part}


def test_a_look_asks_for_a_label():
    state = segment(exploring(), look("seen"))
    assert Label(key="seen") in next_actions(state)


def test_a_label_for_analysis_enters_no_set():
    shell = exploring()
    before = sets(segment(shell, look("seen")))
    after = shell.tell(LabelArrived(key="seen", wall_s=1.0))
    assert after.points["seen"].status is PointStatus.LABELLED
    assert sets(after) == before and after.pending == ()


def test_a_trajectory_does_not_wait_for_a_label_for_analysis():
    state = segment(exploring(), look("seen"))
    assert state.trajectories[0].status is TrajectoryStatus.RUNNING


def test_a_failed_label_for_analysis_rolls_nothing_back():
    shell = exploring()
    before = segment(shell, look("seen"))
    after = shell.tell(LabelFailed(key="seen", reason="SCF"))
    assert after.trajectories == before.trajectories


def test_a_structure_that_crosses_and_is_looked_at_is_labelled_once_and_counts():
    shell = exploring()
    state = segment(shell, look("both"), crossed="both")
    assert [a.key for a in next_actions(state) if isinstance(a, Label)].count("both") == 1
    assert "both" in sets(shell.tell(LabelArrived(key="both", wall_s=1.0)))


@pytest.mark.parametrize("labelled_first", [True, False])
def test_a_structure_that_was_looked_at_counts_once_it_crosses(labelled_first):
    shell = exploring()
    segment(shell, look("later"))
    arrived = LabelArrived(key="later", wall_s=1.0)
    if labelled_first:
        shell.tell(arrived)
        state = segment(shell, crossed="later")
    else:
        segment(shell, crossed="later")
        state = shell.tell(arrived)
    assert "later" in sets(state)
    assert state.trajectories[0].status is not TrajectoryStatus.WAITING


def test_labels_for_analysis_are_awaited_before_the_end():
    shell = exploring(World(looks=1.0, label_s=500.0))
    state = shell.run()
    looked_at = [p for p in state.points.values() if p.analysis]
    assert looked_at and all(p.status is not PointStatus.REQUESTED for p in looked_at)


def test_analysis_does_not_change_what_is_trained_on():
    shell = exploring(World(looks=0.7))
    state = shell.run()
    looked_at = {p.key for p in state.points.values() if p.analysis}
    assert looked_at and not looked_at & sets(state)


def in_round(**changes: object) -> CampaignState:
    """A state in a round of active learning."""
    shell = exploring(**changes)
    while shell.state.round is None or len(shell.state.training) < 6:
        shell.advance()
    return shell.state


def test_the_full_dataset_is_replayed_by_default():
    state = in_round()
    assert all(replayed(state, tag) == state.dataset(tag) for tag in state.members)


def test_a_random_subset_has_the_size_asked_for_and_the_new_points():
    state = in_round(train_subset=8, valid_subset=2)
    assert state.round is not None
    for tag in state.members:
        training, validation = replayed(state, tag)
        assert len(training) == max(8, len(state.round.points)) and len(validation) == 2
        assert set(state.round.points) <= set(training)
        assert set(training) <= set(state.dataset(tag)[0])


def test_random_subsets_differ_from_member_to_member_and_repeat():
    state = in_round(train_subset=8)
    drawn = [replayed(state, tag)[0] for tag in state.members]
    assert drawn == [replayed(state, tag)[0] for tag in state.members]
    old = [set(keys) - set(state.training) for keys in drawn]
    assert len({frozenset(o) for o in old}) > 1


def test_without_a_size_all_validation_points_are_replayed():
    state = in_round(train_subset=8)
    assert all(replayed(state, tag)[1] == state.dataset(tag)[1] for tag in state.members)


def test_the_initial_rounds_replay_everything():
    shell = VirtualShell(make_rules(train_subset=1), World(), np.random.default_rng(0))
    while shell.state.round is None:
        shell.advance()
    assert all(replayed(shell.state, t) == shell.state.dataset(t) for t in shell.state.members)


def test_members_share_their_points_if_their_sets_are_not_distinct():
    shell = VirtualShell(make_rules(distinct_sets=False), World(), np.random.default_rng(0))
    while shell.state.round is None:
        shell.advance()
    state = shell.state
    together = [frozenset(m.training + m.validation) for m in state.members.values()]
    assert len(set(together)) == 1 and len(together[0]) == 3 * 2  # points x geometries
    assert len({m.validation for m in state.members.values()}) > 1  # each splits its own way


def test_shared_points_count_once_for_the_size_of_the_initial_set():
    rules = make_rules(distinct_sets=False, max_initial_set_size=12, initial_accuracy=0.0)
    shell = VirtualShell(rules, World(), np.random.default_rng(0))
    while not shell.state.stop_reason:
        shell.advance()
    assert shell.state.stop_reason == "max_initial_set_size: 12 points"


def test_a_labelled_structure_becomes_the_checkpoint():
    shell = exploring()
    segment(shell, crossed="a")
    state = shell.tell(LabelArrived(key="a", wall_s=1.0))
    assert state.trajectories[0].checkpoint == state.trajectories[0].version > 0


def test_without_update_md_checkpoints_the_start_remains_the_checkpoint():
    shell = exploring(update_checkpoints=False)
    segment(shell, crossed="a")
    state = shell.tell(LabelArrived(key="a", wall_s=1.0))
    assert (state.trajectories[0].checkpoint, state.trajectories[0].checkpoint_step) == (0, 0)


def adopting(**changes: object) -> VirtualShell:
    rules = make_rules(initial_accuracy=0.0, **changes)
    return VirtualShell(rules, World(), np.random.default_rng(1), adopt=True)


def test_an_adopting_campaign_first_takes_over_what_is_there():
    assert next_actions(adopting().state) == [Adopt()]


def test_adopted_members_explore_without_an_initial_dataset():
    state = adopting().run()
    assert state.phase is Phase.FINISHED
    assert not any(p.sampling_step is not None for p in state.points.values())


def test_adopted_sets_are_the_members_initial_sets():
    shell = adopting()
    state = shell.advance()
    assert state.phase is Phase.READY and state.elements == (1, 8)
    assert all(len(m.training) == 2 and len(m.validation) == 1 for m in state.members.values())
    assert state.ensemble == ("adopted",) * 3


def test_adopted_labels_must_be_in_the_store_too():
    state = adopting().advance()
    assert set(state.labelled) == sets(state)


def test_an_adopted_campaign_is_not_sampled_again_when_limits_change():
    shell = adopting()
    shell.advance()
    changed = make_rules(initial_accuracy=0.0, max_initial_set_size=10_000)
    assert apply(shell.state, Resumed(rules=changed)).phase is Phase.READY


def test_an_adoption_that_was_interrupted_is_done_again():
    shell = adopting()
    shell.tell(Launched(action=Adopt()))
    assert next_actions(shell.restart()) == [Adopt()]
