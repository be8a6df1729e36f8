"""The command `aimspax check`: every mistake found before anything is launched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from aimspax_core.errors import SettingsError, StructureError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.inputs.parameters import origins
from aimspax_core.inputs.provenance import changed
from aimspax_core.labels.store import LabelStore, gone_labels
from aimspax_core.report.plan import plan, split_table
from aimspax_core.settings.load import load
from aimspax_core.settings.reading.which_files import settings_files
from aimspax_core.settings.settings import Settings
from flows.commands.exit_codes import DONE, USER, console
from flows.commands.status import state_text


def check(directory: Path, overrides: Mapping[str, Any]) -> int:
    """Print what would run, once no mistakes are found.

    Raises:
        AimspaxError: There are mistakes; what the scheduler would refuse is told beside them.
    """
    try:
        inputs = Inputs.read(directory, overrides, "any")
    except (SettingsError, StructureError) as error:
        further = _refused_besides(directory, overrides)
        if not further:
            raise
        raise SettingsError("\n".join((str(error), *further))) from error
    settings = inputs.settings
    for note in settings.notes:
        console.print(f"note: {note}", style="yellow", markup=False)
    for change in changed(inputs.run, settings, inputs.geometries):
        console.print(f"changed since the run was started: {change}", markup=False)
    for line in origins(inputs.state, directory, overrides):
        console.print(line, markup=False)
    for line in plan(settings, inputs.geometries, tuple(inputs.seeds)):
        console.print(line, markup=False, soft_wrap=True)
    if settings.has_initial:
        table = Table("sampling step", "training", "validation", title="Points of each member")
        for step, training, validation in split_table(settings, len(inputs.geometries)):
            table.add_row(str(step), str(training), str(validation))
        console.print(table)
    refused = _show_scripts(settings)
    if refused:
        return USER
    state = inputs.state
    if state is None:
        console.print("No mistakes found; nothing has been run here yet.")
        return DONE
    gone = gone_labels(LabelStore(inputs.run.labels), state.labelled, inputs.run.structure)
    if gone:
        console.print(f"labels that will be computed again: {len(gone)}", markup=False)
    console.print(
        f"No mistakes found. A campaign is here: {state_text(state, settings)}", markup=False
    )
    return DONE


def _refused_besides(directory: Path, overrides: Mapping[str, Any]) -> list[str]:
    """Return what the scheduler would refuse of batch jobs, as far as the settings can be read."""
    try:
        settings = load(directory, *settings_files(directory, overrides))
    except SettingsError:
        return []  # which are told
    if settings.cluster.reference_jobs is None and settings.cluster.ml_jobs is None:
        return []
    from flows.pools.jobs.script_check import scripts  # takes seconds

    place = settings.project_places.of("CLUSTER")
    try:
        return [
            f"{place}: the jobs of the {script.pool} pool would fail: {script.problem}"
            for script in scripts(settings)
            if script.refused
        ]
    except SettingsError as error:  # no scheduler, or no address
        return [str(error)]


def _show_scripts(settings: Settings) -> bool:
    """Print the scripts of batch jobs; return whether their scheduler refuses one."""
    cluster = settings.cluster
    if cluster.reference_jobs is None and cluster.ml_jobs is None:
        return False
    from flows.pools.jobs.script_check import scripts  # takes seconds

    refused = False
    for script in scripts(settings):
        console.print(f"\njob script of the {script.pool} pool:", style="bold", markup=False)
        console.print(script.text.rstrip(), markup=False)
        if script.refused:
            refused = True
            console.print(f"it would fail: {script.problem}\n", style="red", markup=False)
        elif script.problem:
            reason = f"{script.scheduler} could not be asked about it: {script.problem}\n"
            console.print(reason, style="yellow", markup=False)
        else:
            console.print(f"{script.taken}\n", markup=False)
    return refused
