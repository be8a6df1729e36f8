"""A campaign at a glance: what one looks for first, a line each, and how near its end is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from aimspax_core.campaign.assessing import converged_errors
from aimspax_core.campaign.state import CampaignState, TrajectoryStatus
from aimspax_core.campaign.stopping import outlooks
from aimspax_core.report.calibration_text import calibration_lines
from aimspax_core.report.progress import AFTER, STAGES, progress, status_text
from aimspax_core.report.threshold_text import threshold_text
from aimspax_core.stopping.budget import BUDGET_CORE_HOURS, BUDGET_HOURS, BUDGET_LABELS
from aimspax_core.text import duration_text, number_of

_NAMED = 6
"""So many members have their errors told one by one."""


@dataclass(frozen=True)
class Fact:
    """One thing that is told of a campaign: what it is of, and the thing itself."""

    of: str
    text: str


def summary(
    state: CampaignState, max_convergence_epochs: int, seconds: float | None = None
) -> list[Fact]:
    """Return what there is to know of a campaign first, the most important first.

    Args:
        state: The campaign.
        max_convergence_epochs: After which its convergence ends.
        seconds: For how long it has run (s); None: that is not known.
    """
    now = progress(state, max_convergence_epochs)
    done = "" if now.fraction is None else f", {now.fraction:.0%}"
    facts = [Fact("phase", f"{now.title}{done}")]
    if state.stop_reason:
        facts.append(Fact("reason", state.stop_reason))
    facts += [*_errors(state), Fact("labels", _labels(state))]
    if sets := _sets(state):
        facts.append(Fact("sets", sets))
    facts.append(Fact("spent", spent_text(state, seconds)))
    if budget := _budget(state, seconds):
        facts.append(Fact("budget", budget))
    if state.trajectories:
        facts.append(Fact("trajectories", _trajectories(state)))
    if state.window.count:
        facts.append(Fact("uncertainty", threshold_text(state)))
        facts += [
            Fact(*line.split(": ", 1)) if ": " in line else Fact("true error", line)
            for line in calibration_lines(state)
        ]
    return facts


def error_of(state: CampaignState) -> str:
    """Return the force MAE that a campaign is judged by first; nothing before there is one."""
    for fact in _errors(state):
        on = "in validation" if fact.of == "in validation" else "on the held-out set"
        return f"{fact.text.removeprefix('force MAE ').partition(' (')[0]} {on}"
    return ""


def goal_rows(state: CampaignState) -> list[dict[str, str]]:
    """Return a row for each stopping rule that may end the present phase, the nearest first."""
    stage = STAGES.get(state.phase)
    if stage is None:
        return []
    ahead = sorted(outlooks(state, stage), key=lambda one: -one.progress)
    return [
        {"ends when": one.rule.text(one.limit), "reached": f"{one.progress:.0%}"} for one in ahead
    ]


def core_hours_text(hours: float) -> str:
    """Return core-hours, or core-seconds where they are few."""
    return f"{hours:.3g} core-hours" if hours >= 0.1 else f"{3600 * hours:.3g} core-seconds"


def spent_text(state: CampaignState, seconds: float | None) -> str:
    """Return what a campaign has taken so far; see `summary`."""
    parts = [] if seconds is None else [f"{duration_text(seconds)} of running"]
    if state.core_hours:
        parts.append(f"{core_hours_text(state.core_hours)} of labels")
    if state.rounds:
        parts.append(number_of(state.rounds, "round"))
    return ", ".join(parts) or "nothing yet"


def _errors(state: CampaignState) -> list[Fact]:
    """Return the members' force errors in validation and on the held-out set, where there are."""
    members = state.members.values()
    own = {m.tag: m.last_errors.mae_f for m in members if m.last_errors is not None}
    converged = converged_errors(state)
    held_out = {m.tag: m.assessed.mae_f for m in members if m.assessed is not None}
    facts = []
    if held_out:
        best = {tag: one.mae_f for tag, one in converged.items()}
        of = f" ({', '.join(best)} converged)" if best else ""
        facts.append(Fact("held-out set", f"{_each(best or held_out)}{of}"))
    if own:
        facts.append(Fact("in validation", _each(own)))
    return facts


def _each(errors: dict[str, float]) -> str:
    """Return force errors (eV/Å, by member) in words: their mean, and those of each."""
    mean = sum(errors.values()) / len(errors)
    each = ", ".join(f"{1000 * error:.1f}" for error in errors.values())
    told = f" (members: {each})" if 1 < len(errors) <= _NAMED else ""
    return f"force MAE {1000 * mean:.1f} meV/Å{told}"


def _labels(state: CampaignState) -> str:
    """Return labels that came, run, were refused, and failed."""
    counted = (
        (state.labels_under_way, "under way"),
        (state.failed_labels, "failed"),
        (state.refused, "refused by the gate"),
        (sum(state.candidates_refused.values()), "candidates passed over"),
    )
    return ", ".join([f"{state.labels} done", *(f"{n} {what}" for n, what in counted if n)])


def _sets(state: CampaignState) -> str:
    """Return how large the members' sets are; nothing while no label is in one."""
    own = max(len(m.validation) for m in state.members.values())
    training, validation = state.training_set_size, own + len(state.validation)
    initial = f"; initial dataset {state.initial_set_size}" if state.initial_set_size else ""
    some = training or validation
    return f"training {training}, validation {validation}{initial}" if some else ""


def _budget(state: CampaignState, seconds: float | None) -> str:
    """Return what is left of the budget, where there is one."""
    hours = state.hours if seconds is None else seconds / 3600
    spent = (
        (BUDGET_LABELS, state.labels, "labels"),
        (BUDGET_CORE_HOURS, state.core_hours, "core-hours"),
        (BUDGET_HOURS, hours, "h"),
    )
    return ", ".join(
        f"{used:.3g} of {state.rules.limit(rule):g} {unit}"
        for rule, used, unit in spent
        if state.rules.limit(rule) != rule.key.off
    )


def _trajectories(state: CampaignState) -> str:
    # Once exploring has ended, those that were under way do nothing any more.
    counts = Counter(t.status for t in state.trajectories if t.over or state.phase not in AFTER)
    told = ", ".join(f"{counts[one]} {status_text(one)}" for one in TrajectoryStatus if counts[one])
    each = f"{state.mean_md_steps:.0f} MD steps each on average"
    return f"{len(state.trajectories)} in all{f' ({told})' if told else ''}, {each}"
