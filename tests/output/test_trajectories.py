"""Trajectories: gathered without a frame missing or twice, wherever a process ends."""

from __future__ import annotations

import os
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from aimspax_core.campaign.events import Sampled, SegmentFinished, TaskLost, TrajectoryResult
from aimspax_core.campaign.state import CampaignState, Sampler, Trajectory
from aimspax_core.output import trajectories
from aimspax_core.output.thinning import Thinning
from aimspax_core.output.trajectories import forget, gather, part, settle, trajectory_file
from aimspax_core.run_directory import RunDir
from aimspax_core.sampling.snapshots import Snapshot, write_snapshots


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    folders = (tmp_path / name for name in ("data", "logs", "losses", "model", "checkpoints"))
    return RunDir(tmp_path, *folders)


def leave(run: RunDir, number: int, steps: range, index: int = 0, rollbacks: int = 0) -> Path:
    """Do what a segment task does."""
    frames = []
    for step in steps:
        atoms = molecule("H2O")
        atoms.set_momenta(np.full((3, 3), float(step)))
        frames.append(Snapshot(atoms, step, -1.0, np.zeros((3, 3)), np.zeros((2, 3, 3))))
    path = part(run, "trajectory", index, number)
    write_snapshots(path, frames, {"trajectory": index, "geometry": 0, "rollbacks": rollbacks})
    return path


def finished(number: int, *indices: int, outcome: str = "running") -> SegmentFinished:
    results = [
        TrajectoryResult(
            trajectory=index, outcome=outcome, version=0 if outcome == "exploded" else number,
            step=0, since_crossing=0,
        )
        for index in indices or (0,)
    ]  # fmt: skip
    return SegmentFinished(action_id=f"propagate:{number}", results=tuple(results),
                           uncertainties=())  # fmt: skip


def state(*given: Trajectory, sampler: int = 0) -> CampaignState:
    """The part of a state that matters here."""
    samplers = (Sampler(geometry=0, version=sampler),)
    return CampaignState.model_construct(trajectories=given, samplers=samplers)


def at(version: int, rollbacks: int = 0, index: int = 0) -> Trajectory:
    return Trajectory(index=index, geometry=0, version=version, rollbacks=rollbacks)


def steps(run: RunDir, index: int = 0) -> list[int]:
    path = trajectory_file(run, "trajectory", index)
    return [atoms.info["step"] for atoms in ase.io.read(path, ":")] if path.exists() else []


def left(run: RunDir) -> list[str]:
    return sorted(path.name for path in run.frames.iterdir())


def test_parts_follow_each_other_in_one_file_a_trajectory(run: RunDir) -> None:
    for number in (1, 2, 3):
        for index in (0, 1):
            leave(run, number, range(10 * number, 10 * number + 3), index)
        gather(run, finished(number, 0, 1))
    for index in (0, 1):
        assert steps(run, index) == [10, 11, 12, 20, 21, 22, 30, 31, 32]
    assert trajectory_file(run, "trajectory", 1) == run.trajectories / "trajectory_1.extxyz"
    assert left(run) == []


def test_sampling_has_files_of_its_own(run: RunDir) -> None:
    leave(run, 1, range(3)).rename(part(run, "initial", 0, 1))
    gather(run, Sampled(action_id="sample:1:0", geometry=0, version=1, found=()))
    assert len(ase.io.read(run.trajectories / "initial_0.extxyz", ":")) == 3
    assert left(run) == []


def test_an_event_takes_its_own_parts_only(run: RunDir) -> None:
    leave(run, 1, range(3), index=0)
    leave(run, 2, range(3), index=1)
    gather(run, finished(1, 0))
    assert (steps(run, 0), steps(run, 1)) == ([0, 1, 2], [])
    assert left(run) == ["trajectory-1-00000002.extxyz"]


def test_parts_of_a_lost_segment_go_when_its_work_is_done_again(run: RunDir) -> None:
    leave(run, 1, range(3))
    gather(run, TaskLost(action_id="propagate:1", reason="its worker died"))
    leave(run, 2, range(4))
    gather(run, finished(2))
    assert steps(run) == [0, 1, 2, 3]
    assert left(run) == []


