"""`aimspax doctor`: whether a run directory would run on this machine, tried on small things.

Prefect is imported late: the address of its API must be known first.
"""

from __future__ import annotations

import json
import math
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ase import Atoms

from aimspax_core.errors import AimspaxError, CampaignError, EngineError, LabelError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.machine import machine_cores
from aimspax_core.reference.interface import Reference
from aimspax_core.reference.registry import kind_of, make_reference
from aimspax_core.reference.trial_label import Trial, diatomic, hold_against_energies, off_balance
from aimspax_core.settings.engines import ProgramSection
from aimspax_core.settings.known_engines import EngineSettings
from aimspax_core.settings.settings import Settings
from aimspax_core.structures import encode
from aimspax_core.text import duration_text
from aimspax_core.versions import version_of
from flows.commands.exit_codes import DONE, FAILED, USER, console
from flows.commands.run import server_for
from flows.server import Server, ServerError

T = TypeVar("T")

_LOW_GB = 1.0
"""With less space than this on a disk (GB) a campaign would end soon."""

_MENDABLE = re.compile(r"not found|no such file|permission denied|not a directory", re.IGNORECASE)
"""Errors of the operating system that the user can mend."""


def doctor(directory: Path, overrides: Mapping[str, Any]) -> int:
    """Try what a campaign needs, one thing after the other, and print a line for each.

    Args:
        directory: The run directory.
        overrides: Values that replace those of the files.

    Returns:
        The exit code: `USER` if something is for the user to mend, else `FAILED` if the machine
        failed, else `DONE`.
    """
    done = _Checklist()
    inputs = done.check("settings and geometries", partial(_read, directory, overrides))
    if inputs is None:
        return done.code
    for note in inputs.settings.notes:
        console.print(f"  note: {note}", style="yellow", markup=False)
    done.check("folders", partial(_folders, inputs))
    done.check("machine", partial(_machine, inputs.settings))
    server = done.check("Prefect server", partial(_server, inputs.settings))
    reference = done.check("engine", partial(_engine, inputs))
    last = "a label through the pool"
    if reference is None:
        done.skip("a small calculation", "the engine does not start")
        done.skip(last, "the engine does not start")
        return done.code
    small, on_slurm = "a small calculation", inputs.settings.cluster.reference_jobs is not None
    if server is None and on_slurm:
        done.skip(small, "there is no server")
        done.skip(last, "there is no server")
        return done.code
    trial = done.check(small, partial(_trial, inputs))
    if trial is None or server is None:
        done.skip(last, "there is no server" if server is None else "the small calculation failed")
        return done.code
    done.check(last, partial(_through_the_pool, inputs))
    return done.code


class _Checklist:
    """Prints a line for each thing that was tried, and keeps the exit code."""

    def __init__(self) -> None:
        self._codes = {DONE}

    @property
    def code(self) -> int:
        """The exit code: something for the user to mend outweighs a failure of the machine."""
        return max(self._codes)

    def check(self, name: str, work: Callable[[], tuple[T, str]]) -> T | None:
        """Try one thing and print a line; return what `work` found, or None if it failed."""
        began = time.perf_counter()
        try:
            with console.status(name):
                found, details = work()
        # Also of a user's calculator, which may raise anything: no traceback helps here.
        except Exception as error:
            self._codes.add(USER if _for_the_user(error) else FAILED)
            self._print("✗", name, began, _error_text(error), "red")
            return None
        self._print("✓", name, began, details, "green")
        return found

    def skip(self, name: str, why: str) -> None:
        """Print that one thing was not tried."""
        console.print(f"- {name}: not tried, {why}", markup=False)

    def _print(self, mark: str, name: str, began: float, details: str, style: str) -> None:
        console.print(mark, style=style, end=" ")
        seconds = time.perf_counter() - began
        console.print(f"{name} ({duration_text(seconds)}): {details}", markup=False)


def _for_the_user(error: Exception) -> bool:
    """Return whether the user can mend an error; else the machine failed."""
    if isinstance(error, LabelError) and error.transient:
        return _MENDABLE.search(str(error)) is not None
    if isinstance(error, OSError):
        return isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError)
    return isinstance(error, AimspaxError) and not isinstance(error, ServerError)


