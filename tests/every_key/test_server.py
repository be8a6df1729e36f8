"""Keys of `MISC` that say how a run stands to the Prefect server, and what they change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aimspax_core.errors import StalledError
from aimspax_core.settings.misc import Misc
from flows.runs import restarts
from flows.runs.api_health import Answer, Found
from flows.runs.api_watch import ApiWatch
from flows.runs.previous_attempt import RunAttempt
from flows.server import password


@pytest.mark.key("Misc", "server_password")
@pytest.mark.parametrize("shared", ["", "bob can log in here"])
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, None),
        ({"server_password": "auto"}, None),
        ({"server_password": "always"}, True),
        ({"server_password": "never"}, False),
    ],
)
def test_a_password_follows_from_the_choice_and_the_machine(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], wanted: bool | None, shared: str
) -> None:
    monkeypatch.setattr(password, "why_shared", lambda _: shared)
    found = password.need(Misc(**given).server_password, everywhere=False)
    assert found.password is (bool(shared) if wanted is None else wanted)


@pytest.mark.key("Misc", "without_server")
@pytest.mark.parametrize(
    ("given", "holds"), [({}, False), ({"without_server": "wait"}, True)]
)  # fmt: skip
def test_nothing_begins_without_the_server_if_that_is_wanted(
    given: dict[str, Any], holds: bool
) -> None:
    watch = ApiWatch()
    watch.waits = Misc(**given).without_server == "wait"
    watch.take(Found(Answer.REFUSED))
    assert watch.holds is holds


@pytest.mark.key("Misc", "restarts")
@pytest.mark.parametrize("limit", [0, 3])
def test_a_run_is_started_again_so_often_without_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    allowed, file = Misc(restarts=limit).restarts, tmp_path / "restarts.json"
    attempts = iter(range(1, allowed + 3))
    monkeypatch.setattr(restarts, "this_attempt", lambda: RunAttempt("a", next(attempts)))
    for _ in range(allowed + 1):
        restarts.count_restart(file, "as before", allowed)
    with pytest.raises(StalledError, match=r"MISC\.restarts"):
        restarts.count_restart(file, "as before", allowed)
