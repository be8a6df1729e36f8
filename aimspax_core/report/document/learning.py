"""How the errors of a campaign fell, and those of each member today."""

from __future__ import annotations

from typing import Literal

from aimspax_core.campaign.assessing import converged_errors
from aimspax_core.campaign.final_sets import seen
from aimspax_core.campaign.members import Errors, MemberState
from aimspax_core.campaign.state import CampaignState
from aimspax_core.campaign.stopping import outlooks
from aimspax_core.report.document import contents
from aimspax_core.report.document.source import Source
from aimspax_core.report.error_tables import columns
from aimspax_core.report.forecast import forecast_rows
from aimspax_core.report.progress import AFTER
from aimspax_core.stopping.rule import Stage


def members(source: Source) -> list[contents.Member]:
    """Return each member with its errors, under the names that `errors.csv` has."""
    state, table = source.state, source.settings.model.MISC.error_table
    return [_member(state, member, table) for member in state.members.values()]


def learning(source: Source) -> contents.Learning:
    """Return how the errors fell, and what to expect of more labels."""
    curves, state = source.story.curves, source.state
    return contents.Learning(
        rounds=_rounds(source),
        members=curves.members,
        converged=sorted(curves.converged.items()),
        converged_held_out=sorted(curves.delivered.items()),
        explored_from=curves.explored_from,
        goals=_goals(state),
        forecast=forecast_rows(curves.learning),
    )


def _member(state: CampaignState, member: MemberState, table: str) -> contents.Member:
    sets = seen(state, member.tag)
    return contents.Member(
        tag=member.tag,
        state=_condition(state, member),
        epochs=member.epochs + member.converge_epochs,
        training=len(sets.training),
        validation=len(sets.validation),
        errors=_errors(member.last_errors, table),
        held_out=_errors(member.assessed, table),
        held_out_by_geometry={
            name: _errors(errors, table) for name, errors in sorted(member.assessed_by.items())
        },
    )


def _condition(
    state: CampaignState, member: MemberState
) -> Literal["converged", "converging", "as active learning ended", "exploring"]:
    """Return what a member's errors are of."""
    if state.phase not in AFTER:
        return "exploring"
    if member.converge_epochs and member.converging is not None:
        return "converged" if member.converged else "converging"
    return "as active learning ended"


def _errors(errors: Errors | None, table: str) -> dict[str, float]:
    shown = columns(table, [errors])
    return {c.key: value for c in shown if (value := c.value(errors)) is not None}


def _rounds(source: Source) -> list[contents.Round]:
    """Return a point of the learning curve for each ensemble, with what it had cost by then."""
    curves = source.story.curves
    held_out = dict(curves.held_out)
    return [
        contents.Round(
            labels_seen=labels,
            labels=then.labels,
            core_hours=then.core_hours,
            hours=then.seconds / 3600,
            validation_mae_f_meV_per_A=error,
            held_out_mae_f_meV_per_A=held_out.get(labels),
        )
        for (labels, error), then in zip(curves.mean, curves.spent, strict=True)
    ]


def _goals(state: CampaignState) -> dict[str, float]:
    """Return the force MAE (meV/Å) that end a phase."""
    stages: tuple[Stage, ...] = ("active",) if state.adopted else ("initial", "active")
    return {
        outlook.rule.goal: 1000 * outlook.limit
        for stage in stages
        for outlook in outlooks(state, stage)
        if outlook.rule.goal
    }


def held_out_error(state: CampaignState) -> float | None:
    """Return the force MAE (meV/Å) on the held-out set that counts: of what has converged."""
    errors = list(converged_errors(state).values())
    errors = errors or [m.assessed for m in state.members.values() if m.assessed is not None]
    return 1000 * sum(one.mae_f for one in errors) / len(errors) if errors else None