def test_without_frames_nothing_is_made(run: RunDir) -> None:
    gather(run, finished(1))
    settle(run, state(at(1)))
    assert not run.trajectories.exists()
    assert not run.frames.exists()


def test_what_the_journal_has_is_appended_when_taken_up(run: RunDir) -> None:
    leave(run, 1, range(3))
    leave(run, 4, range(3)).rename(part(run, "initial", 0, 4))
    settle(run, state(at(1), sampler=4))
    assert steps(run) == [0, 1, 2]
    assert (run.trajectories / "initial_0.extxyz").exists()
    assert left(run) == []


def test_what_the_journal_lacks_is_deleted_when_taken_up(run: RunDir) -> None:
    leave(run, 2, range(3))
    leave(run, 2, range(3), index=7)
    leave(run, 5, range(3)).rename(part(run, "initial", 0, 5))
    (run.frames / ".trajectory-0-00000002.extxyz.1f.extxyz").touch()  # of a killed worker
    settle(run, state(at(1), sampler=4))
    assert not run.trajectories.exists()
    assert left(run) == []


def test_frames_before_an_explosion_are_kept_even_if_the_process_ended_just_then(
    run: RunDir,
) -> None:
    """The state has no version of them: the trajectory is back at its checkpoint."""
    leave(run, 3, range(3), rollbacks=1)
    settle(run, state(at(1, rollbacks=2)))
    assert steps(run) == [0, 1, 2]
    leave(run, 4, range(3, 6), rollbacks=2)
    settle(run, state(at(1, rollbacks=2)))
    assert steps(run) == [0, 1, 2], "that segment was lost"


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("point", ["rename", "truncate", "write", "half", "fsync", "unlink"])
def test_an_append_that_was_cut_anywhere_is_made_good(
    run: RunDir, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(run, 1, range(3))
    gather(run, finished(1))
    leave(run, 2, range(3, 7))
    with monkeypatch.context() as patch:
        die_at(point, patch)
        with pytest.raises(Killed):
            gather(run, finished(2))
    settle(run, state(at(2)))
    assert steps(run) == [*range(7)]
    leave(run, 3, range(7, 9))
    gather(run, finished(3))
    settle(run, state(at(3)))
    assert steps(run) == [*range(9)]
    assert left(run) == []


def die_at(point: str, patch: pytest.MonkeyPatch) -> None:
    """End the process at a point of an append: before, or in the middle of, a system call."""

    def die(*_: object) -> None:
        raise Killed

    if point in ("rename", "unlink"):
        patch.setattr(Path, point, die)
    elif point == "fsync":
        patch.setattr(os, "fsync", die)
    else:
        opened = Path.open

        def spoilt(path: Path, mode: str = "r", **options: object) -> object:
            file = opened(path, mode, **options)  # type: ignore[call-overload]
            return Spoilt(file, point) if mode == "rb+" else file

        patch.setattr(Path, "open", spoilt)


class Spoilt:
    """A file whose process ends when it is written to."""

    def __init__(self, file: object, point: str) -> None:
        self.file, self.point = file, point

    def __enter__(self) -> Spoilt:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def truncate(self, size: int) -> None:
        if self.point == "truncate":
            raise Killed
        self.file.truncate(size)

    def write(self, data: bytes) -> None:
        if self.point == "half":
            self.file.write(data[: len(data) * 3 // 5])
        raise Killed


def test_a_file_that_the_user_has_removed_is_begun_anew(run: RunDir) -> None:
    leave(run, 1, range(3))
    gather(run, finished(1))
    path = leave(run, 2, range(3, 5))
    path.rename(path.with_name(f"{path.name}.at-4000"))
    trajectory_file(run, "trajectory", 0).unlink()
    settle(run, state(at(2)))
    assert steps(run) == [3, 4]


def test_a_campaign_that_begins_anew_forgets_our_files_only(run: RunDir) -> None:
    forget(run)
    leave(run, 1, range(3))
    gather(run, finished(1))
    (run.trajectories / "notes.txt").touch()
    forget(run)
    assert [path.name for path in run.trajectories.iterdir()] == ["notes.txt"]


def test_the_names_of_parts_are_read_as_they_are_written(run: RunDir) -> None:
    leave(run, 123_456_789, range(1), index=2000)
    (found,) = trajectories._parts(run)
    assert (found.kind, found.index, found.number, found.offset) == (
        "trajectory", 2000, 123_456_789, None,
    )  # fmt: skip


# ---- files that do not grow for ever --------------------------------------------------------


def gathered(run: RunDir, most: int | None, parts: int, each: int = 10) -> list[list[int]]:
    """The steps in the file after each part; a frame every 5 steps."""
    thinning = {"trajectory": Thinning(most, 5)}
    found = []
    for number in range(1, parts + 1):
        first = 5 * each * (number - 1) + 5
        leave(run, number, range(first, first + 5 * each, 5))
        gather(run, finished(number), thinning)
        found.append(steps(run))
    return found


def test_without_a_limit_every_frame_stays(run: RunDir) -> None:
    assert gathered(run, None, 5)[-1] == [*range(5, 251, 5)]


def test_a_full_file_is_thinned_evenly_and_never_has_too_many_frames(run: RunDir) -> None:
    for found in gathered(run, 40, 30):
        assert len(found) <= 40
        assert found == sorted(found)
        assert max(found) - min(found) >= max(found) / 2, "the whole of its life is in it"


def test_frames_stay_as_they_were_written(run: RunDir) -> None:
    gathered(run, 12, 1)
    before = ase.io.read(trajectory_file(run, "trajectory", 0), ":")
    leave(run, 2, range(55, 105, 5))
    gather(run, finished(2), {"trajectory": Thinning(12, 5)})
    after = ase.io.read(trajectory_file(run, "trajectory", 0), ":")
    wanted = {atoms.info["step"]: atoms for atoms in before}
    shared = [atoms for atoms in after if atoms.info["step"] in wanted]
    assert shared
    for atoms in shared:
        other = wanted[atoms.info["step"]]
        assert np.array_equal(atoms.positions, other.positions)
        assert atoms.info == other.info


def test_a_trajectory_that_is_always_set_back_is_thinned_too(run: RunDir) -> None:
    for number in range(1, 40):
        leave(run, number, range(5, 11, 5), rollbacks=number)
        gather(run, finished(number, outcome="exploded"), {"trajectory": Thinning(16, 5)})
    assert 0 < len(steps(run)) <= 16


def test_a_thinning_that_was_cut_leaves_the_file_as_it_was(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered(run, 40, 4)
    before = steps(run)
    leave(run, 5, range(205, 255, 5))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            gather(run, finished(5), {"trajectory": Thinning(40, 5)})
    settle(run, state(at(5)))
    assert steps(run) == [*before, *range(205, 255, 5)]
    leave(run, 6, range(255, 305, 5))
    gather(run, finished(6), {"trajectory": Thinning(40, 5)})
    assert len(steps(run)) <= 40
    assert left(run) == []


@pytest.mark.parametrize(
    "found", [[0, 0, 0, 5, 10], [0] * 9, [0, 0, 0, *range(5, 100, 5)], [7, 7, 7, 7, 7]]
)
def test_frames_without_a_step_are_thinned_too(run: RunDir, found: list[int]) -> None:
    file = trajectory_file(run, "trajectory", 0)
    file.parent.mkdir(parents=True)
    file.write_text("".join(f"1\n{f'step={step}' if step else ''}\nH 0 0 0\n" for step in found))
    Thinning(4, 5).thin(file)
    assert 0 < len(ase.io.read(file, ":")) <= 4


@pytest.mark.parametrize("foreign", ["# mine\n", "3\nstep=5\nH 0 0 0\n", "-2\n"])
def test_a_file_with_something_foreign_is_not_thinned_and_the_frames_of_others_come(
    run: RunDir, foreign: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = trajectory_file(run, "trajectory", 0)
    gathered(run, 12, 1)
    with file.open("a") as end:
        end.write(foreign)
    for number in (2, 3):
        for index in (0, 1):
            leave(run, number, range(55, 105, 5), index)
        gather(run, finished(number, 0, 1), {"trajectory": Thinning(12, 5)})
    assert foreign in file.read_text()
    assert 0 < len(steps(run, 1)) <= 12
    assert [str(file) in record.message for record in caplog.records] == [True]
