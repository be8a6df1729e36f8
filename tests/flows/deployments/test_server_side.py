"""What `aimspax undeploy` removes from a server, and what it leaves to others."""

from __future__ import annotations

import pytest
from prefect.client.orchestration import get_client

from flows.deployments.profile import ProfileName, read_profile
from flows.deployments.server_side import Change, Done, deploy, remove

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
