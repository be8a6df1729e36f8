"""The address at which compute nodes reach this machine."""

from __future__ import annotations

import ipaddress
import socket

from distributed.utils import get_ip, get_ip_interface

from aimspax_core.errors import SettingsError
from flows.pools.jobs.scheduler import Scheduler


def reachable_address(host: str | None, interface: str | None, scheduler: Scheduler) -> str:
    """Return the address of this machine for compute nodes.

    Args:
        host: What the settings say: a name or address.
        interface: What the settings say: a network interface of this machine.
        scheduler: What starts the jobs.

    Returns:
        Without either: the address that this machine has on its way to the scheduler's controller,
        which is on the cluster's network; else the address on its way out.

    Raises:
        SettingsError: There is no such interface or host here.
    """
    if host:
        try:
            found = socket.gethostbyname(host)
        except OSError as error:
            raise SettingsError(f"CLUSTER.host: {host} is not known here: {error}") from error
        if (
            host != "localhost"
            and found != host
            and ipaddress.ip_address(found).is_loopback
            and not _alone(scheduler)
        ):
            raise SettingsError(
                f"CLUSTER.host: {host} is {found} here, where no other machine can reach it; give "
                "its address on the cluster's network"
            )
        return found
    if interface:
        try:
            return str(get_ip_interface(interface))
        except (ValueError, OSError) as error:
            raise SettingsError(f"CLUSTER.interface: {error}") from error
    controller = scheduler.controller()
    address = _towards(controller) if controller else None
    if address is None or ipaddress.ip_address(address).is_loopback:
        return str(get_ip())
    return address


def _alone(scheduler: Scheduler) -> bool:
    """Tell whether the scheduler is on this machine only, as far as can be told."""
    controller = scheduler.controller()
    address = _towards(controller) if controller else None
    return address is not None and ipaddress.ip_address(address).is_loopback


def _towards(host: str) -> str | None:
    """Return the address that this machine has on its way to another; None if there is no way."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, 9, socket.AF_INET, socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # nothing is sent
            return str(probe.getsockname()[0])
    except OSError:
        return None
