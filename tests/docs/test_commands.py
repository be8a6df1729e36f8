"""Every command of README and docs is one that there is, with flags that it has.

Commands of ours are taken apart by the command line itself; those that end quickly are run, and for
each other one a test is named that runs it.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from cyclopts import App
from ruamel.yaml import YAML

from aimspax_core.settings.sbatch.header import JobHeader
from flows.commands import original
from flows.commands.app import app
from tests.docs.blocks import ROOT, Block, Command, blocks, blocks_of, commands

_COMMANDS, _FLOWS, _HERE = "tests/flows/commands", "tests/flows", "tests/docs/test_commands.py"

RUN_BY = {
    "run": f"{_FLOWS}/test_campaign.py::test_the_same_command_again_finishes_the_campaign",
    "initial-dataset": f"{_FLOWS}/test_aims_campaign.py::"
    "test_two_campaigns_at_once_pay_for_a_label_once",
    "active-learning": f"{_COMMANDS}/test_app.py::"
    "test_active_learning_needs_something_to_begin_from",
    "check": f"{_COMMANDS}/test_app.py::test_check_says_what_would_run_and_how_points_are_split",
    "status": f"{_FLOWS}/test_by_hand.py::test_what_was_set_is_told_and_in_force_over_the_kill",
    "set": f"{_FLOWS}/test_by_hand.py::test_a_limit_that_was_set_ends_the_campaign",
    "pause": f"{_COMMANDS}/test_by_hand.py::test_pause_and_resume",
    "resume": f"{_COMMANDS}/test_by_hand.py::test_pause_and_resume",
    "export": f"{_COMMANDS}/test_app.py::test_export_says_what_it_has_written",
    "report": f"{_COMMANDS}/test_report.py::test_report_of_a_campaign",
    "verify": f"{_COMMANDS}/test_verify.py::test_all_is_well",
    "evaluate": f"{_COMMANDS}/test_evaluate.py::test_a_run_directory_gives_models_keys_and_folder",
    "label": f"{_FLOWS}/test_recalculate.py::test_a_run_that_was_stopped_goes_on_where_it_was",
    "doctor": f"{_COMMANDS}/test_doctor.py::test_a_healthy_directory_passes_everything",
    "atomic-energies": f"{_COMMANDS}/test_atomic_energies.py::"
    "test_what_is_printed_is_what_is_written",
    "init": f"{_HERE}::test_the_first_commands_of_five_minutes",
    "deploy": f"{_FLOWS}/test_deployment.py::test_a_second_deploy_changes_nothing",
    "undeploy": f"{_FLOWS}/test_deployment.py::test_undeploy_leaves_nothing_but_the_history",
    "schema": f"{_COMMANDS}/test_app.py::test_schema_describes_a_settings_file",
    "server start": f"{_COMMANDS}/test_app.py::test_server_start_finds_the_one_that_runs",
    "server stop": f"{_FLOWS}/test_server_away.py::story",
    "server env": f"{_COMMANDS}/test_app.py::test_server_env_points_a_shell_at_the_server",
    "server status": f"{_COMMANDS}/test_app.py::"
    "test_server_status_says_where_the_server_is_and_who_runs_it",
    "--version": f"{_HERE}::test_the_version_is_that_of_the_package",
    "--install-completion": f"{_HERE}::test_completion_is_installed_and_knows_the_commands",
}  # fmt: skip
"""Which test runs a command of ours."""

SYSTEM = {"cat", "cd", "ls", "export", "eval", "."}
"""Programs and words of the shell that any machine has."""

ELSEWHERE = {"pip", "ssh", "tmux", "sinfo", "squeue", "docker"}
"""Programs that a test cannot run; the block says why."""


def place(command: Command) -> str:
    return f"{command.block.place} {command.text}"


COMMANDS = commands()


@pytest.mark.parametrize("command", COMMANDS, ids=place)
def test_the_command_is_one_that_there_is(command: Command) -> None:
    program, *words = command.words
    name = Path(program).name
    if {program, name} & SYSTEM:
        return
    if name in ELSEWHERE:
        assert command.block.why_not_run, f"{command.block.place}: {name} is not run; say why"
    checker = CHECKERS.get(name)
    if checker is None:
        assert command.block.why_not_run, f"{command.block.place}: who checks {program!r}?"
    else:
        checker(command, words)


def ours(command: Command, words: list[str]) -> None:
    """`aimspax …`, taken apart by the command line itself; a test runs it."""
    app.parse_args(words, exit_on_error=False, print_error=False)
    name = " ".join(words[:2] if words[0] == "server" else words[:1])
    assert name in RUN_BY, f"no test is named that runs aimspax {name}"


@cache
def original_app(name: str) -> App:
    """Return the command line of one of the original's commands."""
    found: list[App] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(original, "finish", found.append)
        getattr(original, name.lower().replace("aims-pax-", "").replace("-", "_"))()
    return found[0]


def originals(command: Command, words: list[str]) -> None:
    """`aims-PAX…`, likewise."""
    original_app(Path(command.words[0]).name).parse_args(
        words, exit_on_error=False, print_error=False
    )


def make(command: Command, words: list[str]) -> None:
    """`make TARGET VARIABLE=…`: the Makefile has both."""
    text = (ROOT / "Makefile").read_text()
    for word in words:
        name, equals, _ = word.partition("=")
        known = rf"^{name}\s*[?:]?=" if equals else rf"^{name}:"
        assert re.search(known, text, re.M), f"no {name} in the Makefile"


