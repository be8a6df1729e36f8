"""What a campaign can do without: calls to the Prefect API, and files that only show it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import httpx

log = logging.getLogger("aimspax")
_told: set[str] = set()


@contextlib.contextmanager
def courtesy(what: str) -> Iterator[None]:
    """Go on if the API does not answer; say so once, until it answers again.

    Args:
        what: What is being done, for the warning.
    """
    try:
        yield
    except httpx.HTTPError as error:
        if what not in _told:
            log.warning("the Prefect API does not answer (%s): %s; going on", what, error)
            _told.add(what)
    else:
        _told.discard(what)


@contextlib.contextmanager
def by_product(what: str) -> Iterator[None]:
    """Go on if a file that the campaign does not need cannot be written; say so once.

    Args:
        what: Which, for the warning.
    """
    try:
        yield
    except OSError as error:
        if what not in _told:
            log.warning("%s: %s; going on without", what, error)
            _told.add(what)
    else:
        _told.discard(what)
