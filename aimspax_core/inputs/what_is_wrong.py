"""What of settings and geometries keeps a run from starting, and on which keys each of it hangs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ase import Atoms

from aimspax_core.devices import missing_gpu
from aimspax_core.errors import AimspaxError, SettingsError, StructureError
from aimspax_core.inputs.engine_findings import findings
from aimspax_core.inputs.foundation_findings import foundation_mistakes
from aimspax_core.inputs.geometry_findings import (
    cannot_be_kept,
    cannot_be_moved,
    fields_refused,
    refused_by_gate,
    without_neighbours,
)
from aimspax_core.inputs.held_out import unfit_held_out
from aimspax_core.inputs.pretrained import (
    not_of_its_elements,
    not_of_its_loaded_elements,
    with_its_architecture,
)
from aimspax_core.inputs.replayed_data import unfit_replay
from aimspax_core.inputs.trained_quantities import labels_without
from aimspax_core.reference.interface import Finding, Use
from aimspax_core.run_directory import RunDir
from aimspax_core.sampling.dynamics import needs_stress
from aimspax_core.settings.geometries.files import Geometry, read_file
from aimspax_core.settings.load import load
from aimspax_core.settings.model import ModelMisc
from aimspax_core.settings.settings import Settings

_IDG, _AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
_MODEL = (
    *("GENERAL", "ARCHITECTURE", "TRAINING"),
    *(f"MISC.{key}" for key in ModelMisc.model_fields),  # `aimsPAX.yaml` has a MISC, too
)
_ENGINES = (
    *("REFERENCE", "CLUSTER", "MD.stat_ensemble", "MD.barostat", _MODEL[0], "TRAINING.loss"),
    *(f"{_IDG}.{key}" for key in ("initial_sampling", "sampling_engine", "species_dir")),
    f"{_AL}.species_dir",
)
_TUNED = tuple(
    f"TRAINING.{key}" for key in ("perform_finetuning", "pretrained_model", "pretrained_weights")
)
"""What decides whose ARCHITECTURE it is."""


class _Check(NamedTuple):
    """A look at settings and geometries: the keys that it hangs on, and what it finds wrong."""

    keys: tuple[str, ...]
    lines: Callable[[], Iterable[str]]


def refuse(
    settings: Settings,
    read: Sequence[Geometry],
    geometries: list[Atoms],
    engines: list[str],
    starts: bool,
) -> None:
    """Refuse what cannot run.

    Args:
        settings: The settings in force.
        read: The geometries as they were read.
        geometries: Those that the campaign is of.
        engines: What the engines' kinds refuse.
        starts: Whether MD is to start from them.

    Raises:
        SettingsError: There are mistakes; the text lists all of them.
        StructureError: Likewise, if the gate alone keeps geometries back.
    """
    refused = list(refused_by_gate(settings, geometries))
    checks = _checks(settings, read, geometries, lambda: engines, starts)
    mistakes = [*refused, *(line for check in checks for line in check.lines())]
    mistakes += missing_device(settings)
    if mistakes:
        kind = StructureError if mistakes == refused else SettingsError
        raise kind("\n".join(mistakes))


def with_further(
    error: SettingsError,
    directory: Path,
    files: tuple[dict[str, Any], Path | None, Path | None],
) -> SettingsError:
    """Return the mistakes in settings files, with what is wrong that does not hang on them.

    The files are read again without the keys that are wrong. Where they say too little without
    them, and in a campaign that was begun, nothing is added.

    Args:
        error: The mistakes in the files; device and geometry files were looked at, too.
        directory: The run directory.
        files: Overrides and names of files, as `load` takes them.
    """
    wrong = {mistake.key for mistake in error.mistakes}
    try:
        settings = load(directory, *files, without=wrong)
        if RunDir.of(settings).journal.exists():
            return error
        settings, others = _as_pretrained(settings)
        wrong |= {"ARCHITECTURE"} if others else set()
        names = settings.misc.electron_names
        read = [read_file(file, names) for file in settings.geometry_files]
        settings = replace(settings, held={index: one.held for index, one in enumerate(read)})
        geometries = [one.atoms for one in read]
        checks = [
            _Check(("GATE",), lambda: refused_by_gate(settings, geometries)),
            *_checks(settings, read, geometries, lambda: _of_engines(settings, geometries), True),
        ]
        hold = (check for check in checks if not _hang_on(check.keys, wrong))
        lines = [*others, *(line for check in hold for line in check.lines())]
    except AimspaxError:
        return error
    return SettingsError("\n".join((str(error), *(f"  {line}" for line in lines))), error.mistakes)


def _as_pretrained(settings: Settings) -> tuple[Settings, list[str]]:
    """Return settings with the ARCHITECTURE of a model that is fine-tuned, and what is wrong."""
    try:
        return with_its_architecture(settings, None), []
    except SettingsError as error:
        return settings, str(error).splitlines()


def engine_findings(settings: Settings, geometries: list[Atoms]) -> Iterator[tuple[Finding, str]]:
    """Yield what the reference's kind and the sampling engine's say, each with a line of text."""
    cluster, idg = settings.cluster, settings.idg
    periodic = any(atoms.pbc.all() for atoms in geometries)
    npt = any(needs_stress(settings.md(index)) for index in range(len(geometries)))
    driving = idg.initial_sampling == "aimd" and npt
    wanted = driving or (settings.stress and periodic)
    labels = Use(settings.directory, wanted, here=cluster.reference_jobs is None)
    engines = {"REFERENCE": (settings.reference, labels)}
    if idg.initial_sampling == "engine" and idg.sampling_engine is not None:
        sampling = Use(settings.directory, npt, here=cluster.ml_jobs is None)  # where models run
        engines["INITIAL_DATASET_GENERATION.sampling_engine"] = (idg.sampling_engine, sampling)
    names = [file.name for file in settings.geometry_files]
    for place, (engine, use) in engines.items():
        structures = [
            (engine.of_geometry(index), name, atoms)
            for index, (name, atoms) in enumerate(zip(names, geometries, strict=True))
        ]
        for found in findings(structures, use):
            yield found.finding, found.line(settings.project_places, place)


def missing_device(settings: Settings) -> Iterator[str]:
    """The models' GPU must be there, unless they run in jobs of a cluster, which have theirs."""
    if settings.cluster.ml_jobs is not None:
        return
    missing = missing_gpu(settings.model.MISC.device)
    if missing is not None:
        yield f"{settings.model_places.of('MISC.device')}: {missing}"


