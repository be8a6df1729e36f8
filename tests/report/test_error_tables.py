"""`MISC.error_table` decides which errors are shown, in MACE's units, wherever they are."""

from __future__ import annotations

import typing

import pytest
from rich.console import Console

from aimspax_core.campaign.members import Errors
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.state import CampaignState
from aimspax_core.report.error_tables import (
    DEFAULT_TABLE,
    columns,
    error_rows,
    errors_text,
    heading_of,
)
from aimspax_core.settings.model import ModelMisc
from flows.commands.status import status_tables

ERRORS = Errors(
    epoch=3, train_loss=0.5, valid_loss=0.7, mae_f=0.0111, rmse_f=0.0222, mae_e=0.3, rmse_e=0.4,
    mae_e_per_atom=0.00333, rmse_e_per_atom=0.00444, mae_stress=None, rmse_stress=None, lr=0.005,
    seconds=1.5,
)  # fmt: skip
STRESS = ERRORS.model_copy(update={"mae_stress": 0.00055, "rmse_stress": 0.00066})
TABLES = typing.get_args(ModelMisc.model_fields["error_table"].annotation)


@pytest.mark.parametrize(
    ("table", "shown"),
    [
        ("PerAtomMAE", "force MAE 11.1 meV/Å, energy MAE 3.33 meV/atom"),
        ("PerAtomRMSE", "force RMSE 22.2 meV/Å, energy RMSE 4.44 meV/atom"),
        ("TotalMAE", "force MAE 11.1 meV/Å, energy MAE 300.0 meV"),
        ("TotalRMSE", "force RMSE 22.2 meV/Å, energy RMSE 400.0 meV"),
        (
            "PerAtomMAEstressvirials",
            "force MAE 11.1 meV/Å, energy MAE 3.33 meV/atom, stress MAE 0.550 meV/Å³",
        ),
        (
            "PerAtomRMSEstressvirials",
            "force RMSE 22.2 meV/Å, energy RMSE 4.44 meV/atom, stress RMSE 0.660 meV/Å³",
        ),
    ],
)
def test_each_table_shows_its_errors(table: str, shown: str) -> None:
    found = STRESS if "stress" in table else ERRORS
    assert errors_text(table, [found]) == shown


def test_every_table_of_the_settings_is_known() -> None:
    assert ModelMisc().error_table == DEFAULT_TABLE
    assert all(columns(table) for table in TABLES) and len(TABLES) == 6


@pytest.mark.parametrize("table", TABLES)
def test_stress_that_was_measured_is_shown_in_every_table(table: str) -> None:
    headings = [column.heading for column in columns(table, [None, STRESS])]
    assert headings[-1] == f"stress {'RMSE' if 'RMSE' in table else 'MAE'} (meV/Å³)"
    assert len(headings) == 3


def test_an_error_that_was_not_measured_is_a_dash() -> None:
    shown = columns("PerAtomMAEstressvirials", [ERRORS])
    assert [column.text(ERRORS) for column in shown] == ["11.1", "3.33", "-"]
    assert [column.text(None) for column in shown] == ["-", "-", "-"]
    assert errors_text("PerAtomMAEstressvirials", [ERRORS]) == errors_text("PerAtomMAE", [ERRORS])


def test_told_is_the_mean_over_the_members() -> None:
    other = ERRORS.model_copy(update={"mae_f": 0.0133})
    assert errors_text("PerAtomMAE", [ERRORS, other]).startswith("force MAE 12.2 meV/Å")
    assert errors_text("PerAtomMAE", []) == ""


# ---- where they are shown -------------------------------------------------------------------

RULES = Rules(
    tags=("a", "b"), geometries=1, seed=1, points_per_step=3, initial_epochs=5,
    initial_accuracy=0.1, max_initial_epochs=9, max_initial_set_size=99, initial_valid_ratio=0.2,
    converge_initial=False, num_trajectories=3, epochs_per_round=2, valid_ratio=0.1,
    desired_acc=0.0, max_train_set_size=20, freeze_threshold_dataset=15, c_x=0.0,
    max_md_steps=9, converge_al=True, converge_best=True, max_segments=2,
)  # fmt: skip


def campaign() -> CampaignState:
    """Member a has errors of its training and better ones of its convergence, b has none."""
    state = CampaignState.begin(RULES)
    worse = STRESS.model_copy(update={"rmse_f": 1.0})
    a = state.members["a"].model_copy(update={"errors": worse, "best": STRESS})
    return state.but(members={**state.members, "a": a})


def test_dashboard_shows_the_table_that_was_asked_for() -> None:
    a, b = error_rows(campaign(), "PerAtomRMSE")
    headings = ["force RMSE (meV/Å)", "energy RMSE (meV/atom)", "stress RMSE (meV/Å³)"]
    assert list(a)[4:] == headings
    assert [a[heading] for heading in headings] == ["22.2", "4.44", "0.660"]
    assert [b[heading] for heading in headings] == ["-", "-", "-"]


def printed(state: CampaignState, table: str = DEFAULT_TABLE, width: int = 160) -> str:
    """What a terminal of some width shows of the tables of `aimspax status`."""
    console = Console(width=width)
    with console.capture() as shown:
        for one in status_tables(state, table):
            console.print(one)
    return shown.get()


def test_status_shows_the_table_that_was_asked_for() -> None:
    text = printed(campaign(), "TotalMAE")
    for word in ("force MAE (meV/Å)", "energy MAE (meV)", "stress MAE (meV/Å³)", "11.1", "300.0"):
        assert word in text


def test_status_shows_the_default_table_by_itself() -> None:
    (members,) = status_tables(campaign().but(trajectories=()))
    assert [column.header for column in members.columns][3:5] == [
        "force MAE (meV/Å)", "energy MAE (meV/atom)",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [80, 60])
def test_a_narrow_terminal_shows_all_names_and_errors(width: int) -> None:
    tags = ("aspirin-124", "aspirin-765")
    state = CampaignState.begin(RULES.but(tags=tags))
    members = {tag: m.but(errors=ERRORS, assessed=ERRORS) for tag, m in state.members.items()}
    text = printed(state.but(members=members), width=width)
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    for tag in tags:
        assert text.count(tag) == 2, "in validation, and on the held-out set"
    assert text.count("11.1") == text.count("3.33") == 4


def test_dipoles_and_ratios_that_were_measured_are_shown_in_every_table() -> None:
    known = {"mae_dipole": 0.0123, "mae_hirshfeld_ratios": 0.0045}
    found = ERRORS.model_copy(update=known)
    text = errors_text("PerAtomMAE", [found])
    assert text.endswith("dipole MAE 12.30 me·Å, Hirshfeld ratio MAE 4.50 10⁻³")
    keys = [column.key for column in columns("TotalMAE", [found])]
    assert keys[-2:] == ["mae_dipole_me_A", "mae_hirshfeld_ratios_per_mille"]


@pytest.mark.parametrize("table", ["PerAtomMAE", "TotalRMSE", "PerAtomMAEstressvirials"])
def test_each_column_that_may_be_shown_has_its_heading_by_its_key(table: str) -> None:
    more = ("stress", "dipole", "hirshfeld_ratios")
    every = ERRORS.model_copy(update={f"{k}_{q}": 0.1 for q in more for k in ("mae", "rmse")})
    shown = columns(table, [every])
    assert {"dipole", "Hirshfeld"} <= {column.title.split()[0] for column in shown}
    assert [heading_of(column.key) for column in shown] == [column.heading for column in shown]
