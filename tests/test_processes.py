"""Processes: each one of a kind, among all machines, and dead or alive."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from aimspax_core.processes import Process

THIS = Process.this()


def test_this_process_is_alive() -> None:
    assert THIS.pid == os.getpid()
    assert THIS.alive() is True


def test_another_process_is_alive_until_it_ends() -> None:
    command = "from aimspax_core.processes import Process; print(Process.this()); input()"
    with subprocess.Popen(
        [sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        process = Process.named(other.stdout.readline().strip())
        assert process is not None
        assert process.alive() is True
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert process.alive() is False, "it has ended, and nobody has fetched it"
    assert process.alive() is False


@pytest.mark.parametrize(
    "other", [replace(THIS, boot="0badcafe"), replace(THIS, start="1")], ids=["reboot", "reuse"]
)
def test_a_process_of_the_same_number_is_another_one(other: Process) -> None:
    assert other.alive() is False


@pytest.mark.parametrize("other", [replace(THIS, host="elsewhere"), replace(THIS, space="1")])
def test_what_cannot_be_seen_from_here_is_not_known(other: Process) -> None:
    assert other.alive() is None


def test_a_process_has_a_name_that_can_be_read_again() -> None:
    assert Process.named(str(THIS)) == THIS
    assert Process.named(str(replace(THIS, host="login-2-cluster"))).host == "login-2-cluster"
    assert "." not in str(THIS)
    for text in ("", "a", "a-b-c-d-e", ".lock", "0a1b2c3d"):
        assert Process.named(text) is None
