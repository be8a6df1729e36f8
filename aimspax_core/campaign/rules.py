"""The rules of a campaign: `apply` changes its state, `next_actions` says what should run now.

Both are pure: no clock, no files, no chance that is not seeded. Source: the algorithm of aims-PAX
(arXiv:2508.12888); the rules of the two phases are in `initial` and `exploration`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aimspax_core.campaign import (
    assessing,
    budget,
    candidates,
    convergence,
    damage,
    exploration,
    initial,
    labelling,
    rounds,
    thresholds,
)
from aimspax_core.campaign.actions import (
    Action,
    Adopt,
    Assess,
    Converge,
    Label,
    Propagate,
    Publish,
)
from aimspax_core.campaign.events import (
    Adopted,
    Assessed,
    CandidatesRefused,
    ConvergenceAdvanced,
    Event,
    ExplorationAsked,
    FileDamaged,
    LabelArrived,
    LabelFailed,
    LabelsGone,
    Launched,
    ParametersSet,
    Paused,
    Published,
    Resumed,
    Sampled,
    SegmentFinished,
    Started,
    StateRestored,
    TaskLost,
    TimePassed,
    TrainingDiverged,
    TrainingFinished,
    Unpaused,
)
from aimspax_core.campaign.flight import fail, landed, tries_of, without, work_of
from aimspax_core.campaign.members import MemberState
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.state import CampaignState, Pause, Phase
from aimspax_core.labels import tries
from aimspax_core.labels.tries import GiveUp


def apply(state: CampaignState | None, event: Event) -> CampaignState:
    """Return the state after an event.

    Args:
        state: The state before; None before `Started`.
        event: What happened.

    Raises:
        ValueError: An event before `Started`, or a second `Started`.
    """
    if isinstance(event, Started):
        if state is not None:
            raise ValueError("a campaign starts once")
        return CampaignState.begin(event.rules, event.adopt).but(
            settings=event.settings, campaign=event.campaign
        )
    if isinstance(event, StateRestored):
        return event.state
    if state is None:
        raise ValueError(f"{event.kind!r} before the campaign started")
    return _HANDLERS[type(event)](state, event)


def next_actions(state: CampaignState) -> list[Action]:
    """Return what should run now and is not running yet; the same state gives the same list."""
    if state.paused is not None:
        return []
    wanted: list[Action] = [*candidates.labels(state)]
    if state.restoring and state.phase is not Phase.FAILED:  # sets need them before all else
        return wanted
    match state.phase:
        case Phase.ADOPT:
            wanted.append(Adopt())
        case Phase.INITIAL:
            wanted += initial.sampling(state)
            wanted += rounds.actions(state)
            wanted += assessing.idle(state, wanted)
        case Phase.ACTIVE:
            training = rounds.actions(state)
            wanted += training
            urgent = assessing.urgent(state)
            wanted += urgent
            wanted += exploration.segments(state, [*training, *urgent])
            wanted += [] if urgent else assessing.idle(state, wanted)
        case Phase.INITIAL_CONVERGE | Phase.CONVERGE:
            wanted += convergence.actions(state)
            wanted += assessing.idle(state, wanted)
        case Phase.INITIAL_PUBLISH:
            wanted += _publishing(state, Publish(what="initial"))
        case Phase.PUBLISH:
            wanted += _publishing(state, *(assessing.last(state) or [Publish(what="final")]))
        case Phase.FAILED | Phase.FINISHED | Phase.READY:
            return []
        case Phase.DRAIN:
            wanted += assessing.idle(state, wanted)
    return [action for action in wanted if action.id not in state.in_flight]


def _publishing(state: CampaignState, *then: Action) -> list[Action]:
    """Return what makes up for epochs that were lost; only once that is done, what publishes."""
    return [*then] if state.round is None else rounds.actions(state)


def _launched(state: CampaignState, event: Launched) -> CampaignState:
    state = state.but(in_flight={**state.in_flight, event.action.id: event.action})
    if isinstance(event.action, Label):
        state = candidates.launched(state, event.action)
    if isinstance(event.action, Propagate):
        state = exploration.enter_segment(state, event.action)
    return state


def _sampled(state: CampaignState, event: Sampled) -> CampaignState:
    state = landed(state, event.action_id)
    return initial.sampled(state.but(refused=state.refused + event.refused), event)


def _segment_finished(state: CampaignState, event: SegmentFinished) -> CampaignState:
    judged_in = candidates.judged_in(state, event.action_id)
    return exploration.segment_finished(landed(state, event.action_id), event, judged_in)


def _candidates_refused(state: CampaignState, event: CandidatesRefused) -> CampaignState:
    return exploration.settle(candidates.refused(state, event))


def _training_finished(state: CampaignState, event: TrainingFinished) -> CampaignState:
    state = _noted(landed(state, event.action_id), event)
    return _round_went_on(rounds.advanced(state, event))


def _noted(state: CampaignState, event: TrainingFinished | ConvergenceAdvanced) -> CampaignState:
    """Remember what a training tells of compiling, so that it is told once."""
    new = [note for note in event.compile_notes if note not in state.compile_notes]
    return state.but(compile_notes=(*state.compile_notes, *new)) if new else state


def _round_went_on(state: CampaignState) -> CampaignState:
    """End the round if all members have trained their epochs of it."""
    if not rounds.round_complete(state):
        return exploration.settle(state) if state.phase is Phase.DRAIN else state
    stage = state.round.stage if state.round else ""
    state, points = rounds.close_round(state)
    if state.phase in (Phase.INITIAL_PUBLISH, Phase.PUBLISH):
        return convergence.to_publish(state, state.phase)  # it made up for epochs that were lost
    after = initial.trained if stage == "initial" else exploration.trained
    return after(state, points)


def _convergence_advanced(state: CampaignState, event: ConvergenceAdvanced) -> CampaignState:
    action = state.in_flight.get(event.action_id)
    state = _noted(landed(state, event.action_id), event)
    if isinstance(action, Converge) and action.start != state.members[event.tag].converging:
        # Settings were changed meanwhile, and the phase that it was for goes on.
        return exploration.settle(state) if state.phase is Phase.DRAIN else state
    return convergence.advanced(state, event)


def _training_diverged(state: CampaignState, event: TrainingDiverged) -> CampaignState:
    action = state.in_flight.get(event.action_id)
    converging = isinstance(action, Converge)
    state = landed(state, event.action_id)
    if state.phase is Phase.DRAIN:
        return exploration.settle(state)  # what it was for is over
    if isinstance(action, Converge) and action.start != state.members[event.tag].converging:
        return state  # settings were changed meanwhile, and the phase that it was for goes on
    if converging:
        state = convergence.diverged(state, event.tag)
    else:
        state = rounds.diverged(state, event.tag)
    why = rounds.diverged_too_often(state, event.tag)
    if why:
        return fail(state, f"{why}; last: {event.reason}")
    return state if converging else _round_went_on(state)


def _file_damaged(state: CampaignState, event: FileDamaged) -> CampaignState:
    action = state.in_flight.get(event.action_id)
    if action is not None:
        state = state.but(in_flight=without(state.in_flight, event.action_id))
    if isinstance(action, Propagate):
        state = exploration.leave_segment(state, action)
    state = damage.file_damaged(state, event)
    why = damage.given_model_is_lost(state)
    return fail(state, why) if why else state


def _adopted(state: CampaignState, event: Adopted) -> CampaignState:
    state = landed(state, event.action_id)
    if state.phase is not Phase.ADOPT:
        return state
    members = {
        tag: m.but(
            checkpoint=event.checkpoints[tag],
            training=event.training[tag],
            validation=event.validation[tag],
        )
        for tag, m in state.members.items()
    }
    state = state.but(members=members, elements=event.elements, published_initial=True)
    return rounds.ensemble_of(state.but(phase=Phase.READY))


def _published(state: CampaignState, event: Published) -> CampaignState:
    state = landed(state, f"publish:{event.what}")
    members = {tag: _published_so(m, event) for tag, m in state.members.items()}
    state = state.but(members=members)
    if event.what == "final":
        return state.but(phase=Phase.FINISHED)
    return state.but(phase=Phase.READY, published_initial=True)


def _published_so(member: MemberState, event: Published) -> MemberState:
    """Take in the errors of a member's model if they are not those of its checkpoint."""
    member = member.but(settled=event.settled.get(member.tag))
    if member.tag not in event.assessed:
        if member.settled is None:
            return member
        # What was assessed is another model, with energies of before.
        return member.but(assessed=None, assessed_at=None, assessed_by={})
    by_geometry = event.assessed_by.get(member.tag, {})
    return member.but(assessed=event.assessed[member.tag], assessed_by=by_geometry)