def _error_text(error: Exception) -> str:
    """Return an error's text, and where the files of the failed calculation are."""
    text = str(error) if isinstance(error, AimspaxError) else f"{type(error).__name__}: {error}"
    notes = [n for n in getattr(error, "__notes__", ()) if n.rpartition(" ")[2] not in text]
    return "; ".join((text, *notes))


def _read(directory: Path, overrides: Mapping[str, Any]) -> tuple[Inputs, str]:
    inputs = Inputs.read(directory, overrides, "any")
    formulas = ", ".join(atoms.get_chemical_formula() for atoms in inputs.geometries)
    return inputs, f"no mistakes; {formulas}"


def _folders(inputs: Inputs) -> tuple[bool, str]:
    """Write to every folder that a run writes to, and see how much space is left.

    Raises:
        OSError: A folder cannot be written to.
        CampaignError: A disk has hardly any space.
    """
    run, settings = inputs.run, inputs.settings
    places = {
        "output": run.state,
        "datasets": run.data,
        "logs": run.logs,
        "losses": run.losses,
        "models": run.models,
        "checkpoints": run.checkpoints_dir,
        "label store": run.labels,
        "temporary files": Path(tempfile.gettempdir()),
    }
    if isinstance(settings.reference, ProgramSection):
        places["calculations"] = settings.directory / settings.reference.calc_dir
    free: dict[int, tuple[float, list[str]]] = {}
    for name, place in places.items():
        there = _writable(place)
        space = shutil.disk_usage(there).free / 1e9
        if space < _LOW_GB:
            raise CampaignError(f"{there}: {space:.1f} GB left for {name}; make room")
        free.setdefault(there.stat().st_dev, (space, []))[1].append(name)
    left = (f"{space:.0f} GB left for {', '.join(names)}" for space, names in free.values())
    return True, "; ".join(left)


def _writable(place: Path) -> Path:
    """Return the folder, or the one in which it would be made, once a file was written there."""
    there = place
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is a file; {place} cannot be made")
    with tempfile.TemporaryFile(dir=there) as file:
        file.write(b"aimspax")
    return there


def _machine(settings: Settings) -> tuple[bool, str]:
    import torch  # takes seconds

    device = settings.model.MISC.device
    if device == "cpu":
        models = "models on the CPU"
    elif settings.cluster.ml_jobs is not None:
        models = "models on the GPUs of Slurm jobs"
    else:
        torch.ones(1, device=device).sum().item()
        models = f"models on {torch.cuda.get_device_name(device)}"
    cores, cluster = machine_cores(), settings.cluster
    labels = cluster.labels_at_once
    more = " (more than there are cores)" if labels > cores else ""
    if cluster.reference_jobs is not None:
        more = " in Slurm jobs"
    return True, (
        f"Python {platform.python_version()}, torch {torch.__version__}, {models}; {cores} cores, "
        f"{settings.ml_workers} workers for models, {labels} for labels{more}, "
        "one thread each"
    )


def _server(settings: Settings) -> tuple[Server, str]:
    found = server_for(settings)
    how = "started" if found.started else "running"
    return found, f"{how} at {found.url}, Prefect {version_of('prefect')} here"


def _engine(inputs: Inputs) -> tuple[Reference, str]:
    settings = inputs.settings
    reference = make_reference(settings.reference_of(0), settings.directory)
    identity = reference.identity()
    versions = {**identity.get("provider", {}), "version": identity.get("version")}
    found = [f"{name} {str(value)[:12]}" for name, value in versions.items() if value]
    return reference, ", ".join((settings.reference.engine, *found))


