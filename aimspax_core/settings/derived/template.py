"""Write a run directory to begin with: both settings files, explained, and the geometry.

What the files say of each key is the settings models' own description, so that it cannot differ
from what holds.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from aimspax_core.errors import SettingsError
from aimspax_core.machine import machine_cores
from aimspax_core.safe_files import replacing, write_text
from aimspax_core.settings.derived.yaml_text import value_yaml
from aimspax_core.settings.engines import EngineSection
from aimspax_core.settings.geometries.files import read_geometries
from aimspax_core.settings.geometries.folders import geometry_files
from aimspax_core.settings.known_engines import SECTIONS
from aimspax_core.settings.md import cell_keys
from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.project import ProjectSettings
from aimspax_core.settings.settings import MODEL_FILES, PROJECT_FILE, PROJECT_FILES

_ENGINES = {section.engine_name(): section for section in SECTIONS}

WIDTH, COLUMN = 99, 40
"""The longest line, and where the meaning of a key begins."""

_CELL_ONLY = (
    *cell_keys(),
    *(key for section in SECTIONS for key in section.cell_keys),
    *("compute_stress", "stress_weight", "virials_weight", "stress_key", "virials_key"),
)
"""Keys that mean something to a cell alone: not written for molecules."""


Place = str | dict[int, str]
"""A value of `MISC.path_to_geometry`: a file, a folder, or files by index."""


@dataclass(frozen=True)
class _System:
    """What the geometries ask of the settings.

    Attributes:
        name: Name of the experiment.
        place: The value of `MISC.path_to_geometry`.
        formulas: Of all geometries.
        periodic: True if a geometry has a cell that is periodic in three directions.
        charge: Of all geometries (e).
        spin: Multiplicity of all geometries.
        light: True if there is hydrogen, whose vibrations ask for a short time step.
        count: How many geometries there are.
    """

    name: str
    place: Place
    formulas: str
    periodic: bool
    charge: int
    spin: int
    light: bool
    count: int


def write_inputs(
    directory: Path, geometry: Sequence[Path], name: str | None, engine: str
) -> list[Path]:
    """Write `aimsPAX.yaml`, `mace.yaml` and the geometry or geometries.

    Args:
        directory: The run directory; made if it is not there.
        geometry: Geometry files, or folders of them.
        name: Name of the experiment; none: the directory's.
        engine: Name of the engine that labels the structures.

    Returns:
        What was written.

    Raises:
        SettingsError: Something of that is there already, or the geometries do not go together.
        StructureError: A geometry cannot be read.
    """
    if directory.exists() and not directory.is_dir():
        raise SettingsError(
            f"{directory}: found a file; allowed: a folder, which is made if need be"
        )
    sources = [file for path in geometry for file in geometry_files(path)]
    geometries = read_geometries(sources)
    copies, place = _copies(directory, sources)
    name = (name or directory.resolve().name).replace("/", "-").lstrip(".-") or "aimspax"
    section = _ENGINES[engine]
    system = _system(name, place, sources, geometries, section)
    project, model = directory / PROJECT_FILE, directory / MODEL_FILES[0]
    wanted = {*(directory / file for file in (*PROJECT_FILES, *MODEL_FILES)), *copies}
    wanted |= {target.parent for target in copies} - {directory}  # its other files would count too
    if there := sorted(str(path) for path in wanted if path.exists()):
        raise SettingsError(f"nothing is overwritten, and there is already: {', '.join(there)}")
    directory.mkdir(parents=True, exist_ok=True)
    for target, source in copies.items():
        target.parent.mkdir(exist_ok=True)
        with replacing(target) as aside:
            shutil.copyfile(source, aside)
    write_text(project, _project_text(system, section))
    write_text(model, _model_text(system))
    return [project, model, *_examples(directory, system, section), *copies]


def _examples(directory: Path, system: _System, section: type[EngineSection]) -> Iterator[Path]:
    """Write what belongs to the engine, but for files of the user's own; yield what is written."""
    texts = section.example_files(system.charge, system.spin, system.periodic)
    for path, text in ((directory / name, text) for name, text in texts.items()):
        if not path.exists():
            write_text(path, text)
            yield path


def _copies(directory: Path, sources: list[Path]) -> tuple[dict[Path, Path], Place]:
    """Return which files to copy from where, and how `path_to_geometry` names them."""
    if len(sources) == 1:
        (source,) = sources
        if source.resolve().parent == directory.resolve():
            return {}, source.name  # it is where it should be
        name = _name(source)
        return {directory / name: source}, name
    names = [source.name for source in sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"several geometries are called {', '.join(twice)}; rename them")
    folder = directory / "geometries"
    place: Place = folder.name
    if names != sorted(names):  # a folder's files are read by name, which is not the order given
        place = {index: f"{folder.name}/{name}" for index, name in enumerate(names)}
    if all(source.resolve().parent == folder.resolve() for source in sources):
        return {}, place
    return {folder / source.name: source for source in sources}, place


