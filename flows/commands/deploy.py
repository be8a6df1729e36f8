"""The commands `aimspax deploy` and `aimspax undeploy`.

Prefect is imported late: the address of its API must be known first.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.exit_codes import DONE, console
from flows.commands.options import Host
from flows.commands.run import show_dashboard
from flows.deployments.profile import (
    AUTOMATIONS,
    ProfileName,
    former_automations,
    read_automations,
    read_profile,
)

if TYPE_CHECKING:
    from flows.deployments.server_side import Done


@Parameter(name="*")
@dataclass(frozen=True)
class DeployOptions:
    """What is deployed, and to which server."""

    profile: Annotated[
        ProfileName,
        Parameter(help="Where the flows' workers are: on this machine, or in Slurm jobs as well."),
    ] = ProfileName.LOCAL
    automations: Annotated[
        tuple[Path, ...],
        Parameter(
            help="Files with automations of your own, as deployments/automation-example.yaml.",
            consume_multiple=True,
            negative=(),
            show_default=False,
        ),
    ] = ()
    host: Host = None


DEFAULT_OPTIONS = DeployOptions()


def deploy(options: DeployOptions) -> int:
    """Make pools, deployments, schedules and automations on the server that a run would use."""
    profile = read_profile(options.profile)
    files = [AUTOMATIONS, *(path.expanduser().resolve() for path in options.automations)]
    automations = [(file, read_automations(file)) for file in files]
    from flows import server

    found = server.ensure(options.host)
    show_dashboard(found)
    from prefect.client.orchestration import get_client

    from flows.deployments.server_side import automate, remove_automations
    from flows.deployments.server_side import deploy as deploy_profile

    with get_client(sync_client=True) as client:
        _print(deploy_profile(client, profile))
        _print(remove_automations(client, former_automations()))
        for file, plans in automations:
            _print(automate(client, plans, file))
    host = f" --host {shlex.quote(options.host)}" if options.host else ""
    console.print("next, in a shell that stays open (tmux), or as a service:")
    console.print(f'  eval "$(aimspax server env{host})"', markup=False)
    for pool in profile.pools:
        console.print(f"  prefect worker start --pool {pool}", markup=False)
    return DONE


def undeploy(profile: ProfileName | None) -> int:
    """Remove what `deploy` has made; automations with the last profile."""
    from flows import server

    found = server.ensure()
    show_dashboard(found)
    from prefect.client.orchestration import get_client

    from flows.deployments.server_side import deployed, remove, remove_automations

    chosen = [profile] if profile else list(ProfileName)
    with get_client(sync_client=True) as client:
        gone = sum(_print(remove(client, read_profile(name))) for name in chosen)
        if not any(deployed(client, read_profile(name)) for name in ProfileName):
            gone += _print(remove_automations(client))
    if not gone:
        console.print("nothing was deployed")
    return DONE


def _print(done: Iterable[Done]) -> int:
    """Print what is done, as it is done; return how many things that were."""
    lines = 0
    for one in done:
        console.print(str(one), markup=False)
        lines += 1
    return lines
