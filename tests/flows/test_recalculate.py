"""Datasets that are labelled again, through a real Prefect server and real workers."""

from __future__ import annotations

import csv
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from prefect.logging.handlers import APILogHandler

import aimspax_core.labels.tries
from aimspax_core.errors import CampaignError, EngineError
from aimspax_core.inputs.relabel_inputs import RelabelInputs, RelabelRequest
from aimspax_core.labels.relabelling import Summary
from aimspax_core.reference.registry import build_reference
from flows.commands.exit_codes import DONE, FAILED, INCOMPLETE
from flows.commands.label_dataset import DEFAULT_OPTIONS, label_dataset
from flows.server import Server
from tests.prefect_api import call

PROJECT = """
REFERENCE: {REFERENCE}
ACTIVE_LEARNING: {num_trajectories: 1, max_MD_steps: 1}
MD: {stat_ensemble: NVT, temperature: 300, timestep: 0.5, friction: 0.01}
CLUSTER: {type: local, max_workers: 2}
"""
TBLITE = "{engine: tblite, method: GFN1-xTB}"
COMMAND = """
import sys
from pathlib import Path
from flows.commands.label_dataset import DEFAULT_OPTIONS, label_dataset
if __name__ == "__main__":
    sys.exit(label_dataset(Path(sys.argv[1]), DEFAULT_OPTIONS, Path(sys.argv[2])))
"""
SHORT, RADICAL, NONSENSE = 5, 7, 9
FRAMES = 120

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _logs_sent(prefect_server: Server) -> Iterator[None]:
    """Have Prefect's thread send the last lines while there is a server."""
    yield
    APILogHandler().flush()


def run_directory(folder: Path, reference: str = TBLITE) -> Path:
    folder.mkdir()
    (folder / "aimsPAX.yaml").write_text(PROJECT.replace("{REFERENCE}", reference))
    return folder


def frames() -> list[Atoms]:
    """Water and hydrogen in turn, with labels that are all wrong; three cannot be labelled."""
    rng, found = np.random.default_rng(1), []
    for index in range(FRAMES):
        atoms = molecule("H2" if index % 3 else "H2O")
        atoms.rattle(0.03, rng=rng)
        atoms.info |= {"config_type": f"frame {index}", "REF_energy": 0.0, "REF_dipole": [0, 0, 1]}
        atoms.arrays["REF_forces"] = np.zeros((len(atoms), 3))
        found.append(atoms)
    found[SHORT].positions[1] = found[SHORT].positions[0] + 0.05
    found[RADICAL].info["total_spin"] = 2
    found[NONSENSE].info["charge"] = "plus"
    return found


def label(directory: Path, file: Path, **asked: Any) -> Any:
    from flows.recalculate import recalculate

    return recalculate(directory, file, return_state=True, **asked)


def tasks_of(server: Server, outcome: Any) -> list[dict[str, Any]]:
    """Return the task runs of a flow run, once the server's database is not behind any more."""
    ids = {"id": {"any_": [str(outcome.state_details.flow_run_id)]}}
    before: list[dict[str, Any]] = []
    for _ in range(30):
        now = call("POST", f"{server.api_url}/task_runs/filter", {"flow_runs": ids})
        if len(now) == len(before) and all(one["end_time"] for one in now):
            break
        before = now
        time.sleep(1)
    return now


@dataclass
class Done:
    """A dataset that was labelled."""

    outcome: Any
    directory: Path
    given: list[Atoms]
    found: list[Atoms]
    tasks: list[dict[str, Any]]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, prefect_server: Server) -> Done:
    folder = tmp_path_factory.mktemp("label")
    directory, given = run_directory(folder / "run"), frames()
    ase.io.write(folder / "data.xyz", given, format="extxyz")
    outcome = label(directory, folder / "data.xyz")
    found = ase.io.read(directory / "data_labelled.xyz", index=":")
    assert isinstance(found, list)
    return Done(outcome, directory, given, found, tasks_of(prefect_server, outcome))


def test_what_can_be_labelled_is_in_the_order_of_the_file(done: Done) -> None:
    bad = {SHORT, RADICAL, NONSENSE}
    names = [f"frame {index}" for index in range(FRAMES) if index not in bad]
    assert [atoms.info["config_type"] for atoms in done.found] == names