def _trial(inputs: Inputs) -> tuple[Trial, str]:
    """Label something small, and compare its forces (and stress) with differences of energies.

    Two atoms of the lightest element of the molecules; if there are only periodic structures, the
    smallest of these, because k-points and cell of the settings belong to them.

    Raises:
        LabelError: The engine has no answer.
        EngineError: Forces or stress are not the derivatives of the energy.
    """
    settings, folder = inputs.settings, inputs.run.state / "atoms"
    numbered = list(enumerate(inputs.geometries))
    molecules = [(index, atoms) for index, atoms in numbered if not atoms.pbc.any()]
    stress = False
    if molecules:
        index, atoms = min(molecules, key=lambda pair: int(pair[1].numbers.min()))
        atoms = diatomic(int(atoms.numbers.min()))
        engine = settings.reference_of(index)
        engine = kind_of(engine).in_vacuum(engine, settings.directory, folder, 1)
    else:
        index, atoms = min(numbered, key=lambda pair: len(pair[1]))
        stress = settings.stress and bool(atoms.pbc.all())
        atoms = off_balance(atoms, stress)
        engine = settings.reference_of(index)
    trial = _run_trial(engine, atoms, stress, settings)
    formula = atoms.get_chemical_formula()
    wrong = [str(comparison) for comparison in trial.comparisons if not comparison.agrees]
    if wrong:
        raise EngineError(f"{formula}: {'; '.join(wrong)}")
    version = trial.label.provenance.get("version")
    took = f"{formula} took {duration_text(trial.seconds)}" + (
        f", version {version}" if version else ""
    )
    if not trial.comparisons:
        return trial, f"{took}: too long to hold its forces against energies"
    return trial, f"{took}; {'; '.join(map(str, trial.comparisons))}"


def _run_trial(engine: EngineSettings, atoms: Atoms, stress: bool, settings: Settings) -> Trial:
    """Run the trial where labels are computed: in this process, or in a job of the cluster."""
    if settings.cluster.reference_jobs is None:
        return hold_against_energies(make_reference(engine, settings.directory), atoms, stress)
    from flows.loops.few_labels import trial_on_worker
    from tasks.trial import TrialRequest

    request = TrialRequest(json.dumps(encode(atoms)), engine, settings.directory, stress)
    return trial_on_worker(f"small calculation of {settings.directory.name}", request, settings)


def _through_the_pool(inputs: Inputs) -> tuple[bool, str]:
    """Label the first start geometry on a worker, as a campaign would.

    Raises:
        AimspaxError: There is no label.
    """
    from flows.loops.few_labels import Wanted, label_all

    settings, run, atoms = inputs.settings, inputs.run, inputs.geometries[0]
    wanted = Wanted(atoms, settings.reference_of(0), settings.gate, settings.stress)
    began = time.time()
    (record,) = label_all(f"doctor of {settings.directory.name}", [wanted], run, settings)
    if isinstance(record, AimspaxError):
        raise record
    details = [
        f"{atoms.get_chemical_formula()} took {duration_text(record.wall_s)}, the engine's start "
        f"included, and {record.core_hours:.2g} core-hours on {record.host}"
    ]
    stored = _finished(inputs, record.key)
    if stored is not None and stored < began:
        details.append(
            f"it was in the label store, since {time.strftime('%x %X', time.localtime(stored))}"
        )
    if settings.has_initial:
        details.append(_forecast(inputs, record.wall_s))
    return True, "; ".join(details)


def _finished(inputs: Inputs, key: str) -> float | None:
    """Return when a label was computed (seconds since 1970); None if the label does not say."""
    from aimspax_core.labels.store import LabelStore

    stored = LabelStore(inputs.run.labels).get(key)
    if stored is None:
        raise CampaignError(f"the label is gone from the store {inputs.run.labels}")
    finished = stored.label.provenance.get("finished")
    return None if finished is None else float(finished)


def _forecast(inputs: Inputs, seconds: float) -> str:
    """Describe what a sampling step of the initial dataset costs if all labels cost the same."""
    settings, idg, geometries = inputs.settings, inputs.settings.idg, len(inputs.geometries)
    workers = settings.cluster.labels_at_once
    each = idg.n_points_per_sampling_step_idg * (
        len(inputs.seeds) if idg.distinct_model_sets else 1
    )
    labels = each * geometries
    lasting = math.ceil(labels / workers) * seconds
    cost = f"a sampling step of the initial dataset has {labels} labels"
    if idg.initial_sampling == "aimd":
        # Trajectories run side by side, the steps of each one after the other.
        steps = each * idg.skip_step_initial
        lasting += math.ceil(geometries / workers) * steps * seconds
        cost += f" and {steps * geometries} steps of MD by the reference"
    return f"{cost}: at most about {duration_text(lasting)} with {workers} at a time"
