"""Files that are the old one or the new one at every moment."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from aimspax_core.safe_files import replacing, sha256, write_text


def test_what_was_written_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_text(path, "old")
    with replacing(path) as aside:
        aside.write_text("new", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
        assert (aside.parent, aside.suffix) == (path.parent, ".json")
    assert path.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(KeyError), replacing(path) as aside:
        aside.write_text("half of the n", encoding="utf-8")
        raise KeyError
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_temporary_file_is_hidden(tmp_path: Path) -> None:
    with replacing(tmp_path / "file") as aside:
        assert aside.name.startswith(".file.")


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "file", "text")
    assert (tmp_path / "a" / "b" / "file").read_text(encoding="utf-8") == "text"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_umask_decides_who_may_read(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_content_is_on_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "file", []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(path.exists()))
    write_text(path, "text")
    assert seen == [False, True], "the file, then its folder"


def test_new_folders_are_on_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []

    folders = [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    monkeypatch.setattr(
        "aimspax_core.safe_files._sync_folder", lambda folder: synced.append(folder)
    )
    write_text(tmp_path / "a" / "b" / "file", "text")
    assert synced == folders


def test_a_private_file_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    write_text(tmp_path / "key", "old", private=True)
    write_text(tmp_path / "key", "secret", private=True)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_file_has_the_digest_of_its_content(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "text")
    assert sha256(tmp_path / "file") == hashlib.sha256(b"text").hexdigest()
