"""What is needed to label a dataset again, read and found fit to run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from ase import Atoms

from aimspax_core.errors import SettingsError, StructureError
from aimspax_core.inputs.engine_findings import findings
from aimspax_core.labels.dataset import DataKeys
from aimspax_core.labels.relabelling import Frame, Property, read_frames
from aimspax_core.reference.interface import Finding, Use
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.known_engines import EngineSettings
from aimspax_core.settings.load import load
from aimspax_core.settings.reading.which_files import settings_files
from aimspax_core.settings.settings import MODEL_FILES, Settings

_NO_MODEL = "GENERAL: {name_exp: label}\n"
"""Model settings where there are none: no model is made."""

_ELECTRONS = ("charge", "spin")
"""Keys of `info` for total charge and multiplicity, beside those that MISC names."""


@dataclass(frozen=True)
class RelabelRequest:
    """A dataset, and how it should be labelled.

    Attributes:
        file: The dataset; from the run directory, if it is relative.
        output: Where the labelled frames go; None: beside the run's other output.
        start: The first frame, from 0.
        end: The frame after the last one; None: all.
        properties: What is written of a label; empty: energy and forces, and stress if the models
            of the run directory train on it.
        geometry: By which geometry's settings, where those of the reference are by index.
        save_interval: Labels from one writing of the output to the next.
        control: Control file of FHI-aims in place of that of the settings.
        species_dir: Folder of species defaults in place of that of the settings.
    """

    file: Path
    output: Path | None = None
    start: int = 0
    end: int | None = None
    properties: tuple[Property, ...] = ()
    geometry: int = 0
    save_interval: int = 10
    control: Path | None = None
    species_dir: Path | None = None


@dataclass(frozen=True)
class RelabelInputs:
    """A dataset, and how it is labelled.

    Attributes:
        settings: The settings in force.
        run: Where everything lies.
        reference: The engine.
        file: The dataset.
        output: Where the labelled frames go.
        properties: What is written of a label.
        frames: The frames.
        save_interval: Labels from one writing of the output to the next.
    """

    settings: Settings
    run: RunDir
    reference: EngineSettings
    file: Path
    output: Path
    properties: tuple[Property, ...]
    frames: list[Frame]
    save_interval: int

    @classmethod
    def read(
        cls, directory: Path, request: RelabelRequest, overrides: Mapping[str, Any] | None = None
    ) -> RelabelInputs:
        """Read a run directory and a dataset. Model settings are not needed.

        Args:
            directory: The run directory.
            request: What to label, and how.
            overrides: Values that replace those of the files; see `inputs.Inputs`.

        Raises:
            SettingsError: There are mistakes; the text lists all of them.
            StructureError: The dataset cannot be read.
        """
        file = (Path(directory) / request.file).resolve()
        if not file.is_file():
            raise StructureError(f"there is no file {file}")
        settings = _settings(directory, file, overrides)
        mistakes = [*_request_mistakes(request), *_engine_mistakes(settings, request)]
        if mistakes:
            raise SettingsError("\n".join(mistakes))
        run, output = RunDir.of(settings), _output(settings, file, request)
        default: tuple[Property, ...] = ("energy", "forces")
        wanted = request.properties or (*default, *(("stress",) if settings.stress else ()))
        if output.resolve() == file:
            raise SettingsError(f"{output} is the dataset itself; allowed: another file")
        reference = _reference(settings, request, "stress" in wanted)
        names = DataKeys.of(settings.misc)
        frames, notes = read_frames(file, names, request.start, request.end)
        settings = replace(settings, notes=(*settings.notes, *notes))
        mistakes = [*_engine(settings, reference, frames, "stress" in wanted, file.name)]
        if mistakes:
            raise SettingsError("\n".join(mistakes))
        interval = request.save_interval
        return cls(settings, run, reference, file, output, wanted, frames, interval)

    @staticmethod
    def place(
        directory: Path, request: RelabelRequest, overrides: Mapping[str, Any] | None = None
    ) -> tuple[RunDir, Path]:
        """Return where all lies and where the labelled frames go, without a look at the dataset.

        Raises:
            SettingsError: There are mistakes in the settings.
        """
        file = (Path(directory) / request.file).resolve()
        settings = _settings(directory, file, overrides)
        return RunDir.of(settings), _output(settings, file, request)

    @property
    def stress(self) -> bool:
        """Whether periodic frames need stress."""
        return "stress" in self.properties


def _settings(directory: Path, file: Path, overrides: Mapping[str, Any] | None) -> Settings:
    """Read the settings; those of models may be missing, and so may start geometries."""
    values, project, model = settings_files(directory, overrides)
    values["MISC.path_to_geometry"] = str(file)
    if model is not None or any((directory / name).exists() for name in MODEL_FILES):
        return load(directory, values, project, model)
    with TemporaryDirectory() as folder:
        stand_in = Path(folder) / MODEL_FILES[0]
        stand_in.write_text(_NO_MODEL, encoding="utf-8")
        return load(directory, values, project, stand_in)


def _output(settings: Settings, file: Path, request: RelabelRequest) -> Path:
    if request.output is not None:
        return settings.directory / request.output
    return RunDir.of(settings).output / _name(file, request)


def _name(file: Path, request: RelabelRequest) -> str:
    """Name the output; that of a part of the file does not replace that of another part."""
    part = f"_{request.start}-{request.end or 'end'}" if request.start or request.end else ""
    return f"{file.stem}_labelled{part}.xyz"


def _request_mistakes(request: RelabelRequest) -> Iterator[str]:
    if request.start < 0:
        yield f"--start: found {request.start}; allowed: 0 and more"
    if request.end is not None and request.end <= request.start:
        yield f"--end: found {request.end}; allowed: more than --start, which is {request.start}"
    if request.save_interval < 1:
        yield f"--save-interval: found {request.save_interval}; allowed: 1 and more"
    for name in request.properties:
        if name not in get_args(Property):
            yield f"--properties: found {name!r}; allowed: {', '.join(get_args(Property))}"


def _engine_mistakes(settings: Settings, request: RelabelRequest) -> Iterator[str]:
    """Yield options that the engine does not have."""
    reference = settings.reference
    for key, path in _replaced(request).items():
        flag = f"--{key.replace('_', '-')}"
        if key not in type(reference).model_fields:
            yield f"{flag}: found '{path}'; the reference is {reference.engine}, which has none"
        elif not (settings.directory / path).exists():
            yield f"{flag}: found '{path}'; there is no such file or folder"
    for key, values in reference.by_geometry().items():
        if key not in _replaced(request) and request.geometry not in values:
            allowed = ", ".join(map(str, values))
            yield f"--geometry: found {request.geometry}; REFERENCE.{key} has a file for {allowed}"


def _replaced(request: RelabelRequest) -> dict[str, Path]:
    """Return the keys of REFERENCE that hold instead of those of the settings."""
    given = {"control": request.control, "species_dir": request.species_dir}
    return {key: path for key, path in given.items() if path is not None}


def _reference(settings: Settings, request: RelabelRequest, stress: bool) -> EngineSettings:
    """Return the engine as it is for this dataset."""
    reference = settings.reference.with_stress() if stress else settings.reference
    return reference.model_copy(update=_replaced(request)).of_geometry(request.geometry)


def _engine(
    settings: Settings,
    reference: EngineSettings,
    frames: Sequence[Frame],
    stress: bool,
    file: str,
) -> Iterator[str]:
    """Yield what keeps the engine from labelling these frames.

    The engine is asked about one frame of each composition, periodicity, charge and spin; each
    mistake is reported for the first frame that has it. A frame whose own charge or multiplicity is
    impossible fails alone: the settings are right for the others.
    """
    use = Use(
        settings.directory,
        stress=stress and any(frame.atoms.pbc.all() for frame in frames),
        here=settings.cluster.reference_jobs is None,
    )
    reported: set[Finding] = set()
    structures = {
        f"{file}, frame {index}": atoms
        for index, atoms in _one_of_each(frames, DataKeys.of(settings.misc))
    }
    for found in findings(((reference, name, a) for name, a in structures.items()), use):
        if found.structure and found.finding.key in structures[found.structure].info:
            continue
        if found.finding not in reported and not found.finding.note:
            reported.add(found.finding)
            yield found.line(settings.project_places, "REFERENCE")


def _one_of_each(frames: Sequence[Frame], keys: DataKeys) -> Iterator[tuple[int, Atoms]]:
    """Yield index and structure of a frame of each kind; one that is no structure fails alone."""
    seen: set[tuple[object, ...]] = set()
    for frame in frames:
        atoms, info = frame.atoms, frame.atoms.info
        electrons = (str(info.get(k)) for k in (keys.total_charge, keys.total_spin, *_ELECTRONS))
        magnetic = atoms.has("initial_magmoms") and bool(atoms.get_initial_magnetic_moments().any())
        kind = (atoms.get_chemical_formula(), tuple(atoms.pbc), magnetic, *electrons)
        if kind in seen:
            continue
        try:
            structure = frame.structure(keys)
        except StructureError:
            continue
        seen.add(kind)
        yield frame.index, structure