def _name(source: Path) -> str:
    """The name of the copy: `geometry` with its suffix, where ASE goes by that."""
    try:
        if filetype(str(source)) == "aims":
            return "geometry.in"
    except UnknownFileTypeError:
        pass
    plain = len(source.suffixes) == 1 and source.suffix != ".in"
    return f"geometry{source.suffix}" if plain else source.name


def _system(
    name: str,
    place: Place,
    sources: list[Path],
    geometries: list[Atoms],
    engine: type[EngineSection],
) -> _System:
    charges = {_charge(atoms) for atoms in geometries}
    spins = {_multiplicity(atoms) for atoms in geometries}
    if {"charge", "spin"} <= engine.model_fields.keys() and max(len(charges), len(spins)) > 1:
        parities = ", ".join(
            f"{file.name} ({atoms.get_chemical_formula()}) has {int(atoms.numbers.sum())}"
            for file, atoms in zip(sources, geometries, strict=True)
        )
        raise SettingsError(
            "one charge and one multiplicity hold for all geometries of a campaign, but their "
            f"electrons, neutral: {parities}; make a campaign of each kind"
        )
    formulas = list(dict.fromkeys(atoms.get_chemical_formula() for atoms in geometries))
    return _System(
        name=name,
        place=place,
        formulas=", ".join(formulas[:5]) + (", …" if len(formulas) > 5 else ""),
        periodic=any(atoms.pbc.all() for atoms in geometries),
        charge=min(charges),
        spin=min(spins),
        light=any(1 in atoms.numbers for atoms in geometries),
        count=len(geometries),
    )


def _charge(atoms: Atoms) -> int:
    """The total charge (e) in a geometry file, or 0."""
    if "charge" in atoms.info:
        return round(atoms.info["charge"])
    return round(float(atoms.get_initial_charges().sum()))


def _multiplicity(atoms: Atoms) -> int:
    """The multiplicity in a geometry file, or the lowest possible one."""
    if "spin" in atoms.info:
        return round(atoms.info["spin"])
    unpaired = round(abs(float(atoms.get_initial_magnetic_moments().sum())))
    return 1 + max(unpaired, (int(atoms.numbers.sum()) - _charge(atoms)) % 2)


_PROJECT_HINTS = {
    "REFERENCE": f"what labels the structures; engines: {', '.join(_ENGINES)}",
    "INITIAL_DATASET_GENERATION": "the first points, and an ensemble trained on them",
    "ACTIVE_LEARNING": "exploring with the ensemble, labelling where it is unsure",
    "MD": "the dynamics of all trajectories",
    "CLUSTER": "where labels are computed, and where training and MD run. To have labels "
    "computed in Slurm jobs: slurm in the place of local, #SBATCH lines below slurm_str, each "
    "indented (slurm_str: |), blocks instead of max_workers; docs/slurm.md",
    "MISC": "files, folders, and names in datasets",
    "GATE": "what may reach the reference or a dataset",
}
"""What is said of each section of `aimsPAX.yaml`."""


def _project_text(system: _System, engine: type[EngineSection]) -> str:
    sections: dict[str, dict[str, Any]] = {
        "REFERENCE": engine.example(system.charge, system.spin, system.periodic),
        "INITIAL_DATASET_GENERATION": {
            "initial_sampling": "foundational" if engine.slow else "aimd",
            "n_points_per_sampling_step_idg": 10,
            "skip_step_initial": 25,
            "ensemble_size": 4,
            "valid_ratio": 0.1,
            "intermediate_epochs_idg": 5,
            "desired_acc": 0.05,
            "desired_acc_scale_idg": 5.0,
        },
        "ACTIVE_LEARNING": {
            "num_trajectories": max(8, system.count),
            "desired_acc": 0.05,
            "max_train_set_size": 500,
            "c_x": 0.0,
            "skip_step_mlff": 25,
            "valid_ratio": 0.1,
            "epochs_per_worker": 2,
            "converge_al": True,
            "max_convergence_epochs": 500,
        },
        "MD": {
            "stat_ensemble": "NVT",
            "thermostat": "Langevin",
            "temperature": 300,
            "timestep": 0.5 if system.light else 1.0,
            "friction": 0.01,
        },
        "CLUSTER": {"type": "local", "max_workers": machine_cores()},
        "MISC": {"path_to_geometry": system.place},
        "GATE": {},
    }
    schemas = {name: _schema(ProjectSettings, name) for name in sections} | {"REFERENCE": engine}
    title = [
        f"Active learning of a MACE force field for {system.formulas}.",
        "A key that is commented out is at its default. `aimspax check` finds mistakes, and says "
        "what would run.",
    ]
    if system.periodic:
        title.append(
            "Periodic in three directions: `stat_ensemble: NPT` (with a barostat, under MD) moves "
            "the cell too; train on stress then: `compute_stress: True` and `loss: stress` in "
            f"{MODEL_FILES[0]}."
        )
        if engine.cell_hint:
            title.append(engine.cell_hint)
    return _text(title, sections, _PROJECT_HINTS, schemas, system)


