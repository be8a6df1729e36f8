"""The command line: `aimspax run|initial-dataset|active-learning|check|status|server`.

Prefect is imported late: the address of its API must be known first.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from aimspax_core import __version__
from aimspax_core.campaign.events import Resumed
from aimspax_core.campaign.journal import holder
from aimspax_core.campaign.journal import load as load_journal
from aimspax_core.campaign.labels import LabelStore, require_labels
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.errors import AimspaxError, SettingsError
from aimspax_core.inputs import Inputs
from aimspax_core.report.plan import plan, split_table
from aimspax_core.report.progress import progress
from aimspax_core.rundir import RunDir
from aimspax_core.settings.load import Settings, load
from aimspax_core.settings.provenance import changed

EXIT_USER, EXIT_FAILED = 2, 1

app = App(name="aimspax", version=__version__, help="Active learning of MACE force fields.")
server_app = App(name="server", help="The local Prefect server and its dashboard.")
app.command(server_app)
console = Console(highlight=False, soft_wrap=True)

Directory = Annotated[Path, Parameter(help="The run directory.")]
Set = Annotated[
    list[str] | None,
    Parameter(
        name="--set", help="SECTION.key=value, in place of what the files say; may be repeated.",
        negative=(),
    ),
]  # fmt: skip
Fresh = Annotated[
    bool, Parameter(help="Begin anew; an earlier campaign is moved aside.", negative=())
]


@app.command
def run(directory: Directory = Path(), *, set_: Set = None, fresh: Fresh = False) -> int:
    """Run a whole campaign, or go on with it where it was stopped."""
    return _flow("pipeline", "aims_pax", directory, set_, fresh)


@app.command(name="initial-dataset")
def initial_dataset(
    directory: Directory = Path(), *, set_: Set = None, fresh: Fresh = False
) -> int:
    """Make the initial dataset, and train an ensemble on it."""
    return _flow("initial_dataset", "initial_dataset", directory, set_, fresh)


@app.command(name="active-learning")
def active_learning(directory: Directory = Path(), *, set_: Set = None) -> int:
    """Run active learning from an initial dataset that is there."""
    return _flow("active_learning", "active_learning", directory, set_, False)


@app.command
def check(directory: Directory = Path(), *, set_: Set = None) -> int:
    """Find every mistake before anything is launched, and say what would run."""
    inputs = Inputs.read(directory, _overrides(set_))
    settings = inputs.settings
    for note in settings.notes:
        console.print(f"note: {note}", style="yellow", markup=False)
    for change in changed(inputs.run, settings, inputs.geometries):
        console.print(f"changed since the run was started: {change}", markup=False)
    for line in plan(settings, inputs.geometries, tuple(inputs.seeds)):
        console.print(line, markup=False, soft_wrap=True)
    table = Table("sampling step", "training", "validation", title="Points of each member")
    for step, training, validation in split_table(settings, len(inputs.geometries)):
        table.add_row(str(step), str(training), str(validation))
    console.print(table)
    _, state = load_journal(inputs.run)
    if state is not None:
        require_labels(LabelStore(inputs.run.labels), state.labelled)
    if state is None:
        console.print("No mistakes found; nothing has been run here yet.")
    else:
        console.print(
            f"No mistakes found. A campaign is here: {_told(state, settings)}", markup=False
        )
    return 0


@app.command
def status(directory: Directory = Path()) -> int:
    """Say how far a campaign is."""
    settings = load(directory)
    run_dir = RunDir.of(settings)
    _, state = load_journal(run_dir)
    if state is None:
        console.print(f"{run_dir.output}: no campaign has been started here", markup=False)
        return 0
    who = holder(run_dir)
    running = f"process {who.get('pid')} on {who.get('host')} runs it" if who else "nobody runs it"
    console.print(f"{_told(state, settings)} ({running})", markup=False)
    if state.stop_reason:
        console.print(f"reason: {state.stop_reason}", markup=False)
    from flows.console import status_tables

    for table in status_tables(state):
        console.print(table)
    return 0


@server_app.command
def start() -> int:
    """Start the server, unless it is running."""
    from flows import server

    found = server.ensure()
    console.print(f"{'started' if found.started else 'running'}: {found.url}", markup=False)
    return 0


@server_app.command
def stop() -> int:
    """Stop the server that aimspax started."""
    from flows import server

    console.print("stopped" if server.stop() else "no server of ours is running")
    return 0


@server_app.command(name="status")
def server_status() -> int:
    """Say whether a server answers, and where."""
    from flows import server

    found = server.status()
    console.print(f"{found}" if found else "no server is running", markup=False)
    return 0


def main() -> None:
    """Run the command line; mistakes of the user end it with exit code 2 and one message."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    try:
        code = app(result_action="return_value")
    except AimspaxError as error:
        Console(stderr=True, highlight=False).print(str(error), markup=False, soft_wrap=True)
        code = EXIT_USER
    sys.exit(code)


