"""How a flow ended, also if the Prefect API is away then and cannot be told.

Prefect sets a flow run's state through its API before it hands anything to the caller. The outcome
of a campaign must not hang on that: it is handed back beside Prefect.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from prefect.client.schemas.objects import State
from prefect.exceptions import Abort
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    temporary_settings,
)

from flows.runs.api_watch import ApiWatch, from_api, watching
from flows.runs.teller import telling
from flows.server import ServerError

log = logging.getLogger(f"aimspax.{__name__}")

_handed_back: list[State[Any]] = []


class UntoldError(Abort):
    """A flow is over, and its state cannot be told: Prefect passes this on without a call.

    Attributes:
        outcome: The state.
    """

    def __init__(self, outcome: State[Any]) -> None:
        super().__init__(f"{outcome.name}: {outcome.message}; the Prefect API is away")
        self.outcome = outcome


@contextlib.contextmanager
def on_its_own() -> Iterator[ApiWatch]:
    """Let the flow that this is in go on without the Prefect API while the block runs."""
    quick = {
        PREFECT_CLIENT_MAX_RETRIES: 1,
        # A run of our commands has these in its environment, one of a deployment has not.
        PREFECT_API_REQUEST_TIMEOUT: 15.0,
        PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
    }
    with temporary_settings(set_defaults=quick), watching() as watch, telling():
        yield watch


def hand_back(outcome: State[Any], watch: ApiWatch) -> State[Any]:
    """Return the state that a flow ends in, for Prefect to set.

    Raises:
        UntoldError: Prefect's API cannot be told.
    """
    _handed_back[:] = [outcome]
    if watch.look_now():
        return outcome
    log.warning("the run's page does not show how the run ended: the Prefect API is away")
    raise UntoldError(outcome)


def outcome_of(flow: Callable[..., Any], *arguments: Any, **keywords: Any) -> State[Any]:
    """Call a flow of ours; return the state that it ended in, whether or not Prefect knows it.

    Raises:
        ServerError: The API went away before the flow began.
    """
    _handed_back.clear()
    try:
        outcome: State[Any] = flow(*arguments, **keywords, return_state=True)
    except UntoldError as untold:
        return untold.outcome
    except Exception as error:
        if not from_api(error):
            raise
        log.debug("the end of a flow", exc_info=True)
        if _handed_back:
            return _handed_back[-1]
        raise ServerError(
            f"the Prefect API went away while the run began, and nothing was done: {error}. "
            "Start again, once it answers."
        ) from error
    return outcome
