"""Runs that were started again by an automation: a few times in a row without progress, no more."""

from __future__ import annotations

import logging
from pathlib import Path

from aimspax_core.campaign.restarts import Restarts, counted
from aimspax_core.errors import StalledError
from aimspax_core.safe_files import write_text
from flows.runs.best_effort import best_effort
from flows.runs.previous_attempt import this_attempt

log = logging.getLogger(f"aimspax.{__name__}")


def count_restart(file: Path, mark: str, limit: int) -> None:
    """Note that this process takes work up; refuse if that was tried too often in vain.

    Whoever calls this holds the lock of the work. A flow run of a new id begins a new count.

    Args:
        file: Where it is noted.
        mark: How far the work is.
        limit: How often a flow run may be started again in a row without progress.

    Raises:
        StalledError: It was started again more often. The count begins anew, so that a person who
            has mended what was wrong may use Retry on the page.
    """
    attempt = this_attempt()
    if attempt is None:
        return
    now = counted(
        _noted(file), Restarts(flow_run=attempt.flow_run, attempt=attempt.number, mark=mark)
    )
    stalled = now.too_many(limit)
    with best_effort("noting how often the run was started again"):
        write_text(file, (now.forgiven() if stalled else now).model_dump_json())
    if now.in_a_row and not stalled:
        log.warning(
            "started again, %d of at most %d times in a row without progress", now.in_a_row, limit
        )
    if stalled:
        raise StalledError(
            f"this run died and was started again {limit} times in a row (MISC.restarts) without "
            "progress, so it is not started again by itself. What the worker printed, and logs/ in "
            "the run directory, say how far it came; then use Retry, or start a new run"
        )


def _noted(file: Path) -> Restarts | None:
    try:
        return Restarts.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s is left out, the count of restarts begins anew: %s", file, error)
        return None
