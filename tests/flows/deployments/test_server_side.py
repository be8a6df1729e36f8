"""What `aimspax deploy` and `undeploy` remove from a server, and what they leave to others."""

from __future__ import annotations

import pytest
from prefect.client.orchestration import get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.deployments.profile import AUTOMATIONS, ProfileName, read_automations, read_profile
from flows.deployments.server_side import (
    Change,
    Done,
    automate,
    deploy,
    remove,
    remove_automations,
)
from flows.server import Server
from tests.flows.busy_api import busy_at_first

PROFILE = read_profile(ProfileName.LOCAL)
OTHER = "of-somebody-else"


def changes(done: list[Done]) -> dict[str, Change]:
    return {one.what.partition(":")[0]: one.change for one in done}


@pytest.mark.usefixtures("prefect_server")
def test_a_pool_is_removed_once_nobody_else_uses_it() -> None:
    (pool,) = PROFILE.pools
    with get_client(sync_client=True) as client:
        list(deploy(client, PROFILE))
        flow = client.create_flow_from_name("others")
        other = client.create_deployment(flow_id=flow, name=OTHER, work_pool_name=pool)
        kept = list(remove(client, PROFILE))
        assert changes(kept)[f"work pool {pool}"] is Change.KEPT
        assert OTHER in str(kept[-1])
        assert client.read_deployment(other).work_pool_name == pool
        client.delete_deployment(other)
        assert changes(list(remove(client, PROFILE))) == {f"work pool {pool}": Change.REMOVED}
        assert not list(remove(client, PROFILE))


@pytest.mark.usefixtures("prefect_server")
def test_automations_are_removed_by_name_and_only_ours() -> None:
    (plan, *_) = read_automations()
    former = plan.model_copy(update={"name": "former"})
    with get_client(sync_client=True) as client:
        list(automate(client, [plan, former], AUTOMATIONS))
        others = client.read_automations_by_name("former")[0].model_copy(update={"tags": []})
        theirs = client.create_automation(AutomationCore.model_validate(others.model_dump()))
        done = list(remove_automations(client, ["former"]))
        assert changes(done) == {"automation 'former'": Change.REMOVED}
        assert [one.id for one in client.read_automations_by_name("former")] == [theirs]
        assert client.read_automations_by_name(plan.name)
        client.delete_automation(theirs)
        assert changes(list(remove_automations(client))) == {
            f"automation {plan.name!r}": Change.REMOVED
        }


def test_what_is_deployed_is_made_though_the_server_is_busy(prefect_server: Server) -> None:
    (plan, *_) = read_automations()
    with (
        busy_at_first(prefect_server.api_url, times=4) as url,
        temporary_settings({PREFECT_API_URL: url}),
        get_client(sync_client=True) as client,
    ):
        assert changes(list(automate(client, [plan], AUTOMATIONS))) == {
            f"automation {plan.name!r}": Change.MADE
        }
        list(remove_automations(client))
