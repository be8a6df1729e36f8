"""The command `aimspax report`: a page on a campaign, or on several held against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aimspax_core.errors import SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.inputs.provenance import recorded_otherwise
from flows.commands.exit_codes import DONE, console


def report(directories: Sequence[Path], overrides: Mapping[str, Any], save: Path | None) -> int:
    """Write the report of a campaign, or the comparison of several; print the files.

    Args:
        directories: The run directories, at least one.
        overrides: As for a run; for all of them.
        save: Where to write; None: a report into the run directory, a comparison into the working
            directory.

    Raises:
        SettingsError: The settings of a directory cannot be used.
        CampaignError: There is no campaign; or a file of the user's stands in the page's place.
    """
    from aimspax_core.report.document.comparison import names_of
    from aimspax_core.report.document.writing import write_comparison
    from flows.loops.report import source, written

    directories = list(dict.fromkeys(path.resolve() for path in directories))
    campaigns = [_campaign(directory, overrides) for directory in directories]
    if len(campaigns) == 1:
        paths = written(campaigns[0], save)
    else:
        names = names_of(directories)
        sources = {name: source(one) for name, one in zip(names, campaigns, strict=True)}
        paths = write_comparison(sources, save or Path())
    for path in paths:
        console.print(str(path), markup=False, soft_wrap=True)
    return DONE


def _campaign(directory: Path, overrides: Mapping[str, Any]) -> Inputs:
    """Read a campaign with the settings that it was last run with, as far as they are known.

    Raises:
        SettingsError: The settings of the directory cannot be used.
        CampaignError: There is no campaign.
    """
    found = Inputs.of_campaign(directory, overrides)
    was = recorded_otherwise(found.run, found.settings)
    if not was:
        return found
    try:
        return Inputs.of_campaign(directory, {**was, **overrides})
    except SettingsError:  # they do not go with what the files say today
        return found
