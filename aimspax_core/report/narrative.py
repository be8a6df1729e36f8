"""A campaign in sentences: a line that a chemist can follow for each event that matters."""

from __future__ import annotations

from ase.data import chemical_symbols

from aimspax_core.campaign.actions import Sample
from aimspax_core.campaign.assessing import converged_errors
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
    TrainingDiverged,
    TrainingFinished,
    Unpaused,
)
from aimspax_core.campaign.state import (
    CampaignState,
    Phase,
    Point,
    PointStatus,
    Round,
)
from aimspax_core.report.candidates_text import candidates_text
from aimspax_core.report.converging import converging_lines
from aimspax_core.report.error_tables import DEFAULT_TABLE, errors_text
from aimspax_core.report.setbacks import damaged_text, diverged_text, given_up_lines
from aimspax_core.report.threshold_text import calibrated_text, frozen_text, threshold_text
from aimspax_core.text import number_of

_ENDS = {Phase.INITIAL: "the initial dataset is complete", Phase.ACTIVE: "exploring ends"}

_NEWS = {
    Phase.ACTIVE: "active learning begins: the sets fill with structures that the models are "
    "unsure of, so that validation errors may rise at first",
    Phase.INITIAL_CONVERGE: "converging on the initial dataset",
    Phase.FINISHED: "finished",
}


def lines(
    before: CampaignState | None,
    event: Event,
    after: CampaignState,
    table: str = DEFAULT_TABLE,
) -> list[str]:
    """Return the log lines of an event and of the change of phase that it brought.

    Args:
        before: The state before the event; None before the first.
        event: The event.
        after: The state after it.
        table: Which errors to tell: `MISC.error_table`.
    """
    said = _event_line(before, event, after, table)
    news = [said] if said else []
    if before is None:
        return news
    if isinstance(event, SegmentFinished):
        news += _looks(before, event, after)
    if isinstance(event, TrainingFinished | ConvergenceAdvanced) and event.atomic_energies:
        news.append(f"{event.tag} is fine-tuned; {_energies(event.atomic_energies)}")
    news += after.compile_notes[len(before.compile_notes) :]
    news += frozen_text(before, after)
    news += calibrated_text(before, after)
    news += given_up_lines(before, after)
    if before.phase is not after.phase:
        if after.stop_reason and after.stop_reason != before.stop_reason:
            news.append(_ended(before.phase, after))
        if after.phase in _NEWS:
            news.append(_NEWS[after.phase])
        if after.phase is Phase.CONVERGE:
            news += converging_lines(after)
    return news


def _ended(phase: Phase, after: CampaignState) -> str:
    """Return why a phase has ended."""
    if after.phase is Phase.FAILED:
        return f"FAILED: {after.stop_reason}"
    what = _ENDS.get(phase)
    return after.stop_reason if what is None else f"{what} ({after.stop_reason})"


def _event_line(
    before: CampaignState | None, event: Event, after: CampaignState, table: str
) -> str | None:
    match event:
        case Started():
            rules = event.rules
            geometries = number_of(rules.geometries, "geometry", "geometries")
            members = number_of(len(rules.tags), "member")
            return f"{members}, {geometries}: {', '.join(rules.tags)}"
        case Resumed():
            changed = f"; changed: {', '.join(event.changes)}" if event.changes else ""
            return f"taken up again in phase {after.phase}, {after.labels} labels so far{changed}"
        case StateRestored():
            return f"the journal was damaged: {event.reason}"
        case ParametersSet():
            changes = (f"{one.key} from {one.before} to {one.value}" for one in event.values)
            return f"set by {event.values[0].by}: {', '.join(changes)}"
        case Paused():
            return f"paused by {event.by}: nothing new begins, what runs is finished"
        case Unpaused():
            return f"goes on, as {event.by} wants"
        case Adopted():
            return _adopted(event)
        case ExplorationAsked():
            return f"{len(after.trajectories)} trajectories"
        case Launched(action=Sample(origin=str(origin)) as step):
            where = f"sampling step {step.step}: geometry {step.geometry}"
            return f"{where} begins anew from label {origin[:8]}"
        case Sampled():
            return None if event.more else _sampled(before, event, after)
        case LabelsGone():
            count = number_of(len(event.keys), "label")
            return f"{count} of the campaign not usable in the label store any more: computed again"
        case LabelFailed():
            return _failed(before, event, after)
        case LabelArrived():
            return _label(before, event, after)
        case CandidatesRefused():
            return candidates_text(event)
        case SegmentFinished():
            return _segment(event, after)
        case TrainingFinished():
            return _training(before, event, after, table)
        case ConvergenceAdvanced():
            best = f", best {errors_text(table, [event.best])}" if event.best else ""
            done = "converged" if event.converged else "converging"
            return f"{event.tag} {done}: {after.members[event.tag].converge_epochs} epochs{best}"
        case TrainingDiverged():
            return diverged_text(event, after)
        case FileDamaged():
            return None if before is None else damaged_text(before, event, after)
        case Assessed():
            return _assessed(before, event, after, table)
        case Published():
            return f"{event.what} models and datasets written"
        case TaskLost():
            here = event.counted and not event.final  # the campaign's end says the reason
            return f"{_short(event.action_id)} was lost: {event.reason}" if here else None
    return None


def _short(action_id: str) -> str:
    """Return what an action is in words, as other lines have it, with a label's key cut short."""
    kind, _, key = action_id.partition(":")
    whose = key.partition(":")[0]
    words = {
        "label": f"label {key[:8]}",
        "propagate": f"MD (segment {key})",
        "sample": f"sampling step {whose}",
        "train": f"training of {whose}",
        "converge": f"convergence of {whose}",
        "publish": f"writing the {key} models and datasets",
        "assess": "the held-out errors",
    }
    return words.get(kind, action_id)


