"""The page of all campaigns of a server: a row for each run directory, the dead marked as such."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from aimspax_core.campaign.actions import Sample
from aimspax_core.campaign.state import Pause, Phase
from flows.page.all_campaigns import DEAD_S, KEY, NAME, AllCampaigns, Row, merged, row_of
from flows.server import Server
from tests.prefect_api import call
from tests.report.test_error_tables import campaign

NOW = datetime.now().astimezone()
LONG = 2 * DEAD_S
PAUSE = Pause(since=1.0, by="a person")
ACTION = Sample(geometry=0, step=1, points=5)


def row(name: str, ago_s: float = 0.0, **changes: Any) -> Row:
    """The row of a campaign, of which was heard some time ago."""
    ended = changes.pop("ended", "")
    found = row_of(Path("/runs") / name, campaign().but(**changes), 100, 60.0, ended)
    then = NOW - timedelta(seconds=ago_s)
    return {**found, "last sign of life": then.isoformat(" ", "seconds")}


def test_a_campaign_has_one_row_however_often_it_is_renewed() -> None:
    rows: list[Row] = []
    for labels in (1, 2, 3):
        rows = merged(rows, row("water", labels=labels), NOW)
    assert [one["labels"] for one in rows] == ["3"]


def test_directories_of_one_name_are_two_campaigns() -> None:
    other = {**row("water"), "directory": "elsewhere:/runs/water"}
    assert len(merged([other], row("water"), NOW)) == 2


def test_a_campaign_that_goes_on_from_another_machine_has_one_row() -> None:
    before = {**row("water", campaign="a1"), "directory": "login-1:/runs/water"}
    after = {**row("water", campaign="a1"), "directory": "login-2:/runs/water"}
    assert merged([before], after, NOW) == [after]
    assert merged([before], row("water", campaign="b2"), NOW)[1:] == [before], "another campaign"


def test_a_campaign_begun_anew_in_a_directory_takes_the_row() -> None:
    anew = row("water", campaign="b2")
    assert merged([row("water", campaign="a1")], anew, NOW) == [anew]


def test_rows_of_a_release_before_have_all_columns() -> None:
    old = row("ethanol")
    del old[NAME]
    _, other = merged([old], row("water"), NOW)
    assert [*other] == [*row("water")]


@pytest.mark.parametrize(
    ("silent", "dead"),
    [
        (row("ethanol", LONG, phase=Phase.ACTIVE), True),
        (row("ethanol", DEAD_S / 2, phase=Phase.ACTIVE), False),
        (row("ethanol", LONG, phase=Phase.FINISHED), False),
        (row("ethanol", LONG, phase=Phase.READY), False),
        (row("ethanol", LONG, phase=Phase.FAILED), False),
        (row("ethanol", LONG, ended="stopped (SIGTERM)"), False),
        (row("ethanol", LONG, paused=PAUSE), False),
        (row("ethanol", LONG, paused=PAUSE, in_flight={"1": ACTION}), True),
        (row("ethanol", LONG, paused=PAUSE, in_flight={"1": ACTION}, ended="stopped"), False),
    ],
    ids=lambda one: one["state"] if isinstance(one, dict) else str(one),
)
def test_whoever_gives_no_sign_of_life_and_has_not_ended_is_dead(silent: Row, dead: bool) -> None:
    _, other = merged([silent], row("water"), NOW)
    assert ("no sign of life" in other["state"]) is dead
    assert merged([other], row("water"), NOW)[1] == other, "it is told once"


def test_the_latest_comes_first_and_the_oldest_is_left_out() -> None:
    rows = [row(f"run-{n}", ago_s=n + 1) for n in range(250)]
    found = merged(rows, row("water"), NOW)
    assert found[0]["campaign"] == "water"
    assert found[-1]["campaign"] == "run-198"


@pytest.mark.slow
def test_all_runs_of_a_server_share_one_table(prefect_server: Server) -> None:
    names = ["water", "ethanol", "aspirin"]
    waits: list[float] = []
    versions = len(call("POST", url(prefect_server, "filter"), MINE))

    @flow
    def running() -> None:
        for name in names:
            AllCampaigns(Path("/runs") / name, 100).renew(campaign(), 60.0)
        ends = campaign().but(labels=77)
        AllCampaigns(Path("/runs/water"), 100, undone).renew(ends, 60.0, "stopped (SIGINT)")

    def undone(seconds: float) -> None:
        """Another run writes the table as it had read it, before the row was there."""
        waits.append(seconds)
        if len(waits) == 1:
            rest = [row for row in rows_of(prefect_server) if row["campaign"] != "water"]
            call(
                "PATCH",
                url(prefect_server, table(prefect_server)["latest_id"]),
                {"data": json.dumps(rest)},
            )

    running()
    rows = {one["campaign"]: one for one in rows_of(prefect_server)}
    assert set(names) <= set(rows)
    assert rows["water"]["labels"] == "77", "it was written again"
    assert len(waits) > 1, "it looked again"
    assert table(prefect_server)["flow_run_id"] is None, "it is of no run"
    of_all = call("POST", url(prefect_server, "filter"), MINE)
    assert len(of_all) == versions + (versions == 0), "it is one artifact, renewed in place"


MINE = {"artifacts": {"key": {"any_": [KEY]}}}


def url(server: Server, path: str) -> str:
    return f"{server.api_url}/artifacts/{path}"


def table(server: Server) -> dict[str, Any]:
    (found,) = call("POST", url(server, "latest/filter"), MINE)
    return found


def rows_of(server: Server) -> list[Row]:
    return json.loads(table(server)["data"])
