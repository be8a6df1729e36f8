"""Active learning alone, from an initial dataset that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.loops.campaign import run_campaign
from flows.runs.failures import plain_failures
from flows.runs.names import campaign_name, run_directory


@flow(name="active-learning", flow_run_name=campaign_name)
@plain_failures
def active_learning(directory: Path, overrides: dict[str, Any] | None = None) -> State[Any]:
    """Explore with the committee, label what it is unsure of, retrain; until a stopping rule holds.

    Args:
        directory: The run directory; the initial dataset has been made there, or it holds trained
            models (`model/`) and datasets to begin from.
        overrides: Values that replace those of the files, such as
            `{"ACTIVE_LEARNING.desired_acc": 0.05}`; `aimsPAX_settings` and `model_settings` name
            other files than the usual two.

    Raises:
        CampaignError: There is no initial dataset, and nothing else to begin from.
    """
    return run_campaign(run_directory(directory), overrides, "active")
