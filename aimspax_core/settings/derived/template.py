"""Write a run directory to begin with: both settings files, explained, and the geometry.

What the files say of each key is the settings models' own description, so that it cannot differ
from what holds.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype
from pydantic import BaseModel

from aimspax_core.errors import SettingsError
from aimspax_core.machine import machine_cores
from aimspax_core.safe_files import replacing, write_text
from aimspax_core.settings.derived.explained_yaml import Explained, explained_yaml
from aimspax_core.settings.derived.first_values import QUICK, phases, quick_phases
from aimspax_core.settings.engines import EngineSection
from aimspax_core.settings.families.known_families import FAMILIES, row_of
from aimspax_core.settings.families.row import FamilyRow
from aimspax_core.settings.geometries.files import read_geometries
from aimspax_core.settings.geometries.folders import geometry_files
from aimspax_core.settings.known_engines import SECTIONS
from aimspax_core.settings.md import cell_keys
from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.project import ProjectSettings
from aimspax_core.settings.settings import MODEL_FILES, PROJECT_FILE, PROJECT_FILES
from aimspax_core.text import nearest_name, or_list

_ENGINES = {section.engine_name(): section for section in SECTIONS}

_CELL_ONLY = frozenset(
    (
        *cell_keys(),
        *(key for section in SECTIONS for key in section.cell_keys),
        *("compute_stress", "stress_weight", "virials_weight", "stress_key", "virials_key"),
    )
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


@dataclass(frozen=True)
class _Models:
    """What the models are to be.

    Attributes:
        family: Of all members.
        pretrained: What they begin from, as `pretrained_model` names it; None: random weights.
    """

    family: FamilyRow
    pretrained: str | None


def write_inputs(
    directory: Path,
    geometry: Sequence[Path],
    name: str | None,
    engine: str,
    family: str | None = None,
    pretrained: str | None = None,
    quick: bool = False,
) -> list[Path]:
    """Write `aimsPAX.yaml`, the models' settings and the geometry or geometries.

    Args:
        directory: The run directory; made if it is not there.
        geometry: Geometry files, or folders of them.
        name: Name of the experiment; none: the directory's.
        engine: Name of the engine that labels the structures.
        family: What `model_choice` says; none: of `pretrained` if that is a name, or the first.
        pretrained: Model that members begin from: a file, or a name that a family knows.
        quick: Whether for a first result in minutes.

    Returns:
        What was written.

    Raises:
        SettingsError: Something of that is there already, the geometries do not go together, or
            there is no such model.
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
    models = _models(directory, family, pretrained)
    usual = MODEL_FILES[models.family is not FAMILIES[0]]
    project, model = directory / PROJECT_FILE, directory / usual
    wanted = {*(directory / file for file in (*PROJECT_FILES, *MODEL_FILES)), *copies}
    wanted |= {target.parent for target in copies} - {directory}  # its other files would count too
    if there := sorted(str(path) for path in wanted if path.exists()):
        raise SettingsError(f"nothing is overwritten, and there is already: {', '.join(there)}")
    directory.mkdir(parents=True, exist_ok=True)
    for target, source in copies.items():
        target.parent.mkdir(exist_ok=True)
        with replacing(target) as aside:
            shutil.copyfile(source, aside)
    write_text(project, _project_text(system, section, models, model.name, quick))
    write_text(model, _model_text(system, models, quick))
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


def _models(directory: Path, family: str | None, pretrained: str | None) -> _Models:
    """Return the family, and what members begin from as the run directory will name it."""
    asked = None if family is None else row_of(family)
    if pretrained is None:
        return _Models(asked or FAMILIES[0], None)
    run, file = directory.resolve(), Path(pretrained).resolve()
    if file.is_file():
        place = file.relative_to(run) if file.is_relative_to(run) else file
        return _Models(asked or FAMILIES[0], place.as_posix())
    names = {name: row for row in FAMILIES for name in row.pretrained_names}
    if pretrained not in names:
        close = nearest_name(pretrained, names)
        raise SettingsError(
            f"{pretrained}: no such file; allowed: a file of a model, or {or_list(names)}"
            + (f"; did you mean {close}?" if close else "")
        )
    found = names[pretrained]
    if asked not in (None, found):
        raise SettingsError(f"{pretrained} is a model of {found.name}; found {family}")
    return _Models(found, pretrained)


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
    "BUDGET": "what all of it may cost; where one is used up, it ends cleanly; docs/budget.md",
    "CLUSTER": "where labels are computed, and where training and MD run. To have labels "
    "computed in Slurm jobs: slurm in the place of local, #SBATCH lines below slurm_str, each "
    "indented (slurm_str: |), blocks instead of max_workers; docs/slurm.md",
    "MISC": "files, folders, and names in datasets",
    "GATE": "what may reach the reference or a dataset",
}
"""What is said of each section of `aimsPAX.yaml`."""


