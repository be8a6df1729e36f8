"""One run at a time works in a run directory; what becomes of a second one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import Abort, ObjectNotFound

from aimspax_core.errors import HeldError
from flows.runs.best_effort import best_effort
from flows.runs.previous_attempt import noted_attempt, this_attempt


@contextlib.contextmanager
def naming_the_holder(client: SyncPrefectClient, attempts: Path) -> Iterator[None]:
    """Say which flow run holds what is held, if the lock is refused in the block.

    An automation may start a run again whose process lives: Prefect reports one death twice, and a
    process that cannot reach the API for a while shows no sign of life. Its second process ends
    without a word, and the state of the run stays that of the first.

    Args:
        client: The Prefect API.
        attempts: Where the holder has noted which flow run it is; see `previous_attempt`.

    Raises:
        HeldError: Another flow run, or a process that is none, works there.
        prefect.exceptions.Abort: It is this flow run that works there already.
    """
    try:
        yield
    except HeldError as error:
        holding, this = noted_attempt(attempts), this_attempt()
        if holding is None:
            raise
        if this is not None and holding.flow_run == this.flow_run:
            raise Abort(f"{error}: this run itself, which was started twice") from error
        name = _name(client, holding.flow_run)
        raise HeldError(f"{error}, for the flow run {name}") from error


def _name(client: SyncPrefectClient, flow_run: str) -> str:
    """Return the name of a flow run as its page has it, and its id."""
    with best_effort("reading the name of a flow run"), contextlib.suppress(ObjectNotFound):
        return f"'{client.read_flow_run(UUID(flow_run)).name}' ({flow_run})"
    return flow_run
