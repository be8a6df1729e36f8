"""Runs on a real Slurm that are stopped, killed, or whose jobs are too short; and the next ones."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from aimspax_core.campaign.state import Phase, PointStatus
from aimspax_core.labels.tries import LABEL, MAX_GIVEN_UP_IN_A_ROW
from aimspax_core.reference.tblite.engine import TbliteEngine
from aimspax_core.reference.tblite.section import TbliteReference
from tests.slurm.campaigns import UNDER_WAY, Campaign, Jobs, Site, site
from tests.slurm.machine import Slurm

pytestmark = pytest.mark.slow


@dataclass
class Stop:
    """One of the ways in which a run was stopped, and what was left of it."""

    seconds: float = 0.0  # until Slurm had no job of it any more
    stored: dict[str, int] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    code: int | None = None
    output: str = ""


@dataclass
class Story:
    """A campaign that was stopped in several ways, and finished in the end."""

    campaign: Campaign
    stops: dict[str, Stop] = field(default_factory=dict)
    runs_after_kill: list[Any] = field(default_factory=list)
    task_runs: list[Any] = field(default_factory=list)
    flow_runs: list[Any] = field(default_factory=list)

    def stop(self, how: str) -> None:
        """Run until there is a new label and one is being computed; then stop."""
        campaign = self.campaign
        before = len(campaign.stored())
        campaign.begin()
        campaign.wait(
            lambda: len(campaign.stored()) > before and campaign.calculations(), "a new label"
        )
        began, process, told = time.monotonic(), campaign.process, Stop()
        assert process is not None
        if how == "Cancel":
            run = campaign.site.flow_runs(campaign.directory)[0]["id"]
            state = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
            campaign.site.api(f"flow_runs/{run}/set_state", state)
        else:
            process.send_signal(signal.Signals[how])
        campaign.site.slurm.wait(lambda: not campaign.jobs(), "no job is left", 120)
        told.seconds = time.monotonic() - began
        print(f"{how}: no job after {told.seconds:.1f} s")
        campaign.end(120)
        told.code, told.output = campaign.codes[-1], campaign.outputs[-1]
        told.left, told.stored = campaign.left(), campaign.stored()
        self.stops[how] = told


@pytest.fixture(scope="module")
def place(slurm_machine: Slurm) -> Iterator[Site]:
    slurm_machine.clear()
    with site(slurm_machine) as found:
        yield found
    slurm_machine.clear()


@pytest.fixture(scope="module")
def hasty(place: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """A campaign with jobs of a minute, in which no label ends; it runs beside the others."""
    directory = tmp_path_factory.mktemp("short") / "short"
    campaign = Campaign(place, directory, {"AIMS_STAND_IN_SLEEP": "600"})
    campaign.write(Jobs("gpu", time="00:01:00"), points=1, members=3)
    campaign.begin()
    yield campaign
    campaign.stop()


@pytest.fixture(scope="module")
def story(
    place: Site, hasty: Campaign, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    directory = tmp_path_factory.mktemp("stops") / "stops"
    told = Story(Campaign(place, directory, {"AIMS_STAND_IN_SLEEP": "1"}))
    told.campaign.write(Jobs("debug", blocks=2), most=12)
    try:
        for how in ("Cancel", "SIGKILL", "SIGTERM", "SIGINT"):
            told.stop(how)
        told.campaign.begin()
        told.campaign.end()
        told.task_runs = place.task_runs(directory)
        told.flow_runs = place.flow_runs(directory)
        yield told
    finally:
        told.campaign.stop()


@pytest.mark.parametrize("how", ["Cancel", "SIGTERM", "SIGINT"])
def test_a_run_that_is_told_to_stop_ends_in_order(story: Story, how: str):
    stop = story.stops[how]
    assert stop.code == 130, stop.output
    assert "start again to go on" in stop.output
    assert "Traceback" not in stop.output


@pytest.mark.parametrize("how", ["Cancel", "SIGKILL", "SIGTERM", "SIGINT"])
def test_nothing_is_left_of_a_run_that_was_stopped(story: Story, how: str):
    assert not story.stops[how].left


def test_a_run_that_was_stopped_in_all_these_ways_is_finished_in_the_end(story: Story):
    assert story.campaign.codes[-1] == 0, story.campaign.outputs[-1]
    state = story.campaign.state
    assert state.phase is Phase.FINISHED
    assert {point.status for point in state.points.values()} == {PointStatus.LABELLED}
    assert state.failed_labels == 0


def test_no_label_that_was_stored_is_computed_again(story: Story):
    now = story.campaign.stored()
    for how, stop in story.stops.items():
        assert {key: now[key] for key in stop.stored} == stop.stored, how
    assert story.campaign.arrived() == dict.fromkeys(now, 1)


def test_no_label_is_paid_for_twice_but_those_that_ran_when_it_was_stopped(story: Story):
    most = len(story.stops) * 2  # two jobs
    assert story.campaign.starts <= len(story.campaign.stored()) + most


def test_prefect_shows_no_task_as_under_way_after_the_end(story: Story):
    left = [run for run in story.task_runs if run["state"]["type"] in UNDER_WAY]
    assert not [(run["name"], run["state"]) for run in left]


def test_prefect_shows_how_each_run_ended(story: Story):
    ends = [run["state"]["type"] for run in story.flow_runs]
    assert ends == ["COMPLETED", "CANCELLED", "CANCELLED", "CRASHED", "CANCELLED"]


def test_labels_that_outlast_their_jobs_stop_a_campaign_with_advice(hasty: Campaign):
    hasty.end(500)
    assert hasty.codes == [1], hasty.outputs
    assert hasty.state.phase is Phase.FAILED
    (output,) = hasty.outputs
    assert f"{MAX_GIVEN_UP_IN_A_ROW} labels in a row could not be computed" in output
    assert "give the jobs more time (--time)" in output
    lost = [e for e in hasty.lost() if e.action_id.startswith("label:")]
    assert {event.fate for event in lost} == {"out-of-time"}
    assert len(lost) == hasty.starts <= LABEL.out_of_time * MAX_GIVEN_UP_IN_A_ROW
    assert not hasty.left()


def test_a_dataset_is_labelled_while_its_jobs_are_cancelled(
    place: Site, hasty: Campaign, tmp_path_factory: pytest.TempPathFactory
):
    folder, rng = tmp_path_factory.mktemp("label"), np.random.default_rng(3)
    campaign = Campaign(place, folder / "run", {"AIMS_STAND_IN_SLEEP": "1"})
    campaign.write(Jobs("debug", blocks=2))
    given = [molecule("H2O") for _ in range(8)]
    for atoms in given:
        atoms.rattle(0.03, rng=rng)
    ase.io.write(folder / "data.xyz", given)
    campaign.begin("label", folder / "data.xyz", "--directory", campaign.directory)
    try:
        job = next(iter(campaign.wait(campaign.calculations, "a label is computed")))
        place.slurm.cancel(job)
        campaign.end()
    finally:
        campaign.stop()
    assert campaign.codes == [0], campaign.outputs
    assert f"Slurm job {job} was cancelled" in campaign.outputs[0]
    engine = TbliteEngine(TbliteReference(engine="tblite"))
    found = ase.io.read(campaign.directory / "data_labelled.xyz", index=":")
    assert len(found) == len(given)
    for before, after in zip(given, found, strict=True):
        truth = engine.label(before)
        assert after.info["REF_energy"] == pytest.approx(truth.energy, abs=1e-4)
        np.testing.assert_allclose(after.arrays["REF_forces"], truth.forces, atol=2e-4)
    assert campaign.starts <= len(given) + 1
    assert not campaign.left()
