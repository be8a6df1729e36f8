"""The certificates that Prefect's clients on workers read."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed.security import Security

from flows.pools.certificates import FILE, read_one
from flows.pools.local import local_pool
from flows.server.api import URL

HERE = "http://127.0.0.1:4200/api"
FAR = "http://prefect.example:4200/api"


def read(folder: Path, near: bool = False, security: Security | None = None) -> str | None:
    """What a worker's clients read, as its environment says; None: what is usual."""
    worker: Any = SimpleNamespace(
        local_directory=str(folder), security=security or Security.temporary()
    )
    read_one(worker, near)
    return os.environ.get(FILE)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FILE, "")  # so that it is restored
    monkeypatch.delenv(FILE)
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(tmp_path / "profiles.toml"))
    monkeypatch.setenv(URL, HERE)


def test_clients_of_a_server_of_this_machine_read_one_certificate(tmp_path: Path) -> None:
    file = read(tmp_path)
    assert file is not None
    assert len(ssl.create_default_context(cafile=file).get_ca_certs()) <= 1


@pytest.mark.parametrize(
    ("api", "near", "one"),
    [
        (FAR, True, True),
        (FAR, False, False),
        ("https://127.0.0.1:4200/api", True, False),
        ("", True, False),
    ],
)
def test_only_where_a_connection_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: str, near: bool, one: bool
) -> None:
    monkeypatch.setenv(URL, api)
    assert (read(tmp_path, near) is not None) == one


def test_what_the_user_has_set_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILE, "mine.pem")
    assert read(tmp_path) == "mine.pem"


def test_the_certificate_of_a_pool_of_jobs_is_a_file_already(tmp_path: Path) -> None:
    ca = str(tmp_path / "ca_file.pem")
    assert read(tmp_path, security=Security(tls_ca_file=ca, require_encryption=True)) == ca


def test_workers_whose_cluster_has_no_certificate_read_what_is_usual(tmp_path: Path) -> None:
    assert read(tmp_path, security=Security()) is None


def _settings() -> tuple[str | None, str | None]:
    from prefect.settings import get_current_settings

    return os.environ.get(FILE), get_current_settings().api.ssl_cert_file


def test_prefect_on_a_worker_of_a_pool_knows_the_file() -> None:
    with local_pool("ml", 1) as pool:
        (found,) = pool.runner.client.run(_settings).values()
    assert found[0] is not None and found[1] == found[0]
    assert FILE not in os.environ
