"""Where a campaign's log lines go: `logs/`, the console, and Prefect's page of the run."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator

from prefect.logging.handlers import APILogHandler

from aimspax_core.campaign.events import Event
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.derived import yaml_text
from aimspax_core.settings.settings import Settings
from aimspax_core.versions import versions
from flows.runs.listeners import listening

_INITIAL = (Phase.INITIAL, Phase.INITIAL_CONVERGE, Phase.INITIAL_PUBLISH, Phase.READY)
_FORM = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")


class _ByPhase(logging.Handler):
    """Writes `initial_dataset.log` until that is done, then `active_learning.log`.

    What this process writes to a file begins with the settings in force.
    """

    def __init__(self, run: RunDir, settings: Settings, state: CampaignState | None) -> None:
        super().__init__()
        run.logs.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        self._run, self._first = run, state
        self._files = {
            name: logging.FileHandler(run.logs / f"{name}.log", encoding="utf-8", delay=True)
            for name in ("initial_dataset", "active_learning")
        }
        for file in self._files.values():
            file.setFormatter(_FORM)
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
    """Send what the logger `aimspax` says to the run's log files and to Prefect.

    Args:
        run: The run directory.
        settings: The settings in force; the files begin with them, nothing else shows them.
        state: The campaign's, before it is taken up; None: it has not begun.
    """
    files = _ByPhase(run, settings, state)
    with (
        logged_to(files, api_logs(), level=settings.model.MISC.log_level),
        listening(files.on_state),
    ):
        yield


@contextlib.contextmanager
def relabel_logs(run: RunDir, settings: Settings) -> Iterator[None]:
    """Send what the logger `aimspax` says to `logs/recalculate.log` and to Prefect."""
    run.logs.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(run.logs / "recalculate.log", encoding="utf-8")
    file.setFormatter(_FORM)
    with logged_to(file, api_logs(), level=settings.model.MISC.log_level):
        yield


@contextlib.contextmanager
def logged_to(*handlers: logging.Handler, level: str) -> Iterator[None]:
    """Send what the logger `aimspax` says to these handlers, which are closed after the block."""
    quiet_dask()
    logger = logging.getLogger("aimspax")
    before = logger.level
    logger.setLevel(level)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(before)


def api_logs() -> logging.Handler:
    """Return what sends the log lines of this process to the page of the flow run.

    Lines of workers come here as well, but they are on the page of their task runs already.
    """
    handler = APILogHandler()
    handler.addFilter(lambda record: not hasattr(record, "worker"))  # set by Dask
    return handler


def quiet_dask() -> None:
    """Have Dask say only what nobody else does: that workers die is told by the run itself."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    logging.getLogger("distributed.scheduler").setLevel(logging.CRITICAL)


def _file_of(state: CampaignState | None) -> str:
    phase = Phase.INITIAL if state is None else state.failed_in or state.phase
    return "initial_dataset" if phase in _INITIAL else "active_learning"


def _beginning(run: RunDir, state: CampaignState | None, file: str) -> str:
    """Say what this process does in a file: begin, go on from the other file, or take up again."""
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
        lines += [f"# {name}", *yaml_text.block(content)]
    return "\n    ".join(lines)


def _info(text: str) -> logging.LogRecord:
    return logging.LogRecord("aimspax", logging.INFO, __file__, 0, text, None, None)
