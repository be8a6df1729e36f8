"""Where a campaign's log lines go: `logs/`, the console, and Prefect's page of the run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from prefect.logging.handlers import APILogHandler

from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.rundir import RunDir
from aimspax_core.settings.load import Settings

_INITIAL = (Phase.INITIAL, Phase.INITIAL_CONVERGE, Phase.INITIAL_PUBLISH, Phase.READY)


class _ByPhase(logging.Handler):
    """Writes `initial_dataset.log` until that is done, then `active_learning.log`."""

    def __init__(self, run: RunDir) -> None:
        super().__init__()
        run.logs.mkdir(parents=True, exist_ok=True)
        form = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")
        self._files = {
            name: logging.FileHandler(run.logs / f"{name}.log", encoding="utf-8", delay=True)
            for name in ("initial_dataset", "active_learning")
        }
        for file in self._files.values():
            file.setFormatter(form)
        self._current = "initial_dataset"

    def emit(self, record: logging.LogRecord) -> None:
        state = getattr(record, "campaign", None)
        if isinstance(state, CampaignState):
            phase = state.failed_in or state.phase
            self._current = "initial_dataset" if phase in _INITIAL else "active_learning"
        self._files[self._current].emit(record)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        super().close()


@contextlib.contextmanager
def campaign_logs(run: RunDir, settings: Settings) -> Iterator[None]:
    """Send what the logger `aimspax` says to the run's log files and to Prefect."""
    logger = logging.getLogger("aimspax")
    level = settings.model.MISC.log_level
    handlers: list[logging.Handler] = [_ByPhase(run), APILogHandler()]
    before = logger.level
    logger.setLevel(level)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        for name, text in (
            ("aimsPAX.yaml", settings.project.model_dump_json(indent=1)),
            ("mace.yaml", settings.model.model_dump_json(indent=1)),
        ):
            logger.debug("settings in force, %s: %s", name, text)
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(before)
