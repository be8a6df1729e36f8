"""A run goes on without what it can do without, and says so once."""

from __future__ import annotations

import httpx
import pytest

from flows.runs.api_health import Answer, Found
from flows.runs.api_watch import ApiWatch
from flows.runs.best_effort import best_effort

ERRORS = [httpx.ConnectError("refused"), OSError(28, "No space left on device")]


@pytest.mark.parametrize("error", ERRORS)
def test_a_failure_is_warned_of_once_until_the_work_succeeds(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def work(fails: bool) -> None:
        with best_effort("losses"):
            if fails:
                raise error

    for fails, warnings in ((True, 1), (True, 1), (False, 1), (True, 2), (False, 2)):
        work(fails)
        assert len(caplog.records) == warnings
    assert all("losses" in record.getMessage() for record in caplog.records)


def test_a_bug_is_no_failure_to_go_on_from() -> None:
    with pytest.raises(KeyError), best_effort("losses"):
        raise KeyError("losses")


def test_in_a_run_it_is_the_watch_that_says_that_the_api_is_away(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = ApiWatch(lambda: Found(Answer.SILENT))
    monkeypatch.setattr("flows.runs.api_watch._current", [watch])
    with best_effort("renewing the progress"):
        raise httpx.ReadTimeout("slow")
    assert not caplog.records
    watch.take(Found(Answer.SILENT, "gone"))  # the second doubt
    assert not watch.answers
