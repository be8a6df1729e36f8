"""How a flow ends that has been asked for what cannot be run."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun, FailedRun
from prefect.states import Failed

from aimspax_core.errors import AimspaxError

P = ParamSpec("P")


def told_plainly(flow: Callable[P, State[Any]]) -> Callable[P, State[Any]]:
    """Let a flow's errors of ours be its state: the text alone, on the run's page and in its log.

    Prefect would put a traceback there. Who calls the flow from Python gets the error all the same.
    """

    @wraps(flow)
    def told(*args: P.args, **kwargs: P.kwargs) -> State[Any]:
        logging.getLogger("prefect.flow_runs").addFilter(_news)
        try:
            return flow(*args, **kwargs)
        except AimspaxError as error:
            return Failed(message=str(error), data=error)

    # Prefect evaluates annotations where the function that it is given was written: here.
    told.__signature__ = inspect.signature(flow, eval_str=True)  # type: ignore[attr-defined]
    return told


def _news(record: logging.LogRecord) -> bool:
    """Keep out the traceback that a deployed run adds to an end that it has just told."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, AimspaxError | FailedRun | CancelledRun)
