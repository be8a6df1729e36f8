"""A run that is started on Prefect's pages, in a browser, as docs/deployment.md says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from flows.deployments.profile import ProfileName, read_profile
from flows.deployments.server_side import deploy, remove
from flows.server import Server
from tests.browser import Page, browser, chromium
from tests.flows.commands.test_run import FINISHED
from tests.prefect_api import call

ROOT = Path(__file__).parents[3]

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def deployed(
    prefect_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """The deployment `aims-pax/local` on a server whose worker looks for runs each second."""
    chromium()
    profile = read_profile(ProfileName.LOCAL)
    (pool,) = profile.pools
    with get_client(sync_client=True) as client:
        list(deploy(client, profile))
    ours = {"PREFECT_API_URL": prefect_server.api_url, "PYTHONPATH": str(ROOT)}
    ours["PREFECT_WORKER_QUERY_SECONDS"] = "1"
    with (tmp_path_factory.mktemp("worker") / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool],
            env={**os.environ, **ours}, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield call("GET", f"{prefect_server.api_url}/deployments/name/aims-pax/local")
    finally:
        worker.terminate()
        try:
            worker.wait(30)
        except subprocess.TimeoutExpired:  # at a question to a server that is busy, say
            worker.kill()
            worker.wait()
        with get_client(sync_client=True) as client:
            list(remove(client, profile))


@pytest.fixture
def page() -> Iterator[Page]:
    with browser() as page:
        page.resize(1400, 1100)
        yield page


def run_of(server: Server, deployment: dict[str, Any]) -> str:
    """The id of the run that was started last."""
    of = {"deployments": {"id": {"any_": [deployment["id"]]}}, "sort": "EXPECTED_START_TIME_DESC"}
    return str(call("POST", f"{server.api_url}/flow_runs/filter", of)[0]["id"])


def test_a_wrong_directory_is_told_on_the_page_of_the_run(
    prefect_server: Server, deployed: dict[str, Any], page: Page, tmp_path: Path
) -> None:
    page.go(f"{prefect_server.url}/deployments/deployment/{deployed['id']}")
    page.click("Run")
    page.click("Custom run")
    page.write(".schema-form-property-string textarea", f"{tmp_path}")
    page.send("Submit", "Flow run")
    page.go(f"{prefect_server.url}/runs/flow-run/{run_of(prefect_server, deployed)}")
    page.wait_for("aimsPAX.yaml  not found")
    said = page.text()
    assert "Failed: 2 mistakes in the settings" in said
    assert "ERROR" in said
    assert "Finished in state" not in said, "it is told once"
    assert "Traceback" not in said


def test_a_run_with_overrides_is_started_on_the_newer_page_and_comes_to_its_end(
    prefect_server: Server, deployed: dict[str, Any], page: Page, tmp_path: Path
) -> None:
    shutil.copytree(FINISHED, tmp_path / "water")
    page.go(f"{prefect_server.url}/v2/deployments/deployment/{deployed['id']}/run")
    page.write("textarea[data-slot=textarea]", f"{tmp_path / 'water'}")
    page.write(".cm-content", '{"MISC.log_level": "WARNING"}')
    page.send("Submit", "Flow run")
    run = run_of(prefect_server, deployed)
    page.go(f"{prefect_server.url}/v2/runs/flow-run/{run}")
    page.wait_for("Completed")
    assert "water" in page.text()
    found = call("GET", f"{prefect_server.api_url}/flow_runs/{run}")
    assert found["parameters"]["overrides"] == {"MISC.log_level": "WARNING"}
    assert "finished" in found["state"]["message"]
