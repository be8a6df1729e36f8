"""The commands that run a campaign, or a part of it, in this process.

Prefect takes seconds to import, and is only where a campaign is to run.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.errors import SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs, Part
from aimspax_core.inputs.fresh import began_from_given, move_aside
from aimspax_core.inputs.provenance import require_unchanged
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from aimspax_core.settings.reading.which_files import settings_files
from aimspax_core.settings.settings import Settings
from flows.commands.ends import nothing_to_end
from flows.commands.exit_codes import console
from flows.commands.status import asks_more, report_outcome, show_results
from flows.pools import warm_parent
from flows.runs.library_warnings import keep_apart

if TYPE_CHECKING:
    from flows.server import Server


@dataclass(frozen=True)
class Plan:
    """What is going to run, in a run directory that has no mistakes.

    Attributes:
        part: The whole campaign, its initial dataset or active learning.
        inputs: The run directory, read and checked.
        overrides: Values that replace those of the settings files.
    """

    part: Part
    inputs: Inputs
    overrides: dict[str, Any]

    @property
    def finished(self) -> CampaignState | None:
        """The campaign, if it is finished and the stopping rules of today ask for no more."""
        state = self.inputs.state
        if state is None or state.phase is not Phase.FINISHED or asks_more(state, self.inputs):
            return None
        return state


def run_flow(part: Part, directory: Path, overrides: dict[str, Any], fresh: bool = False) -> int:
    """Run a campaign, or a part of it; return the exit code."""
    return execute(prepare(part, directory, overrides, fresh))


def prepare(part: Part, directory: Path, overrides: dict[str, Any], fresh: bool = False) -> Plan:
    """Read and check a run directory; with `fresh`, move the campaign that was begun there aside.

    Raises:
        AimspaxError: There is something for the user to mend.
    """
    if fresh:
        return Plan(part, _afresh(part, directory, overrides), overrides)
    inputs = Inputs.read(directory, overrides, part)
    if inputs.state is None or not inputs.state.adopting:
        require_unchanged(inputs.run, inputs.settings, inputs.geometries)
    return Plan(part, inputs, overrides)


def execute(plan: Plan) -> int:
    """Run the flow of a plan and report how it ended; return the exit code."""
    settings, run_dir = plan.inputs.settings, plan.inputs.run
    if plan.finished is not None:
        return show_results(run_dir, plan.finished, settings)
    # Nobody waits for a server or an import who does not want to: what ends a command in other
    # ways would wait for the import.
    with nothing_to_end():
        from flows.commands.console import following, saying, signs_of_life

        with saying(console):
            make_ready(settings)
        from flows.runs.handed_over import hand_over
        from flows.runs.outcome import outcome_of

        flow = _flow_of(plan.part)
    began = time.monotonic()
    shown = following(console, settings.al.max_convergence_epochs)
    with shown, signs_of_life(console), hand_over(plan.inputs):
        outcome = outcome_of(flow, settings.directory, plan.overrides)
    return report_outcome(outcome, run_dir, settings, time.monotonic() - began)


def make_ready(settings: Settings) -> None:
    """Find or start the server, and import meanwhile what a flow needs, which takes seconds.

    Until that is imported this thread leaves Prefect alone, and all of which the import makes use.

    Raises:
        ServerError: The server does not answer, or cannot be started.
        SettingsError: It cannot listen where the settings say.
    """
    from flows import server

    server.keep_untracked()
    _keep_quiet()
    keep_apart(RunDir.of(settings).logs)
    if settings.cluster.ml_jobs is None or settings.cluster.reference_jobs is None:
        warm_parent.begin(warm_parent.common_modules(settings))
    if _has_jobs(settings):
        importlib.import_module("flows.pools.jobs.script_check")
    loading = threading.Thread(target=importlib.import_module, args=("flows.pipeline",))
    loading.start()
    try:
        show_dashboard(server_for(settings, prefect_reads=False))
    except Exception:
        loading.join()  # a process that ends meanwhile would show its traceback
        raise
    loading.join()
    server.read_again()


def _has_jobs(settings: Settings) -> bool:
    return settings.cluster.reference_jobs is not None or settings.cluster.ml_jobs is not None


def _afresh(part: Part, directory: Path, overrides: dict[str, Any]) -> Inputs:
    """Move the campaign that was begun here aside; return the inputs of the new one.

    The earlier one may be damaged in any way: nothing of it is read that is not needed.
    """
    run = RunDir.of(load(directory, *settings_files(directory, overrides)))
    if part == "active" and began_from_given(run) is False:
        raise SettingsError(
            f"{run.output}: the initial dataset of this campaign is its own, and would be "
            "moved aside with it; `aimspax run --fresh` makes it anew"
        )
    inputs = Inputs.read(directory, overrides, part, anew=True)
    aside = move_aside(run)
    if aside is None:
        return inputs
    console.print(
        f"the earlier campaign is now in {aside}; its labels are used again", markup=False
    )
    return Inputs.read(directory, overrides, part)


def _flow_of(part: Part) -> Callable[..., Any]:
    match part:
        case "initial":
            from flows.initial_dataset import initial_dataset

            return initial_dataset
        case "active":
            from flows.active_learning import active_learning

            return active_learning
        case _:
            from flows.pipeline import aims_pax

            return aims_pax


def server_for(settings: Settings, prefect_reads: bool = True) -> Server:
    """Find or start the Prefect server; with jobs of a cluster, one that compute nodes reach.

    Args:
        settings: The settings of the campaign.
        prefect_reads: See `server.ensure`.

    Raises:
        ServerError: The server does not answer, or cannot be started.
        SettingsError: It cannot listen where the settings say.
    """
    from flows import server

    host = None
    if _has_jobs(settings):
        from flows.pools.jobs.script_check import host_for_jobs  # takes seconds

        host = host_for_jobs(settings)
    _keep_quiet()
    return server.ensure(host, settings.misc.server_password, prefect_reads)


def _keep_quiet() -> None:
    """Have Prefect print no lines: they would repeat ours, or stand between them."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")


def show_dashboard(server: Server) -> None:
    """Print where the dashboard of a server is, and how to log in if it asks for a password."""
    console.print(f"dashboard: {server.url}", markup=False)
    if server.password:
        console.print(login_text(server), markup=False)


def login_text(server: Server) -> str:
    """Return why a server asks for a password, where that is, and how to log in."""
    why = f": {server.why}" if server.why else ""
    how = ": paste the file's whole line into the page" if server.password_file else ""
    return f"the server asks for a password{why}. It is in {server.password}{how}"
