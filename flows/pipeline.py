"""The whole campaign: initial dataset, active learning, convergence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.loops.campaign import run_campaign
from flows.runs.failures import plain_failures
from flows.runs.names import campaign_name, run_directory


@flow(name="aims-pax", flow_run_name=campaign_name)
@plain_failures
def aims_pax(directory: Path, overrides: dict[str, Any] | None = None) -> State[Any]:
    """Make an initial dataset, explore with the committee until a stopping rule holds, converge.

    Args:
        directory: The run directory, with `aimsPAX.yaml`, `mace.yaml` and a geometry; from the web
            page its absolute path.
        overrides: Values that replace those of the files, such as
            `{"ACTIVE_LEARNING.desired_acc": 0.05}`; `aimsPAX_settings` and `model_settings` name
            other files than the usual two.
    """
    return run_campaign(run_directory(directory), overrides, "all")
