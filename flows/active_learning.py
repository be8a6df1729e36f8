"""Active learning alone, from an initial dataset that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from aimspax_core.campaign.journal import load
from aimspax_core.campaign.state import Phase
from aimspax_core.errors import CampaignError
from aimspax_core.inputs import Inputs
from flows.campaign import run_campaign
from flows.naming import campaign_name


@flow(name="active-learning", flow_run_name=campaign_name)
def active_learning(directory: Path, overrides: dict[str, Any] | None = None) -> State[Any]:
    """Explore with the committee, label what it is unsure of, retrain; until a stopping rule holds.

    Args:
        directory: The run directory; the initial dataset has been made there.
        overrides: Values that replace those of the files, such as `{"ACTIVE_LEARNING.c_x": -0.1}`.

    Raises:
        CampaignError: There is no initial dataset.
    """
    campaign = Inputs.read(Path(directory), overrides)
    _, state = load(campaign.run)
    if state is None or not state.published_initial:
        raise CampaignError(
            f"{campaign.run.output}: the initial dataset is not done yet; "
            "`aimspax initial-dataset` makes it, `aimspax run` does both"
        )
    return run_campaign(Path(directory), overrides, until=Phase.FINISHED, explore=True)
