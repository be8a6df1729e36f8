"""What the commands of `aimspax` do with a run directory.

Prefect is imported late: the address of its API must be known first.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimspax_core.campaign.journal import load as load_journal
from aimspax_core.campaign.state import Phase
from aimspax_core.errors import SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs, Part
from aimspax_core.inputs.fresh import move_aside
from aimspax_core.inputs.provenance import changed
from aimspax_core.settings.settings import Settings
from flows.commands.exit_codes import console
from flows.commands.status import asks_more, report_outcome, show_results

if TYPE_CHECKING:
    from flows.server import Server


_FLOWS: dict[Part, tuple[str, str]] = {
    "all": ("flows.pipeline", "aims_pax"),
    "initial": ("flows.initial_dataset", "initial_dataset"),
    "active": ("flows.active_learning", "active_learning"),
}


def run_flow(part: Part, directory: Path, overrides: dict[str, Any], fresh: bool = False) -> int:
    """Run a flow in this process, once nothing is left that the user would have to mend."""
    inputs = Inputs.read(directory, overrides, part)
    settings, run_dir = inputs.settings, inputs.run
    _, state = load_journal(run_dir)
    if fresh and part == "active" and state is not None and not state.adopted:
        raise SettingsError(
            f"{run_dir.output}: the initial dataset of this campaign is its own, and would be "
            "moved aside with it; `aimspax run --fresh` makes it anew"
        )
    if not fresh and not (state is not None and state.adopting):
        changed(run_dir, settings, inputs.geometries)
    if fresh and (aside := move_aside(run_dir)):
        console.print(
            f"the earlier campaign is now in {aside}; its labels are used again", markup=False
        )
    _, state = load_journal(run_dir)
    finished = state is not None and state.phase is Phase.FINISHED
    if state is not None and finished and not asks_more(state, inputs):
        return show_results(run_dir, state, settings)
    show_dashboard(server_for(settings))
    module, name = _FLOWS[part]
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    from flows.commands.console import following

    began = time.monotonic()
    with following(console, settings.al.max_convergence_epochs):
        outcome = function(settings.directory, overrides, return_state=True)
    return report_outcome(outcome, run_dir, settings, time.monotonic() - began)


def server_for(settings: Settings) -> Server:
    """Find or start the Prefect server; one that compute nodes reach, if there are any.

    Raises:
        ServerError: There is none.
        SettingsError: It cannot listen where the settings say.
    """
    from flows import server

    host = None
    if settings.cluster.reference_jobs is not None or settings.cluster.ml_jobs is not None:
        from flows.pools.jobs.check import host_for_jobs  # takes seconds

        host = host_for_jobs(settings)
    found = server.ensure(host)
    # Prefect's own console lines would repeat ours, or stand between them; its page has them all.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    return found


def show_dashboard(server: Server) -> None:
    """Say where a server is, and what opens it."""
    console.print(f"dashboard: {server.url}", markup=False)
    if server.password:
        console.print(f"it asks for a password, which is in {server.password}", markup=False)
