"""The whole campaign: initial dataset, active learning, convergence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from aimspax_core.campaign.state import Phase
from flows.campaign import run_campaign
from flows.naming import campaign_name


@flow(name="aims-pax", flow_run_name=campaign_name)
def aims_pax(directory: Path, overrides: dict[str, Any] | None = None) -> State[Any]:
    """Make an initial dataset, explore with the committee until a stopping rule holds, converge.

    Args:
        directory: The run directory, with `aimsPAX.yaml`, `mace.yaml` and a geometry.
        overrides: Values that replace those of the files, such as `{"ACTIVE_LEARNING.c_x": -0.1}`.
    """
    return run_campaign(Path(directory), overrides, until=Phase.FINISHED, explore=True)
