"""What the commands of `aimspax` do with a run directory.

Prefect is imported late: the address of its API must be known first.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from aimspax_core.campaign.events import Resumed
from aimspax_core.campaign.journal import holder
from aimspax_core.campaign.journal import load as load_journal
from aimspax_core.campaign.labels import LabelStore, gone_labels
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.errors import AimspaxError, SettingsError
from aimspax_core.inputs import Inputs, Part
from aimspax_core.report.plan import plan, split_table
from aimspax_core.report.progress import progress
from aimspax_core.rundir import RunDir
from aimspax_core.settings.files import settings_files
from aimspax_core.settings.load import Settings, load
from aimspax_core.settings.provenance import changed
from flows.aside import move_aside

if TYPE_CHECKING:
    from flows.server import Server

DONE, FAILED, USER, STOPPED = 0, 1, 2, 130
"""Exit codes."""

console = Console(highlight=False, soft_wrap=True)


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
    if state is not None and finished and not _asks_more(state, inputs):
        return _show_results(run_dir, state, settings)
    show_dashboard(server_for(settings))
    module, name = _FLOWS[part]
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    from flows.console import following

    began = time.monotonic()
    with following(console, settings.al.max_convergence_epochs):
        outcome = function(settings.directory, overrides, return_state=True)
    return _report(outcome, run_dir, settings, time.monotonic() - began)


def server_for(settings: Settings) -> Server:
    """Find or start the Prefect server; one that compute nodes reach, if there are any.

    Raises:
        ServerError: There is none.
        SettingsError: It cannot listen where the settings say.
    """
    from flows import server

    host = None
    if settings.cluster.reference_jobs is not None or settings.cluster.ml_jobs is not None:
        from flows.slurm_check import host_for_jobs  # takes seconds

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


def check(directory: Path, overrides: Mapping[str, Any]) -> int:
    """Print what would run, once no mistakes are found."""
    inputs = Inputs.read(directory, overrides, "any")
    settings = inputs.settings
    for note in settings.notes:
        console.print(f"note: {note}", style="yellow", markup=False)
    for change in changed(inputs.run, settings, inputs.geometries):
        console.print(f"changed since the run was started: {change}", markup=False)
    for line in plan(settings, inputs.geometries, tuple(inputs.seeds)):
        console.print(line, markup=False, soft_wrap=True)
    if settings.has_initial:
        table = Table("sampling step", "training", "validation", title="Points of each member")
        for step, training, validation in split_table(settings, len(inputs.geometries)):
            table.add_row(str(step), str(training), str(validation))
        console.print(table)
    refused = _show_scripts(settings)
    _, state = load_journal(inputs.run)
    if refused:
        return USER
    if state is None:
        console.print("No mistakes found; nothing has been run here yet.")
        return DONE
    gone = gone_labels(LabelStore(inputs.run.labels), state.labelled, inputs.run.structure)
    if gone:
        console.print(f"labels that will be computed again: {len(gone)}", markup=False)
    console.print(f"No mistakes found. A campaign is here: {_told(state, settings)}", markup=False)
    return DONE


def _show_scripts(settings: Settings) -> bool:
    """Print the scripts of Slurm jobs; return whether Slurm refuses one."""
    cluster = settings.cluster
    if cluster.reference_jobs is None and cluster.ml_jobs is None:
        return False
    from flows.slurm_check import scripts  # takes seconds

    refused = False
    for script in scripts(settings):
        console.print(f"\njob script of the {script.pool} pool:", style="bold", markup=False)
        console.print(script.text.rstrip(), markup=False)
        if script.refused:
            refused = True
            console.print(f"it would fail: {script.problem}\n", style="red", markup=False)
        elif script.problem:
            told = f"Slurm could not be asked about it: {script.problem}\n"
            console.print(told, style="yellow", markup=False)
        else:
            console.print(f"{script.taken}\n", markup=False)
    return refused


def status(directory: Path, overrides: Mapping[str, Any]) -> int:
    """Print how far a campaign is."""
    settings = load(directory, *settings_files(directory, overrides))
    run_dir = RunDir.of(settings)
    _, state = load_journal(run_dir)
    if state is None:
        console.print(f"{run_dir.output}: no campaign has been started here", markup=False)
        return DONE
    who = holder(run_dir)
    running = f"process {who.get('pid')} on {who.get('host')} runs it" if who else "nobody runs it"
    console.print(f"{_told(state, settings)} ({running})", markup=False)
    if state.stop_reason:
        console.print(f"reason: {state.stop_reason}", markup=False)
    from flows.console import status_tables

    for table in status_tables(state, settings.model.MISC.error_table):
        console.print(table)
    return DONE


def _report(outcome: Any, run_dir: RunDir, settings: Settings, seconds: float) -> int:
    """Say how the run ended; return the exit code."""
    _, state = load_journal(run_dir)
    if outcome.is_completed() and state is not None:
        minutes = f"{seconds / 60:.1f} min"
        if state.phase is Phase.FINISHED:
            console.print(f"finished in {minutes}")
            return _show_results(run_dir, state, settings)
        console.print(f"{_told(state, settings)} ({minutes})", markup=False)
        return DONE
    return not_completed(outcome)


def not_completed(outcome: Any) -> int:
    """Say why a flow did not end well; return the exit code.

    Raises:
        AimspaxError: It ended with one of ours, which `cli.finish` tells.
    """
    error = outcome.result(raise_on_failure=False)
    if isinstance(error, AimspaxError):
        raise error
    console.print(f"{outcome.name}: {outcome.message}", style="red", markup=False)
    return STOPPED if outcome.is_cancelled() else FAILED


def _show_results(run_dir: RunDir, state: CampaignState, settings: Settings) -> int:
    console.print(f"This campaign is finished: {state.stop_reason}", markup=False)
    console.print(_told(state, settings), markup=False)
    table = Table("file", "kB", title=f"Results in {run_dir.results}")
    for path in sorted(run_dir.results.iterdir()):
        table.add_row(path.name, f"{path.stat().st_size / 1024:.0f}")
    console.print(table)
    return DONE


def _told(state: CampaignState, settings: Settings) -> str:
    now = progress(state, settings.al.max_convergence_epochs)
    return f"{now.title}: {now.told}"


def _asks_more(state: CampaignState, inputs: Inputs) -> bool:
    """True if the stopping rules, as they are today, would let a finished campaign go on."""
    return apply(state, Resumed(rules=inputs.rules)).phase is not Phase.FINISHED
