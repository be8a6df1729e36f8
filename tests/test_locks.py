"""Locks between processes, and file systems without."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from aimspax_core import lock_records
from aimspax_core.locks import Holder, NoLocksError, held, holder, remove_if_free
from aimspax_core.processes import Process

HOLD = """
import errno, fcntl, sys
from pathlib import Path
from aimspax_core import lock_records
from aimspax_core.locks import held
if sys.argv[2] == "without":
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")
    fcntl.flock = flock
lock_records.BEAT_S = 0.05
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.lock"


@contextlib.contextmanager
def another_process(path: Path, flock: str = "with") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until it is killed, or its input ends."""
    command = [sys.executable, "-c", HOLD, str(path), flock]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=Path(__file__).parents[1], **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def other(path: Path) -> Iterator[subprocess.Popen[str]]:
    with another_process(path) as process:
        yield process


@pytest.fixture
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks, as Lustre is when it is mounted without `-o flock`."""
    number = getattr(errno, getattr(request, "param", "ENOLCK"))

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(lock_records, "SILENT_S", 0.5)


def test_one_holds_a_lock_and_the_other_is_told_so(path: Path) -> None:
    with held(path) as first, held(path, 0.0) as second:
        assert first is not None
        assert second is None
    with held(path, 0.0) as again:
        assert again is not None


def test_the_holder_of_a_lock_is_known(path: Path, other: subprocess.Popen[str]) -> None:
    found = holder(path)
    assert found is not None
    assert (found.pid, found.host) == (other.pid, os.uname().nodename)
    assert str(found) == f"process {other.pid} on {found.host}, since {found.since}"


def test_nobody_holds_a_lock_that_was_let_go_or_never_taken(path: Path) -> None:
    assert holder(path) is None
    with held(path):
        assert holder(path) is not None
    assert holder(path) is None


def test_a_killed_process_holds_nothing(path: Path, other: subprocess.Popen[str]) -> None:
    other.kill()
    other.wait()
    assert str(other.pid) in path.read_text(encoding="utf-8"), "it had no time to say goodbye"
    assert holder(path) is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"pid": 1, "color": "red"}', "\udcff"])