def _project_text(
    system: _System,
    engine: type[EngineSection],
    models: _Models,
    model_file: str,
    quick: bool,
) -> str:
    sampling = _sampling(engine, models.family)
    tuned = models.pretrained is not None
    sections: dict[str, dict[str, Any]] = {
        "REFERENCE": engine.example(system.charge, system.spin, system.periodic),
        **(
            quick_phases(sampling, system.count, tuned) if quick else phases(sampling, system.count)
        ),
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
        f"Active learning of a force field for {system.formulas} by {_called(models)}.",
        "A key that is commented out is at its default. `aimspax check` finds mistakes, and says "
        "what would run.",
    ]
    if quick:
        title.append(QUICK)
    if system.periodic:
        title.append(
            "Periodic in three directions: `stat_ensemble: NPT` (with a barostat, under MD) moves "
            "the cell too; train on stress then: `compute_stress: True` and `loss: stress` in "
            f"{model_file}."
        )
        if engine.cell_hint:
            title.append(engine.cell_hint)
    left_out = frozenset() if system.periodic else _CELL_ONLY
    return explained_yaml(title, {
        name: Explained(schemas[name], _PROJECT_HINTS[name], chosen, left_out)
        for name, chosen in sections.items()
    })  # fmt: skip


def _called(models: _Models) -> str:
    """The models in words."""
    return f"{models.family.example.called or models.family.name} models"


def _sampling(engine: type[EngineSection], family: FamilyRow) -> dict[str, Any]:
    """Return what drives the first MD: the reference, or a foundation model of the family's."""
    if not engine.slow:
        return {"initial_sampling": "aimd"}
    if not family.foundations:
        return {"initial_sampling": "foundational"}
    return {"initial_sampling": "foundational", "foundational_model": family.foundations[0]}


_MODEL_HINTS = {
    "GENERAL": "names, folders, number format",
    "ARCHITECTURE": "the network",
    "TRAINING": "loss, optimizer, schedule",
    "MISC": "where models run, and what is logged",
}
"""What is said of each section of the models' file."""


def _model_text(system: _System, models: _Models, quick: bool) -> str:
    family, example, tuned = models.family, models.family.example, models.pretrained is not None
    own = frozenset(family.pretrained_keys) if tuned else frozenset()
    choice = {} if family is FAMILIES[0] else {"model_choice": family.name}
    begins = {"perform_finetuning": True, "pretrained_model": models.pretrained} if tuned else {}
    network, training = (
        dict(example.architecture),
        example.fine_tuning if tuned else example.training,
    )
    if quick:
        network |= example.quick_architecture
        training = {"batch_size": 3, "valid_batch_size": 10, **training}
        training |= {} if tuned else example.quick_training
    sections: dict[str, dict[str, Any]] = {
        "GENERAL": {"name_exp": system.name, **choice, "seed": 42, "default_dtype": "float32"},
        "ARCHITECTURE": {key: value for key, value in network.items() if key not in own},
        "TRAINING": {
            **begins, "batch_size": 5, "lr": 0.01, "loss": "weighted",
            "energy_weight": 1.0, "forces_weight": 1000.0,
            **training,
        },
        "MISC": {"device": "cpu"},
    }  # fmt: skip
    schemas = {name: _schema(ModelSettings, name) for name in sections}
    schemas["ARCHITECTURE"] = family.architecture
    title = [
        f"The {_called(models)} for {system.formulas}"
        + (f"; names and meanings are {example.names}." if example.names else "."),
        "A key that is commented out is at its default. With a GPU, `device: cuda`"
        + (f" and a larger network: {example.larger}." if example.larger and not tuned else "."),
    ]
    if tuned:
        title.append("The network is that of `pretrained_model`; docs/fine-tuning.md.")
    left_out = own if system.periodic else own | _CELL_ONLY
    return explained_yaml(title, {
        name: Explained(schemas[name], _MODEL_HINTS[name], chosen, left_out)
        for name, chosen in sections.items()
    })  # fmt: skip


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