def _adopted(event: Adopted) -> str:
    training, validation = (
        len({key for keys in sets.values() for key in keys})
        for sets in (event.training, event.validation)
    )
    members = number_of(len(event.checkpoints), "member")
    return f"{members} and their datasets taken over: {training} + {validation} points"


def _sampled(before: CampaignState | None, event: Sampled, after: CampaignState) -> str:
    """Tell what a sampling step of a geometry gave, in all its parts."""
    found, refused, step = len(event.found), event.refused, after.sampling_step
    if before is not None:
        step = before.sampling_step  # another one may begin with this event
        found += before.samplers[event.geometry].found
        refused += before.samplers[event.geometry].refused
    kept_back = f", {refused} kept back by the gate" if refused else ""
    return f"sampling step {step}: geometry {event.geometry} gave {found} structures{kept_back}"


def _looks(before: CampaignState, event: SegmentFinished, after: CampaignState) -> list[str]:
    new = {look.key for look in event.looks if look.key in after.points} - before.points.keys()
    count = sum(after.points[key].analysis for key in new)
    return [f"{number_of(count, 'structure')} to label for analysis"] if count else []


def _failed(before: CampaignState | None, event: LabelFailed, after: CampaignState) -> str:
    if after.points[event.key].analysis:
        return f"label {event.key[:8]} for analysis failed: {event.reason}"
    was = before.trajectories if before is not None else ()
    back = [
        str(new.index)
        for old, new in zip(was, after.trajectories, strict=False)
        if new.rollbacks > old.rollbacks and not new.over
    ]
    which = "trajectory" if len(back) == 1 else "trajectories"
    then = f"; {which} {', '.join(back)} set back to the last label" if back else ""
    return f"label {event.key[:8]} failed: {event.reason}{then}"


def _label(before: CampaignState | None, event: LabelArrived, after: CampaignState) -> str | None:
    """A line for every label of the exploration; those of the initial dataset are counted."""
    point = after.points[event.key]
    if before is None or before.points[event.key] == point:
        return None
    if point.sampling_step is not None:
        return _initial_labels(point, after)
    whose = f"label {event.key[:8]} of trajectory {point.trajectory} ({event.wall_s:.2f} s)"
    if point.analysis:
        return f"{whose} is for analysis"
    if event.key in before.restoring:
        return f"label {event.key[:8]} is there again ({event.wall_s:.2f} s)"
    kind = "validation" if event.key in after.validation[-1:] else "training"
    found = f"{len(after.training)} + {len(after.validation)} points found"
    return f"{whose} goes to {kind}; {found}{_begun_anew(before, after)}"


def _begun_anew(before: CampaignState, after: CampaignState) -> str:
    """Tell which trajectories begin anew from labels, instead of going on."""
    return "".join(
        f"; trajectory {new.index} begins anew from label {new.origin[:8]}"
        for old, new in zip(before.trajectories, after.trajectories, strict=False)
        if new.origin is not None and new.begun_anew > old.begun_anew
    )


def _initial_labels(point: Point, after: CampaignState) -> str | None:
    """How far the labels of a sampling step are, every `progress_dft_update` of them."""
    step = [p for p in after.points.values() if p.sampling_step == point.sampling_step]
    done = sum(p.status is PointStatus.LABELLED for p in step)
    return f"labels: {done} of {len(step)}" if done % after.rules.progress_every == 0 else None


def _segment(event: SegmentFinished, after: CampaignState) -> str:
    counts = {
        word: sum(r.outcome == word for r in event.results)
        for word in ("crossed", "running", "finished", "exploded")
    }
    outcomes = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
    steps = max((r.step for r in event.results), default=0)
    reasons = {r.reason for r in event.results if r.outcome == "exploded"}
    why = f" ({'; '.join(sorted(reasons))})" if reasons else ""
    return f"MD to step {steps}: {outcomes}{why}; {threshold_text(after)}"


def _training(
    before: CampaignState | None, event: TrainingFinished, after: CampaignState, table: str
) -> str | None:
    """A line for each round, when its last member has trained."""
    if before is None or before.round is None or after.rounds == before.rounds:
        return None
    found = [m.errors for m in after.members.values() if m.errors is not None]
    complete = len(found) == len(after.members)
    errors = f"validation {errors_text(table, found)}" if complete else "no error yet"
    epochs = min(m.epochs for m in after.members.values())
    size = before.training_set_size  # a round of the next step may begin with this event
    return (
        f"round {before.round.number} on {_new_points(before.round)}: {errors} "
        f"(training sets of {size}, {epochs} epochs)"
    )


def _energies(found: dict[int, float]) -> str:
    each = ", ".join(f"{chemical_symbols[z]} {energy:.3f}" for z, energy in sorted(found.items()))
    return f"energies of free atoms for this reference (eV): {each}"


def _assessed(
    before: CampaignState | None, event: Assessed, after: CampaignState, table: str
) -> str:
    waited = before.unassessed if before is not None else ()
    on = next((f" after {one.labels} labels" for one in waited if one.number == event.number), "")
    converged = converged_errors(after)
    of = f", {', '.join(converged)} converged" if converged else ""
    found = list((converged or event.errors).values())
    return f"held-out set{on}{of}: {errors_text(table, found)}"


def _new_points(found: Round) -> str:
    if not found.points:
        return "epochs that were lost"
    return number_of(len(found.points), "new point")
