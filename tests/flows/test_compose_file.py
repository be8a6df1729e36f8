"""What `docker/compose.yaml` says, without starting it (`test_deployment.py` does)."""

from __future__ import annotations

import re
from typing import Any

import prefect.settings
import pytest

from flows.deployments.profile import ProfileName, read_profile
from flows.loops.stop import GRACE_S
from flows.server.own import REMEMBERED
from tests.flows.compose_services import ROOT, read

SERVICES: dict[str, Any] = read()["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_prefect_knows_every_setting(name: str) -> None:
    settings = SERVICES[name].get("environment", {})
    named = [key.removesuffix("_FILE") for key in settings if key.startswith("PREFECT_")]
    assert not [one for one in named if not hasattr(prefect.settings, one)]


@pytest.mark.parametrize("name", SERVICES)
def test_no_password_stands_in_it(name: str) -> None:
    for key, value in SERVICES[name].get("environment", {}).items():
        if "PASSWORD" in key or "AUTH_STRING" in key:
            assert key.endswith("_FILE")
            assert value.startswith("/secrets/")


def test_code_that_a_worker_runs_does_not_see_the_password_of_the_database() -> None:
    mounts = [volume.split(":")[0] for volume in SERVICES["worker"]["volumes"]]
    assert "api-secret" in mounts
    assert "database-secret" not in mounts


def test_what_a_worker_keeps_outlives_its_container_and_can_be_written() -> None:
    made = (ROOT / "docker" / "Dockerfile").read_text().split("install -d -o aimspax -g aimspax")[1]
    kept = [volume.split(":")[1] for volume in SERVICES["worker"]["volumes"]]
    state = "/home/aimspax/.local/state"  # where labels.spare keeps what finds no room
    assert {"/runs", "/labels", "/home/aimspax/.cache", state} <= {*kept}
    assert {*kept} <= {*made.split("COPY")[0].split()}


def test_what_lives_on_is_watched_and_started_again() -> None:
    for name in ("database", "server", "worker"):
        assert SERVICES[name]["healthcheck"]["test"]
        assert SERVICES[name]["restart"] == "unless-stopped"


def test_the_database_is_ready_once_others_reach_it() -> None:
    """At its first start the image has a server on a socket, for itself, and ends it again."""
    check = SERVICES["database"]["healthcheck"]["test"]
    assert check[check.index("--host") + 1] == "127.0.0.1"


def test_its_server_remembers_what_automations_wait_for_as_long_as_ours() -> None:
    said = SERVICES["server"]["environment"]
    assert said["PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER"] == REMEMBERED


def test_links_that_are_printed_lead_to_the_page_outside_of_the_containers() -> None:
    (port,) = SERVICES["server"]["ports"]
    address, outside, _ = port.split(":")
    for name in ("deploy", "worker"):
        assert SERVICES[name]["environment"]["PREFECT_UI_URL"] == f"http://{address}:{outside}"


def test_the_page_is_for_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_worker_serves_the_pool_that_is_deployed_without_a_limit_of_its_own() -> None:
    command = SERVICES["worker"]["command"]
    assert command[command.index("--pool") + 1] in read_profile(ProfileName.LOCAL).pools
    assert "--limit" not in command, "Prefect's worker dies of it when a run is started again"


def test_the_image_holds_what_pip_needs_to_install_us() -> None:
    copied = (ROOT / "docker" / "Dockerfile").read_text()
    allowed = (ROOT / ".dockerignore").read_text()
    for name in (
        "constraints.txt",
        "pyproject.toml",
        "flows",
        "tasks",
        "aimspax_core",
        "deployments",
    ):
        assert f"!{name}" in allowed
        assert name in copied


def test_a_worker_that_is_stopped_has_time_to_stop_its_flows_first() -> None:
    entrypoint = (ROOT / "docker" / "entrypoint.sh").read_text()
    (patience_s,) = re.findall(r"^patience_s=(\d+)", entrypoint, re.MULTILINE)
    given_s = float(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))
    assert 2 * GRACE_S < float(patience_s) < given_s - 10


def test_only_the_entrypoint_of_a_container_is_told_to_stop() -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    assert '"tini", "--"' in dockerfile, "with -g the worker would kill its flows at once"
