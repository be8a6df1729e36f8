"""Runs that die while the server is away, or as it dies itself: they are missed all the same."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Running

from flows import server
from flows.deployments.profile import AUTOMATIONS, TAG, read_automations
from flows.deployments.server_side import automate
from flows.runs.over_already import MISSED
from flows.server.current import revive
from flows.server.own_files import alive
from flows.server.password import CHOICE
from tests.conftest import forget_prefect_settings, free_port

PATIENCE_S = 120.0
AWAY = "-1 hour"
"""How long the server seems to have been away, in SQLite's words: its database is made older."""

pytestmark = pytest.mark.slow


@flow
def dies() -> None:
    """What dies."""


@dataclass(frozen=True)
class Outage:
    """Two runs, and all states that they were in before and after the server was away.

    Attributes:
        unheard: Of one that died while the server was away.
        forgotten: Of one whose death the server had taken in, and told nobody of, when it died.
        told: How often its death was told.
    """

    unheard: list[State[object]]
    forgotten: list[State[object]]
    told: int


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outage]:
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as env:
        forget_prefect_settings(env)
        env.setenv("PREFECT_HOME", str(home))
        env.setenv("PREFECT_SERVER_API_PORT", str(free_port()))
        env.setenv(CHOICE, "never")
        for variable in server.CLIENT_VARIABLES:
            env.delenv(variable, raising=False)
        found = server.ensure()
        try:
            with (
                temporary_settings({PREFECT_API_URL: found.api_url}),
                get_client(sync_client=True) as client,
            ):
                yield play(client, found, home / "prefect.db")
        finally:
            server.stop()
            for variable in server.CLIENT_VARIABLES:
                env.setenv(variable, "")


def play(client: SyncPrefectClient, found: server.Server, database: Path) -> Outage:
    """Have two runs die and the server be away, and see what it does when it is back."""
    (dead,) = [one for one in read_automations() if one.name == "aimspax notices the dead"]
    list(automate(client, [dead], AUTOMATIONS))
    runs = [client.create_flow_run(dies, tags=[TAG], state=Running()).id for _ in range(2)]
    waits = "SELECT count(*) FROM automation_bucket"
    wait(lambda: ask(database, waits) == [(2,)], "both runs are expected to give signs of life")

    assert found.pid is not None
    os.killpg(found.pid, signal.SIGKILL)
    wait(lambda: not alive(database.parent), "the server is dead")  # with all its threads
    ask(
        database,
        "UPDATE automation_bucket SET "
        + ", ".join(
            f"\"{one}\" = datetime(\"{one}\", '{AWAY}') || '.000000'" for one in ("start", "end")
        ),
    )
    crashed, id_ = "{0}type = 'CRASHED', {0}name = 'Crashed'", str(runs[1])
    ask(database, f"UPDATE flow_run SET {crashed.format('state_')} WHERE id = ?", id_)
    ask(database, f"UPDATE flow_run_state SET {crashed.format('')} WHERE flow_run_id = ?", id_)
    assert revive(found.api_url)

    def states(number: int) -> list[State[object]]:
        return sorted(client.read_flow_run_states(runs[number]), key=lambda one: one.timestamp)

    wait(lambda: len(states(0)) > 1 and len(states(1)) > 1, "both runs are missed")
    told = (
        f"SELECT event FROM events WHERE resource_id = 'prefect.flow-run.{runs[1]}' "
        "AND event = 'prefect.flow-run.Crashed'"
    )
    wait(lambda: bool(ask(database, told)), "an event tells so")
    return Outage(states(0), states(1), len(ask(database, told)))


def ask(database: Path, what: str, *values: str) -> list[tuple[object, ...]]:
    """Ask the server's database, or change it."""
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        return connection.execute(what, values).fetchall()


def wait(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {PATIENCE_S:.0f} s"
        time.sleep(0.2)


def test_a_run_that_dies_while_the_server_is_away_for_an_hour_is_missed(outage: Outage) -> None:
    assert [state.name for state in outage.unheard] == ["Running", "Crashed"]
    assert str(outage.unheard[-1].message).startswith(MISSED)


def test_a_death_that_nobody_was_told_of_is_told_after_all(outage: Outage) -> None:
    assert [state.name for state in outage.forgotten] == ["Crashed", "Crashed"]
    assert outage.told == 1
