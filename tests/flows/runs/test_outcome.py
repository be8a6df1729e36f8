"""How a flow ended is known also if Prefect cannot be told."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import prefect
import pytest
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled, Completed, Failed

from aimspax_core.errors import CampaignError
from flows.commands.status import not_completed
from flows.runs.api_standing import Answer, Found
from flows.runs.api_watch import ApiWatch
from flows.runs.outcome import UntoldError, hand_back, on_its_own, outcome_of
from flows.server import Server, ServerError

GONE = httpx.ConnectError("refused")


def watch_that_finds(*answers: Answer) -> ApiWatch:
    found = iter(answers)
    return ApiWatch(lambda: Found(next(found)))


def test_prefect_is_told_how_a_flow_ended_if_it_answers() -> None:
    outcome = Completed(message="done")
    assert hand_back(outcome, watch_that_finds(Answer.FINE)) is outcome


@pytest.mark.parametrize("answer", [Answer.REFUSED, Answer.SILENT, Answer.UNKNOWN])
def test_prefect_is_not_asked_to_set_a_state_that_its_api_cannot_take(answer: Answer) -> None:
    outcome = Completed(message="done")
    with pytest.raises(UntoldError) as untold:
        hand_back(outcome, watch_that_finds(answer))
    assert untold.value.outcome is outcome


def flow_of(
    outcome: State[Any], watch: ApiWatch, then: Exception | None = None
) -> Callable[..., Any]:
    """A flow as Prefect calls it: its outcome is handed back, and the state is set, or is not."""

    def flow(*, return_state: bool) -> State[Any]:
        hand_back(outcome, watch)
        if then is not None:
            raise then
        return outcome

    return flow


@pytest.mark.parametrize("outcome", [Completed(), Cancelled(), Failed()])
def test_the_outcome_counts_whatever_becomes_of_the_api(outcome: State[Any]) -> None:
    known = flow_of(outcome, watch_that_finds(Answer.FINE))
    away = flow_of(outcome, watch_that_finds(Answer.REFUSED))
    # It went after it was looked at, before the state was set.
    just_gone = flow_of(outcome, watch_that_finds(Answer.FINE), then=GONE)
    assert [outcome_of(flow) for flow in (known, away, just_gone)] == [outcome] * 3


def test_an_api_that_goes_before_a_flow_begins_is_a_reason_to_start_again() -> None:
    def flow(*, return_state: bool) -> None:
        raise GONE

    outcome_of(flow_of(Completed(), watch_that_finds(Answer.FINE)))  # of an earlier flow
    with pytest.raises(ServerError, match="Start again"):
        outcome_of(flow)


def test_a_bug_is_no_api_that_is_away() -> None:
    def flow(*, return_state: bool) -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        outcome_of(flow)


def test_an_error_of_ours_is_raised_from_a_state_that_was_never_told() -> None:
    failed = Failed(message="no", data=CampaignError("no"))
    with pytest.raises(CampaignError):
        not_completed(outcome_of(flow_of(failed, watch_that_finds(Answer.REFUSED))))


def test_a_stop_that_was_never_told_has_its_exit_code() -> None:
    stopped = Cancelled(message="SIGTERM")
    assert not_completed(outcome_of(flow_of(stopped, watch_that_finds(Answer.REFUSED)))) == 130


@contextlib.contextmanager
def busy_at_first(server: Server, times: int) -> Iterator[str]:
    """The address of an API that answers the first calls as a server whose database is locked."""
    left = iter(range(times))
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with lock:
                busy = self.command == "POST" and next(left, None) is not None
            if busy:
                self.send_response(503)
                self.send_header("Retry-After", "0")  # else Prefect waits for seconds
                self.end_headers()
                return
            kept = {"Content-Type": self.headers.get("Content-Type", "application/json")}
            url = server.api_url.removesuffix("/api") + self.path
            answer = httpx.request(self.command, url, content=body, headers=kept)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

        def log_message(self, *_: Any) -> None:
            """Keep the test's output short."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}/api"
        proxy.shutdown()


def test_a_flow_begins_though_the_database_of_the_server_is_busy(
    prefect_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a run of our commands: a call of the flow itself is not to wait for a dead server.
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "1")
    within = []

    @prefect.flow
    def campaign() -> State[Any]:
        with on_its_own():
            within.append(PREFECT_CLIENT_MAX_RETRIES.value())
        return Completed(message="done")

    with busy_at_first(prefect_server, times=4) as url, temporary_settings({PREFECT_API_URL: url}):
        outcome = outcome_of(campaign)
    assert outcome.message == "done"
    assert within == [1]
