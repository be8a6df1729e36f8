"""Whether the Prefect API counts as away, and what is said about it."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from flows.runs import api_watch as module
from flows.runs.api_health import Answer, ApiHealth, Found
from flows.runs.api_watch import ApiWatch, from_api, look
from flows.runs.teller import Teller
from flows.server import ServerError
from tests.flows.hosting import wait_for

FINE, REFUSED, UNKNOWN, SILENT = Answer


@pytest.mark.parametrize(
    ("answers", "away"),
    [
        ([FINE], [False]),
        # Nobody listens there: that is sure at once.
        ([REFUSED], [True]),
        # It answers, and does not know the run: its database is another one.
        ([UNKNOWN], [True]),
        # A machine may be busy for a moment.
        ([SILENT, FINE, SILENT, FINE], [False, False, False, False]),
        ([SILENT, SILENT], [False, True]),
        # One answer is enough to come back.
        ([REFUSED, SILENT, FINE], [True, True, False]),
        # From dead to starting, and to a database that is not there yet.
        ([REFUSED, SILENT, UNKNOWN, FINE], [True, True, True, False]),
    ],
)
def test_the_api_is_away(answers: list[Answer], away: list[bool]) -> None:
    health, found = ApiHealth(), []
    for answer in answers:
        health = health.after(Found(answer))
        found.append(health.away)
    assert found == away


def test_a_call_that_failed_leaves_the_decision_to_the_next_look() -> None:
    doubted = ApiHealth().doubted()
    assert not doubted.away
    assert doubted.after(Found(SILENT)).away
    assert not doubted.after(Found(FINE)).away


Answering = Callable[[BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def api_that(answers: Answering) -> Iterator[str]:
    """The address of an API that answers in one way."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers(self)

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


def with_json(code: int, text: str) -> Answering:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.end_headers()
        handler.wfile.write(text.encode())

    return answer


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        (with_json(200, '{"state": {"type": "RUNNING", "name": "Running"}}'), FINE),
        (with_json(200, "<html>"), SILENT),
        # PostgreSQL was stopped behind the server.
        (with_json(500, '{"exception_message": "Internal Server Error"}'), SILENT),
        (with_json(503, "{}"), SILENT),
        (with_json(401, '{"exception_message": "Unauthorized"}'), SILENT),
        (with_json(404, '{"detail": "Flow run not found"}'), UNKNOWN),
        (lambda _: time.sleep(1.0), SILENT),
    ],
)
def test_a_look_tells_how_the_api_answers(
    answers: Answering, found: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.3)
    with api_that(answers) as url:
        assert look(url, "some-run").answer is found


def test_a_port_where_nobody_listens_refuses() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
        found = look(url, "some-run")
    assert found.answer is REFUSED
    assert url in found.why


def test_a_look_finds_what_the_page_asks_for() -> None:
    with api_that(with_json(200, '{"state": {"type": "PAUSED", "name": "Suspended"}}')) as url:
        found = look(url, "some-run")
    assert (found.state, found.state_name) == ("PAUSED", "Suspended")


