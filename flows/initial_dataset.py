"""The initial dataset alone, with an ensemble trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from aimspax_core.campaign.state import Phase
from flows.campaign import run_campaign
from flows.naming import campaign_name


@flow(name="initial-dataset", flow_run_name=campaign_name)
def initial_dataset(directory: Path, overrides: dict[str, Any] | None = None) -> State[Any]:
    """Sample, label and train until the initial dataset is good enough.

    Args:
        directory: The run directory, with `aimsPAX.yaml`, `mace.yaml` and a geometry.
        overrides: Values that replace those of the files, such as `{"ACTIVE_LEARNING.c_x": -0.1}`.
    """
    return run_campaign(Path(directory), overrides, until=Phase.READY, explore=False)
