"""Where the log lines of a run go: the files in `logs/`, and the run's page in Prefect."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from prefect.logging.handlers import APILogHandler

from aimspax_core.campaign.events import Event
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.derived.yaml_text import section_lines
from aimspax_core.settings.settings import Settings
from aimspax_core.versions import versions
from flows.runs.library_warnings import kept_apart
from flows.runs.listeners import listening
from flows.runs.log_file import LogFile

_INITIAL = (Phase.INITIAL, Phase.INITIAL_CONVERGE, Phase.INITIAL_PUBLISH, Phase.READY)
_FORM = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")


class _ByPhase(logging.Handler):
    """Writes `initial_dataset.log` until that is done, then `active_learning.log`.

    The first lines of this process in a file are the settings in force.
    """

    def __init__(self, run: RunDir, settings: Settings, state: CampaignState | None) -> None:
        super().__init__()
        run.logs.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        self._run, self._first = run, state
        self._files = {
            name: _file(run.logs / f"{name}.log") for name in ("initial_dataset", "active_learning")
        }
        self._begun: set[str] = set()
        self._current = _file_of(state)

    def on_state(self, before: CampaignState | None, event: Event, after: CampaignState) -> None:
        """Choose the file for the lines that follow."""
        self._current = _file_of(after)

    def emit(self, record: logging.LogRecord) -> None:
        file = self._files[self._current]
        if self._current not in self._begun:
            self._begun.add(self._current)
            if logging.getLogger("aimspax").isEnabledFor(logging.INFO):
                file.emit(_info(_beginning(self._run, self._first, self._current)))
                file.emit(_info(_in_force(self._settings)))
        file.emit(record)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        super().close()


@contextlib.contextmanager
def campaign_logs(run: RunDir, settings: Settings, state: CampaignState | None) -> Iterator[None]:
    """Write a campaign's log lines to its log files and to its page while the block runs.

    Args:
        run: The run directory.
        settings: The settings in force; the files begin with them, nothing else shows them.
        state: The campaign's, before it is taken up; None: it has not begun.
    """
    files = _ByPhase(run, settings, state)
    level = settings.model.MISC.log_level
    with kept_apart(run.logs), logged_to(files, level=level), listening(files.on_state):
        yield


@contextlib.contextmanager
def relabel_logs(run: RunDir, settings: Settings) -> Iterator[None]:
    """Write the log lines of relabelling to `recalculate.log` and to its page in the block."""
    run.logs.mkdir(parents=True, exist_ok=True)
    file = _file(run.logs / "recalculate.log")
    with kept_apart(run.logs), logged_to(file, level=settings.model.MISC.log_level):
        yield


@contextlib.contextmanager
def logged_to(*handlers: logging.Handler, level: str) -> Iterator[None]:
    """Send all our log lines to handlers, and to the flow run's page, while the block runs.

    Args:
        handlers: Closed at the end of the block.
        level: The least important lines that are sent.
    """
    # That workers die is logged by the run itself, with what became of their tasks.
    logging.getLogger("distributed").setLevel(logging.ERROR)
    logging.getLogger("distributed.scheduler").setLevel(logging.CRITICAL)
    logger, everything = logging.getLogger("aimspax"), (*handlers, _flow_page())
    before = logger.level
    logger.setLevel(level)
    for handler in everything:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in everything:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(before)


def _flow_page() -> logging.Handler:
    """Return the handler that sends the log lines of this process to the page of the flow run.

    Lines of workers come here as well, but they are on the page of their task runs already.
    """
    handler = APILogHandler()
    handler.addFilter(lambda record: not hasattr(record, "worker"))  # set by Dask
    return handler


def _file(path: Path) -> LogFile:
    """Return the handler that appends log lines to a file, which is made with the first line."""
    file = LogFile(path)
    file.setFormatter(_FORM)
    return file


def _file_of(state: CampaignState | None) -> str:
    phase = Phase.INITIAL if state is None else state.failed_in or state.phase
    return "initial_dataset" if phase in _INITIAL else "active_learning"


def _beginning(run: RunDir, state: CampaignState | None, file: str) -> str:
    """Return the first line of a file: this process begins, goes on or takes up the campaign."""
    who = f"process {os.getpid()} on {socket.gethostname()}"
    if file != _file_of(state):
        return f"{who} goes on with the campaign in {run.output}"
    if state is None:
        return f"{who} begins the campaign in {run.output}"
    return f"{who} takes the campaign in {run.output} up again, in phase {state.phase}"


def _in_force(settings: Settings) -> str:
    """All settings as YAML, defaults included, and the versions of what acts on them."""
    project = settings.project.model_dump()
    project["CLUSTER"] = settings.cluster.model_dump()  # as sized from this machine
    parts = {
        "versions": versions(),
        "aimsPAX.yaml": project,
        "mace.yaml": settings.model.model_dump(),
    }
    lines = ["settings in force, defaults included"]
    for name, content in parts.items():
        lines += [f"# {name}", *section_lines(content)]
    return "\n    ".join(lines)


def _info(text: str) -> logging.LogRecord:
    return logging.LogRecord("aimspax", logging.INFO, __file__, 0, text, None, None)