def _flow(module: str, name: str, directory: Path, set_: list[str] | None, fresh: bool) -> int:
    """Run a flow in this process, once nothing is left that the user would have to mend."""
    overrides = _overrides(set_)
    inputs = Inputs.read(directory, overrides)
    settings, run_dir = inputs.settings, inputs.run
    if fresh:
        move_aside(run_dir)
    else:
        changed(run_dir, settings, inputs.geometries)
    _, state = load_journal(run_dir)
    finished = state is not None and state.phase is Phase.FINISHED
    if state is not None and finished and not _asks_more(state, inputs):
        return _show_results(run_dir, state, settings)
    from flows import server

    found = server.ensure()
    # Prefect's own console lines would repeat ours; its page has them all.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    console.print(f"dashboard: {found.url}", markup=False)
    import importlib

    function: Callable[..., Any] = getattr(importlib.import_module(f"flows.{module}"), name)
    from flows.console import following

    began = time.monotonic()
    with following(console, settings.al.max_convergence_epochs):
        state_of_flow = function(settings.directory, overrides, return_state=True)
    return _report(state_of_flow, run_dir, settings, time.monotonic() - began)


def _report(outcome: Any, run_dir: RunDir, settings: Settings, seconds: float) -> int:
    """Say how the run ended; return the exit code."""
    _, state = load_journal(run_dir)
    if outcome.is_completed() and state is not None:
        minutes = f"{seconds / 60:.1f} min"
        if state.phase is Phase.FINISHED:
            console.print(f"finished in {minutes}")
            return _show_results(run_dir, state, settings)
        console.print(f"{_told(state, settings)} ({minutes})", markup=False)
        return 0
    error = outcome.result(raise_on_failure=False)
    if isinstance(error, AimspaxError):
        raise error
    console.print(f"{outcome.name}: {outcome.message}", style="red", markup=False)
    return 130 if outcome.is_cancelled() else EXIT_FAILED


def _show_results(run_dir: RunDir, state: CampaignState, settings: Settings) -> int:
    console.print(f"This campaign is finished: {state.stop_reason}", markup=False)
    console.print(_told(state, settings), markup=False)
    table = Table("file", "kB", title=f"Results in {run_dir.results}")
    for path in sorted(run_dir.results.iterdir()):
        table.add_row(path.name, f"{path.stat().st_size / 1024:.0f}")
    console.print(table)
    return 0


def _told(state: CampaignState, settings: Settings) -> str:
    now = progress(state, settings.al.max_convergence_epochs)
    return f"{now.title}: {now.told}"


def _asks_more(state: CampaignState, inputs: Inputs) -> bool:
    """True if the stopping rules, as they are today, would let a finished campaign go on."""
    return apply(state, Resumed(rules=inputs.rules)).phase is not Phase.FINISHED


def move_aside(run_dir: RunDir) -> None:
    """Make room for a new campaign, without losing the old one."""
    who = holder(run_dir)
    if who is not None:
        raise SettingsError(f"{run_dir.output}: process {who.get('pid')} is running this campaign")
    if not run_dir.state.exists():
        return
    output = run_dir.output.resolve()
    aside = output / f"earlier-{time.strftime('%Y%m%d-%H%M%S')}"
    folders = (
        run_dir.state, run_dir.results, run_dir.data, run_dir.models, run_dir.losses, run_dir.logs,
        run_dir.checkpoints_dir,
    )  # fmt: skip
    for folder in (f.resolve() for f in folders):
        # A setting may name one folder twice, or one that holds the user's own files.
        if folder.exists() and output in folder.parents:
            new = aside / folder.relative_to(output)
            new.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(new)
    labels = aside / run_dir.state.name / run_dir.labels.name
    if labels.exists():
        shutil.copytree(labels, run_dir.labels, copy_function=_link)
    console.print(f"the earlier campaign is now in {aside}; its labels are used again")


def _link(source: str, target: str) -> None:
    """Have one file in two places: a label is paid for once, and stored once where that works."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _overrides(assignments: list[str] | None) -> dict[str, Any]:
    """Read `SECTION.key=value`; values as YAML reads them."""
    found: dict[str, Any] = {}
    for assignment in assignments or []:
        key, equals, text = assignment.partition("=")
        if not equals or "." not in key:
            raise SettingsError(f"--set {assignment!r}: allowed: SECTION.key=value")
        try:
            found[key] = YAML(typ="safe").load(text)
        except YAMLError as error:
            raise SettingsError(f"--set {assignment!r}: not a YAML value") from error
    return found
