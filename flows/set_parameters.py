"""Change settings of a campaign while it runs, from the page; as `aimspax set` does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from aimspax_core.campaign.requests import SetRequest
from aimspax_core.errors import SettingsError
from aimspax_core.inputs.parameters import yaml_text
from aimspax_core.settings.reading.nested import leaves
from flows.loops.asking import submit
from flows.runs.failures import plain_failures
from flows.runs.names import campaign_name, run_directory


@flow(name="set-parameters", flow_run_name=campaign_name)
@plain_failures
def set_parameters(directory: Path, values: dict[str, Any]) -> State[Any]:
    """Change settings of a campaign that was begun, running or not; the files stay as they are.

    Args:
        directory: The run directory.
        values: New values by key, such as `{"c_x": -0.1, "CLUSTER.blocks.max_blocks": 8}`.

    Raises:
        SettingsError: A value is not allowed, or a key cannot change on the way.
        CampaignError: No campaign was begun there.
    """
    texts = {".".join(map(str, path)): yaml_text(value) for path, value in leaves(values)}
    if not texts:
        raise SettingsError('values: found none; allowed: new values by key, {"c_x": -0.1}')
    now, by = time.time(), f"the flow run {flow_run.name or flow_run.id}"
    request = SetRequest(values=texts, time=now, by=by)
    outcome = submit(run_directory(directory), {}, request)
    if outcome.waits:
        return Completed(message=outcome.waits_text)
    told = (f"{one.key}: {one.value} (before: {one.before})" for one in outcome.set_at(now))
    return Completed(message=f"in force from now on: {', '.join(told)}")
