"""The state's own arithmetic, and the rules' numbers as they come from the settings."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from aimspax_core.campaign import actions, events
from aimspax_core.campaign.members import Errors
from aimspax_core.campaign.record import Record
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.state import CampaignState, Phase, Round
from aimspax_core.settings.load import load
from aimspax_core.uncertainty.calibration import SHARE_OF_LINE

PROJECT = """
REFERENCE: {engine: tblite}
INITIAL_DATASET_GENERATION:
  {initial_sampling: aimd, n_points_per_sampling_step_idg: 3, ensemble_size: 2, desired_acc: 0.1,
   desired_acc_scale_idg: 5.0, intermediate_epochs_idg: 7, max_initial_epochs: 70,
   max_initial_set_size: 60, valid_ratio: 0.3, converge_initial: true}
ACTIVE_LEARNING:
  {num_trajectories: 3, epochs_per_worker: 4, intermediate_epochs_al: 2, valid_ratio: 0.2,
   desired_acc: 0.01, max_train_set_size: 100, freeze_threshold_dataset: 50, c_x: -0.1,
   max_MD_steps: 1000, converge_al: false, converge_best: false, round_points_counted: 3,
   threshold: calibrated, force_error: 0.3, threshold_scope: geometry,
   md_steps_while_training: 50}
MD: {stat_ensemble: NVT}
CLUSTER: {type: local, ml: {max_workers: 5}}
"""


def test_rules_are_the_settings_own(tmp_path: Path) -> None:
    (tmp_path / "aimsPAX.yaml").write_text(PROJECT, encoding="utf-8")
    (tmp_path / "mace.yaml").write_text("GENERAL: {name_exp: x, seed: 9}", encoding="utf-8")
    (tmp_path / "geometry.in").write_text("atom 0 0 0 O\n", encoding="utf-8")
    rules = Rules.of(load(tmp_path), ("x-1", "x-2"), geometries=2)
    assert rules == Rules(
        tags=("x-1", "x-2"), geometries=2, seed=9, points_per_step=3, initial_epochs=7,
        initial_accuracy=0.5, max_initial_epochs=70, max_initial_set_size=60,
        initial_valid_ratio=0.3, converge_initial=True, num_trajectories=3, epochs_per_round=4,
        valid_ratio=0.2, desired_acc=0.01, max_train_set_size=100, freeze_threshold_dataset=50,
        c_x=-0.1, max_md_steps=1000, converge_al=False, converge_best=False, max_segments=5,
        threshold="calibrated", force_error=0.3, threshold_scope="geometry",
        points_counted=3, steps_while_training=50, converge_on="all",
        solve_energies="auto", samples_ahead=True, compile_chosen=True, pays_again=True,
        counts_ensembles=True, counts_all_costs=True, share_of_line=SHARE_OF_LINE,
        tells_electrons=True, electrons={},
        tuning_lr=True,
    )  # fmt: skip
    more = Rules.of(load(tmp_path), ("x-1", "x-2"), geometries=8)
    assert more.num_trajectories == 8, "as many as there are geometries, at least"
    assert Rules.model_validate_json(rules.model_dump_json()) == rules


@pytest.fixture
def state() -> CampaignState:
    rules = Rules(
        tags=("a", "b"), geometries=1, seed=1, points_per_step=3, initial_epochs=5,
        initial_accuracy=0.1, max_initial_epochs=math.inf, max_initial_set_size=math.inf,
        initial_valid_ratio=0.2, converge_initial=False, num_trajectories=3, epochs_per_round=2,
        valid_ratio=0.1, desired_acc=0.0, max_train_set_size=20, freeze_threshold_dataset=15,
        c_x=0.0, max_md_steps=9, converge_al=True, converge_best=True, max_segments=2,
    )  # fmt: skip
    return CampaignState.begin(rules)


def with_members(state: CampaignState, **changes: tuple[object, object]) -> CampaignState:
    members = {
        tag: member.model_copy(update={name: values[n] for name, values in changes.items()})
        for n, (tag, member) in enumerate(state.members.items())
    }
    return state.but(members=members)


def test_the_largest_member_is_the_size_of_the_training_set(state: CampaignState) -> None:
    state = with_members(state, training=(("k1", "k2"), ("k3", "k4", "k5")))
    assert state.but(training=("k6",)).training_set_size == 4


def test_there_is_no_mean_error_before_every_member_has_one(state: CampaignState) -> None:
    error = Errors(
        epoch=1, train_loss=1.0, valid_loss=1.0, mae_f=0.5, rmse_f=1.0, mae_e=1.0, rmse_e=1.0,
        mae_e_per_atom=1.0, rmse_e_per_atom=1.0, mae_stress=None, rmse_stress=None, lr=0.1,
        seconds=1.0,
    )  # fmt: skip
    assert with_members(state, errors=(error, None)).mean_force_mae is None
    other = error.model_copy(update={"mae_f": 0.1})
    assert with_members(state, errors=(error, other)).mean_force_mae == pytest.approx(0.3)


def test_a_round_knows_the_sets_of_its_start(state: CampaignState) -> None:
    state = with_members(state, training=(("k1",), ()), validation=(("k2",), ()))
    state = state.but(training=("k3", "k4"), validation=("k5", "k6"))
    assert state.dataset("a") == (("k1", "k3", "k4"), ("k2", "k5", "k6"))
    under_way = Round(number=1, stage="active", points=("k3",), training=1, validation=1, epochs=2)
    assert state.but(round=under_way).dataset("a") == (("k1", "k3"), ("k2", "k5"))


# ---- what may be changed --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"phas": Phase.ACTIVE}, "no field 'phas'; 'phase'"),
        ({"labels": 1, "label": 2}, "no field 'label'"),
        ({"phase": "active"}, "CampaignState.phase"),
        ({"labels": "not a number"}, "CampaignState.labels"),
        ({"labels": 1.5}, "CampaignState.labels"),
        ({"labels": None}, "CampaignState.labels"),
        ({"points": ("k",)}, "CampaignState.points"),
        ({"training": ["k"]}, "CampaignState.training"),
        ({"round": 3}, "CampaignState.round"),
        ({"rules": {"tags": ("a",)}}, "CampaignState.rules"),
    ],
)
def test_a_change_that_a_state_cannot_have_is_refused(
    state: CampaignState, changes: dict[str, object], told: str
) -> None:
    with pytest.raises(TypeError, match=told):
        state.but(**changes)


def test_what_a_state_can_have_is_taken_as_it_is(state: CampaignState) -> None:
    keys = ("k1", "k2")
    changed = state.but(training=keys, labels=2, core_hours=3, round=None, failed_in=Phase.INITIAL)
    assert changed.training is keys
    assert (changed.labels, changed.core_hours, changed.failed_in) == (2, 3, Phase.INITIAL)
    assert changed.members is state.members
    assert state.training == ()


def test_a_member_and_the_rules_refuse_as_the_state_does(state: CampaignState) -> None:
    with pytest.raises(TypeError, match="no field 'epoch'; 'epochs'"):
        state.members["a"].but(epoch=3)
    with pytest.raises(TypeError, match=r"Rules\.c_x"):
        state.rules.but(c_x="0.1")


@pytest.mark.parametrize(
    "record",
    [found for found in Record.__subclasses__() if found.__module__.startswith("aimspax_core")],
)
def test_every_field_of_every_record_is_checked(record: type[Record]) -> None:
    assert actions and events  # whose records are among them
    for name in record.model_fields:
        with pytest.raises(TypeError, match=f"{record.__name__}.{name} cannot be"):
            record.model_construct().but(**{name: object()})
