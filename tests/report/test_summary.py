"""A campaign at a glance, by what its state says."""

from __future__ import annotations

import pytest

from aimspax_core.campaign.actions import Label
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.report.summary import core_hours_text, goal_rows, summary
from tests.campaign.test_modes import exploring
from tests.report.test_error_tables import campaign


def told(state: CampaignState, seconds: float | None = None) -> dict[str, str]:
    return {fact.of: fact.text for fact in summary(state, 100, seconds)}


def test_what_one_looks_for_first_comes_first() -> None:
    facts = summary(campaign(), 100)
    assert facts[0].of == "phase"
    assert [fact.of for fact in facts].index("in validation") < 4


def test_labels_are_told_by_what_became_of_them() -> None:
    state = campaign().but(
        labels=7, failed_labels=2, refused=1, in_flight={"label:k": Label(key="k")}
    )
    labels = told(state)["labels"]
    assert labels == "7 done, 1 under way, 2 failed, 1 refused by the gate"


def test_errors_of_each_member_stand_beside_their_mean() -> None:
    state = campaign()
    errors = [m.last_errors.mae_f for m in state.members.values() if m.last_errors is not None]
    text = told(state)["in validation"]
    assert f"{1000 * sum(errors) / len(errors):.1f} meV/Å" in text
    assert all(f"{1000 * error:.1f}" in text for error in errors)


def test_a_budget_is_told_with_what_is_spent_of_it() -> None:
    assert "budget" not in told(campaign())
    limits = {"budget_labels": 120.0, "budget_hours": 2.0}
    state = campaign().but(rules=campaign().rules.but(limits=limits), labels=30)
    assert told(state, seconds=3600.0)["budget"] == "30 of 120 labels, 1 of 2 h"


def test_stopping_rules_are_told_the_nearest_first() -> None:
    state = exploring().state
    rows = goal_rows(state)
    reached = [int(row["reached"].rstrip("%")) for row in rows]
    assert len(rows) > 0
    assert reached == sorted(reached, reverse=True)
    assert goal_rows(state.but(phase=Phase.CONVERGE)) == []


@pytest.mark.parametrize("phase", [Phase.CONVERGE, Phase.PUBLISH, Phase.FINISHED])
def test_trajectories_that_went_on_to_the_end_do_nothing_after_exploring(phase: Phase) -> None:
    state = exploring().state
    assert "ready for MD" in told(state)["trajectories"]
    assert "ready for MD" not in told(state.but(phase=phase))["trajectories"]


def test_what_is_nothing_yet_is_not_told() -> None:
    begun = told(CampaignState.begin(exploring().state.rules), seconds=3.0)
    assert "sets" not in begun
    assert begun["spent"] == "3 s of running"
    one = told(campaign().but(rounds=1, core_hours=2.0), seconds=7200.0)
    assert one["spent"] == "2 h of running, 2 core-hours of labels, 1 round"


def test_few_core_hours_are_told_in_seconds() -> None:
    assert core_hours_text(12.34) == "12.3 core-hours"
    assert core_hours_text(0.001) == "3.6 core-seconds"