def test_labels_are_those_of_a_direct_calculation(done: Done) -> None:
    settings = RelabelInputs.read(
        done.directory, RelabelRequest(done.directory.parent / "data.xyz")
    ).settings
    engine = build_reference(settings.reference, settings.directory)
    by_name = {atoms.info["config_type"]: atoms for atoms in done.given}
    for atoms in done.found[::10]:
        expected = engine.label(by_name[atoms.info["config_type"]])
        assert atoms.info["REF_energy"] == pytest.approx(expected.energy, abs=1e-6)
        np.testing.assert_allclose(atoms.arrays["REF_forces"], expected.forces, atol=1e-6)


def test_all_else_that_the_file_says_is_carried_along(done: Done) -> None:
    assert all(atoms.info["REF_dipole"].tolist() == [0, 0, 1] for atoms in done.found)


def test_frames_that_fail_are_listed_with_their_reasons(done: Done) -> None:
    with (done.directory / "data_labelled.failed.csv").open() as file:
        rows = {int(row["frame"]): row["reason"] for row in csv.DictReader(file)}
    assert sorted(rows) == [SHORT, RADICAL, NONSENSE]
    assert "refused by the gate: atoms" in rows[SHORT]
    assert "the multiplicity is 2" in rows[RADICAL]
    assert "plus" in rows[NONSENSE]


def test_fast_labels_share_tasks(done: Done) -> None:
    labels = [task for task in done.tasks if task["name"].startswith("label-")]
    assert 4 <= len(labels) <= FRAMES // 4
    assert {task["state_type"] for task in labels} == {"COMPLETED"}


def test_the_summary_counts_and_compares_with_the_labels_that_were_there(done: Done) -> None:
    summary = done.outcome.result()
    assert isinstance(summary, Summary)
    counts = (summary.frames, summary.labelled, summary.stored, summary.failed)
    assert counts == (FRAMES, FRAMES - 3, 0, 3)
    energies = [abs(atoms.info["REF_energy"]) / len(atoms) for atoms in done.found]
    forces = np.concatenate([np.abs(atoms.arrays["REF_forces"]).ravel() for atoms in done.found])
    assert summary.difference is not None
    assert summary.difference.energy_per_atom == pytest.approx(np.mean(energies), abs=1e-6)
    assert summary.difference.forces == pytest.approx(forces.mean(), abs=1e-6)


def test_a_label_is_paid_for_once(done: Done) -> None:
    """The second run begins no worker: all that it is asked for is in the store."""
    part = {"start": 10, "end": 40, "output": done.directory / "part.xyz"}
    again = label(done.directory, done.directory.parent / "data.xyz", **part).result()
    assert (again.labelled, again.stored, again.computed) == (30, 30, 0)
    found = ase.io.read(done.directory / "part.xyz", index=":")
    assert [atoms.info["config_type"] for atoms in found] == [f"frame {n}" for n in range(10, 40)]


def test_two_do_not_write_the_same_output(done: Done) -> None:
    held = [path.open("a") for path in done.directory.glob("aimspax/labelling/*.lock")]
    try:
        for file in held:
            fcntl.flock(file, fcntl.LOCK_EX)
        outcome = label(done.directory, done.directory.parent / "data.xyz")
    finally:
        for file in held:
            file.close()
    assert outcome.is_failed()
    with pytest.raises(CampaignError, match="is being written by another process"):
        outcome.result()


# ---- stopped, and started again -------------------------------------------------------------


def stored(directory: Path) -> dict[str, int]:
    return {p.stem: p.stat().st_mtime_ns for p in directory.glob("aimspax/labels/*/*.json")}


