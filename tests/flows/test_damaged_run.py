"""A run directory with damaged checkpoints, MD states and datasets, taken up by the command."""

from __future__ import annotations

import subprocess

import pytest

from aimspax_core.campaign.events import FileDamaged
from aimspax_core.campaign.journal import entries
from aimspax_core.campaign.state import Phase
from flows.server import Server
from tests.flows.test_old_runs_go_on import AIMSPAX, FIRST, Story, stored

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory, prefect_server: Server) -> Story:
    """Killed in active learning; then a disk spoilt a byte here, and lost a file there."""
    told = Story.of(f"{FIRST}/interrupted", tmp_path_factory.mktemp("damaged"))
    run, state = told.run, told.before
    checkpoint = run.checkpoint(
        state.rules.tags[0], str(next(iter(state.members.values())).checkpoint)
    )
    content = bytearray(checkpoint.read_bytes())
    content[content.index(b"data/0") + 3000] ^= 4
    checkpoint.write_bytes(content)
    moved, gone = (t for t in state.trajectories[:2])
    file = run.trajectory(moved.index, moved.version)
    file.write_bytes(file.read_bytes()[:-40])
    run.trajectory(gone.index, gone.version).unlink()
    for dataset in run.dataset("x").parent.iterdir():
        dataset.write_text("{")
    told.aimspax()
    return told


def events(story: Story) -> list[FileDamaged]:
    found = (entry.event for entry in entries(story.run.journal))
    return [event for event in found if isinstance(event, FileDamaged)]


def test_the_campaign_comes_to_its_end_all_the_same(damaged: Story) -> None:
    assert damaged.codes == [0], damaged.outputs[0]
    assert damaged.state.phase is Phase.FINISHED
    assert damaged.state.stop_reason.startswith("max_train_set_size")
    assert len(list(damaged.run.results.glob("*.model"))) == 2


def test_each_damaged_file_is_journalled_with_its_reason(damaged: Story) -> None:
    found = events(damaged)
    tag = damaged.before.rules.tags[0]
    names = {(event.what, event.which) for event in found}
    assert names == {("checkpoint", tag), ("trajectory", "0"), ("trajectory", "1")}
    assert all(event.reason for event in found)
    assert damaged.state.damaged_files == len(found)


def test_each_is_told_in_a_line(damaged: Story) -> None:
    for event in events(damaged):
        (line,) = [
            line
            for line in damaged.outputs[0].splitlines()
            if event.reason in line and event.name in line
        ][:1]
        assert event.which in line


def test_a_member_that_has_nothing_left_is_trained_as_long_as_before(damaged: Story) -> None:
    tag, before = next(iter(damaged.before.members.items()))
    assert damaged.state.members[tag].epochs > before.epochs


def test_no_label_is_touched(damaged: Story) -> None:
    now = stored(damaged.run)
    assert {key: now[key] for key in damaged.labels} == damaged.labels


def test_an_independent_reader_finds_nothing_wrong(damaged: Story) -> None:
    done = subprocess.run(
        [*AIMSPAX, "verify", str(damaged.directory)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
