"""What a run shows on its page in Prefect: progress, errors, and links to the Dask dashboards."""

from __future__ import annotations

import base64
import re
import time
from pathlib import Path
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from aimspax_core.campaign.state import CampaignState
from aimspax_core.report.error_tables import columns
from aimspax_core.report.failed_labels import by_reason, rows
from aimspax_core.report.progress import progress
from aimspax_core.settings.settings import Settings
from flows.pools.open import Pools
from flows.runs.best_effort import best_effort

REFRESH_S = 10.0
"""From one renewal of the progress to the next; each is a call to the API."""

JOBS_S = 30.0
"""From one table of Slurm jobs to the next, if something has changed."""

TABLE_S = 60.0
"""From one table of errors to the next; Prefect keeps each as a version."""


class Dashboard:
    """The artifacts of one flow run."""

    def __init__(self, pools: Pools, settings: Settings) -> None:
        self._settings, self._pools = settings, pools
        self._name = re.sub(r"[^a-z0-9]+", "-", settings.directory.name.lower()).strip("-")
        self._shown = self._tabled = self._listed = 0.0
        self._progress: UUID | None = None
        self._rounds: tuple[int, int] = (-1, -1)
        self._failures = 0
        self._jobs: dict[str, list[dict[str, str]]] = {}
        with best_effort("linking the Dask dashboards"):
            for pool in pools:
                count = "1 worker" if pool.capacity == 1 else f"{pool.capacity} workers at most"
                create_link_artifact(
                    link=pool.dashboard,
                    link_text=f"Dask dashboard of the {pool.name} pool ({count})",
                    key=f"{self._name}-dask-{pool.name}",
                    description=f"Watch the {count} of the {pool.name} pool at work",
                )

    def show(self, state: CampaignState, force: bool = False) -> None:
        """Renew the artifacts, if it is time."""
        if not force and time.monotonic() - self._shown < REFRESH_S:
            return
        self._shown = time.monotonic()
        with best_effort("renewing the artifacts"):
            self._renew(state, force)

    def picture(self, path: Path, description: str) -> None:
        """Show a PNG on the run's page."""
        with best_effort("showing a picture"):
            data = base64.b64encode(path.read_bytes()).decode()
            create_image_artifact(
                f"data:image/png;base64,{data}", f"{self._name}-learning-curve", description
            )

    def _renew(self, state: CampaignState, force: bool) -> None:
        now = progress(state, self._settings.al.max_convergence_epochs)
        percent = 100 * (now.fraction or 0.0)
        description = f"{now.title}: {now.told}"
        if self._progress is None:
            self._progress = create_progress_artifact(
                percent, f"{self._name}-progress", description
            )  # type: ignore[assignment]
        else:
            update_progress_artifact(self._progress, percent, description)
        if state.failed_labels != self._failures:
            self._failures = state.failed_labels
            create_table_artifact(
                table=rows(state),
                key=f"{self._name}-without-label",
                description=_without_label(state),
            )
        if force or time.monotonic() - self._listed > JOBS_S:
            self._listed = time.monotonic()
            self._list_jobs()
        converged = sum(m.converge_epochs for m in state.members.values())
        due = force or time.monotonic() - self._tabled > TABLE_S
        if due and (state.rounds, converged) != self._rounds:
            self._tabled, self._rounds = time.monotonic(), (state.rounds, converged)
            create_table_artifact(
                table=error_rows(state, self._settings.model.MISC.error_table),
                key=f"{self._name}-validation-errors",
                description="Errors of each member on its own validation set",
            )

    def _list_jobs(self) -> None:
        """Show the Slurm jobs of each pool, if there is something new to show."""
        for pool in self._pools:
            rows = pool.rows
            known = [{**row, "ends": ""} for row in rows]
            if known != self._jobs.get(pool.name, []):
                self._jobs[pool.name] = known
                create_table_artifact(
                    table=rows,
                    key=f"{self._name}-slurm-{pool.name}",
                    description=f"Slurm jobs of the {pool.name} pool",
                )


def _without_label(state: CampaignState) -> str:
    """Say how many points have no label, and why."""
    told = "; ".join(f"{count} × {reason}" for reason, count in by_reason(state))
    return (
        f"{state.failed_labels} points have no label ({state.refused} refused by the gate): {told}"
    )


def error_rows(state: CampaignState, error_table: str) -> list[dict[str, str | int]]:
    """One row a member, with the errors that the user wants to see."""
    errors = {tag: member.best or member.errors for tag, member in state.members.items()}
    shown = columns(error_table, errors.values())
    rows: list[dict[str, str | int]] = []
    for member in state.members.values():
        training, validation = state.dataset(member.tag)
        row: dict[str, str | int] = {
            "member": member.tag,
            "epochs": member.epochs + member.converge_epochs,
            "training": len(training),
            "validation": len(validation),
        }
        row |= {column.heading: column.text(errors[member.tag]) for column in shown}
        rows.append(row)
    return rows
