"""The command `aimspax report`: a page on a campaign, its numbers, and what to cite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.commands.exit_codes import DONE, console


def report(directory: Path, overrides: Mapping[str, Any], save: Path | None) -> int:
    """Write the report of a campaign; print the files.

    Args:
        directory: The run directory.
        overrides: As for a run.
        save: Where to write; None: into the run directory.

    Raises:
        SettingsError: The settings of the directory cannot be used.
        CampaignError: There is no campaign; or a file of the user's stands in the page's place.
    """
    from aimspax_core.inputs.campaign_inputs import Inputs
    from flows.loops.report import written

    for path in written(Inputs.of_campaign(directory, overrides), save):
        console.print(str(path), markup=False, soft_wrap=True)
    return DONE