def _checks(
    settings: Settings,
    read: Sequence[Geometry],
    geometries: list[Atoms],
    engines: Callable[[], Iterable[str]],
    starts: bool,
) -> list[_Check]:
    """Return all but the gate's and the device's."""
    checks = [
        _Check((*_MODEL, "CLUSTER"), lambda: _models(settings, geometries)),
        _Check(("TRAINING",), lambda: not_of_its_elements(settings, geometries)),
        _Check((*_MODEL, "REFERENCE"), lambda: labels_without(settings, geometries)),
        _Check((_IDG, _AL, "CLUSTER"), lambda: _foundations(settings, geometries)),
        _Check(("MD",), lambda: cannot_be_moved(settings, geometries)),
        _Check(_ENGINES, engines),
        _Check(("MISC",), lambda: unfit_held_out(settings, geometries)),
    ]
    if starts:
        checks += [
            _Check(("TRAINING",), lambda: not_of_its_loaded_elements(settings, geometries)),
            _Check(("TRAINING", "MISC"), lambda: unfit_replay(settings, geometries)),
            _Check(("MD",), lambda: cannot_be_kept(settings, read)),
            _Check(("REFERENCE", "ARCHITECTURE", *_TUNED), lambda: fields_refused(settings, read)),
            _Check(
                ("ARCHITECTURE.r_max", *_TUNED), lambda: without_neighbours(settings, geometries)
            ),
        ]
    return checks


def _hang_on(keys: Collection[str], wrong: Collection[str]) -> bool:
    """Say whether a key, or one around or in it, is among the wrong ones."""
    return any(
        f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")
        for key in keys
        for other in wrong
    )


def _of_engines(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    found = engine_findings(settings, geometries)
    yield from (line for finding, line in found if not finding.note)


def _foundations(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    for key, text in foundation_mistakes(settings, geometries):
        yield f"{settings.project_places.of(key)}: {text}"


def _models(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    """Yield what the models' family finds wrong before anything is launched."""
    elements = sorted({int(z) for atoms in geometries for z in atoms.numbers})
    here = settings.cluster.ml_jobs is None
    for mistake in settings.model.family.mistakes(settings.model, elements, here):
        key, _, text = mistake.partition(": ")
        yield f"{settings.model_places.of(key)}: {text}"
