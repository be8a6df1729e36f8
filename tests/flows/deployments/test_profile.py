"""What `aimspax deploy` reads: the files of `deployments/`, also from a built wheel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore

from aimspax_core.errors import SettingsError
from flows.deployments import profile
from flows.deployments.profile import (
    AUTOMATIONS,
    AutomationPlan,
    ProfileName,
    former_automations,
    read_automations,
    read_profile,
)

ROOT = Path(__file__).parents[3]
EDITED = {
    "local.yaml": "prefect.yaml",
    "slurm.yaml": "slurm.yaml",
    "automations.yaml": "automations.yaml",
}


@pytest.mark.parametrize(("packaged", "edited"), EDITED.items())
def test_what_is_packaged_is_what_people_edit(packaged: str, edited: str) -> None:
    inside = Path(profile.__file__).parent / packaged
    assert inside.read_bytes() == (ROOT / "deployments" / edited).read_bytes()


def automation(name: str) -> AutomationPlan:
    (found,) = [one for one in read_automations() if one.name == name]
    return found


def test_both_profiles_have_the_same_flows_in_pools_of_their_own() -> None:
    local, slurm = (read_profile(name) for name in ProfileName)
    for name in ("entrypoint", "description"):
        assert [getattr(plan, name) for plan in local.deployments] == [
            getattr(plan, name) for plan in slurm.deployments
        ]
    assert not {*local.pools} & {*slurm.pools}


@pytest.mark.parametrize("name", ProfileName)
def test_every_run_can_be_known_by_its_tag_and_shows_signs_of_life(name: ProfileName) -> None:
    heard = automation("aimspax notices the dead")
    for plan in read_profile(name).deployments:
        assert profile.TAG in plan.tags
        frequency = plan.work_pool.job_variables["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]
        assert int(frequency) >= 30, "Prefect takes no less"
        assert heard.trigger["within"] >= 3 * int(frequency)


@pytest.mark.parametrize("name", ProfileName)
def test_schedules_are_there_and_off(name: ProfileName) -> None:
    schedules = [one for plan in read_profile(name).deployments for one in plan.schedules]
    assert schedules
    for one in schedules:
        assert not one.active
        DeploymentScheduleCreate(schedule=CronSchedule(cron=one.cron), parameters=one.parameters)


def test_automations_are_what_prefect_takes() -> None:
    example = ROOT / "deployments" / "automation-example.yaml"
    for plan in read_automations():
        AutomationCore.model_validate(plan.model_dump())
    (plan,) = read_automations(example)
    AutomationCore.model_validate({**plan.model_dump(), "actions": []})


def test_nothing_but_what_died_or_was_interrupted_is_started_again() -> None:
    restarting = {
        event
        for one in read_automations() if one.actions[0]["state"] == "SCHEDULED"
        for event in one.trigger["after" if one.trigger["posture"] == "Proactive" else "expect"]
    }  # fmt: skip
    assert restarting == {"prefect.flow-run.Crashed", "prefect.flow-run.Interrupted"}


def test_a_death_that_is_told_twice_is_one_death() -> None:
    crash = automation("aimspax goes on after a crash").trigger
    assert crash["posture"] == "Proactive", "it waits for the second report"
    assert crash["after"][0] in crash["expect"], "a later death begins the time anew"


def test_a_sign_of_life_does_not_keep_a_run_that_is_shown_as_dead_from_going_on() -> None:
    """Its next death would not be told: Prefect lets nothing that has crashed crash."""
    expected = automation("aimspax goes on after a crash").trigger["expect"]
    assert not [one for one in expected if one.endswith(("heartbeat", "*"))]


@pytest.mark.parametrize("event", ["Running", "heartbeat"])
def test_a_run_is_missed_from_its_beginning_on(event: str) -> None:
    dead = automation("aimspax notices the dead").trigger
    for key in ("after", "expect"):  # in both: Prefect begins the time anew
        assert f"prefect.flow-run.{event}" in dead[key]


def test_whoever_is_missed_has_not_ended_in_any_state_that_we_know() -> None:
    dead, crash = (
        {*automation(name).trigger["expect"]}
        for name in ("aimspax notices the dead", "aimspax goes on after a crash")
    )
    ends = {"Completed", "Failed", "AlreadyRunning", "Stalled", "Cancelled", "Interrupted"}
    for expected in (dead, crash):
        assert {f"prefect.flow-run.{end}" for end in (*ends, "Crashed", "Paused")} <= expected


def test_what_dies_again_and_again_before_it_begins_is_given_up() -> None:
    names = ("aimspax goes on after a crash", "aimspax gives up what does not begin")
    again, giving_up = map(automation, names)
    assert giving_up.trigger["after"] == [f"prefect.flow-run.{again.actions[0]['name']}"]
    # When it dies, not when it is to begin again: a worker may take it then, whatever its state.
    assert giving_up.trigger["expect"] == ["prefect.flow-run.Crashed"]
    assert "prefect.run-count" in giving_up.trigger["for_each"], "else those that began count, too"
    assert giving_up.actions[0]["state"] == "FAILED"
    unnoticed_s = automation("aimspax notices what does not begin").trigger["within"]
    needed_s = giving_up.trigger["threshold"] * (again.trigger["within"] + unnoticed_s + 60)
    assert giving_up.trigger["within"] > needed_s


def test_what_earlier_versions_made_is_not_made_any_more() -> None:
    assert not {*former_automations()} & {one.name for one in read_automations()}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("automations: {", "not YAML"),
        ("automatons: []", "automations: Field required"),
        ("automations: [{name: a, trigger: {}}]", "automations.0.actions: Field required"),
        ("automations: [{name: a, trigger: 3, actions: []}]", "found: 3"),
    ],
)
def test_a_mistake_is_told_with_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=said) as told:
        read_automations(file)
    assert str(file) in str(told.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nothing\.yaml: there is no such file"):
        read_automations(tmp_path / "nothing.yaml")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from what git knows and what was edited."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "aimspax_core", "flows", "tasks", "deployments",
         "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    names = [name for name in listed.split("\0") if name and (ROOT / name).exists()]
    subprocess.run(["cp", "-P", "--parents", *names, str(source)], cwd=ROOT, check=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", str(built), str(source)],
        check=True, capture_output=True,
    )  # fmt: skip
    (file,) = built.glob("*.whl")
    return file


@pytest.mark.slow
def test_a_wheel_holds_what_is_deployed_and_reads_it(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = (
        "import json, flows; from flows.deployments.profile import *;"
        "print(json.dumps([flows.__file__, [read_profile(n).pools for n in ProfileName],"
        "len(read_automations())]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    found: list[Any] = json.loads(done.stdout)
    assert Path(found[0]).is_relative_to(tmp_path)
    assert found[1:] == [[["aimspax-local"], ["aimspax-slurm"]], len(read_automations(AUTOMATIONS))]
