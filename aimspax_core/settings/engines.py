"""What the sections of all engines share; foundation models, teachers, and the gate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from aimspax_core.settings.reading.mistakes import Mistake, MistakeKind, conflict, missing, mistaken
from aimspax_core.settings.usual import Usual
from aimspax_core.settings.values import (
    AnyCase,
    ExistingFile,
    Fraction,
    Place,
    Positive,
    Section,
)
from aimspax_core.text import nearest_name

FOUNDATION_MODELS = (
    *("small", "medium", "large", "small-0b", "medium-0b", "small-0b2", "medium-0b2", "large-0b2"),
    *("medium-0b3", "medium-mpa-0", "small-omat-0", "medium-omat-0"),
    *("mace-matpes-pbe-0", "mace-matpes-r2scan-0", "mh-0", "mh-1"),
)
"""The foundation models that MACE knows by name (mace.calculators.foundations_models)."""


def _foundation(value: str, info: ValidationInfo) -> str:
    known = value in FOUNDATION_MODELS or value.startswith("https:")
    if known or not info.context or (info.context["directory"] / value).is_file():
        return value
    why = (
        f"no such file in {info.context['directory']}, nor a name that MACE knows: "
        f"{', '.join(FOUNDATION_MODELS)}"
    )
    close = nearest_name(value, FOUNDATION_MODELS)
    raise mistaken(Mistake(MistakeKind.NOT_THERE, why=why, nearest=close))


FoundationName = Annotated[
    str,
    AfterValidator(_foundation),
    Field(json_schema_extra={"allowed": "a size, a name that MACE knows, or a path"}),
]


def _pretrained(value: str, info: ValidationInfo) -> str:
    return value if value == "so3lr" else _foundation(value, info)


PretrainedName = Annotated[str, AfterValidator(_pretrained)]


class EngineSection(Section):
    """A section that sets up a reference engine: REFERENCE, or one written like it.

    The section of an engine inherits from this one, names its engine by `engine: Literal["…"]`, and
    overrides what holds for it.
    """

    starts_programs: ClassVar[bool] = False
    """Whether calculations start other programs, and have folders; see `ProgramSection`."""

    is_network: ClassVar[bool] = False
    """Whether it needs torch and the models' packages, as training does."""

    slow: ClassVar[bool] = False
    """Whether it is too slow to drive the first MD itself, in what `aimspax init` writes."""

    free: ClassVar[tuple[str, ...]] = ()
    """Keys that may change while a campaign goes on, as no label depends on them; `*`: any text."""

    heeds_spin: ClassVar[bool | None] = True
    """Whether a structure's multiplicity enters its energy; None: it depends."""

    cell_keys: ClassVar[tuple[str, ...]] = ()
    """Keys that mean something to a cell alone: `aimspax init` writes none for molecules."""

    cell_hint: ClassVar[str] = ""
    """What `aimspax init` writes for periodic structures."""

    usual: ClassVar[Mapping[str, Usual]] = {}
    """What numbers are usual, by key: others are questioned by a note."""

    engine: str

    @classmethod
    def engine_name(cls) -> str:
        """Return what `engine` calls it."""
        (name,) = get_args(cls.model_fields["engine"].annotation)
        return str(name)

    @classmethod
    def example(cls, charge: int, spin: int, periodic: bool) -> dict[str, Any]:
        """Return the keys that `aimspax init` writes, for all start geometries.

        Args:
            charge: Their total charge (e).
            spin: Their multiplicity, 2S+1.
            periodic: Whether one of them is a cell that is periodic in three directions.
        """
        return {"engine": cls.engine_name()}

    @classmethod
    def example_files(cls, charge: int, spin: int, periodic: bool) -> dict[str, str]:
        """Return texts by file name that belong to `example`, and that it takes too."""
        return {}

    @property
    def method_text(self) -> str:
        """The method in a few words, without the engine's name."""
        return ""

    @property
    def engine_text(self) -> str:
        """The engine and its method."""
        return f"{self.engine} {self.method_text}".strip()

    def told(self, directory: Path) -> str:
        """Return what a paper tells of the method, beside charge, multiplicity and versions.

        Args:
            directory: The run directory, where names of files begin.
        """
        return self.engine_text

    @property
    def cites(self) -> tuple[str, ...]:
        """What is to be cited for its labels, by the keys of `references.toml`."""
        return ()

    @property
    def command_text(self) -> str:
        """The shell line that starts the engine's program, if the section has one."""
        return ""

    @property
    def atoms_in_cell(self) -> bool | None:
        """Whether a single atom needs a periodic cell; None: if it fails without."""
        return False

    @property
    def field_in_campaigns(self) -> bool:
        """Whether the user wants fields and point charges of geometries in a campaign, too."""
        return False

    def by_geometry(self) -> Mapping[str, Mapping[int, Any]]:
        """Return the keys whose values are given for each geometry, by its index."""
        return {}

    def of_geometry(self, index: int) -> Self:
        """Return the section as it holds for a geometry."""
        return self

    def with_stress(self) -> Self:
        """Return the section with the stress of periodic structures asked for."""
        return self


