"""Prefect is imported while its server is found or started: what is known later counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).parents[2] / "fixtures" / "0.1.0-8e65e71" / "finished"

SCRIPT = """
import json, logging, os, pathlib, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"true")
    def log_message(self, *_):
        pass

there = ThreadingHTTPServer(("127.0.0.1", 0), Api)
threading.Thread(target=there.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{there.server_port}/api"
os.environ["PREFECT_API_URL"] = url

from aimspax_core.settings.load import load
from flows.commands import run

tracked, early, held, found = {}, [], [], threading.Event()

def watch(event, details):
    # Prefect is imported half while the server is sought; and who else wants it meanwhile is seen.
    if event != "import":
        return
    name = details[0]
    if name == "prefect":
        tracked.setdefault("prefect", os.environ.get("DO_NOT_TRACK"))
    if name.startswith("prefect.") and not found.is_set():
        if threading.current_thread() is threading.main_thread():
            early.append(name)
        elif not held:
            held.append(name)
            found.wait(10.0)

def show(server):
    found.set()

def begin(modules):
    tracked["warm parent"] = os.environ.get("DO_NOT_TRACK")

sys.addaudithook(watch)
run.warm_parent.begin, run.show_dashboard = begin, show
seek = run.server_for

def server_for(*args, **kwargs):
    while "prefect" not in sys.modules:  # the import has to be under way
        time.sleep(0.01)
    return seek(*args, **kwargs)

run.server_for = server_for
run.make_ready(load(pathlib.Path(sys.argv[1])))

from prefect._internal.analytics.enabled import is_telemetry_enabled
from prefect.client.orchestration import get_client
levels = [h.level for h in logging.getLogger("prefect").handlers]
levels.append(logging.getLogger("prefect._internal").level)
asked = str(get_client(sync_client=True).api_url).rstrip("/")
print(json.dumps({
    "tracked": tracked,
    "held": len(held),
    "early": early,
    "asks the server": asked == url,
    "quiet": {*levels} == {logging.CRITICAL},
}))
"""


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """A process that made ready for a run, with a server that was there."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name != "DO_NOT_TRACK" and not name.startswith(("PREFECT_", "AIMSPAX_"))
    }
    home = {"PREFECT_HOME": str(tmp_path_factory.mktemp("home"))}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(RUN)],
        capture_output=True,
        text=True,
        check=True,
        env=clean | home,
    )


@pytest.fixture
def seen(ready: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What was seen there."""
    return dict(json.loads(ready.stdout))


def test_prefect_is_kept_from_tracking_before_it_is_imported_here_or_for_workers(
    seen: dict[str, Any],
) -> None:
    assert seen["tracked"] == {"prefect": "1", "warm parent": "1"}


def test_nobody_uses_prefect_while_it_is_half_imported(
    seen: dict[str, Any], ready: subprocess.CompletedProcess[str]
) -> None:
    assert (seen["held"], seen["early"]) == (1, [])
    assert ready.stderr == ""


def test_prefect_takes_the_address_and_the_levels_that_are_set_after_its_import(
    seen: dict[str, Any],
) -> None:
    assert seen["asks the server"]
    assert seen["quiet"]
