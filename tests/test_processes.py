"""Processes: each one of a kind, among all machines, and dead or alive."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from aimspax_core.processes import Process, _machine

THIS = replace(Process.this(), machine="c0ffee00")


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with an identifier, be the tests run in a container or not."""
    monkeypatch.setattr(Process, "this", lambda: THIS)


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


@pytest.mark.parametrize(
    "other",
    [
        replace(THIS, host="elsewhere"),
        replace(THIS, space="1"),
        replace(THIS, boot="0badcafe", machine="0badcafe"),
        replace(THIS, boot="0badcafe", machine=""),
    ],
    ids=["host", "container", "another machine of this name", "a container of this name"],
)
def test_what_cannot_be_seen_from_here_is_not_known(other: Process) -> None:
    assert other.alive() is None


def test_a_container_does_not_know_another_boot_of_its_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All containers of an image, on whatever machine, may have one name and one identifier."""
    contained = replace(THIS, machine="")
    monkeypatch.setattr(Process, "this", lambda: contained)
    assert replace(contained, boot="0badcafe").alive() is None


def test_only_outside_of_containers_a_machine_has_an_identifier() -> None:
    assert _machine("1") == ""
    known = Path("/etc/machine-id")
    identifier = known.read_text().strip() if known.exists() else ""
    assert (_machine("4026531836") == "") is (len(identifier) != 32)
    assert not identifier or _machine("4026531836") not in identifier


def test_a_process_has_a_name_that_can_be_read_again() -> None:
    assert Process.named(str(THIS)) == THIS
    assert Process.named(str(replace(THIS, host="login-2-cluster"))).host == "login-2-cluster"
    assert Process.named(str(replace(THIS, machine=""))) == replace(THIS, machine="")
    assert "." not in str(THIS)
    earlier = Process.named("login-2-4f5e6d7c-4026531836-42-1234")
    assert earlier == Process("login-2", "", "4f5e6d7c", "4026531836", 42, "1234")
    for text in ("", "a", "a-b-c-d-e", ".lock", "0a1b2c3d"):
        assert Process.named(text) is None
