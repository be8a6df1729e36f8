"""What is logged reaches the log files of a run and its page in Prefect, wherever it was logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextvars import Context
from dataclasses import dataclass

import pytest
from prefect import task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterTaskRunId
from prefect.client.schemas.objects import Log

from aimspax_core.run_directory import RunDir
from aimspax_core.sampling import collect
from flows.pools.local import local_pool
from flows.pools.pool import Pool
from flows.runs.log_files import campaign_logs
from flows.server import Server
from tests.flows.hosting import Landed, in_a_flow, inside, wait_for
from tests.settings_files import SettingsFiles


@task
def explode(request: str) -> None:
    """Log what sampling logs about a trajectory that begins again."""
    collect.log.warning("sampling of geometry %s", request)


@task
def stumble(request: str) -> None:
    """Fail by a mistake in our code."""
    raise AttributeError("a bug of ours")


@dataclass
class Logged:
    """A pool with one worker, and the run whose log files it belongs to."""

    context: Context
    pool: Pool
    run: RunDir

    @property
    def text(self) -> str:
        """What is in the log file."""
        file = self.run.logs / "initial_dataset.log"
        return file.read_text(encoding="utf-8") if file.exists() else ""


@pytest.fixture(scope="module")
def logged(prefect_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    settings = SettingsFiles(tmp_path_factory.mktemp("logged")).load()
    run = RunDir.of(settings)
    with (
        in_a_flow() as context,
        campaign_logs(run, settings, None),
        inside(context, local_pool("ml", 1)) as pool,
    ):
        yield Logged(context, pool, run)


@pytest.fixture(scope="module")
def task_logs(logged: Logged) -> list[Log]:
    """What Prefect shows on the page of a task run whose worker logged a warning."""
    filters = []
    for request in ("3, step 40", "4, later"):  # when the second one is told, all of the first is
        landed = Landed()
        logged.pool.submit(explode, request, landed)
        (ticket,) = landed.wait(1)
        ticket.result()
        assert ticket.future is not None
        id_ = ticket.future.task_run_id
        filters.append(LogFilter(task_run_id=LogFilterTaskRunId(any_=[id_])))
    with get_client(sync_client=True) as client:

        def come() -> bool:
            return any("geometry" in log.message for log in client.read_logs(filters[1]))

        wait_for(come, "a warning of a worker is in Prefect", 30)
        return client.read_logs(filters[0])


def test_a_warning_on_a_worker_is_on_the_page_of_its_task(task_logs: list[Log]) -> None:
    (warning,) = [log for log in task_logs if "geometry 3, step 40" in log.message]
    assert (warning.level, warning.name) == (logging.WARNING, collect.log.name)


def test_the_page_of_a_task_has_our_lines_alone(task_logs: list[Log]) -> None:
    assert {log.name for log in task_logs} == {collect.log.name}


def test_a_warning_on_a_worker_is_in_the_log_file(logged: Logged, task_logs: list[Log]) -> None:
    wait_for(lambda: "geometry 3, step 40" in logged.text, "a worker's warning is in the file", 10)
    assert logged.text.count("geometry 3, step 40") == 1


def test_the_first_traceback_of_a_bug_is_in_the_log_file_as_an_error(logged: Logged) -> None:
    landed = Landed()
    for request in ("first", "second"):
        logged.pool.submit(stumble, request, landed)
    tickets = landed.wait(2)
    assert all(isinstance(ticket.exception(), AttributeError) for ticket in tickets)
    assert logged.text.count("Traceback (most recent call last)") == 1
    assert logged.text.count("AttributeError: a bug of ours") == 1
    (line,) = [line for line in logged.text.splitlines() if "a task stumble of the" in line]
    assert "ERROR" in line
