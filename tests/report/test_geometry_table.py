"""A campaign of several geometries is told one by one."""

from __future__ import annotations

import numpy as np

from aimspax_core.campaign.state import CampaignState
from aimspax_core.report.geometry_table import geometry_rows
from tests.campaign.test_rules import make_rules
from tests.campaign.virtual import VirtualShell, World
from tests.report.test_error_tables import ERRORS

WORLD = World(spreads=(0.02, 0.4), factor=1.5)


def played(**changes: object) -> CampaignState:
    rules = make_rules(max_train_set_size=30, desired_acc=0.0, **changes)
    return VirtualShell(rules, WORLD, np.random.default_rng(1)).run()


def test_labels_of_all_geometries_add_up() -> None:
    state = played()
    rows = geometry_rows(state)
    assert [row["geometry"] for row in rows] == [0, 1]
    told = [int(row["initial labels"]) + int(row["explored labels"]) for row in rows]
    assert sum(told) == state.labels and min(told) > 0


def test_of_one_geometry_nothing_is_told() -> None:
    assert geometry_rows(CampaignState.begin(make_rules(geometries=1))) == []


def test_thresholds_are_told_where_each_geometry_has_its_own() -> None:
    state = played(threshold_scope="geometry")
    told = [float(row["threshold"]) for row in geometry_rows(state)]
    levels = [window.threshold(state.rules.c_x) for window in state.windows]
    assert np.allclose(told, [level or 0.0 for level in levels], atol=1e-4)
    assert "threshold" not in geometry_rows(played())[0]


def test_the_factor_is_that_of_the_geometry() -> None:
    state = played()
    for row in geometry_rows(state):
        found = state.judgement.calibration(int(row["geometry"]))
        assert found is not None
        assert row["error factor"] == f"{found.factor:.2f}"


def test_held_out_errors_are_told_where_each_geometry_has_a_file() -> None:
    state = CampaignState.begin(make_rules())
    by = {"0": ERRORS, "1": ERRORS.but(mae_f=0.1)}
    members = {tag: m.but(assessed_by=by) for tag, m in state.members.items()}
    rows = geometry_rows(state.but(members=members))
    assert [row["held-out force MAE (meV/Å)"] for row in rows] == ["11.1", "100.0"]
    assert all("held-out force MAE (meV/Å)" not in row for row in geometry_rows(state))


def test_of_members_that_have_converged_only_their_held_out_errors_are_told() -> None:
    state = CampaignState.begin(make_rules())
    first, *_ = state.members
    members = {
        tag: m.but(assessed=ERRORS, assessed_at="last", assessed_by={"0": ERRORS.but(mae_f=0.1)})
        for tag, m in state.members.items()
    }
    members[first] = members[first].but(
        assessed_by={"0": ERRORS.but(mae_f=0.02)}, converging="last", converge_epochs=3
    )
    rows = geometry_rows(state.but(members=members))
    assert [row["held-out force MAE (meV/Å)"] for row in rows] == ["20.0", "-"]


def test_labels_for_analysis_are_not_among_the_explored_ones() -> None:
    state = VirtualShell(
        make_rules(max_train_set_size=30, desired_acc=0.0),
        World(looks=0.5),
        np.random.default_rng(1),
    ).run()
    looked_at = [p for p in state.points.values() if p.analysis and p.status == "labelled"]
    told = sum(int(row["explored labels"]) for row in geometry_rows(state))
    assert looked_at and told == len(state.training) + len(state.validation)


def test_of_datasets_that_were_given_no_initial_labels_are_told() -> None:
    rows = geometry_rows(CampaignState.begin(make_rules(), adopt=True))
    assert [row["initial labels"] for row in rows] == ["-", "-"]