def test_an_outage_is_told_once_when_it_begins_and_once_with_its_sums(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    watch = ApiWatch()
    watch.note("label")  # the API answers: this is on the page
    for answer in (FINE, REFUSED, REFUSED, SILENT):
        watch.take(Found(answer, "gone"))
    for task in ("label", "train", "label"):
        watch.note(task)
    for _ in range(2):
        watch.take(Found(FINE))
    (outage,) = watch.outages
    assert outage.sums == "2 label, 1 train"
    assert outage.row()["why"] == "gone"
    assert [("gone" in text, "2 label, 1 train" in text) for text in caplog.messages] == [
        (True, False),
        (False, True),
    ]


def test_that_the_api_came_back_without_the_run_is_told_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = ApiWatch()
    for answer in (REFUSED, REFUSED, UNKNOWN, UNKNOWN):
        watch.take(Found(answer, str(answer)))
    assert [text.partition(":")[0] for text in caplog.messages] == ["refused", "unknown"]
    assert len(watch.outages) == 1


def test_what_runs_is_asked_for_of_the_last_answer_while_the_api_is_away() -> None:
    watch = ApiWatch()
    watch.take(Found(FINE, state="CANCELLING"))
    watch.take(Found(REFUSED))
    assert watch.state == "CANCELLING"


@pytest.mark.parametrize(
    ("waits", "answer", "holds"),
    [
        (True, REFUSED, True),
        (True, FINE, False),
        (False, REFUSED, False),
        # What does not know the run will never know it.
        (True, UNKNOWN, False),
    ],
)
def test_nothing_begins_while_the_api_is_away_if_that_is_wanted(
    waits: bool, answer: Answer, holds: bool
) -> None:
    watch = ApiWatch()
    watch.waits = waits
    watch.take(Found(answer))
    assert watch.holds is holds


def test_listeners_hear_of_each_change() -> None:
    watch, heard = ApiWatch(), []
    watch.on_change(heard.append)
    for answer in (FINE, REFUSED, REFUSED, FINE):
        watch.take(Found(answer))
    assert heard == [True, False, True]


def test_who_has_left_hears_no_more() -> None:
    watch, heard, stays = ApiWatch(), [], []
    leave = watch.on_change(heard.append)
    watch.on_change(stays.append)
    leave()
    leave()
    for answer in (FINE, REFUSED, REFUSED, FINE):
        watch.take(Found(answer))
    assert (heard, stays) == ([True], [True, False, True])


def test_a_server_that_died_is_started_again_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is ours; that it cannot be started ends nothing."""
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    starts, looks = [], []

    def revive() -> None:
        starts.append(len(looks))
        raise ServerError("no")

    def gone() -> Found:
        looks.append(1)
        return Found(REFUSED, "gone")

    watch = ApiWatch(gone, revive)
    thread = threading.Thread(target=watch.watch)
    thread.start()
    wait_for(lambda: len(looks) > 10, "ten looks")
    watch.close()
    thread.join()
    assert starts == [2]
    assert "cannot be started again" in caplog.text


def test_errors_of_the_api_are_known_from_those_of_the_work() -> None:
    assert from_api(httpx.ConnectError("refused"))
    assert from_api(RuntimeError("Failed to reach API at http://127.0.0.1:4200/api/"))
    assert not from_api(RuntimeError("CUDA out of memory"))
    assert not from_api(OSError(28, "No space left on device"))


@pytest.fixture
def sent() -> list[dict[str, Any]]:
    return []


def test_log_lines_wait_for_the_api_and_what_the_page_shows_does_not(
    sent: list[dict[str, Any]],
) -> None:
    watch, shown = ApiWatch(), []
    watch.take(Found(REFUSED))
    teller = Teller(watch, sent.extend)
    for number in range(3):
        teller.log({"message": str(number), "__payload_size__": 1})
        teller.tell(lambda number=number: shown.append(number))  # type: ignore[misc]
    time.sleep(0.05)
    teller.tell(lambda: shown.append(-1))
    wait_for(lambda: teller.idle, "the teller has dropped what nobody could take")
    assert not sent
    watch.take(Found(FINE))
    teller.tell(lambda: shown.append(3))
    teller.close()
    assert sent == [{"message": str(number)} for number in range(3)]
    assert shown == [3]


def test_a_line_that_the_api_did_not_take_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.runs.teller._SEND_S", 0.02)
    watch, taken, failures = ApiWatch(), [], [httpx.ReadTimeout("slow")]

    def send(lines: list[dict[str, Any]]) -> None:
        if failures:
            raise failures.pop()
        taken.extend(lines)

    teller = Teller(watch, send)
    for number in range(2):
        teller.log({"number": number})
    wait_for(lambda: bool(taken), "lines are sent")
    teller.close()
    assert taken == [{"number": 0}, {"number": 1}]


def test_a_call_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.runs.teller.CLOSE_S", 0.1)
    hangs = threading.Event()
    teller = Teller(ApiWatch(), lambda _: None)
    teller.tell(hangs.wait)
    teller.close()  # within CLOSE_S, whatever hangs
    assert not hangs.is_set()
    hangs.set()