def test_a_holder_that_does_not_name_itself_is_one_all_the_same(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert holder(path) == Holder()


def test_a_lock_is_waited_for(path: Path) -> None:
    path.touch()
    with path.open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        threading.Timer(0.05, fcntl.flock, (look, fcntl.LOCK_UN)).start()
        with held(path) as file:
            assert file is not None


@pytest.mark.parametrize("wait_s", [math.inf, 5.0])
def test_who_waited_for_a_file_that_its_holder_removed_holds_the_new_one(
    path: Path, wait_s: float
) -> None:
    path.touch()
    with path.open() as first:
        fcntl.flock(first, fcntl.LOCK_EX)

        def remove() -> None:
            path.unlink()
            fcntl.flock(first, fcntl.LOCK_UN)

        threading.Timer(0.05, remove).start()
        with held(path, wait_s) as file:
            assert file is not None
            assert os.path.samestat(os.fstat(file.fileno()), path.stat())


def test_a_child_that_inherits_the_file_keeps_the_lock(path: Path) -> None:
    with held(path) as file:
        assert file is not None
        command = [sys.executable, "-c", "input()"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(file.fileno(),))
    assert holder(path) is not None
    child.communicate(b"\n")
    assert holder(path) is None


def test_a_private_lock_cannot_be_read_by_others(path: Path) -> None:
    with held(path, mode=0o600):
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("no_locks")
def test_one_holds_a_lock_on_a_file_system_without(path: Path) -> None:
    with held(path) as first, held(path, 0.0) as second:
        assert first is not None
        assert second is None
        assert holder(path) is not None
    assert holder(path) is None
    assert not [*path.parent.iterdir()]
    with held(path, 0.0) as again:
        assert again is not None


@pytest.mark.usefixtures("no_locks")
def test_another_process_holds_a_lock_on_a_file_system_without_until_it_dies(path: Path) -> None:
    with another_process(path, "without") as other:
        found = holder(path)
        assert found is not None
        assert found.pid == other.pid
        with held(path, 0.0) as second:
            assert second is None
        other.kill()
        other.wait()
        assert path.exists(), "it had no time to say goodbye"
        assert holder(path) is None
        with held(path, 0.0) as second:
            assert second is not None


@pytest.mark.usefixtures("no_locks")
def test_a_process_that_ended_and_was_not_fetched_is_dead(path: Path) -> None:
    with another_process(path, "without") as other:
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it stays, as a zombie
        with held(path, 0.0) as lock:
            assert lock is not None


def rewrite(path: Path, **changes: object) -> None:
    """Change what a lock's file says, in place, as a heart does."""
    content = json.loads(path.read_text(encoding="utf-8"))
    with path.open("r+", encoding="utf-8") as file:
        file.write(f"{json.dumps(content | changes):<512}\n")
        file.truncate()


ELSEWHERE = {"host": "elsewhere", "machine": "", "boot": "0badcafe"}
"""A process on another machine."""


def left_by(path: Path, flock: str = "without", **changes: object) -> None:
    """The file that a process has left that was killed, with changes to who it was."""
    with another_process(path, flock):
        pass
    this = asdict(Process.this())
    rewrite(path, process=str(Process(**(this | changes))))


@pytest.fixture
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with an identifier that outlasts its boots, which containers do not have."""
    this = replace(Process.this(), machine="c0ffee00")
    monkeypatch.setattr(Process, "this", lambda: this)


@pytest.mark.usefixtures("no_locks", "known_machine")
@pytest.mark.parametrize(
    "changes",
    [{"boot": "0badcafe"}, {"start": "1"}],
    ids=["the same number before a reboot", "the same number before"],
)
def test_a_process_of_the_same_number_is_another_one(path: Path, changes: Any) -> None:
    left_by(path, **changes)
    assert holder(path) is None
    with held(path, 0.0) as lock:
        assert lock is not None


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize(
    "changes", [ELSEWHERE, {"space": "1"}, {"machine": "0badcafe", "boot": "0badcafe"}]
)
def test_a_holder_that_cannot_be_seen_from_here_is_dead_once_it_was_silent(
    path: Path, changes: Any
) -> None:
    left_by(path, **changes)
    assert holder(path) is not None, "it may live"
    assert holder(path, patient=True) is None
    with held(path, 0.0) as lock:
        assert lock is not None


@contextlib.contextmanager
def heart_that_beats(path: Path) -> Iterator[None]:
    """Someone who writes heartbeats into the file of a lock."""
    stop = threading.Event()

    def beat() -> None:
        number = 0
        while not stop.wait(0.1):
            number += 1
            rewrite(path, beat=number)

    heart = threading.Thread(target=beat)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()


@pytest.mark.usefixtures("no_locks")
def test_a_holder_that_cannot_be_seen_from_here_lives_while_its_heart_beats(path: Path) -> None:
    left_by(path, **ELSEWHERE)
    token = json.loads(path.read_text())["token"]
    with heart_that_beats(path):
        assert holder(path, patient=True) is not None
        with held(path, 0.0) as lock:
            assert lock is None
    assert json.loads(path.read_text())["token"] == token


@pytest.mark.parametrize("flock", ["with", "without"])
def test_a_lock_that_only_another_machine_knows_of_is_held_while_its_heart_beats(
    path: Path, flock: str
) -> None:
    """Lustre with `-o localflock`, NFS with `local_lock`: `flock` succeeds on each machine."""
    left_by(path, flock, **ELSEWHERE)
    with heart_that_beats(path):
        assert not remove_if_free(path)
        with held(path, 0.0) as lock:
            assert lock is None
        found = holder(path, patient=True)
        assert found is not None
        assert found.certain


def test_a_lock_that_only_another_machine_knows_of_is_free_once_its_holder_was_silent(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_records, "SILENT_S", 0.5)
    left_by(path, "with", **ELSEWHERE)
    found = holder(path)
    assert found is not None
    assert not found.certain
    assert holder(path, patient=True) is None
    with held(path, 0.0) as lock:
        assert lock is not None
    assert holder(path) is None, "it let go of it in order"


@pytest.mark.parametrize(
    "changes", [{"host": "0a1b2c3d", "space": "1"}, {"start": "1"}], ids=["contained", "dead"]
)
def test_on_one_machine_the_word_of_the_operating_system_counts(path: Path, changes: Any) -> None:
    left_by(path, "with", **changes)
    assert holder(path) is None
    with held(path, 0.0) as lock:
        assert lock is not None


@pytest.mark.usefixtures("known_machine")
def test_what_was_held_before_a_reboot_is_free_at_once(path: Path) -> None:
    left_by(path, "with", boot="0badcafe")
    assert holder(path) is None
    with held(path, 0.0) as lock:
        assert lock is not None


def test_who_requires_the_locks_of_the_system_takes_its_word_alone(path: Path) -> None:
    left_by(path, "with", **ELSEWHERE)
    assert holder(path, required=True) is None
    with held(path, 0.0, required=True) as lock:
        assert lock is not None


@pytest.mark.usefixtures("no_locks")
def test_a_copy_of_a_directory_that_is_held_is_free_at_once(tmp_path: Path) -> None:
    original = tmp_path / "original" / "lock"
    original.parent.mkdir()
    with another_process(original, "without"):
        shutil.copytree(original.parent, tmp_path / "copy")
        copy = tmp_path / "copy" / "lock"
        assert holder(original) is not None
        assert holder(copy) is None
        with held(copy, 0.0) as lock, held(original, 0.0) as held_elsewhere:
            assert lock is not None
            assert held_elsewhere is None


def test_a_copy_of_a_directory_that_is_held_is_free_where_there_are_locks(tmp_path: Path) -> None:
    original = tmp_path / "original" / "lock"
    original.parent.mkdir()
    for flock in ("with", "without"):
        with another_process(original, flock):
            shutil.copytree(original.parent, tmp_path / flock)
            with held(tmp_path / flock / "lock", 0.0) as lock:
                assert lock is not None


def test_who_holds_a_lock_without_the_system_holds_it_for_those_with(path: Path) -> None:
    """A directory may be mounted with locks here, and without there."""
    with another_process(path, "without") as other:
        with held(path, 0.0) as lock:
            assert lock is None
        found = holder(path)
        assert found is not None
        assert found.pid == other.pid
        other.kill()
        other.wait()
        with held(path, 0.0) as lock:
            assert lock is not None


@pytest.mark.usefixtures("no_locks")
def test_who_holds_a_lock_with_the_system_holds_it_for_those_without(path: Path) -> None:
    with another_process(path, "with"), held(path, 0.0) as lock:
        assert lock is None


def test_a_heart_beats_into_the_file_and_leaves_it_the_same_one(path: Path) -> None:
    with another_process(path):
        before, inode = path.read_text(encoding="utf-8"), path.stat().st_ino
        end = time.monotonic() + 10
        while path.read_text(encoding="utf-8") in ("", before) and time.monotonic() < end:
            time.sleep(0.02)
        after = path.read_text(encoding="utf-8")
        assert json.loads(after)["beat"] > json.loads(before)["beat"]
        assert json.loads(after) | {"beat": 0} == json.loads(before)
        assert path.stat().st_ino == inode


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize("text", ["", '{"pid": 7, "host": "old", "since": "2025"}', "\0" * 40])
def test_a_file_that_no_holder_renews_is_free_after_a_while(
    path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_records, "EMPTY_S", 0.2)
    path.write_text(text)
    with held(path, 0.0) as lock:
        assert lock is not None


@pytest.mark.usefixtures("no_locks", "known_machine")
def test_many_who_find_a_dead_holder_hold_its_lock_one_at_a_time(path: Path) -> None:
    left_by(path, boot="0badcafe")
    inside, most, done = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, done
        with held(path, math.inf) as lock:
            assert lock is not None
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1
            done += 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, done) == (1, 8)


@pytest.mark.usefixtures("no_locks")
def test_a_lock_needs_no_hard_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with held(path) as first, held(path, 0.0) as second:
        assert first is not None
        assert second is None
    assert not [*path.parent.iterdir()]


def test_the_file_of_a_lock_that_nobody_holds_is_removed_and_no_other(path: Path) -> None:
    assert remove_if_free(path)
    with held(path):
        assert not remove_if_free(path)
        assert path.exists()
    assert remove_if_free(path)
    assert not path.exists()


@pytest.mark.usefixtures("no_locks")
def test_without_locks_too_the_file_of_a_dead_holder_is_removed_and_no_other(path: Path) -> None:
    with another_process(path, "without"):
        assert not remove_if_free(path)
    assert remove_if_free(path)
    assert not path.exists()


@pytest.mark.parametrize("no_locks", ["ENOLCK", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"], indirect=True)
@pytest.mark.usefixtures("no_locks")
def test_required_locks_are_missed(path: Path) -> None:
    with pytest.raises(NoLocksError), held(path, required=True):
        pass
    with pytest.raises(NoLocksError):
        holder(path, required=True)


@pytest.mark.usefixtures("no_locks")
def test_labels_are_stored_on_a_file_system_without_locks(tmp_path: Path) -> None:
    from aimspax_core.labels.store import LabelStore

    store = LabelStore(tmp_path)
    with store.claim("abcd"):
        assert store.path("abcd").with_suffix(".lock").exists()
    assert not [*tmp_path.rglob("*.lock")]


@pytest.mark.usefixtures("no_locks")
def test_a_prefect_server_is_not_shared_without_locks(tmp_path: Path) -> None:
    from flows.server import ServerError
    from flows.server.own_files import starting_or_stopping

    with pytest.raises(ServerError, match="PREFECT_HOME"), starting_or_stopping(tmp_path):
        pass


@pytest.mark.usefixtures("no_locks")
def test_without_locks_nobody_cleans_up_behind_a_run_that_may_live(tmp_path: Path) -> None:
    from flows.pools.jobs import cleaner

    (tmp_path / "guard.lock").touch()
    assert cleaner._held(tmp_path)