class ProgramSection(EngineSection):
    """A section of an engine that starts programs, each calculation in a folder of its own."""

    starts_programs: ClassVar[bool] = True
    slow: ClassVar[bool] = True

    calc_dir: Place = Field(
        Path("./calc"),
        description="Folder of the calculations, each in one of its own, if a program is run; in "
        "a relative one the run directory is where it begins. The original's place is CLUSTER.",
    )
    clean_dirs: bool = Field(
        True,
        description="Remove the folders of good calculations; those of failed ones stay. The "
        "original's place is CLUSTER.",
    )


class MaceFoundation(Section):
    """Which MACE-MP model, and its dispersion correction."""

    mace_model: FoundationName = Field(
        "small", description="The model. MACE fetches one that it knows by name, once."
    )
    dispersion: bool = Field(False, description="Add D3 dispersion.")
    dispersion_xc: str = Field("pbe", description="Functional of the dispersion correction.")
    dispersion_cutoff: Positive = Field(12.0, description="Cutoff of the dispersion (Å).")
    damping: Literal["bj", "zero", "bjm", "zerom"] = Field(
        "bj", description="Damping function of the dispersion."
    )

    def for_mace(self, directory: Path) -> dict[str, Any]:
        """Return these settings as arguments of the family's `foundation`, which loads the model.

        Args:
            directory: The run directory, where the name of a local file may begin.
        """
        local = directory / self.mace_model
        return {
            "model": str(local) if local.is_file() else self.mace_model,
            "dispersion": self.dispersion,
            "dispersion_xc": self.dispersion_xc,
            "dispersion_cutoff": self.dispersion_cutoff,
            "damping": self.damping,
        }


class So3lrFoundation(Section):
    """Which SO3LR model, and how far its long range goes."""

    model_path: ExistingFile | None = Field(
        None,
        description="A `.model` file of SO3LR; none: the weights that come with so3krates-torch.",
    )
    r_max_lr: Positive | None = Field(
        None,
        description="Cutoff radius (Å) of SO3LR's electrostatics and dispersion; none: that of "
        "`model_path`, if its file has one, or 12.",
    )
    dispersion_lr_damping: Positive | None = Field(
        None,
        description="Width (Å) over which SO3LR's dispersion fades out before `r_max_lr`; none: "
        "that of `model_path`, if its file has one, or 2.",
    )

    @field_validator("dispersion_lr_damping")
    @classmethod
    def _within_the_long_range(cls, value: float | None, info: ValidationInfo) -> float | None:
        far = info.data.get("r_max_lr") or (12.0 if info.data.get("model_path") is None else None)
        if value is not None and far is not None and value > far:
            why = "dispersion fades out before `r_max_lr`"
            raise conflict(why, f"{value:g}", f"at most {far:g}")
        return value

    def for_so3lr(self, directory: Path) -> dict[str, Any]:
        """Return these settings as arguments of the family's `foundation`, which loads the model.

        The radii are None where a file of the user's has the word.

        Args:
            directory: The run directory, where the name of a local file may begin.
        """
        far, damping = self.r_max_lr, self.dispersion_lr_damping
        if self.model_path is not None:
            file = str(directory / self.model_path)
            return {"file": file, "r_max_lr": far, "dispersion_lr_damping": damping}
        return {
            "file": None,
            "r_max_lr": 12.0 if far is None else far,
            "dispersion_lr_damping": 2.0 if damping is None else damping,
        }


