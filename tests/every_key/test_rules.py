"""Keys and what changes with them: the rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aimspax_core.campaign import exploration, rounds
from aimspax_core.campaign.actions import Converge, Propagate, Sample, Train
from aimspax_core.campaign.events import (
    Event,
    ExplorationAsked,
    LabelArrived,
    Launched,
    Sampled,
    SegmentFinished,
    Started,
    TrainingFinished,
    TrajectoryResult,
)
from aimspax_core.campaign.members import Errors
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.rounds import replayed
from aimspax_core.campaign.rules import apply, next_actions
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.report.narrative import lines
from aimspax_core.settings.settings import Settings
from tests.every_key.base import AL, IDG, with_values


class Story:
    """A campaign of these settings, told event by event; labels are texts."""

    def __init__(self, settings: Settings) -> None:
        tags = tuple(settings.member_seeds)
        self.rules = Rules.of(settings, tags, geometries=1)
        self.state = apply(None, Started(rules=self.rules))
        self.told: list[str] = []
        self.replays: list[tuple[int, ...]] = []

    def tell(self, event: Event) -> CampaignState:
        before, self.state = self.state, apply(self.state, event)
        self.told += lines(before, event, self.state)
        return self.state

    def launch(self) -> list[Any]:
        actions = next_actions(self.state)
        for action in actions:
            self.tell(Launched(action=action))
        return actions

    def sampled(self) -> CampaignState:
        """One step of sampling, with all its labels."""
        self.launch()
        (action,) = (a for a in self.state.in_flight.values() if isinstance(a, Sample))
        keys = tuple(f"{action.step}-{i}" for i in range(action.points))
        self.tell(Sampled(action_id=action.id, geometry=0, version=action.step, found=keys))
        for key in keys:
            self.tell(LabelArrived(key=key, wall_s=1.0))
        return self.state

    def trained(self, error: float = 1.0) -> CampaignState:
        """The round that is due; each member has this force error afterwards (eV/Å)."""
        for action in [a for a in self.launch() if isinstance(a, Train)]:
            errors = Errors(
                epoch=0, train_loss=1.0, valid_loss=1.0, mae_f=error, rmse_f=1.0, mae_e=1.0,
                rmse_e=1.0, mae_e_per_atom=1.0, rmse_e_per_atom=1.0, mae_stress=None,
                rmse_stress=None, lr=0.1, seconds=1.0,
            )  # fmt: skip
            self.tell(
                TrainingFinished(
                    action_id=action.id, tag=action.tag, checkpoint=action.checkpoint,
                    epochs=action.epochs, errors=(errors,),
                )
            )  # fmt: skip
        return self.state

    def exploring(self) -> CampaignState:
        """Through the shortest initial dataset into active learning."""
        self.sampled()
        while self.state.phase is Phase.INITIAL:
            self.trained()
        while self.state.phase is Phase.INITIAL_PUBLISH:
            self.state = self.state.but(phase=Phase.READY)
        return self.tell(ExplorationAsked())

    def crossed(self, *found: str, values: Sequence[float] = (0.1,)) -> CampaignState:
        """Let the first trajectory cross once for each key and each have its label."""
        for key in found:
            state = self.state
            number = state.segments + 1
            action = Propagate(number=number, trajectories=(0,), checkpoints=state.ensemble)
            self.tell(Launched(action=action))
            result = TrajectoryResult(
                trajectory=0, outcome="crossed", version=number, step=10 * number,
                since_crossing=0, key=key,
            )  # fmt: skip
            self.tell(
                SegmentFinished(action_id=action.id, results=(result,), uncertainties=tuple(values))
            )
            self.tell(LabelArrived(key=key, wall_s=1.0))
            if self.state.round is not None:
                tags = self.state.members
                self.replays = [tuple(map(len, replayed(self.state, tag))) for tag in tags]
            while self.state.round is not None and self.state.phase is Phase.ACTIVE:
                self.trained()
        return self.state


SHORT = {IDG: {"max_initial_epochs": 1}}


def points_of_a_step(story: Story) -> Any:
    (action,) = next_actions(story.state)
    return action.points


def members(story: Story) -> Any:
    return len(story.state.members)


def initial_sets(story: Story) -> Any:
    state = story.sampled()
    return [(len(m.training), len(m.validation)) for m in state.members.values()]


def shared_points(story: Story) -> Any:
    first, second = ({*m.training, *m.validation} for m in story.sampled().members.values())
    return bool(first & second)


def epochs_of_a_round(story: Story) -> Any:
    state = story.sampled()
    return state.round and state.round.epochs


def ends_at_error(story: Story, error: float = 0.3) -> Any:
    story.sampled()
    return story.trained(error).stop_reason


def steps_until_the_end(story: Story) -> Any:
    for step in range(1, 9):
        story.sampled()
        if story.trained().stop_reason:
            return step
    return None


def after_the_initial_dataset(story: Story) -> Any:
    story.sampled()
    return story.trained().phase


def lines_on_labels(story: Story) -> Any:
    story.sampled()
    return [line for line in story.told if line.startswith("labels:")]


def trajectories(story: Story) -> Any:
    return len(story.exploring().trajectories)


def sets_of_points_found(story: Story) -> Any:
    story.exploring()
    state = story.crossed(*"abcdefgh")
    return len(state.training), len(state.validation)


def epochs_for_a_point(story: Story) -> Any:
    before = story.exploring().members
    after = story.crossed("a", "b").members
    return [after[tag].epochs - before[tag].epochs for tag in after]


def epochs_of_a_round_for_three(story: Story) -> Any:
    story.exploring()
    return rounds.epochs_for(story.state, 3)


def runs_while_training(story: Story) -> Any:
    """Whether trajectories go on after a check while a round is under way."""
    state = story.exploring().but(pending=("p",))
    state = exploration.settle(state)
    moved = [t.but(step=t.step + 25) for t in state.trajectories]
    return bool(exploration.segments(state.but(trajectories=tuple(moved))))


def frozen_at(story: Story) -> Any:
    story.exploring()
    for number in range(4):
        if story.crossed(f"p{number}", values=[1.0] * 11).window.frozen is not None:
            return len(story.state.training)
    return None


def frozen_threshold(story: Story) -> Any:
    story.exploring()
    return story.crossed("p", values=[1.0] * 11).window.frozen


def points_until_the_end(story: Story) -> Any:
    story.exploring()
    for number in range(1, 6):
        story.crossed(f"p{number}")
        if story.state.stop_reason:
            return number, story.state.stop_reason.split(":")[0]
    return None


def stops_at_error(story: Story) -> Any:
    story.exploring()
    story.crossed("a")
    return bool(story.state.stop_reason)


def converged_members(story: Story) -> Any:
    story.exploring()
    story.crossed("a")
    return len([a for a in next_actions(story.state) if isinstance(a, Converge)])


def converged_on(story: Story) -> Any:
    story.exploring()
    story.crossed("a")
    (action,) = (a for a in next_actions(story.state) if isinstance(a, Converge))
    return action.on


def replayed_sizes(story: Story) -> Any:
    story.exploring()
    story.crossed(*"abcdef")
    return story.replays


def checkpoint_of_the_trajectory(story: Story) -> Any:
    story.exploring()
    return story.crossed("a").trajectories[0].checkpoint_step


END = SHORT | {AL: {"valid_ratio": 0, "max_train_set_size": 5}}
SUBSET = {
    **SHORT,
    AL: {"valid_ratio": 0.4, "replay_strategy": "random_subset", "train_subset_size": 3},
}

# Section, key, value, what it shows, with it, without it, and what else it needs to show.
RULES: list[tuple[str, str, Any, Any, Any, Any, dict[str, dict[str, Any]]]] = [
    (IDG, "n_points_per_sampling_step_idg", 7, points_of_a_step, 14, 10, {}),
    (IDG, "ensemble_size", 3, members, 3, 2, {}),
    (IDG, "valid_ratio", 0.4, initial_sets, [(3, 2)] * 2, [(4, 1)] * 2, {}),
    (IDG, "distinct_model_sets", False, shared_points, True, False, {}),
    (IDG, "intermediate_epochs_idg", 3, epochs_of_a_round, 3, 5, {}),
    (
        IDG,
        "desired_acc",
        0.03,
        ends_at_error,
        "validation force MAE 0.3000 eV/Å reached 0.3000 eV/Å",
        "",
        {},
    ),
    (
        IDG,
        "desired_acc_scale_idg",
        30,
        ends_at_error,
        "validation force MAE 0.3000 eV/Å reached 0.3000 eV/Å",
        "",
        {IDG: {"desired_acc": 0.01}},
    ),
    (IDG, "max_initial_epochs", 12, steps_until_the_end, 3, None, {}),
    (IDG, "max_initial_set_size", 35, steps_until_the_end, 4, None, {}),
    (
        IDG,
        "converge_initial",
        True,
        after_the_initial_dataset,
        "initial-converge",
        "initial-publish",
        SHORT,
    ),
    (
        IDG,
        "progress_dft_update",
        4,
        lines_on_labels,
        ["labels: 4 of 10", "labels: 8 of 10"],
        ["labels: 10 of 10"],
        {},
    ),
    (AL, "num_trajectories", 6, trajectories, 6, 3, SHORT),
    (AL, "valid_ratio", 0.5, sets_of_points_found, (4, 4), (7, 1), SHORT),
    (
        AL,
        "epochs_per_worker",
        5,
        epochs_for_a_point,
        [10, 10],
        [4, 4],
        SHORT | {AL: {"valid_ratio": 0}},
    ),
    (
        AL,
        "round_points_counted",
        1,
        epochs_of_a_round_for_three,
        2,
        6,
        SHORT | {AL: {"valid_ratio": 0, "num_trajectories": 4}},
    ),
    (AL, "md_steps_while_training", 1, runs_while_training, False, True, SHORT),
    (AL, "freeze_threshold_dataset", 6, frozen_at, 2, None, SHORT | {AL: {"valid_ratio": 0}}),
    (AL, "c_x", 0.5, frozen_threshold, 1.5, 1.0, SHORT | {AL: {"freeze_threshold_dataset": 1}}),
    (
        AL,
        "max_train_set_size",
        7,
        points_until_the_end,
        (3, "max_train_set_size"),
        None,
        SHORT | {AL: {"valid_ratio": 0}},
    ),
    (AL, "desired_acc", 1.1, stops_at_error, True, False, SHORT),
    (AL, "converge_al", False, converged_members, 0, 1, END),
    (AL, "converge_best", False, converged_members, 2, 1, END),
    (AL, "converge_on", "own", converged_on, "own", "all", END),
    (AL, "converge_on_analysis", True, converged_on, "all-and-analysis", "all", END),
    (
        AL,
        "replay_strategy",
        "random_subset",
        replayed_sizes,
        [(3, 3)] * 2,
        [(8, 3)] * 2,
        SHORT | {AL: {"valid_ratio": 0.4, "train_subset_size": 3}},
    ),
    (AL, "train_subset_size", 5, replayed_sizes, [(5, 3)] * 2, [(3, 3)] * 2, SUBSET),
    (AL, "valid_subset_size", 1, replayed_sizes, [(3, 1)] * 2, [(3, 3)] * 2, SUBSET),
    (AL, "update_md_checkpoints", False, checkpoint_of_the_trajectory, 0, 10, SHORT),
]


@pytest.mark.key("ActiveLearning", *(key for section, key, *_ in RULES if section == AL))
@pytest.mark.key("InitialDatasetGeneration", *(key for section, key, *_ in RULES if section == IDG))
@pytest.mark.parametrize(
    ("section", "key", "value", "show", "expected", "otherwise", "needs"),
    [pytest.param(*row, id=f"{row[0]}.{row[1]}") for row in RULES],
)
def test_the_rules_follow_the_key(
    folder: Path, section: str, key: str, value: Any, show: Any, expected: Any, otherwise: Any,
    needs: dict[str, dict[str, Any]],
) -> None:  # fmt: skip
    without = with_values(folder, needs)
    with_it = with_values(folder, needs, {section: {key: value}})
    assert (show(Story(without)), show(Story(with_it))) == (otherwise, expected)