def test_a_run_that_was_stopped_goes_on_where_it_was(
    tmp_path: Path, prefect_server: Server
) -> None:
    directory, rng, given = run_directory(tmp_path / "run"), np.random.default_rng(2), []
    for index in range(10):
        atoms = molecule("C60")
        atoms.rattle(0.02, rng=rng)
        atoms.info["config_type"] = f"frame {index}"
        given.append(atoms)
    ase.io.write(tmp_path / "balls.xyz", given, format="extxyz")
    command = [sys.executable, "-c", COMMAND, str(tmp_path / "balls.xyz"), str(directory)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    end = time.monotonic() + 120
    while len(stored(directory)) < 2 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "start again to go on" in told
    assert "Traceback" not in told
    before = stored(directory)
    partial = ase.io.read(directory / "balls_labelled.xyz", index=":")
    assert len(partial) == len(before) < 10
    again = label(directory, tmp_path / "balls.xyz").result()
    assert (again.labelled, again.stored) == (10, len(before))
    after = stored(directory)
    assert {key: after[key] for key in before} == before
    found = ase.io.read(directory / "balls_labelled.xyz", index=":")
    assert [atoms.info["config_type"] for atoms in found] == [f"frame {n}" for n in range(10)]


# ---- what goes wrong ------------------------------------------------------------------------

DEADLY = '''
import os
import signal
from ase.calculators.lj import LennardJones
from aimspax_core.errors import EngineError

class Deadly(LennardJones):
    """Kills its process at one distance, refuses its input at another, is not there from 2 Å."""

    def calculate(self, atoms=None, properties=None, system_changes=()):
        distance = atoms.get_distance(0, 1)
        if abs(distance - 1.30) < 1e-6:
            os.kill(os.getpid(), signal.SIGKILL)
        if abs(distance - 1.40) < 1e-6:
            raise EngineError("the keyword `xc` is missing")
        if distance >= 2:
            raise OSError("srun: no such partition")
        super().calculate(atoms, properties, system_changes)
'''


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: Server) -> Path:
    (tmp_path / "deadly.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(aimspax_core.labels.tries, "BACKOFF_S", (0.0, 0.0, 0.0))
    return run_directory(tmp_path / "run", "{engine: ase, calculator: deadly.Deadly}")


def pairs(file: Path, distances: list[float]) -> Path:
    given = [Atoms("H2", [[0, 0, 0], [0, 0, distance]]) for distance in distances]
    ase.io.write(file, given, format="extxyz")
    return file


def test_a_structure_that_kills_its_worker_takes_no_others_along(
    deadly: Path, tmp_path: Path, prefect_server: Server
) -> None:
    distances = [1.10 + 0.01 * index for index in range(30)]
    bad = distances.index(1.10 + 0.01 * 20)
    outcome = label(deadly, pairs(tmp_path / "pairs.xyz", distances))
    summary = outcome.result()
    assert (summary.labelled, summary.failed) == (29, 1)
    told = (deadly / "pairs_labelled.failed.csv").read_text()
    assert f"\n{bad},H2,lost 4 times; last: its worker died\n" in told
    states = {task["state_type"] for task in tasks_of(prefect_server, outcome)}
    assert states == {"CRASHED", "COMPLETED"}


def test_a_wrong_input_stops_all_with_the_engines_words(deadly: Path, tmp_path: Path) -> None:
    outcome = label(deadly, pairs(tmp_path / "pairs.xyz", [1.1, 1.4, 1.2]))
    assert outcome.is_failed()
    with pytest.raises(EngineError, match="the keyword `xc` is missing"):
        outcome.result()


def test_a_reference_that_is_not_there_stops_all_and_no_frame_counts_as_failed(
    deadly: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    file = pairs(tmp_path / "pairs.xyz", [2.0 + 0.01 * index for index in range(12)])
    assert label_dataset(file, DEFAULT_OPTIONS, deadly) == FAILED
    told = capsys.readouterr().out
    assert "3 labels in a row could not be computed; the last was frame " in told
    assert "srun: no such partition; 0 of 12 frames labelled" in told
    assert "12 left; mend it, and start again to go on" in told
    assert not list(deadly.glob("pairs_labelled*"))


@pytest.mark.parametrize(("distances", "code"), [([2.0], DONE), ([2.0, 0.05], INCOMPLETE)])
def test_frames_without_a_label_end_the_command_with_a_code_of_its_own(
    tmp_path: Path, prefect_server: Server, distances: list[float], code: int
) -> None:
    file = pairs(tmp_path / "pairs.xyz", [0.37 * distance for distance in distances])
    assert label_dataset(file, DEFAULT_OPTIONS, run_directory(tmp_path / "run")) == code


def test_nothing_labelled_is_a_failed_run(tmp_path: Path, prefect_server: Server) -> None:
    atoms = molecule("H2O")
    atoms.info["charge"] = "plus"
    ase.io.write(tmp_path / "data.xyz", atoms, format="extxyz")
    directory = run_directory(tmp_path / "run")
    outcome = label(directory, tmp_path / "data.xyz")
    assert outcome.is_failed()
    assert "not one frame could be labelled; frame 0: charge" in outcome.message
    assert not (directory / "data_labelled.xyz").exists()
