"""Under which address jobs reach this machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil
import pytest

from aimspax_core.errors import SettingsError
from flows.pools.jobs.address import reachable_address
from flows.pools.jobs.slurm import Slurm as Queue
from tests.slurm.machine import Slurm


def _outside() -> str:
    """An address of this machine that is not loopback; the test needs one."""
    for rows in psutil.net_if_addrs().values():
        for row in rows:
            if row.family is socket.AF_INET and not row.address.startswith("127."):
                return str(row.address)
    pytest.skip("this machine has no network")


def _controller(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    """Have `scontrol` say something."""
    program = folder / "scontrol"
    program.write_text(f"#!/bin/sh\ncat <<'END'\nConfiguration data\n{text}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_the_host_of_the_settings_holds():
    assert reachable_address("localhost", None, Queue()) == "127.0.0.1"


def test_the_host_goes_before_the_interface():
    assert reachable_address("127.0.0.1", "no-such-interface", Queue()) == "127.0.0.1"


def test_an_unknown_host_is_told():
    with pytest.raises(SettingsError, match=r"CLUSTER\.host: no-such-host\.invalid"):
        reachable_address("no-such-host.invalid", None, Queue())


def test_the_interface_of_the_settings_holds():
    assert reachable_address(None, "lo", Queue()) == "127.0.0.1"


def test_an_unknown_interface_is_told():
    with pytest.raises(SettingsError, match=r"CLUSTER\.interface: .*'ib7'"):
        reachable_address(None, "ib7", Queue())


@pytest.mark.parametrize(
    "line",
    [
        "SlurmctldHost[0]        = head({})",
        "SlurmctldHost[0]        = {}",
        "SlurmctldHost           = {},backup",
    ],
)
def test_without_either_it_is_the_one_towards_the_controller(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
):
    address = _outside()
    _controller(monkeypatch, tmp_path, line.format(address))
    assert reachable_address(None, None, Queue()) == address


@pytest.mark.parametrize(
    "line",
    [
        "SlurmctldHost[0] = no-such-host.invalid",
        "SlurmctldHost[0] = head(127.0.0.1)",
        "SlurmctldPort = 6817",
    ],
)
def test_a_controller_that_says_nothing_of_the_network_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
):
    _outside()
    _controller(monkeypatch, tmp_path, line)
    assert not reachable_address(None, None, Queue()).startswith("127.")


def test_a_controller_on_this_machine_does_not_make_it_loopback(slurm: Slurm):
    _outside()
    assert not reachable_address(None, None, Queue()).startswith("127.")


def test_without_slurm_there_is_an_address_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    socket.inet_aton(reachable_address(None, None, Queue()))
