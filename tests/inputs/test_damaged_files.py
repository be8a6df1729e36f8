"""Which of the files that a campaign goes on from are found damaged when it starts."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from ase.build import molecule

from aimspax_core import storage
from aimspax_core.campaign.members import Earlier, MemberState
from aimspax_core.campaign.state import CampaignState, Phase, Sampler, Trajectory, TrajectoryStatus
from aimspax_core.inputs import damaged_files
from aimspax_core.inputs.damaged_files import find_damaged
from aimspax_core.run_directory import RunDir
from aimspax_core.sampling.dynamics import random_stream, save_state, start
from aimspax_core.settings.md import MD
from tests.campaign.test_rules import make_rules


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    folders = (tmp_path / name for name in ("data", "logs", "losses", "model", "checkpoints"))
    return RunDir(tmp_path, *folders)


def state(phase: Phase) -> CampaignState:
    """One member with two checkpoints in use and one to fall back to; two trajectories."""
    member = MemberState(
        tag="a", checkpoint="c2", earlier=(Earlier(checkpoint="c0", epochs=1), ), converging="c3"
    )  # fmt: skip
    begun = CampaignState.begin(make_rules(tags=("a",), geometries=1))
    return begun.but(
        phase=phase,
        members={"a": member},
        ensemble=("c1",),
        samplers=(Sampler(geometry=0, version=1, step=1),),
        trajectories=(
            Trajectory(index=0, geometry=0, version=5, checkpoint=4),
            Trajectory(index=1, geometry=0, version=6, status=TrajectoryStatus.FINISHED),
        ),
    )


CHECKPOINTS = {("checkpoint", f"c{n}") for n in (1, 2, 3)}


@pytest.mark.parametrize(
    ("phase", "looked_at"),
    [
        (Phase.INITIAL, CHECKPOINTS | {("sampler", "1")}),
        (Phase.ACTIVE, CHECKPOINTS | {("trajectory", "5"), ("trajectory", "4")}),
        (Phase.CONVERGE, CHECKPOINTS),
        (Phase.FINISHED, set()),
        (Phase.ADOPT, set()),
    ],
)
def test_what_the_campaign_goes_on_from_is_looked_at_and_nothing_else(
    run: RunDir, phase: Phase, looked_at: set[tuple[str, str]]
) -> None:
    """Here every file is gone."""
    found = find_damaged(run, state(phase))
    assert {(event.what, event.name) for event in found} == looked_at
    assert all(event.reason for event in found)


def test_sound_md_states_pass_and_changed_ones_do_not(run: RunDir) -> None:
    sound = start(molecule("H2O"), MD(stat_ensemble="NVT", temperature=300), random_stream(1))
    for version in (4, 5):
        save_state(run.trajectory(0, version), sound)
    path = run.trajectory(0, 5)
    path.write_text(path.read_text().replace("1", "2", 1))
    found = find_damaged(run, state(Phase.ACTIVE))
    assert [event.name for event in found if event.what == "trajectory"] == ["5"]


def test_what_the_device_does_not_give_is_damaged_where_its_folder_takes_files(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading `/proc/self/mem` from its beginning fails as reading a bad sector does."""
    monkeypatch.setattr(damaged_files, "PATIENCE_S", 0.0)
    paths = [run.checkpoint("a", "c2"), run.trajectory(0, 5)]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.symlink_to("/proc/self/mem")
    found = {event.name: event.reason for event in find_damaged(run, state(Phase.ACTIVE))}
    assert all("Input/output error" in found[path.stem] for path in paths)

    def full(folder: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder))

    monkeypatch.setattr(damaged_files, "require_room", full)  # the whole device fails
    with pytest.raises(OSError, match="Input/output error"):
        find_damaged(run, state(Phase.ACTIVE))


def test_a_start_waits_once_for_all_files_that_the_device_does_not_give(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(storage, "sleep", pauses.append)
    monkeypatch.setattr(storage, "monotonic", lambda: sum(pauses))
    for path in (run.checkpoint("a", "c2"), run.trajectory(0, 5)):
        path.parent.mkdir(parents=True)
        path.symlink_to("/proc/self/mem")
    find_damaged(run, state(Phase.ACTIVE))
    assert 0 < sum(pauses) <= damaged_files.PATIENCE_S
