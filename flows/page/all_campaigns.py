"""The page of all campaigns of a server: an artifact of its own, a row for each.

Each run keeps its own row in a table that all of them share, and marks the rows of others that give
no sign of life any more. Two that write in the same moment may undo each other's row: a run that
goes on writes its own again soon, and one that ends looks a moment later whether it is there.
"""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactCollectionFilter, ArtifactCollectionFilterKey

from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.report.progress import progress
from aimspax_core.report.summary import core_hours_text, error_of
from aimspax_core.text import duration_text
from flows.page.artifacts import renew_card
from flows.runs.best_effort import best_effort
from flows.runs.teller import tell

KEY = "aimspax-campaigns"
"""Of the artifact."""

REFRESH_S = 60.0
"""From one sign of life to the next (s)."""

DEAD_S = 600.0
"""Without a sign of life for so long (s) a run is taken for dead."""

_ROWS = 200
"""Campaigns that are listed: those of which was heard last."""

_TRIES = 4
"""How often the last row of a run is written at most."""

_MOMENT_S = 0.2, 0.8
"""After which a run that ends looks for its row (s): another time for each."""

_DEAD = "; no sign of life"

_RUN_ON = "its tasks run on"
"""Of a paused campaign, whose process waits for them."""

NAME = "its own name"
"""Heading of the column of the names that campaigns have by chance."""

_OVER = (Phase.FINISHED, Phase.FAILED)

Row = dict[str, str]


class AllCampaigns:
    """The row of this campaign in the table of all.

    Args:
        directory: Its run directory.
        max_convergence_epochs: After which its convergence ends.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        directory: Path,
        max_convergence_epochs: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._directory, self._epochs, self._sleep = directory, max_convergence_epochs, sleep
        self._told = -REFRESH_S

    def renew(self, state: CampaignState, seconds: float, ended: str = "") -> None:
        """Have the row renewed, if it is time or this is the end; nobody waits for that.

        Args:
            state: The campaign.
            seconds: For how long it has run (s).
            ended: What ended the run, if the campaign does not say so itself.
        """
        rests = state.paused is not None and not state.in_flight
        last = bool(ended) or rests or state.phase in _OVER
        if last or time.monotonic() - self._told >= REFRESH_S:
            self._told = time.monotonic()
            row = row_of(self._directory, state, self._epochs, seconds, ended)
            tell(partial(_write, row, _TRIES if last else 1, self._sleep))


def row_of(
    directory: Path, state: CampaignState, epochs: int, seconds: float, ended: str = ""
) -> Row:
    """Return the row of a campaign; see `AllCampaigns`."""
    now = progress(state, epochs)
    done = "" if now.fraction is None or state.phase in _OVER else f", {now.fraction:.0%}"
    left = f", {_RUN_ON}" if state.paused is not None and state.in_flight else ""
    return {
        "campaign": directory.name,
        "state": f"{now.title}{done}{left}{f'; {ended}' if ended else ''}",
        "force MAE": error_of(state) or "–",
        "labels": str(state.labels),
        "last sign of life": datetime.now().astimezone().isoformat(" ", "seconds"),
        "cost": f"{core_hours_text(state.core_hours)}, {duration_text(seconds)} of running",
        "directory": f"{socket.gethostname()}:{directory}",
        NAME: state.campaign,
    }


def merged(rows: Sequence[Row], mine: Row, now: datetime) -> list[Row]:
    """Return a table with one row renewed, the dead marked, and the latest first.

    A campaign that goes on from another machine is known by its name. Another one in its directory
    takes its row: it is no more.
    """
    others = [
        {**row, NAME: row.get(NAME, "")}  # a release before had no names
        for row in rows
        if row.get("directory") != mine["directory"]
        and (not mine[NAME] or row.get(NAME) != mine[NAME])
    ]
    found = [mine, *(_marked(row, now) for row in others)]
    return sorted(found, key=_heard, reverse=True)[:_ROWS]


def _marked(row: Row, now: datetime) -> Row:
    """Return a row, marked if its run gives no sign of life any more though it has not ended."""
    said = row["state"]
    ended = any(word in said for word in ("finished", "failed", "done", ";"))
    goes_on = not ended and ("paused" not in said or _RUN_ON in said)
    silent = (now - datetime.fromtimestamp(_heard(row), now.tzinfo)).total_seconds()
    return {**row, "state": row["state"] + _DEAD} if goes_on and silent > DEAD_S else row


def _heard(row: Row) -> float:
    """Return when there was a sign of life (s since 1970)."""
    return datetime.fromisoformat(row["last sign of life"]).timestamp()


def _write(mine: Row, tries: int, sleep: Callable[[float], None]) -> None:
    """Write a row into the table, and again if it is not there a moment later."""
    with best_effort("renewing the page of all campaigns"):
        client = get_client(sync_client=True)
        for left in reversed(range(tries)):
            card, rows = _read(client)
            if mine in rows:
                return
            table = json.dumps(merged(rows, mine, datetime.now().astimezone()))
            if card is None or not renew_card(client, card, table, _TITLE):
                new = ArtifactCreate(key=KEY, type="table", data=table, description=_TITLE)
                client.create_artifact(new)
            if left and len(rows) > 1:
                sleep(random.uniform(*_MOMENT_S))


_TITLE = "Campaigns of this server, one a run directory; the last sign of life first"


def _read(client: SyncPrefectClient) -> tuple[UUID | None, list[Row]]:
    """Return the artifact and its rows; none if there is none yet."""
    mine = ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(any_=[KEY]))
    for found in client.read_latest_artifacts(artifact_filter=mine):
        return found.latest_id, json.loads(str(found.data))
    return None, []
