"""What a run shows on its page in Prefect: progress, errors, and links to the Dask dashboards."""

from __future__ import annotations

import time
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from aimspax_core.campaign.state import CampaignState
from aimspax_core.report.progress import progress
from aimspax_core.settings.load import Settings
from flows.pools import Pools

REFRESH_S = 10.0
"""From one renewal of the artifacts to the next; each is a call to the API."""


class Dashboard:
    """The artifacts of one flow run."""

    def __init__(self, pools: Pools, settings: Settings) -> None:
        self._settings = settings
        self._shown = 0.0
        self._progress: UUID | None = None
        self._rounds: tuple[int, int] = (-1, -1)
        for pool in pools:
            create_link_artifact(
                link=pool.dashboard,
                link_text=f"Dask dashboard of the {pool.name} pool ({pool.workers} workers)",
                key=f"dask-{pool.name}",
            )

    def show(self, state: CampaignState, force: bool = False) -> None:
        """Renew the artifacts, if it is time."""
        if not force and time.monotonic() - self._shown < REFRESH_S:
            return
        self._shown = time.monotonic()
        now = progress(state, self._settings.al.max_convergence_epochs)
        percent = 100 * (now.fraction or 0.0)
        description = f"{now.title}: {now.told}"
        if self._progress is None:
            self._progress = create_progress_artifact(percent, "campaign", description)  # type: ignore[assignment]
        else:
            update_progress_artifact(self._progress, percent, description)
        converged = sum(m.converge_epochs for m in state.members.values())
        if (state.rounds, converged) != self._rounds:
            self._rounds = (state.rounds, converged)
            create_table_artifact(
                table=_errors(state),
                key="validation-errors",
                description="Errors of each member on its own validation set",
            )


def _errors(state: CampaignState) -> list[dict[str, str | int]]:
    """One row a member: forces in meV/Å, energies in meV/atom."""
    rows: list[dict[str, str | int]] = []
    for member in state.members.values():
        errors = member.best or member.errors
        training, validation = state.dataset(member.tag)
        numbers = (
            (errors.mae_f, errors.rmse_f, errors.mae_e_per_atom, errors.rmse_e_per_atom)
            if errors
            else ()
        )
        texts = [f"{1000 * number:.1f}" for number in numbers] or ["-"] * 4
        rows.append(
            {
                "member": member.tag,
                "epochs": member.epochs + member.converge_epochs,
                "training": len(training),
                "validation": len(validation),
                **dict(
                    zip(
                        ("force MAE (meV/Å)", "force RMSE (meV/Å)", "energy MAE (meV/atom)", "energy RMSE (meV/atom)"),
                        texts,
                        strict=True,
                    )
                ),
            }
        )  # fmt: skip
    return rows
