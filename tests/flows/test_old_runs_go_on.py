"""Run directories that earlier releases left, taken up by today's command line."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import ase.io
import numpy as np
import pytest

from aimspax_core.campaign.journal import entries, load
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.families.so3krates import why_not_installed
from aimspax_core.settings.load import load as load_settings
from flows.commands.app import app
from flows.commands.exit_codes import DONE
from flows.server import Server
from tests.prefect_api import call

FIXTURES = Path(__file__).parents[1] / "fixtures"
FIRST, SECOND = "0.1.0-8e65e71", "0.2.0-d0e02b3"
ENDS = {
    "initial": ["--set", "ACTIVE_LEARNING.max_train_set_size=6"],
    "exploring": ["--set", "ACTIVE_LEARNING.max_train_set_size=9"],
    "converging": [],
}
"""Of what release 0.2.0 left: the phase in which each was killed, and how it ends soon."""
AIMSPAX = [sys.executable, "-c", "from flows.commands.app import main; main()"]

pytestmark = pytest.mark.slow


@dataclass
class Story:
    """What happened when an old run was taken up."""

    directory: Path
    before: CampaignState
    lines: list[str]
    labels: dict[str, bytes]
    between: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, folder: Path) -> Story:
        """Copy an old run directory, and note what is in it."""
        record = json.loads((FIXTURES / name / "aimspax" / "settings.json").read_text())
        then, now = record["versions"]["tblite"], importlib.metadata.version("tblite")
        if then != now:
            pytest.skip(f"labels of tblite {then} and of tblite {now} do not go together")
        directory = folder / name
        shutil.copytree(FIXTURES / name, directory)
        run = RunDir.of(load_settings(directory))
        state = load(run)[1]
        assert state is not None
        return cls(directory, state, run.journal.read_text().splitlines(), stored(run))

    def aimspax(self, *arguments: str) -> None:
        done = subprocess.run(
            [*AIMSPAX, "run", str(self.directory), *arguments],
            capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        self.outputs.append(done.stdout + done.stderr)
        self.codes.append(done.returncode)

    @property
    def run(self) -> RunDir:
        return RunDir.of(load_settings(self.directory))

    @property
    def state(self) -> CampaignState:
        state = load(self.run)[1]
        assert state is not None
        return state


def stored(run: RunDir) -> dict[str, bytes]:
    """The files of the label store."""
    return {file.stem: file.read_bytes() for file in run.labels.glob("*/*.json")}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory, prefect_server: Server) -> Story:
    """Killed in active learning, with a label and a segment in flight; now run to its end."""
    told = Story.of(f"{FIRST}/interrupted", tmp_path_factory.mktemp("old"))
    told.aimspax()
    return told


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, prefect_server: Server) -> Story:
    """Finished then; now run again, and again with more to reach."""
    told = Story.of(f"{FIRST}/finished", tmp_path_factory.mktemp("old"))
    told.aimspax()
    told.between = told.run.journal.read_text().splitlines()
    told.aimspax("--set", "ACTIVE_LEARNING.max_train_set_size=17")
    return told


@pytest.fixture(scope="module", params=ENDS)
def killed(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    prefect_server: Server,
) -> Story:
    """Killed in a phase by release 0.2.0, now run to its end."""
    if request.param == "initial" and (why := why_not_installed()) is not None:
        pytest.skip(why)
    told = Story.of(f"{SECOND}/{request.param}", tmp_path_factory.mktemp("old"))
    told.aimspax(*ENDS[request.param])
    return told


def test_an_old_campaign_that_was_interrupted_comes_to_its_end(interrupted: Story) -> None:
    assert interrupted.before.phase is Phase.ACTIVE and interrupted.before.in_flight
    assert interrupted.codes == [0], interrupted.outputs[0]
    assert interrupted.state.phase is Phase.FINISHED
    assert interrupted.state.stop_reason.startswith("max_train_set_size")
    assert "taken up again in phase active, 18 labels so far" in interrupted.outputs[0]


def test_its_journal_begins_with_the_old_one(interrupted: Story) -> None:
    lines = interrupted.run.journal.read_text().splitlines()
    assert lines[: len(interrupted.lines)] == interrupted.lines
    numbers = [entry.seq for entry in entries(interrupted.run.journal)]
    assert numbers == list(range(1, len(lines) + 1))


def test_its_old_settings_count_as_unchanged(interrupted: Story) -> None:
    (resumed,) = [
        entry.event
        for entry in entries(interrupted.run.journal)
        if entry.event.kind == "resumed" and entry.seq > len(interrupted.lines)
    ]
    new_key = ": was not there, is "
    assert not [change for change in resumed.changes if new_key not in change]


def test_its_old_labels_stay_and_none_is_counted_twice(interrupted: Story) -> None:
    assert len(stored(interrupted.run)) > len(interrupted.labels)
    assert_counted_once(interrupted)


def assert_counted_once(story: Story) -> None:
    now = stored(story.run)
    assert {key: now[key] for key in story.labels} == story.labels
    arrived = Counter(
        e.event.key for e in entries(story.run.journal) if e.event.kind == "label-arrived"
    )
    assert set(arrived) == set(now)
    assert max(arrived.values()) == 1


def test_a_label_that_prefect_has_kept_is_taken_from_there(
    interrupted: Story, prefect_server: Server
) -> None:
    """The old process was killed when that label was there and its journal did not know yet."""
    (flying,) = (a for a in interrupted.before.in_flight.values() if a.kind == "label")
    assert flying.key in interrupted.labels
    name = {"any_": [f"label-{flying.key[:8]}"]}
    url = f"{prefect_server.api_url}/task_runs/filter"
    tasks = call("POST", url, {"task_runs": {"name": name}})
    assert "Cached" in [found["state_name"] for found in tasks]


def test_its_members_go_on_from_their_old_checkpoints(interrupted: Story) -> None:
    for tag, before in interrupted.before.members.items():
        now = interrupted.state.members[tag]
        assert now.epochs > before.epochs
        assert interrupted.state.dataset(tag)[0][: len(before.training)] == before.training


def test_its_results_load_where_the_ecosystem_reads_them(interrupted: Story) -> None:
    from mace.calculators import MACECalculator

    results = interrupted.run.results
    models = sorted(results.glob("*.model"))
    assert len(models) == 2
    atoms = ase.io.read(results / f"train_set_{models[0].stem}.xyz", index=0)
    atoms.calc = MACECalculator(model_paths=str(models[0]), device="cpu", default_dtype="float32")
    assert np.isfinite(atoms.get_forces()).all()


def test_an_old_campaign_that_was_finished_says_so_and_does_nothing(finished: Story) -> None:
    assert finished.codes[0] == 0, finished.outputs[0]
    assert finished.between == finished.lines
    assert "This campaign is finished" in finished.outputs[0]


def test_an_old_campaign_that_was_finished_goes_on_if_more_is_asked_for(finished: Story) -> None:
    assert finished.codes[1] == 0, finished.outputs[1]
    assert finished.state.phase is Phase.FINISHED
    assert finished.state.training_set_size >= 17 > finished.before.training_set_size
    lines = finished.run.journal.read_text().splitlines()
    assert lines[: len(finished.lines)] == finished.lines


def test_a_campaign_that_was_killed_in_any_phase_comes_to_its_end(killed: Story) -> None:
    assert killed.before.phase is not Phase.FINISHED
    assert killed.codes == [0], killed.outputs[0]
    assert killed.state.phase is Phase.FINISHED
    lines = killed.run.journal.read_text().splitlines()
    assert lines[: len(killed.lines)] == killed.lines
    assert_counted_once(killed)
    for tag, before in killed.before.members.items():
        assert killed.state.dataset(tag)[0][: len(before.training)] == before.training


@pytest.mark.parametrize("command", ["verify", "status", "report", "export"])
def test_all_is_well_in_it_and_it_is_told_and_exported(killed: Story, command: str) -> None:
    assert app([command, str(killed.directory)], result_action="return_value") == DONE