def _model_text(system: _System) -> str:
    sections: dict[str, dict[str, Any]] = {
        "GENERAL": {"name_exp": system.name, "seed": 42, "default_dtype": "float32"},
        "ARCHITECTURE": {
            "r_max": 5.0, "num_channels": 32, "max_L": 0, "max_ell": 3, "correlation": 3,
        },
        "TRAINING": {
            "batch_size": 5, "lr": 0.01, "loss": "weighted",
            "energy_weight": 1.0, "forces_weight": 1000.0,
        },
        "MISC": {"device": "cpu"},
    }  # fmt: skip
    hints = {
        "GENERAL": "names, folders, number format",
        "ARCHITECTURE": "the MACE network",
        "TRAINING": "loss, optimizer, schedule",
        "MISC": "where models run, and what is logged",
    }
    schemas = {name: _schema(ModelSettings, name) for name in sections}
    title = [
        f"The MACE models for {system.formulas}; names and meanings are MACE's own.",
        "A key that is commented out is at its default. With a GPU, `device: cuda` and a larger "
        "network: num_channels 64 or 128, max_L 1.",
    ]
    return _text(title, sections, hints, schemas, system)


def _text(
    title: list[str],
    sections: Mapping[str, dict[str, Any]],
    hints: Mapping[str, str],
    schemas: Mapping[str, type[BaseModel]],
    system: _System,
) -> str:
    lines = [line for paragraph in title for line in _wrapped(paragraph)]
    for name, chosen in sections.items():
        head = f"{name}:" if chosen else f"# {name}:"
        lines += ["", *_explained(head, hints[name])]
        lines += _keys(schemas[name], chosen, system)
    return "\n".join(lines) + "\n"


def _keys(schema: type[BaseModel], chosen: dict[str, Any], system: _System) -> Iterator[str]:
    """Yield the keys that are set, in their own order, then the others at their defaults."""
    fields = schema.model_fields
    for key, value in chosen.items():
        yield from _key("  ", key, value, fields[key])
    for key, field in fields.items():
        if key not in chosen and (system.periodic or key not in _CELL_ONLY):
            default = field.get_default(call_default_factory=True)
            yield from _key("  # " if chosen else "#   ", key, default, field)


def _key(indent: str, key: str, value: Any, field: FieldInfo) -> Iterator[str]:
    if not isinstance(value, BaseModel):
        yield from _explained(f"{indent}{key}: {value_yaml(value)}", _meaning(field))
        return
    yield from _explained(f"{indent}{key}:", _meaning(field))
    for inner, inner_field in type(value).model_fields.items():
        yield from _key(f"{indent}  ", inner, getattr(value, inner), inner_field)


def _meaning(field: FieldInfo) -> str:
    """The description, and what may be chosen if it does not say so itself."""
    text = (field.description or "").replace("`", "").rstrip(".")
    names = [str(choice) for choice in _choices(field.annotation)]
    choices = ", ".join(names)
    if not names or len(choices) > WIDTH - COLUMN or names[0].lower() in text.lower():
        return text
    return f"{text} ({choices})"


def _choices(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        found = list(get_args(annotation))
        return found if len(found) > 1 else []
    return [choice for inner in get_args(annotation) for choice in _choices(inner)]


def _explained(line: str, text: str) -> Iterator[str]:
    """Yield a line with its meaning to the right, on as many lines as that takes."""
    first, *others = _lines(text, WIDTH - COLUMN - 2) or [""]
    if not first:
        yield line
    elif len(line) < COLUMN:
        yield f"{line:<{COLUMN}}# {first}"
    else:
        yield line
        others.insert(0, first)
    for other in others:
        yield f"{'':<{COLUMN}}# {other}"


def _wrapped(text: str) -> list[str]:
    return [f"# {line}" for line in _lines(text, WIDTH - 2)]


def _lines(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)


def _schema(settings: type[BaseModel], section: str) -> type[BaseModel]:
    """Return the model of a section; of MD and CLUSTER, that of one."""
    for kind in _kinds(settings.model_fields[section].annotation):
        return kind
    raise AssertionError(f"{section} is no section")


def _kinds(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for inner in getattr(annotation, "__args__", ()):
        yield from _kinds(inner)
