"""The command line `aimspax`: `run`, `check`, `status`, `evaluate`, `init`, `server` and others.

What takes long to import is imported by the command that needs it.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
from pathlib import Path
from typing import Annotated, Literal

import httpx
from cyclopts import App, Parameter
from rich.console import Console

from aimspax_core import __version__
from aimspax_core.errors import AimspaxError
from aimspax_core.storage import text as text_of
from flows.commands import by_hand
from flows.commands import check as checking
from flows.commands import export as exporting
from flows.commands import status as progress
from flows.commands.deploy import DEFAULT_OPTIONS as ON_THIS_MACHINE
from flows.commands.deploy import DeployOptions
from flows.commands.ends import flushed, interruptible, leave, of_interruption
from flows.commands.evaluate import DEFAULT_OPTIONS, Dataset, EvaluationOptions
from flows.commands.evaluate import evaluate as evaluate_models
from flows.commands.exit_codes import DONE, FAILED, USER, console
from flows.commands.export import LammpsFormat
from flows.commands.init import init
from flows.commands.label_dataset import DEFAULT_OPTIONS as ALL_FRAMES
from flows.commands.label_dataset import RelabelOptions
from flows.commands.options import NONE, Directory, Fresh, Host, Options, Password
from flows.commands.run import login_text, run_flow
from flows.deployments.profile import ProfileName
from flows.runs.exits import STOPPED

CODES = (
    "Exit codes: 0 done, 1 failed, 2 something for you to mend, 3 done but for frames without a "
    "label, 130 stopped."
)

app = App(
    name="aimspax",
    version=__version__,
    help="Active learning of MACE force fields.",
    help_epilogue=CODES,
)
server_app = App(name="server", help="The local Prefect server and its dashboard.")
app.command(server_app)
app.register_install_completion_command(
    help="Complete commands, flags and file names by the Tab key in new shells (bash, zsh, fish)."
)
app.command(init)


@app.command
def run(directory: Directory = Path(), *, options: Options = NONE, fresh: Fresh = False) -> int:
    """Run a whole campaign, or go on with it where it was stopped."""
    return run_flow("all", directory, options.overrides, fresh)


@app.command(name="initial-dataset")
def initial_dataset(
    directory: Directory = Path(), *, options: Options = NONE, fresh: Fresh = False
) -> int:
    """Make the initial dataset, and train an ensemble on it."""
    return run_flow("initial", directory, options.overrides, fresh)


@app.command(name="active-learning")
def active_learning(
    directory: Directory = Path(), *, options: Options = NONE, fresh: Fresh = False
) -> int:
    """Run active learning from an initial dataset, or from models and datasets, that are there."""
    return run_flow("active", directory, options.overrides, fresh)


@app.command
def check(directory: Directory = Path(), *, options: Options = NONE) -> int:
    """Find every mistake before anything is launched, and say what would run."""
    return checking.check(directory, options.overrides)


@app.command
def status(
    directory: Directory = Path(),
    *,
    options: Options = NONE,
    watch: Annotated[
        bool,
        Parameter(
            help="Show it anew as it goes on, until it is over or nobody runs it any more.",
            negative=(),
        ),
    ] = False,
) -> int:
    """Say how far a campaign is."""
    if watch:
        from flows.commands.watch import watch as watched

        return watched(directory, options.overrides)
    return progress.status(directory, options.overrides)


@app.command(name="set")
def set_values(
    directory: Annotated[Path, Parameter(help="The run directory.")],
    assignments: Annotated[
        tuple[str, ...],
        Parameter(
            help="key=value, in force at once; the files stay as they are.",
            consume_multiple=True,
            negative=(),
        ),
    ],
    *,
    options: Options = NONE,
) -> int:
    """Change settings of a campaign while it runs, such as `c_x=-0.1`."""
    return by_hand.set_values(directory, options.overrides, assignments)


@app.command
def pause(directory: Directory = Path(), *, options: Options = NONE) -> int:
    """Begin nothing new in a campaign; what runs is finished and kept."""
    return by_hand.pause(directory, options.overrides)


@app.command
def resume(directory: Directory = Path(), *, options: Options = NONE) -> int:
    """Let a campaign that is paused go on."""
    return by_hand.resume(directory, options.overrides)


@app.command
def export(
    directory: Directory = Path(),
    *,
    options: Options = NONE,
    save: Annotated[Path | None, Parameter(help="Where to write; none: `export` in DIR.")] = None,
    lammps: Annotated[
        tuple[LammpsFormat, ...] | None,
        Parameter(
            help="Formats for LAMMPS: pair_style mliap, or MACE's own (libtorch); none named: "
            "mliap, if the family of the models has it."
        ),
    ] = None,
) -> int:
    """Write the models of a finished campaign for LAMMPS, ASE and TorchSim, with a card."""
    return exporting.export(directory, options.overrides, save, lammps)


@app.command
def report(
    *directories: Annotated[Path, Parameter(help="The run directory; several are compared.")],
    options: Options = NONE,
    save: Annotated[
        Path | None,
        Parameter(help="Where to write; none: the run directory, or here if there are several."),
    ] = None,
) -> int:
    """Write a page on a campaign, or on several, that needs no network.

    Beside it lie its numbers, and what to cite.
    """
    from flows.commands.report import report as reported

    return reported(directories or (Path(),), options.overrides, save)


@app.command
def verify(
    directory: Directory = Path(),
    *,
    options: Options = NONE,
    as_json: Annotated[
        bool, Parameter(name="--json", help="Print one JSON object.", negative=())
    ] = False,
    no_models: Annotated[
        bool,
        Parameter(help="Do not load and evaluate models: fast, without torch.", negative=()),
    ] = False,
) -> int:
    """Say whether all is well: every label, set, counter, checkpoint and model looked at anew.

    Nothing is changed. Exit codes: 0 all is well, 1 findings, 2 it cannot be read.
    """
    from flows.commands.verify import verify as look

    return look(directory, options.overrides, as_json, models=not no_models)


@app.command
def evaluate(
    data: Dataset, *, asked: EvaluationOptions = DEFAULT_OPTIONS, options: Options = NONE
) -> int:
    """Hold models against a labelled dataset: errors, figures, and what uncertainties tell."""
    evaluate_models(data, asked, options.overrides)
    return DONE


@app.command
def label(
    file: Annotated[Path, Parameter(help="The dataset, in any format that ASE reads.")],
    *,
    directory: Directory = Path(),
    asked: RelabelOptions = ALL_FRAMES,
    options: Options = NONE,
) -> int:
    """Label a whole dataset with the reference; labels that are there are not paid for again.

    Exit codes: 0 every frame has its label, 3 some have none; they are listed beside it.
    """
    from flows.commands.label_dataset import label_dataset

    return label_dataset(file, asked, directory, options.overrides)


@app.command
def doctor(directory: Directory = Path(), *, options: Options = NONE) -> int:
    """Try on this machine what a run needs: folders, server, engine, one label and its time."""
    from flows.commands.doctor import doctor as visit

    return visit(directory, options.overrides)


@app.command(name="atomic-energies")
def atomic_energies(
    directory: Directory = Path(),
    *,
    elements: Annotated[
        tuple[str, ...],
        Parameter(
            help="Chemical symbols; none: those of the start geometries.",
            consume_multiple=True,
            negative=(),
            show_default=False,
        ),
    ] = (),
    options: Options = NONE,
) -> int:
    """Compute isolated atoms in their ground states, ready for mace.yaml."""
    from flows.commands.atomic_energies import atomic_energies as computed

    return computed(directory, options.overrides, elements)


@app.command
def deploy(*, options: DeployOptions = ON_THIS_MACHINE) -> int:
    """Make the flows runnable from the web page, on a schedule, and healing by themselves."""
    from flows.commands.deploy import deploy as deployed

    return deployed(options)


@app.command
def undeploy(
    *,
    profile: Annotated[ProfileName | None, Parameter(help="None: all that was deployed.")] = None,
) -> int:
    """Remove what `aimspax deploy` has made; run directories are not touched."""
    from flows.commands.deploy import undeploy as removed

    return removed(profile)


@app.command
def schema(which: Literal["aimsPAX", "mace"] = "aimsPAX") -> int:
    """Print the JSON Schema of a settings file, for editors that check while you write."""
    from aimspax_core.settings.derived.schema import schema as schema_of

    content = schema_of("aimsPAX.yaml" if which == "aimsPAX" else "mace.yaml")
    print(json.dumps(content, indent=2, ensure_ascii=False))
    return DONE


@server_app.command
def start(*, host: Host = None, password: Password = None) -> int:
    """Start the server, unless it is running."""
    from flows import server

    found = server.ensure(host, password)
    console.print(f"{'started' if found.started else 'running'}: {found.url}", markup=False)
    if found.password:
        console.print(login_text(found), markup=False)
    elif found.why:
        console.print(f"the server asks for no password: {found.why}", markup=False)
    console.print('for the command `prefect` in this shell: eval "$(aimspax server env)"')
    return DONE


@server_app.command
def env(*, host: Host = None) -> int:
    """Print what points `prefect` at the running server, for eval "$(aimspax server env)"."""
    from flows import server

    if server.status() is None:
        raise server.ServerError("no server is running; `aimspax server start` starts it")
    before = dict(os.environ)
    server.ensure(host)
    for name in (*server.CLIENT_VARIABLES, "no_proxy", "NO_PROXY"):
        value = os.environ.get(name)
        if value and (name == "PREFECT_API_URL" or value != before.get(name)):
            print(f"export {name}={shlex.quote(value)}")
    return DONE


@server_app.command
def stop() -> int:
    """Stop the server that aimspax started."""
    from flows import server

    console.print("stopped" if server.stop() else "no server of ours is running")
    return DONE


@server_app.command(name="status")
def server_status() -> int:
    """Say whether a server answers, and where."""
    from flows import server

    found = server.status()
    if found is None:
        console.print("no server is running")
        return DONE
    console.print(f"{found.server.url}: {found.problem or 'it answers'}", markup=False)
    if found.server.password:
        console.print(login_text(found.server), markup=False)
    elif found.server.ours:
        why = f": {found.server.why}" if found.server.why else ""
        console.print(f"the server asks for no password{why}", markup=False)
        if found.open_to:
            console.print(f"today it would: {found.open_to}", style="yellow", markup=False)
    if found.server.ours:
        process = f"process {found.server.pid}, Prefect {found.version}, since {found.started}"
        console.print(f"{process}; what it printed: {found.log}", markup=False)
    return FAILED if found.problem else DONE


def main() -> None:
    """Run the command line `aimspax`."""
    finish(app)


def finish(command_line: App) -> None:
    """Run a command line, and end the process with its exit code.

    Mistakes of the user end it with one message, and so does a file that is missing, may not be
    read or cannot be written; only a bug of ours shows a traceback.
    """
    logging.getLogger("distributed").setLevel(logging.ERROR)
    interrupted = interruptible()
    try:
        code = command_line(result_action="return_value")
    except BaseException as error:
        code = _stopped(error) if interrupted() else _failed(error)
    leave(code, at_once=interrupted())


def _stopped(error: BaseException) -> int:
    """Print how a command has ended after a signal; return its exit code.

    What went wrong beside the interruption is told: a mistake or a lost file in its place, a bug of
    ours before it.
    """
    if of_interruption(error):
        return _refuse("stopped", STOPPED)
    if isinstance(error, AimspaxError) or (isinstance(error, OSError) and error.filename):
        return _failed(error)
    logging.getLogger("aimspax").error("after the signal:", exc_info=error)
    return _refuse("stopped", STOPPED)


def _failed(error: BaseException) -> int:
    """Print why a command has failed; return its exit code. A bug of ours is raised again."""
    if isinstance(error, AimspaxError):
        return _refuse(str(error), USER)
    if isinstance(error, OSError) and error.filename is not None:
        return _refuse(text_of(error), FAILED)
    if isinstance(error, httpx.HTTPError):
        return _refuse(f"the Prefect API went away: {error}; start again", FAILED)
    if isinstance(error, BrokenPipeError) and not flushed():
        return FAILED
    raise error


def _refuse(text: str, code: int) -> int:
    """Print to stderr why a command ends; return its exit code."""
    Console(stderr=True, highlight=False).print(text, markup=False, soft_wrap=True)
    return code