def _exploration_asked(state: CampaignState, _: ExplorationAsked) -> CampaignState:
    return exploration.begin(state) if state.phase is Phase.READY else state


def _task_lost(state: CampaignState, event: TaskLost) -> CampaignState:
    state = _lost(state, event)
    # A label that may not begin again was perhaps the last that was waited for.
    return labelling.gone_on(state) if budget.limited(state) else state


def _lost(state: CampaignState, event: TaskLost) -> CampaignState:
    action = state.in_flight.get(event.action_id)
    if action is None:
        return state
    state = state.but(in_flight=without(state.in_flight, event.action_id))
    if isinstance(action, Assess):
        return assessing.lost(state, action, event)
    if isinstance(action, Propagate):
        state = exploration.leave_segment(state, action)
    if state.phase is Phase.DRAIN and not isinstance(action, Label):
        return exploration.settle(state)  # what it was for is over
    if event.final:
        return fail(state, event.reason)
    if not event.counted:
        return state
    lost = tries_of(state, event.action_id).lost(event.fate)
    state = state.but(losses={**state.losses, work_of(event.action_id): lost})
    limits = tries.LABEL if isinstance(action, Label) else tries.TASK
    verdict = tries.after(lost, event.fate, limits)
    if not isinstance(verdict, GiveUp):
        return state
    if isinstance(action, Label):
        return labelling.impossible(state, action, verdict.text(event.reason))
    times = f"lost {verdict.times} times"
    return fail(state, f"{event.action_id} was {times}; last: {event.reason}")


