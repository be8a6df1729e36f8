"""A whole campaign on a real Slurm, while its jobs are cancelled, requeued, preempted, and more.

Its first part labels on the partition debug and trains on this machine; its second one labels on
scavenge, whose jobs others may push aside, and trains in a job with a GPU.
"""

from __future__ import annotations

import base64
import contextlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from aimspax_core.campaign.actions import task_of
from aimspax_core.campaign.state import Phase, PointStatus
from aimspax_core.labels.store import LabelStore
from aimspax_core.reference.tblite.engine import TbliteEngine
from aimspax_core.reference.tblite.section import TbliteReference
from tests.slurm.campaigns import ML_JOBS, Campaign, Jobs, Site, site
from tests.slurm.machine import Slurm

pytestmark = pytest.mark.slow

URGENT = "#!/bin/sh\nsleep 3\n"


@dataclass(frozen=True)
class Interruption:
    """What was done to jobs that were computing."""

    jobs: tuple[int, ...]
    word: str


@dataclass
class Story:
    """What was done to a campaign, and what could be seen of it only while it ran."""

    campaign: Campaign
    done: list[Interruption] = field(default_factory=list)
    scripts: dict[str, str] = field(default_factory=dict)
    secrets: set[bytes] = field(default_factory=set)
    modes: dict[str, int] = field(default_factory=dict)
    jobs_left: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    task_runs: list[Any] = field(default_factory=list)
    flow_runs: list[Any] = field(default_factory=list)
    ml_cancelled: int = 0

    def look(self) -> None:
        """Take note of what is gone afterwards."""
        for folder in self.campaign.keys:
            self.modes[folder.name] = stat.S_IMODE(folder.stat().st_mode)
            for file in folder.iterdir():
                if file.suffix == ".sh":
                    self.scripts[file.name] = file.read_text()
                else:
                    self.modes[f"{folder.name}/{file.name}"] = stat.S_IMODE(file.stat().st_mode)
            key = (folder / "key.pem").read_bytes().splitlines()
            self.secrets.add(key[len(key) // 2])  # no line of it is the same in another key

    def victims(self, number: int = 1) -> tuple[int, ...]:
        """Wait until so many jobs compute."""
        campaign = self.campaign

        def enough() -> tuple[int, ...]:
            jobs = tuple(campaign.calculations())  # looked at once: a moment later some are over
            return jobs if len(jobs) >= number else ()

        found: tuple[int, ...] = campaign.wait(enough, "a label is computed")
        self.look()
        return found


def first_part(story: Story) -> None:
    """Labels on debug, where jobs come back after a requeue."""
    campaign, slurm = story.campaign, story.campaign.site.slurm
    campaign.write(Jobs("debug"))
    campaign.begin("initial-dataset")
    job = story.victims()[0]
    slurm.cancel(job)
    story.done.append(Interruption((job,), "was cancelled"))
    campaign.wait(lambda: slurm.state(job) == "CANCELLED", "the job is over")
    job = story.victims()[0]
    slurm.requeue(job)
    story.done.append(Interruption((job,), "was requeued"))
    campaign.end()


def second_part(story: Story) -> None:
    """Labels on scavenge, where jobs of others come first; training and MD in a job."""
    campaign, slurm = story.campaign, story.campaign.site.slurm
    campaign.write(Jobs("scavenge", option="--no-requeue", ml=ML_JOBS))
    campaign.begin("run")
    jobs = story.victims(2)
    urgent = slurm.submit(URGENT, "--partition=debug", "--ntasks=4", "--output=/dev/null")
    story.done.append(Interruption(jobs, "was preempted"))
    story.ml_cancelled = next(row.id for row in slurm.jobs() if row.name == "aimsPAX_example-ml")
    slurm.cancel(story.ml_cancelled)
    campaign.wait(lambda: slurm.state(urgent) == "COMPLETED", "the urgent job is over")
    jobs = story.victims()
    slurm.node_down()
    story.done.append(Interruption(jobs, "lost its node"))
    campaign.wait(lambda: {slurm.state(job) for job in jobs} == {"NODE_FAIL"}, "its jobs are over")
    slurm.node_up()

    def hang() -> int:
        """Stop the calculations of a job, which then do not get on; 0 if none computes now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for job, processes in campaign.calculations().items():
                if slurm.state(job) == "RUNNING":  # those of a lost node end a little later
                    for process in processes:
                        process.suspend()
                    return job
        return 0

    job = campaign.wait(hang, "a label is computed")
    story.look()
    slurm.time_out(job)
    story.done.append(Interruption((job,), "came to its time limit"))
    campaign.wait(lambda: slurm.state(job) == "TIMEOUT", "its time is up")
    story.look()
    campaign.end()


@pytest.fixture(scope="module")
def place(slurm_machine: Slurm) -> Iterator[Site]:
    slurm_machine.clear()
    with site(slurm_machine) as found:
        yield found
    slurm_machine.clear()


@pytest.fixture(scope="module")
def story(place: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    directory = tmp_path_factory.mktemp("slurm") / "water"
    told = Story(Campaign(place, directory, {"AIMS_STAND_IN_SLEEP": "1"}))
    try:
        first_part(told)
        second_part(told)
        told.jobs_left = told.campaign.jobs()
        told.left = told.campaign.left()
        told.task_runs = place.task_runs(directory)
        told.flow_runs = place.flow_runs(directory)
        yield told
    finally:
        told.campaign.stop()


def labels_of(story: Story) -> list[str]:
    points = story.campaign.state.points.values()
    return [point.key for point in points if point.status is PointStatus.LABELLED]


def test_it_ends_as_if_nothing_had_been(story: Story):
    assert story.campaign.codes == [0, 0], story.campaign.outputs
    assert story.campaign.state.phase is Phase.FINISHED
    assert len(list(story.campaign.place.results.glob("*.model"))) == 2


def test_every_point_has_its_label(story: Story):
    state = story.campaign.state
    assert len(state.points) > 16
    assert {point.status for point in state.points.values()} == {PointStatus.LABELLED}
    assert not state.open_points
    assert not state.in_flight


def test_each_label_is_stored_once_and_counted_once(story: Story):
    campaign = story.campaign
    assert set(campaign.stored()) == set(labels_of(story))
    assert campaign.arrived() == dict.fromkeys(labels_of(story), 1)
    assert campaign.state.labels == len(labels_of(story))


def test_no_label_is_another_than_the_methods(story: Story):
    engine = TbliteEngine(TbliteReference(engine="tblite"))
    store = LabelStore(story.campaign.place.labels)
    for key in labels_of(story):
        stored = store.get(key)
        assert stored is not None
        truth = engine.label(stored.atoms)
        assert stored.label.energy == pytest.approx(truth.energy, abs=1e-4)
        np.testing.assert_allclose(stored.label.forces, truth.forces, atol=2e-4)


def test_a_label_is_computed_again_only_if_it_was_interrupted(story: Story):
    interrupted = [e for e in story.campaign.lost() if e.action_id.startswith("label:")]
    assert len(labels_of(story)) <= story.campaign.starts
    assert story.campaign.starts <= len(labels_of(story)) + len(interrupted)


@pytest.mark.parametrize(
    "word",
    ["was cancelled", "was requeued", "was preempted", "lost its node", "came to its time limit"],
)
def test_each_interruption_is_told_with_what_slurm_calls_it(story: Story, word: str):
    (done,) = [one for one in story.done if one.word == word]
    output = "\n".join(story.campaign.outputs)
    for job in done.jobs:
        assert f"Slurm job {job} {word}" in output


def test_each_interruption_cost_labels_which_say_it(story: Story):
    reasons = [e.reason for e in story.campaign.lost() if e.action_id.startswith("label:")]
    for done in story.done:
        told = [reason for job in done.jobs for reason in reasons if f"Slurm job {job} " in reason]
        assert any(done.word in reason for reason in told), (done, reasons)


def test_interruptions_count_as_nobodys_failure(story: Story):
    campaign = story.campaign
    assert {event.fate for event in campaign.lost()} == {"interrupted", "out-of-time"}
    assert campaign.state.failed_labels == 0
    assert campaign.state.losses == {}
    assert not [event for event in campaign.events if event.kind == "label-failed"]


def test_training_in_a_job_goes_on_in_another_when_it_is_cancelled(story: Story):
    output = story.campaign.outputs[1]
    assert f"Slurm job {story.ml_cancelled} was cancelled" in output
    assert output.count("was submitted for the ml pool") == 2


def test_no_job_and_no_process_is_left(story: Story):
    assert not story.jobs_left
    assert not story.left


def test_the_keys_are_for_their_owner_only_and_gone_afterwards(story: Story):
    assert len([name for name in story.modes if name.endswith("/key.pem")]) == 3
    for name, mode in story.modes.items():
        assert not mode & 0o077 or name.endswith((".lock", "cert.pem", "ca_file.pem")), name
    assert not story.campaign.keys


def test_workers_are_told_to_come_by_tls(story: Story):
    assert len(story.scripts) >= 8
    for name, script in story.scripts.items():
        assert " tls://" in script, name
        assert "--tls-key" in script, name


def test_no_secret_is_in_a_log_a_script_or_a_database(story: Story):
    password = story.campaign.site.server()["PREFECT_API_AUTH_STRING"].encode()
    secrets = {*story.secrets, password, base64.b64encode(password)}
    assert len(story.secrets) == 3
    home = Path(story.campaign.site.environment["PREFECT_HOME"])
    files = [*story.campaign.directory.rglob("*"), *home.glob("*.db*"), *home.glob("*.log")]
    files += story.campaign.site.slurm.directory.rglob("*")  # what Slurm keeps of jobs
    for file in files:
        if file.is_file():
            content = file.read_bytes()
            assert not [secret for secret in secrets if secret in content], file
    for name, script in story.scripts.items():
        assert not [secret for secret in secrets if secret in script.encode()], name


def test_nothing_can_be_written_by_everybody(story: Story):
    files = [story.campaign.directory, *story.campaign.directory.rglob("*")]
    assert not [file for file in files if file.lstat().st_mode & 0o002 and not file.is_symlink()]


def test_prefect_shows_that_nothing_runs_any_more(story: Story):
    assert [run["state"]["type"] for run in story.flow_runs] == ["COMPLETED", "COMPLETED"]
    ends = {run["state"]["type"] for run in story.task_runs}
    assert ends <= {"COMPLETED", "CRASHED", "FAILED"}


def test_prefect_says_of_each_lost_task_what_became_of_its_worker(story: Story):
    launched = {e.action.id: e.action for e in story.campaign.events if e.kind == "launched"}
    reasons = sorted(  # trainings of one task are lost with it
        event.reason
        for event in story.campaign.lost()
        if task_of(launched[event.action_id]) == event.action_id
    )
    ends = [run["state"] for run in story.task_runs if run["state"]["type"] != "COMPLETED"]
    told = sorted(end["message"] for end in ends if end["type"] == "CRASHED")
    # An engine that dies with its job may have the last word: that its step was ended.
    own = [end["message"] for end in ends if end["type"] == "FAILED"]
    # A job may end between the end of a task, which Prefect shows, and its result's arrival here.
    had_ended = len(reasons) - len(told) - len(own)
    assert 0 <= had_ended <= 2, (reasons, told, own)
    assert all(reason in reasons for reason in told), (told, reasons)
    assert all("LabelError" in message for message in own), own
    for done in story.done:
        assert any(done.word in message for message in told), (done, told, own)


def test_the_jobs_are_those_of_the_original_example(story: Story):
    script = next(text for name, text in story.scripts.items() if name.startswith("reference"))
    for line in ("--job-name=aimsPAX_example", "--account=XXX", "--qos=default", "--nodes=1"):
        assert f"#SBATCH {line}" in script
    assert "module load intel" in script
