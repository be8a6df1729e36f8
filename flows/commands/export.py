"""The command `aimspax export`: models of a finished campaign for those who run MD with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from flows.commands.exit_codes import DONE, console

LammpsFormat = Literal["mliap", "libtorch"]


def export(
    directory: Path,
    overrides: Mapping[str, Any],
    save: Path | None,
    lammps: Sequence[LammpsFormat] | None,
) -> int:
    """Write models, LAMMPS files, scripts and a card; print what was written.

    Raises:
        SettingsError: The settings of the directory cannot be used.
        CampaignError: There are no results.
        ModelError: A model cannot be written so.
    """
    from aimspax_core.evaluation.export import export as written
    from aimspax_core.evaluation.finished import Finished
    from aimspax_core.inputs.campaign_inputs import Inputs

    found = Inputs.of_campaign(directory, overrides)
    assert found.state is not None, "a campaign has a state"
    campaign = Finished(found.run, found.settings, found.state, found.geometries)
    folder = save or found.run.output / "export"
    for path in written(campaign, folder, lammps):
        console.print(str(path), markup=False, soft_wrap=True)
    return DONE