class FoundationalModel(MaceFoundation, So3lrFoundation):
    """`foundational_model_settings`: which foundation model, of the kind `foundational_model`.

    `mace_model`, `dispersion`, `dispersion_…` and `damping` are of `mace-mp`; `model_path`,
    `r_max_lr` and `dispersion_lr_damping` of `so3lr`.
    """

    def file(self, kind: str, directory: Path) -> Path | None:
        """Return where the model may lie; None if it comes with its package.

        Args:
            kind: What `foundational_model` says.
            directory: The run directory, where the name of a local file may begin.
        """
        if kind == "mace-mp":
            return directory / self.mace_model
        return None if self.model_path is None else directory / self.model_path

    def arguments(self, kind: str, directory: Path) -> dict[str, Any]:
        """Return these settings as arguments of the family's `foundation`; see `file`."""
        return self.for_mace(directory) if kind == "mace-mp" else self.for_so3lr(directory)

    def idle(self, kind: str) -> list[str]:
        """Return the keys that are given and belong to another kind."""
        own = MaceFoundation if kind == "mace-mp" else So3lrFoundation
        return sorted(self.model_fields_set - set(own.model_fields))

    def is_published(self, kind: str) -> bool:
        """Return whether the model is known by name; else it is of a user's own file."""
        return self.model_path is None if kind == "so3lr" else self.mace_model in FOUNDATION_MODELS

    def model_text(self, kind: str) -> str:
        """Return the model in words, for the plan of a run."""
        if kind == "mace-mp":
            dispersion = " with D3 dispersion" if self.dispersion else ""
            return f"the MACE-MP foundation model {self.mace_model!r}{dispersion}"
        own = "" if self.model_path is None else f" of {self.model_path}"
        return f"the foundation model SO3LR{own}"


class Gate(Section):
    """GATE: what may reach an engine or a dataset; all else is kept aside and told."""

    min_distance: Fraction = Field(
        0.5, description="Nearest distance allowed, as a fraction of the covalent radii's sum."
    )
    max_force: Positive = Field(
        50.0, description="Largest force on an atom allowed (eV/Å): of a label, and in any MD."
    )
    max_energy_deviation: Positive = Field(
        5.0,
        description="Largest deviation of a label's energy (eV/atom) from the median of the "
        "labels of the same composition, once there are three.",
    )


class Teacher(Section):
    """`teacher_reference_settings`: the second generation's way to write REFERENCE.

    With `use_teacher_reference: True` in either phase it is read as `REFERENCE: {engine: mace, …}`,
    `{engine: mace-mp, …}` or `{engine: so3lr, …}` for both; beside a section REFERENCE it is a
    mistake.
    """

    model_type: Annotated[Literal["mace", "mace-mp", "so3lr"], AnyCase()] = Field(
        "mace",
        description="Kind of teacher: a MACE model file, one of MACE's foundation models, or "
        "SO3LR.",
    )
    model_path: ExistingFile | None = Field(
        None,
        description="The teacher's `.model` file: of `model_type: mace`, which needs it, or of "
        "`so3lr` in place of the one that comes with its package.",
    )
    mace_model: FoundationName = Field(
        "small", description="Size, name or file of the foundation model (`model_type: mace-mp`)."
    )

    @field_validator("model_path")
    @classmethod
    def _file_named(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is None and info.data.get("model_type") == "mace":
            raise missing("`model_type: mace` needs it, the teacher's `.model` file")
        return path
