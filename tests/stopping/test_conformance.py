"""What every stopping rule holds."""

from __future__ import annotations

import math

import pytest

from aimspax_core.campaign.members import Errors
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.state import CampaignState, Trajectory, TrajectoryStatus
from aimspax_core.campaign.stopping import ending, outlooks
from aimspax_core.settings.project import ActiveLearning, Budget, InitialDatasetGeneration
from aimspax_core.stopping.limits import MAX_MD_STEPS
from aimspax_core.stopping.rule import Rule
from aimspax_core.stopping.table import RULES

TAGS = ("a", "b")
HALF_WAY = 5
LIMIT = {"count": 10.0, "amount": 10.0, "accuracy": 0.1}
SECTION = {"initial": InitialDatasetGeneration, "active": ActiveLearning, "campaign": Budget}


def rules(limited: Rule | None = None) -> Rules:
    """The numbers of a campaign that one rule may end."""
    limits = {rule.name: rule.key.off for rule in RULES}
    if limited is not None:
        limits[limited.name] = LIMIT[limited.key.kind]
    own = {name: limit for name, limit in limits.items() if name in Rules.model_fields}
    return Rules(
        tags=TAGS, geometries=1, seed=1, points_per_step=3, initial_epochs=5,
        initial_valid_ratio=0.2, converge_initial=False, num_trajectories=2, epochs_per_round=2,
        valid_ratio=0.1, freeze_threshold_dataset=math.inf, c_x=0.0, converge_al=True,
        converge_best=True, max_segments=2, **own,
        limits={name: limit for name, limit in limits.items() if name not in own},
    )  # fmt: skip


def reached(count: int, rule: Rule | None = None) -> CampaignState:
    """A campaign that has come to this number of everything; 10 is the limit."""
    error = 10.0 ** (-count / 10) if count < 10 else 0.099  # eV/Å; from 1 down to 0.1
    errors = Errors(
        epoch=0, train_loss=1.0, valid_loss=1.0, mae_f=error, rmse_f=1.0, mae_e=1.0, rmse_e=1.0,
        mae_e_per_atom=1.0, rmse_e_per_atom=1.0, mae_stress=None, rmse_stress=None, lr=0.1,
        seconds=1.0,
    )  # fmt: skip
    state = CampaignState.begin(rules(rule))
    keys = tuple(f"k{n}" for n in range(count))
    finished = count >= state.rules.limit(MAX_MD_STEPS)
    status = TrajectoryStatus.FINISHED if finished else TrajectoryStatus.RUNNING
    return state.but(
        members={
            tag: member.but(errors=errors, epochs=count, training=keys[:-1], validation=keys[-1:])
            for tag, member in state.members.items()
        },
        training=("found",),
        trajectories=(Trajectory(index=0, geometry=0, step=count, status=status),),
        labels=count,
        failed_labels=count,
        core_hours=float(count),
        ran_s=3600.0 * count,
        rounds=count,
    )


every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


@every_rule
def test_a_rule_has_a_name_and_a_key_of_its_own(rule: Rule) -> None:
    assert rule.name.isidentifier()
    assert [other.name for other in RULES].count(rule.name) == 1
    keys = [(other.stage, other.key.name) for other in RULES]
    assert keys.count((rule.stage, rule.key.name)) == 1


@every_rule
def test_a_rule_has_a_key_that_is_off_if_it_is_not_given(rule: Rule) -> None:
    field = SECTION[rule.stage].model_fields[rule.key.name]
    assert (field.default, field.description) == (rule.key.off, rule.key.description)
    assert rule.key.description.endswith(".")


@every_rule
def test_a_rule_without_a_limit_is_not_in_the_outlook(rule: Rule) -> None:
    assert outlooks(reached(HALF_WAY), rule.stage) == []


@every_rule
def test_a_rule_without_a_limit_ends_nothing_while_trajectories_run(rule: Rule) -> None:
    running = reached(10_000).but(trajectories=reached(1).trajectories)
    assert rule.reason(running, rule.key.off) is None


@every_rule
def test_a_rule_ends_its_phase_at_its_limit_and_not_before(rule: Rule) -> None:
    assert ending(reached(HALF_WAY, rule), rule.stage) is None
    end = ending(reached(20, rule), rule.stage)
    assert end is not None
    assert end.rule is rule


@every_rule
def test_a_rule_says_its_reason_in_one_line(rule: Rule) -> None:
    end = ending(reached(20, rule), rule.stage)
    assert end is not None
    assert end.reason == end.reason.strip() != ""
    assert "\n" not in end.reason


@every_rule
def test_a_campaign_comes_nearer_to_the_limit(rule: Rule) -> None:
    (near,), (nearer,), (there,) = (
        outlooks(reached(count, rule), rule.stage) for count in (2, HALF_WAY, 20)
    )
    assert 0 <= near.progress < nearer.progress < there.progress == 1


@every_rule
def test_a_rule_says_what_ends_the_phase(rule: Rule) -> None:
    text = rule.text(LIMIT[rule.key.kind])
    assert text == text.strip() != ""
    assert "\n" not in text and not text.endswith(".")


@every_rule
def test_a_limit_lasts_in_the_journal(rule: Rule) -> None:
    found = Rules.model_validate_json(rules(rule).model_dump_json())
    assert found == rules(rule)
    assert [found.limit(other) for other in RULES] == [
        LIMIT[rule.key.kind] if other is rule else other.key.off for other in RULES
    ]


@every_rule
def test_only_a_rule_of_errors_waits_for_a_round(rule: Rule) -> None:
    end = ending(reached(20, rule), rule.stage, fresh_errors=False)
    assert (end is None) == rule.judges_errors


@every_rule
def test_only_a_rule_that_lets_learning_end_waits_for_it(rule: Rule) -> None:
    end = ending(reached(20, rule), rule.stage, learning=True)
    assert (end is None) == rule.lets_learning_end
