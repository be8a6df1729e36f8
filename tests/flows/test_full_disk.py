"""One real campaign on a disk of 12 MB that is filled twice: stopped while it waits, and left."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import molecule

from aimspax_core.campaign.journal import load
from aimspax_core.campaign.journal_reading import entries
from aimspax_core.campaign.state import Phase
from aimspax_core.labels.store import LabelStore
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load as load_settings
from flows.server import Server
from tests.disks import fill, mounted
from tests.prefect_api import call

PROJECT = """
REFERENCE: {engine: tblite, method: GFN2-xTB}
INITIAL_DATASET_GENERATION:
  initial_sampling: aimd
  n_points_per_sampling_step_idg: 2
  skip_step_initial: 3
  ensemble_size: 2
  intermediate_epochs_idg: 1
  max_initial_epochs: 1
ACTIVE_LEARNING:
  num_trajectories: 2
  skip_step_mlff: 4
  c_x: -0.5
  epochs_per_worker: 1
  max_train_set_size: 9
  max_convergence_epochs: 1
  save_trajectories: True
MD: {stat_ensemble: NVT, temperature: 300, timestep: 0.5, friction: 0.01}
GATE: {max_force: 80}
CLUSTER: {type: local, max_workers: 1, ml: {max_workers: 1}}
MISC: {path_to_geometry: geometry.xyz}
"""
MODEL = """
GENERAL: {name_exp: water, seed: 1}
ARCHITECTURE: {r_max: 3.0, num_channels: 4, max_L: 0, max_ell: 1, correlation: 1,
               num_interactions: 1, radial_MLP: [8]}
TRAINING: {batch_size: 2, valid_batch_size: 2}
"""
COMMAND = [sys.executable, "-c", "from flows.commands.app import main; main()", "run"]
PATIENCE_S = 120.0


@dataclass
class Story:
    """What happened."""

    directory: Path
    outputs: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    waited: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, bytes] = field(default_factory=dict)

    @property
    def run(self) -> RunDir:
        return RunDir.of(load_settings(self.directory))

    def begin(self, name: str) -> tuple[subprocess.Popen[str], Path]:
        """Start the campaign; its output goes to another disk."""
        output = self.directory.parent.parent / name
        with output.open("w") as file:
            return subprocess.Popen(
                [*COMMAND, str(self.directory)], stdout=file, stderr=subprocess.STDOUT, text=True
            ), output

    def end(self, process: subprocess.Popen[str], output: Path) -> None:
        self.codes.append(process.wait(PATIENCE_S))
        self.outputs.append(output.read_text())


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, prefect_server: Server) -> Iterator[Story]:
    with mounted(tmp_path_factory.mktemp("full") / "disk", "12m") as disk:
        told = Story(disk / "water")
        told.directory.mkdir()
        (told.directory / "aimsPAX.yaml").write_text(PROJECT)
        (told.directory / "mace.yaml").write_text(MODEL)
        ase.io.write(told.directory / "geometry.xyz", molecule("H2O"))
        _live(told, disk, prefect_server)
        yield told


def _live(told: Story, disk: Path, server: Server) -> None:
    process, output = told.begin("first.txt")
    try:
        _until(lambda: len(_labels(told)) >= 2, process, output)
        filler = fill(disk)
        _until(lambda: "waiting for the disk" in output.read_text(), process, output)
        process.send_signal(signal.SIGINT)
        told.end(process, output)
        told.labels = _labels(told)
        process, output = told.begin("second.txt")  # there is still no room
        _until(lambda: "waiting for the disk" in output.read_text(), process, output)
        filler.unlink()
        _until(lambda: _phase(told) is Phase.ACTIVE, process, output)
        filler = fill(disk)
        _until(lambda: "waiting for the disk" in output.read_text(), process, output)
        _until(lambda: _shown(server)["state"]["name"] == "Waiting for disk", process, output)
        told.waited.append(_shown(server))
        filler.unlink()
        told.end(process, output)
        told.waited.append(_shown(server))
    finally:
        process.kill()


def _until(holds: Callable[[], bool], process: subprocess.Popen[str], output: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(output.read_text())
        time.sleep(0.1)


def _labels(told: Story) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in told.run.labels.glob("*/*.json")}


def _phase(told: Story) -> Phase | None:
    state = load(told.run)[1]
    return None if state is None else state.phase


def _shown(server: Server) -> dict[str, Any]:
    asked = {"sort": "START_TIME_DESC", "limit": 1, "flow_runs": {"name": {"any_": ["water"]}}}
    return dict(call("POST", f"{server.api_url}/flow_runs/filter", asked)[0])


@pytest.mark.slow
def test_a_stop_works_while_a_campaign_waits_for_room(story: Story) -> None:
    assert story.codes[0] == 130, story.outputs[0]
    assert "start again to go on" in story.outputs[0]
    assert "Traceback" not in story.outputs[0]


@pytest.mark.slow
def test_a_start_without_room_waits_and_says_where_there_is_none(story: Story) -> None:
    first = next(line for line in story.outputs[1].splitlines() if "waiting" in line)
    assert re.search(f"waiting for the disk: {story.directory}/.*: No space left on device", first)


@pytest.mark.slow
def test_a_wait_is_shown_as_what_it_is_and_is_no_new_attempt(story: Story) -> None:
    waiting, after = story.waited
    assert waiting["state"]["type"] == "RUNNING"
    assert "No space left on device" in waiting["state"]["message"]
    assert str(story.directory) in waiting["state"]["message"]
    assert after["state_type"] == "COMPLETED"
    assert (waiting["run_count"], after["run_count"]) == (1, 1)


@pytest.mark.slow
def test_a_campaign_goes_on_by_itself_once_there_is_room(story: Story) -> None:
    assert story.codes[1] == 0, story.outputs[1]
    assert re.search("waiting for the disk: .*No space left on device", story.outputs[1])
    assert "Traceback" not in story.outputs[1]
    assert _phase(story) is Phase.FINISHED


@pytest.mark.slow
def test_no_label_is_lost_to_a_full_disk_and_none_is_computed_twice(story: Story) -> None:
    now = _labels(story)
    assert story.labels
    assert {key: now.get(key) for key in story.labels} == story.labels
    arrived = Counter(
        e.event.key for e in entries(story.run.journal) if e.event.kind == "label-arrived"
    )
    assert set(arrived) == set(now)
    assert max(arrived.values()) == 1
    assert all(LabelStore(story.run.labels).get(key) is not None for key in now)
    assert not any(e.event.kind == "label-failed" for e in entries(story.run.journal))


@pytest.mark.slow
def test_losses_to_a_full_disk_are_no_tries(story: Story) -> None:
    lost = [e.event for e in entries(story.run.journal) if e.event.kind == "task-lost"]
    assert {event.fate.value for event in lost if event.counted} <= {"storage"}


@pytest.mark.slow
def test_nothing_is_half_written_on_a_full_disk(story: Story) -> None:
    left = [path for path in story.directory.rglob(".*") if path.is_file()]
    assert left == []
    frames = sorted(story.run.trajectories.glob("*.extxyz"))
    assert frames
    for path in frames:
        steps = [atoms.info["step"] for atoms in ase.io.read(path, index=":")]
        assert steps == sorted(set(steps))
    for path in story.run.losses.glob("*.txt"):
        assert path.read_bytes().endswith(b"}\n")


@pytest.mark.slow
def test_the_log_has_what_was_said_while_there_was_no_room(story: Story) -> None:
    log = (story.run.logs / "active_learning.log").read_text()
    assert "waiting for the disk" in log
    assert "the disk takes files again" in log
