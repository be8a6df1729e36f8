"""How a worker's container is stopped: `docker/entrypoint.sh`, with a stand-in for `prefect`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.flows.compose_services import ROOT

WORKER = """
import pathlib, subprocess, sys, time
flow = [sys.executable, "FLOW"]
begun = [subprocess.Popen([*flow, *words], start_new_session=True) for words in WORDS]
pathlib.Path("begun").touch()
while True:
    time.sleep(0.1)
"""
# Says what becomes of it: the signal's default action would end it without a word.
FLOW = """
import os, pathlib, signal, sys, time
name, module, start_s = sys.argv[1:4]
time.sleep(float(start_s))
if module.endswith("_workspace_supervisor"):
    os.execv(sys.executable, [sys.executable, __file__, name, "prefect.engine", start_s])
def end(*_):
    pathlib.Path(name).write_text("stopped")
    sys.exit()
signal.signal(signal.SIGTERM, end)
pathlib.Path(name).write_text("runs")
time.sleep(60)
"""
FLOWS = {
    "running": ("prefect.engine", "0"),
    "importing": ("prefect.engine", "1.5"),
    "preparing": ("prefect.runner._workspace_supervisor", "1"),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a worker that was stopped while flows of all sorts were there."""
    folder = tmp_path_factory.mktemp("worker")
    (folder / "flow.py").write_text(FLOW)
    words = [[name, *said] for name, said in FLOWS.items()]
    text = WORKER.replace("WORDS", repr(words)).replace("FLOW", str(folder / "flow.py"))
    (folder / "prefect").write_text(f"#!{sys.executable}\n{text}")
    (folder / "prefect").chmod(0o755)
    container = subprocess.Popen(
        [ROOT / "docker" / "entrypoint.sh", "prefect", "worker", "start"],
        cwd=folder, env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
    )  # fmt: skip
    try:
        while not (folder / "running").exists():
            assert container.poll() is None
            time.sleep(0.05)
        container.terminate()
        container.wait(120)
    finally:
        container.kill()
    return folder


@pytest.mark.parametrize("flow", FLOWS)
def test_a_flow_is_stopped_in_order_however_far_it_has_come(stopped: Path, flow: str) -> None:
    assert (stopped / flow).read_text() == "stopped"
