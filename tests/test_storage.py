"""Which errors say that the storage cannot take what is written now, and what is done then."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import httpx
import pytest

from aimspax_core import storage
from aimspax_core.safe_files import append, replacing, write_text
from tests.disks import fill

PASSING = ["ENOSPC", "EDQUOT", "EROFS", "ESTALE", "EIO"]
PASSING_OF_FILES = ["ETIMEDOUT", "ENOTCONN", "ESHUTDOWN", "EKEYEXPIRED", "EHOSTDOWN", "ENODEV"]
LASTING = ["EACCES", "EPERM", "ENOENT", "ENOTDIR", "EISDIR", "EMFILE", "EFBIG", "ENAMETOOLONG"]


def made(name: str, path: str | None = None) -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize("name", PASSING)
def test_what_room_or_a_mount_mends_passes(name: str) -> None:
    assert storage.cannot_take(made(name))
    assert storage.cannot_take(made(name, "/scratch/run/journal.jsonl"))


@pytest.mark.parametrize("name", PASSING_OF_FILES)
def test_what_connections_end_with_too_counts_only_of_a_file(name: str) -> None:
    assert not storage.cannot_take(made(name))
    assert storage.cannot_take(made(name, "/scratch/run/journal.jsonl"))


@pytest.mark.parametrize("name", LASTING)
def test_what_does_not_pass_by_itself_is_not_waited_for(name: str) -> None:
    assert not storage.cannot_take(made(name, "/scratch/run/journal.jsonl"))


@pytest.mark.parametrize(
    "error", [ValueError("no"), httpx.ConnectError("no"), ConnectionResetError(104, "reset")]
)
def test_other_errors_are_not_those_of_storage(error: Exception) -> None:
    assert not storage.cannot_take(error)


def test_an_error_of_an_open_file_gets_its_name() -> None:
    with pytest.raises(OSError) as found, storage.naming(Path("/scratch/label.json")):
        raise made("ENOSPC")
    assert storage.text(found.value) == "/scratch/label.json: No space left on device"
    assert found.value.errno == errno.ENOSPC


def test_the_name_of_a_temporary_file_is_not_told() -> None:
    with (
        pytest.raises(OSError) as found,
        storage.naming(Path("/scratch/label.json"), Path("/scratch/.label.json.12ab")),
    ):
        raise made("EDQUOT", "/scratch/.label.json.12ab")
    assert found.value.filename == "/scratch/label.json"


def test_an_error_that_names_a_file_keeps_it() -> None:
    with pytest.raises(FileNotFoundError) as found, storage.naming(Path("/scratch/label.json")):
        raise made("ENOENT", "/scratch")
    assert found.value.filename == "/scratch"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that would have been made; the clock goes on by them."""
    made: list[float] = []
    monkeypatch.setattr(storage, "sleep", made.append)
    monkeypatch.setattr(storage, "monotonic", lambda: sum(made))
    return made


def test_a_write_waits_for_room(pauses: list[float]) -> None:
    def write() -> str:
        if len(pauses) < 6:
            raise made("ENOSPC", "/scratch/label.json")
        return "written"

    assert storage.patiently(write, 3600.0, "a label") == "written"
    assert pauses == [1.0, 2.0, 5.0, 10.0, 10.0, 10.0]


def test_a_write_does_not_wait_for_ever(pauses: list[float]) -> None:
    def write() -> None:
        raise made("EROFS", "/scratch/label.json")

    with pytest.raises(OSError) as found:
        storage.patiently(write, 30.0, "a label")
    assert found.value.errno == errno.EROFS
    assert sum(pauses) <= 30.0


def test_a_patience_that_is_shared_is_used_up_once(pauses: list[float]) -> None:
    def read() -> None:
        raise made("EIO", "/scratch/label.json")

    patience = storage.Patience(10.0)
    for _ in range(100):
        with pytest.raises(OSError):
            storage.patiently(read, patience, "a label")
    assert sum(pauses) <= 10.0


def test_what_is_read_at_once_uses_up_no_patience(pauses: list[float]) -> None:
    tries = iter([False, True])

    def read() -> None:
        if not next(tries):
            raise made("EIO", "/scratch/label.json")

    patience = storage.Patience(1.0)
    for _ in range(100):
        storage.patiently(lambda: pauses.append(0.5), patience, "a label that takes its time")
    storage.patiently(read, patience, "a label")


def test_a_write_that_may_not_be_made_does_not_wait(pauses: list[float]) -> None:
    def write() -> None:
        raise made("EACCES", "/scratch/label.json")

    with pytest.raises(PermissionError):
        storage.patiently(write, 30.0, "a label")
    assert pauses == []


def test_there_is_room_where_there_is_room(tmp_path: Path) -> None:
    storage.require_room(tmp_path / "labels")
    assert list((tmp_path / "labels").iterdir()) == []


def test_more_room_than_there_is_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError) as found:
        storage.require_room(tmp_path, needed=2**62)
    assert found.value.errno == errno.ENOSPC
    assert found.value.filename == str(tmp_path)


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0 B"), (512, "512 B"), (3.2e6, "3.2 MB"), (118.4e9, "118 GB"), (2e13, "20.0 TB")],
)
def test_amounts_are_told_in_the_units_of_disks(count: float, told: str) -> None:
    assert storage.bytes_text(count) == told


def test_what_is_free_is_told_for_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    assert storage.room_text(tmp_path / "a" / "b.json").endswith("B free")


# ---- files on a full disk -------------------------------------------------------------------


def test_an_append_to_a_full_disk_leaves_the_file_as_it_was(small_disk: Path) -> None:
    path = small_disk / "journal.jsonl"
    size = append(path, b"one\n")
    filler = fill(small_disk)
    with pytest.raises(OSError) as found:
        append(path, b"two\n" * 5000, size)
    assert (found.value.errno, found.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_bytes() == b"one\n"
    filler.unlink()
    append(path, b"two\n", size)
    assert path.read_bytes() == b"one\ntwo\n"


def test_what_a_failed_append_could_not_cut_off_is_cut_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    size = append(path, b"one\n")
    path.write_bytes(b"one\ntw")
    assert append(path, b"two\n", size) == 8
    assert path.read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("left", [None, b"on"])
def test_a_file_that_was_removed_or_cut_is_not_appended_to(
    tmp_path: Path, left: bytes | None
) -> None:
    path = tmp_path / "journal.jsonl"
    size = append(path, b"one\n")
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    with pytest.raises(OSError) as found:
        append(path, b"two\n", size)
    assert not storage.cannot_take(found.value)
    assert found.value.filename == str(path)
    assert (path.read_bytes() if path.exists() else None) == left


def test_a_file_that_finds_no_room_stays_as_it_was_and_leaves_nothing(small_disk: Path) -> None:
    path = small_disk / "snapshot.json"
    write_text(path, "before")
    filler = fill(small_disk)
    with pytest.raises(OSError) as found:
        write_text(path, "after" * 5000)
    assert (found.value.errno, found.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_text() == "before"
    assert {p.name for p in small_disk.iterdir()} == {"snapshot.json", "filler"}
    filler.unlink()
    with replacing(path) as aside:
        aside.write_text("after")
    assert path.read_text() == "after"


def test_no_room_is_noticed_where_the_disk_is_full(small_disk: Path) -> None:
    storage.require_room(small_disk, 4096)
    fill(small_disk)
    with pytest.raises(OSError) as found:
        storage.require_room(small_disk, 4096)
    assert storage.cannot_take(found.value)
    assert found.value.filename == str(small_disk)
