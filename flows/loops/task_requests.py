"""What a task is asked to do, for each action of a campaign."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aimspax_core.campaign import final_sets
from aimspax_core.campaign.actions import (
    Adopt,
    Assess,
    Converge,
    Label,
    Propagate,
    Publish,
    Sample,
    Train,
)
from aimspax_core.campaign.candidates import known
from aimspax_core.campaign.exploration import segment_budget_s, steps_left
from aimspax_core.campaign.state import CampaignState
from aimspax_core.campaign.thresholds import windows
from aimspax_core.campaign.training_ahead import training_ahead_s
from aimspax_core.campaign.trajectories import number_in_geometry
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.output.results import holdings
from flows.loops.dataset_files import written
from tasks.adopt import AdoptRequest
from tasks.assess import AssessRequest
from tasks.label import LabelRequest
from tasks.propagate import PropagateRequest
from tasks.publish import PublishRequest
from tasks.sample import SampleRequest
from tasks.train import TrainRequest
from tasks.train_several import TrainSeveralRequest

TRAIN_BUDGET_S = 10.0
CONVERGE_BUDGET_S = 20.0
"""Time after which a task comes back at its next epoch's end, so that a stop waits briefly."""


@dataclass(frozen=True)
class TaskRequests:
    """Makes the requests of tasks from actions and the state of the campaign.

    Attributes:
        inputs: What the user has given.
        explores: Whether this run goes on behind the initial dataset.
    """

    inputs: Inputs
    explores: bool = True

    def label(self, action: Label, state: CampaignState) -> LabelRequest:
        """Return what a label's task is asked."""
        settings = self.inputs.settings
        reference = settings.reference_of(state.points[action.key].geometry)
        return LabelRequest.of(
            action.key, self.inputs.run, reference, settings.gate, settings.directory,
            settings.stress, campaign=state.campaign, beside=settings.model.beside,
        )  # fmt: skip

    def sample(self, action: Sample, state: CampaignState) -> SampleRequest:
        """Return what the task of a sampling MD is asked."""
        at = state.samplers[action.geometry]
        # In the line of the reference, it would wait behind the labels of what it has found.
        by_reference = self.inputs.settings.idg.initial_sampling == "aimd"
        return SampleRequest(
            action.id, self.inputs.run, self.inputs.settings, at.geometry, at.version,
            action.points, at.restarts if at.lost else 0,
            math.inf if by_reference else segment_budget_s(state), at.refused,
            action.step, action.part, action.origin,
        )  # fmt: skip

    def segment(self, action: Propagate, state: CampaignState) -> PropagateRequest:
        """Return what the task of a segment is asked."""
        run = self.inputs.run
        return PropagateRequest(
            action_id=action.id,
            number=action.number,
            run=run,
            settings=self.inputs.settings,
            trajectories=tuple(state.trajectories[i] for i in action.trajectories),
            elements=self._elements(state),
            checkpoints=tuple(
                run.checkpoint(tag, name)
                for tag, name in zip(state.members, action.checkpoints, strict=True)
            ),
            windows=windows(state),
            time_budget_s=segment_budget_s(state),
            tags=tuple(state.members),
            known=known(state),
            most_steps=tuple(steps_left(state, index) for index in action.trajectories),
            numbers=tuple(number_in_geometry(state, index) for index in action.trajectories),
        )

    def train(
        self, action: Train, state: CampaignState, budget_s: float = TRAIN_BUDGET_S
    ) -> TrainRequest:
        """Return what the task of a round's training is asked."""
        return self._training(action, state, f"{action.stage}-{action.round}", budget_s)

    def train_several(
        self, actions: tuple[Train, ...], state: CampaignState
    ) -> TrainSeveralRequest:
        """Return what the task of several trainings is asked; they share the time of one."""
        share_s = TRAIN_BUDGET_S / len(actions)
        trainings = tuple(self.train(action, state, share_s) for action in actions)
        return TrainSeveralRequest(trainings, actions[0].round)

    def converge(self, action: Converge, state: CampaignState) -> TrainRequest:
        """Return what the task of a convergence is asked."""
        points = len(state.training) + len(state.validation)
        own = action.on == "own"
        name = f"converge-{action.stage}-{state.rounds}-{points}{'' if own else f'-{action.on}'}"
        return self._training(action, state, name, CONVERGE_BUDGET_S)

    def adopt(self, action: Adopt) -> AdoptRequest:
        """Return what the task that takes over given models is asked."""
        inputs = self.inputs
        assert inputs.given is not None
        return AdoptRequest(action.id, inputs.run, inputs.settings, inputs.given, inputs.seeds)

    def assess(self, action: Assess, state: CampaignState) -> AssessRequest:
        """Return what the task that assessor models is asked."""
        run, settings = self.inputs.run, self.inputs.settings
        files = {tag: run.checkpoint(tag, name) for tag, name in action.checkpoints.items()}
        return AssessRequest(action, settings, self._elements(state), files)

    def publish(self, action: Publish, state: CampaignState) -> PublishRequest:
        """Return what the task that publishes is asked."""
        run, settings = self.inputs.run, self.inputs.settings
        held, unseen = holdings(run, state), final_sets.unseen(state)
        return PublishRequest(action.what, run, settings, held, state.adopted, unseen)

    def _elements(self, state: CampaignState) -> tuple[int, ...]:
        """Return the atomic numbers that the models know."""
        return state.elements or self.inputs.elements

    def _training(
        self, action: Train | Converge, state: CampaignState, dataset: str, budget_s: float
    ) -> TrainRequest:
        on = action.on if isinstance(action, Converge) else "own"
        before, settings = state.members[action.tag].before_round, self.inputs.settings
        return TrainRequest(
            action=action,
            last_mae=None if before is None else before.mae_f,
            run=self.inputs.run,
            settings=settings,
            seed=self.inputs.seeds[action.tag],
            elements=self._elements(state),
            dataset=written(self.inputs.run.dataset(dataset), state, on),
            time_budget_s=budget_s,
            ahead_s=training_ahead_s(
                state,
                settings.idg.max_convergence_epochs,
                settings.al.max_convergence_epochs,
                self.explores,
            ),
        )
