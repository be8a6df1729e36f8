"""The inputs of a run that nobody has read before it, as a deployed run's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aimspax_core.inputs.campaign_inputs import Inputs, Part
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from aimspax_core.settings.reading.which_files import settings_files
from flows.page.events import DirectoryEvents
from flows.runs.restarts import begun_often, refuse_uncounted


def read_inputs(directory: Path, overrides: dict[str, Any] | None, part: Part) -> Inputs:
    """Read a run directory, unless that has been the end of too many attempts at this run.

    Args:
        directory: The run directory.
        overrides: Values that replace those of the settings files.
        part: What is going to run.

    Raises:
        SettingsError, StructureError, CampaignError: As `Inputs.read` does.
        StalledError: The attempts before this one died here.
    """
    if begun_often():
        run = RunDir.of(load(directory, *settings_files(directory, overrides)))
        with DirectoryEvents(run).telling_stalls():
            refuse_uncounted(run.flow_run, run.restarts)
    return Inputs.read(directory, overrides, part)
