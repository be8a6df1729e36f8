"""Work that a run can do without: calls to the Prefect API, and files that only show something."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import httpx

from flows.runs.api_watch import api_watch

log = logging.getLogger(f"aimspax.{__name__}")

_failing: set[str] = set()
"""What has been warned of, and has not worked since."""


@contextlib.contextmanager
def best_effort(what: str) -> Iterator[None]:
    """Go on if the Prefect API does not answer in the block, or a file cannot be written.

    A warning says so, once until the same work succeeds again.

    Args:
        what: The work, for the warning.
    """
    try:
        yield
    except httpx.HTTPError as error:
        if api_watch().watches:  # it says so itself, once for all
            log.debug("%s", what, exc_info=True)
            api_watch().doubt()
            return
        _warn(what, f"the Prefect API does not answer ({what}): {error}; going on")
    except OSError as error:
        _warn(what, f"{what}: {error}; going on without")
    else:
        _failing.discard(what)


def _warn(what: str, text: str) -> None:
    if what not in _failing:
        _failing.add(what)
        log.warning("%s", text)
