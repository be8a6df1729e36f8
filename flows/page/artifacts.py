"""The cards on the page of a flow run: one of each, renewed in place.

Prefect keeps every artifact that is created under a key as a version of its own, and the page of a
run shows each of them as another card. So a card is created once, and changed from then on, also by
a later attempt at the same flow run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    ArtifactFilterType,
)
from prefect.client.schemas.sorting import ArtifactSort
from prefect.context import FlowRunContext

from aimspax_core.report.markdown import picture
from flows.runs.best_effort import best_effort

Kind = Literal["progress", "table", "markdown"]
"""Sorts of artifacts, as Prefect names them; a link and a picture are `markdown`."""


def key_of(name: str) -> str:
    """Return a name as the beginning of artifact keys, which have small letters and dashes only."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


class Cards:
    """The cards of one flow run; outside of a flow run there are none.

    What has not changed is not sent again. What cannot be sent is dropped: the next renewal shows
    it.

    Args:
        name: What their keys begin with.
    """

    def __init__(self, name: str) -> None:
        self._name = key_of(name)
        self._ids: dict[str, UUID] = {}
        self._sent: dict[str, str] = {}  # a digest of each card as it is shown

    def progress(self, key: str, fraction: float, description: str) -> None:
        """Show how much is done.

        Args:
            key: The end of the card's key.
            fraction: Of all that there is to do, from 0 to 1.
            description: The same in words.
        """
        self._show(key, "progress", 100 * fraction, description)

    def table(self, key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
        """Show a table.

        Args:
            key: The end of the card's key.
            rows: Its rows, whose columns are the same, by their headings.
            description: What it shows; Markdown.
        """
        shown = [{heading: _cell(value) for heading, value in row.items()} for row in rows]
        self._show(key, "table", json.dumps(shown), description)

    def markdown(self, key: str, text: str, description: str) -> bool:
        """Show a text in Markdown; see `table`; return whether it is shown."""
        return self._show(key, "markdown", text, description)

    def image(self, key: str, png: bytes, description: str) -> bool:
        """Show a picture, the content of a PNG file; see `markdown`.

        Not as an image of Prefect's, which shows the address of the picture, all of it, as well.
        """
        return self._show(key, "markdown", picture(png, key), description)

    def link(self, key: str, url: str, text: str, description: str) -> None:
        """Show a link; see `table`."""
        self._show(key, "markdown", f"[{text}]({url})", description)

    def _show(self, key: str, kind: Kind, data: Any, description: str) -> bool:
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            return True
        content = f"{kind}\n{description}\n{data}"
        digest = hashlib.sha256(content.encode()).hexdigest()
        if self._sent.get(key) == digest:
            return True
        with best_effort("renewing the run's page"):
            self._send(context.flow_run.id, key, kind, data, description)
            self._sent[key] = digest
        return self._sent.get(key) == digest

    def _send(self, run: UUID, key: str, kind: Kind, data: Any, description: str) -> None:
        client, name = get_client(sync_client=True), f"{self._name}-{key}".strip("-")
        known = self._ids.get(key) or _find(client, run, name, kind)
        if known is None or not renew_card(client, known, data, description):
            card = ArtifactCreate(
                key=name, type=kind, data=data, description=description, flow_run_id=run
            )
            known = client.create_artifact(card).id
        self._ids[key] = known


def _cell(value: Any) -> Any:
    """Return what a cell shows: Prefect's page takes a text for Markdown, a dash for a list."""
    return "–" if value == "-" else value


def link_dask(cards: Cards, pool: str, url: str, workers: int) -> None:
    """Link the Dask dashboard of a pool.

    Args:
        cards: Those of the flow run.
        pool: The pool's name.
        url: Its dashboard, which only this machine can open.
        workers: How many it has at most.
    """
    count = "1 worker" if workers == 1 else f"{workers} workers at most"
    cards.link(
        f"dask-{pool}",
        url,
        f"Dask dashboard of the {pool} pool ({count})",
        f"What the {pool} pool does now ({count})",
    )


def _find(client: SyncPrefectClient, run: UUID, name: str, kind: Kind) -> UUID | None:
    """Return the card that an earlier attempt at a flow run has made; None if there is none."""
    mine = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[run]),
        key=ArtifactFilterKey(any_=[name]),
        type=ArtifactFilterType(any_=[kind]),
    )
    found = client.read_artifacts(artifact_filter=mine, sort=ArtifactSort.UPDATED_DESC, limit=1)
    return found[0].id if found else None


def renew_card(client: SyncPrefectClient, card: UUID, data: Any, description: str) -> bool:
    """Change what a card shows; return whether it is still there.

    Not by `update_artifact`, which also sends all that the card shows as an event: with a picture a
    minute these would fill the server's database.
    """
    change = ArtifactUpdate(data=data, description=description)
    try:
        client.request(
            "PATCH",
            "/artifacts/{id}",
            path_params={"id": card},
            json=change.model_dump(mode="json", exclude_unset=True),
        )
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        return False
    return True