def _resumed(state: CampaignState, event: Resumed) -> CampaignState:
    """Go on under the settings of today.

    A campaign that failed tries again; a phase that ended goes on if no stopping rule of today
    ends it.
    """
    for action_id in tuple(state.in_flight):
        state = _lost(state, TaskLost(action_id=action_id, reason="restart", counted=False))
    in_force = {key: one for key, one in state.set_values.items() if key not in event.superseded}
    settings = event.settings or state.settings
    state = state.but(settings=settings, losses={}, lost_labels=(), set_values=in_force)
    if state.phase is Phase.FAILED and state.failed_in is not None:
        state = state.but(
            phase=state.failed_in,
            failed_in=None,
            stop_reason=state.stop_reason_before,
            barren_steps=0,
        )
    members = {tag: m.but(diverged=0, sat_out=0) for tag, m in state.members.items()}
    kept = "" if event.copied else state.campaign
    name = kept or event.campaign
    state = _under(state.but(members=members, campaign=name), event.rules)
    # It failed as a member had sat out too many rounds, the last of them with all others done.
    return _round_went_on(state) if rounds.round_complete(state) else state


def _parameters_set(state: CampaignState, event: ParametersSet) -> CampaignState:
    """Go on under settings that were changed on the way."""
    values = {**state.set_values, **{one.key: one for one in event.values}}
    state = state.but(set_values=values)
    if state.phase is not Phase.FAILED or state.failed_in is None:
        return _under(state, event.rules)
    why = state.stop_reason
    alive = state.but(phase=state.failed_in, failed_in=None, stop_reason=state.stop_reason_before)
    return fail(_under(alive, event.rules), why)


def _under(state: CampaignState, rules: Rules) -> CampaignState:
    """Go on under other rules: a phase that ended goes on if none of them ends it."""
    before = state.rules
    state = state.but(rules=rules)
    if (before.c_x, before.freeze_threshold_dataset) != (
        rules.c_x,
        rules.freeze_threshold_dataset,
    ):
        state = thresholds.thawed(state)
    state = thresholds.scoped(state)
    if rules != before:
        state = exploration.reopened(initial.reopened(state))
    if why := damage.given_model_is_lost(state):
        return fail(state, why)
    return labelling.gone_on(state)


def _time_passed(state: CampaignState, event: TimePassed) -> CampaignState:
    return labelling.gone_on(state.but(ran_s=max(state.ran_s, event.seconds)))


def _paused(state: CampaignState, event: Paused) -> CampaignState:
    """Begin nothing more; who paused first is remembered."""
    pause = Pause(since=event.time, by=event.by)
    return state.but(paused=state.paused or pause)


def _unpaused(state: CampaignState, _: Unpaused) -> CampaignState:
    return state.but(paused=None)


_HANDLERS: dict[type, Callable[[CampaignState, Any], CampaignState]] = {
    Resumed: _resumed,
    ParametersSet: _parameters_set,
    Paused: _paused,
    Unpaused: _unpaused,
    ExplorationAsked: _exploration_asked,
    Launched: _launched,
    Sampled: _sampled,
    LabelArrived: labelling.arrived,
    LabelFailed: labelling.failed,
    LabelsGone: labelling.gone,
    SegmentFinished: _segment_finished,
    CandidatesRefused: _candidates_refused,
    TrainingFinished: _training_finished,
    ConvergenceAdvanced: _convergence_advanced,
    TrainingDiverged: _training_diverged,
    FileDamaged: _file_damaged,
    Adopted: _adopted,
    Assessed: assessing.assessed,
    Published: _published,
    TaskLost: _task_lost,
    TimePassed: _time_passed,
}
