"""What killed processes have left is removed, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from aimspax_core.campaign.leftovers import folder_prefix, remove_leftovers
from aimspax_core.hidden_files import OLD_S, beside
from aimspax_core.labels import spare
from aimspax_core.labels.label import Label
from aimspax_core.labels.store import LabelStore, label_key
from aimspax_core.processes import Process
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import replacing

KILLED = """
import os, signal, sys, tempfile
from pathlib import Path
from aimspax_core.campaign.leftovers import folder_prefix
from aimspax_core.labels import spare
from aimspax_core.labels.label import Label
from aimspax_core.labels.store import LabelStore, label_key
from aimspax_core.safe_files import replacing
folder = Path(sys.argv[1])
Path(tempfile.mkdtemp(prefix=folder_prefix("labels"), dir=folder / "aimspax"))
Path(tempfile.mkdtemp(prefix=folder_prefix("aimspax"), dir=folder / "tmp"), "a").touch()
with (
    replacing(folder / "chk" / "a" / "train-1.pt"),
    replacing(folder / "model" / "a.model"),
    replacing(folder / "aimspax" / "labels" / "ab" / ("ab" * 32 + ".json")),
    LabelStore(folder / "aimspax" / "labels").claim("abcd"),
):
    os.kill(os.getpid(), signal.SIGKILL)
"""


KILLED_WHILE_LOOKING_FOR_ROOM = """
import os, signal, sys
from pathlib import Path
from aimspax_core.storage import require_room
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
require_room(Path(sys.argv[1]))
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    for name in ("aimspax", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv(spare.STATE, str(tmp_path / "state"))
    return RunDir(tmp_path, *(tmp_path / n for n in ("data", "logs", "losses", "model", "chk")))


def files(run: RunDir) -> list[Path]:
    return sorted(path for path in run.output.rglob("*") if path.is_file())


def test_what_a_killed_process_has_left_is_removed(run: RunDir) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(run.output)], check=False)
    assert len(files(run)) == 5
    assert remove_leftovers(run) == 6
    assert not files(run)
    assert not [*run.output.glob("*/labels-*"), *run.output.glob("tmp/*")]


@pytest.mark.parametrize("folder", [".", "tmp", "aimspax/labels"])
def test_the_room_that_a_killed_process_has_reserved_is_given_back(
    run: RunDir, folder: str
) -> None:
    command = [sys.executable, "-c", KILLED_WHILE_LOOKING_FOR_ROOM, str(run.output / folder)]
    subprocess.run(command, check=False)
    assert [path.parent for path in files(run)] == [run.output / folder]
    assert remove_leftovers(run) == 1
    assert not files(run)


def test_what_a_living_process_is_about_stays(run: RunDir) -> None:
    """Another campaign may share the label store, and be writing right now."""
    with (
        replacing(run.labels / "ab" / "abcd.json"),
        LabelStore(run.labels).claim("abef"),
        tempfile.TemporaryDirectory(prefix=folder_prefix("aimspax")) as folder,
    ):
        before = files(run)
        assert len(before) == 2
        assert remove_leftovers(run) == 0
        assert files(run) == before
        assert Path(folder).is_dir()


def test_what_may_be_of_a_living_process_elsewhere_stays(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = replace(Process.this(), host="elsewhere")
    with monkeypatch.context() as patch:
        patch.setattr(Process, "this", lambda: elsewhere)
        left = beside(run.models / "a.model")
        folder = Path(tempfile.mkdtemp(prefix=folder_prefix("aimspax")))
    left.parent.mkdir()
    left.touch()
    assert remove_leftovers(run) == 0
    assert left.exists()
    assert folder.exists()


def test_what_a_process_elsewhere_has_not_touched_for_long_is_removed(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        elsewhere = replace(Process.this(), host="elsewhere")
        patch.setattr(Process, "this", lambda: elsewhere)
        left = [beside(run.models / "a.model"), beside(run.models / "b.model")]
    run.models.mkdir()
    for path in left:
        path.touch()
    long_ago = left[0].stat().st_mtime - OLD_S - 60
    os.utime(left[0], (long_ago, long_ago))
    assert remove_leftovers(run) == 1
    assert [path.exists() for path in left] == [False, True]


def some_label(finished: float) -> tuple[str, Atoms, Label]:
    atoms = Atoms("H2", [(0, 0, 0), (0, 0, 0.74)])
    label = Label(-31.7, np.zeros((2, 3)), None, {"finished": finished})
    return label_key(atoms, {}), atoms, label


def test_a_label_that_came_into_its_store_is_kept_nowhere_else(run: RunDir) -> None:
    """Its process was killed before it removed the one that it had kept on another disk."""
    key, atoms, label = some_label(1.0)
    assert spare.keep(key, atoms, label, {}) is not None
    assert remove_leftovers(run) == 0, "no store has it yet"
    LabelStore(run.labels).put(key, atoms, label, {})
    assert remove_leftovers(run) == 1
    assert spare.take(key, LabelStore(run.output / "other")) is None
    assert LabelStore(run.labels).has(key)


def test_a_label_that_is_kept_for_another_store_stays(run: RunDir) -> None:
    """Two campaigns with stores of their own have computed the same label."""
    key, atoms, label = some_label(1.0)
    spare.keep(key, atoms, label, {})
    LabelStore(run.labels).put(*some_label(2.0), {})
    assert remove_leftovers(run) == 0
    assert spare.take(key, LabelStore(run.output / "other")) is not None


def test_files_of_the_user_stay(run: RunDir) -> None:
    mine = [run.models / ".a.model.0badcafe.model", run.models / ".hidden", run.data / "a.lock"]
    dead = replace(Process.this(), start="1")
    mine += [run.output / "mine" / f".room.{dead}.0badcafe"]
    mine += [Path(tempfile.gettempdir()) / name for name in ("aimspax-1", "labels-mine-2")]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert remove_leftovers(run) == 0
    assert files(run) == sorted(mine)