def pip(command: Command, words: list[str]) -> None:
    """`pip install …`: the extras are named, and files are there."""
    extras = project()["optional-dependencies"]
    assert words[0] == "install"
    for before, word in itertools.pairwise(words):
        if before in ("-c", "-r"):
            assert (ROOT / word).is_file()
        elif "[" in word:
            wanted = re.findall(r"\w+", word.partition("[")[2])
            assert {*wanted} <= {*extras}, f"{word}: extras are {', '.join(extras)}"
        elif not word.startswith("-"):
            assert command.block.why_not_run or word in {"aimspax", "torch"}, word
            if re.match(r"torch\b(?!-)", word) and "-c" not in words:
                # any newer one would be taken away again with the next line
                assert word in project()["dependencies"], f"{word}: not the torch of pyproject.toml"


def python(command: Command, words: list[str]) -> None:
    """`python FILE FLAGS`, `python -m MODULE`: a file of ours, which knows the flags."""
    if words[:1] == ["-m"]:
        assert (
            words[1] in ("venv", "build") or (ROOT / f"{words[1].replace('.', '/')}.py").is_file()
        )
        return
    folders = (ROOT, (ROOT / command.block.page).parent)
    script = next((one / words[0] for one in folders if (one / words[0]).is_file()), None)
    if script is None:
        assert command.block.why_not_run or command.block.run_by, f"no {words[0]}"
        return
    for flag in (word for word in words if word.startswith("--")):
        assert f'"{flag}"' in script.read_text(), f"{script.name} knows no {flag}"


def pytest_command(command: Command, words: list[str]) -> None:
    """`pytest FILE -k WORD`: the file is there."""
    assert (ROOT / words[0]).is_file()


def prefect(command: Command, words: list[str]) -> None:
    """`prefect …`, taken apart by Prefect's own command line."""
    from prefect.cli._app import _app

    _app.parse_args(words, exit_on_error=False, print_error=False)


def docker(command: Command, words: list[str]) -> None:
    """`docker compose -f FILE …`: the file has the services."""
    assert words[:2] == ["compose", "-f"]
    services = YAML(typ="safe").load((ROOT / words[2]).read_text())["services"]
    if words[3] == "exec":
        assert words[4] in services


ORIGINALS = ("aims-PAX", "aims-PAX-initial-ds", "aims-PAX-al", "aims-PAX-recalc", "aims-PAX-test")

CHECKERS: dict[str, Callable[[Command, list[str]], None]] = {
    "aimspax": ours,
    **dict.fromkeys(ORIGINALS, originals),
    **dict.fromkeys(("python", "python3"), python),
    "make": make,
    "pip": pip,
    "prefect": prefect,
    "docker": docker,
    "pytest": pytest_command,
}


def project() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_program_that_is_installed_is_checked() -> None:
    assert {*project()["scripts"]} == {"aimspax", *ORIGINALS}


@pytest.mark.parametrize("test", sorted({*RUN_BY.values()}))
def test_the_test_that_runs_a_command_is_there(test: str) -> None:
    name, _, function = test.partition("::")
    assert re.search(rf"^\s*def {function}\(", (ROOT / name).read_text(), re.M)


def test_every_command_of_ours_is_in_the_overview() -> None:
    shown = {
        word
        for one in COMMANDS
        if one.block.page == "docs/commands.md" and one.words[0] == "aimspax"
        for word in one.words[1:2]
    }
    known = {name for name in app if not name.startswith("-")}
    assert known - shown == {"undeploy"}  # named beside deploy


JOBS = [one for one in blocks("bash") if "#SBATCH" in one.text]


@pytest.mark.parametrize("block", JOBS, ids=lambda block: block.place)
def test_options_of_jobs_are_those_of_sbatch(block: Block) -> None:
    header = "".join(line for line in block.text.splitlines(True) if line.startswith("#SBATCH"))
    assert JobHeader.parse(header).directives


def aimspax(*arguments: str | Path, cwd: Path, **more: str) -> str:
    script = "from flows.commands.start import aimspax; aimspax()"
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), **more},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    assert aimspax("--version", cwd=tmp_path).strip() == project()["version"]


@pytest.mark.torch
def test_the_first_commands_of_five_minutes(tmp_path: Path) -> None:
    """As they stand there, but for the campaign itself."""
    xyz, first, *_ = blocks_of(ROOT / "docs" / "start.md")
    (tmp_path / "methanol.xyz").write_text(xyz.text)
    init, check, run = (one.words for one in COMMANDS if one.block == first)
    assert run == ("aimspax", "run", "methanol")
    assert "written: methanol/aimsPAX.yaml" in aimspax(*init[1:], cwd=tmp_path)
    assert "No mistakes found" in aimspax(*check[1:], cwd=tmp_path)


def test_completion_is_installed_and_knows_the_commands(tmp_path: Path) -> None:
    said = aimspax(
        "--install-completion",
        "--shell",
        "bash",
        cwd=tmp_path,
        HOME=str(tmp_path),
        SHELL="/bin/bash",
    )
    script = next(tmp_path.rglob("aimspax"))
    assert script.name in said
    typed = 'COMP_WORDS=(aimspax ser); COMP_CWORD=1; _aimspax; echo "${COMPREPLY[@]}"'
    asked = f"source {script}; {typed}"
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "server"
