"""REFERENCE with `engine: aims`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from aimspax_core.errors import SettingsError
from aimspax_core.reference.interface import Finding, Kind, Reference, Use
from aimspax_core.safe_files import write_text
from aimspax_core.settings.engines import EngineSection, ProgramSection
from aimspax_core.settings.values import ExistingControls, ExistingFolder, Positive

if TYPE_CHECKING:
    from ase import Atoms

_OF_CELLS = (
    *("k_grid", "k_grid_density", "k_points_external", "k_offset", "symmetry_reduced_k_grid"),
    *("compute_analytical_stress", "compute_numerical_stress", "use_dipole_correction"),
)
_OF_SPIN = ("spin", "fixed_spin_moment", "default_initial_moment")

_OF_SHELLS = (
    *("cd", "export", "module", "ml", "ulimit", "source", ".", "set", "eval", "exec", "time"),
)
"""Words that a launch line may begin with and that are no programs."""


def _a_line(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("wrong", "allowed: the shell line that runs the code")
    return text


class AimsReference(ProgramSection):
    """REFERENCE with `engine: aims`: FHI-aims, run by the user's own launch line.

    The original has some of these keys in other sections, where they may stay; a file without a
    section REFERENCE is read as one for FHI-aims.
    """

    cell_keys: ClassVar[tuple[str, ...]] = ("compute_stress",)
    free: ClassVar[tuple[str, ...]] = (
        *("launch_str", "calc_dir", "clean_dirs", "timeout"),
        *("control*", "species_dir"),  # their content is frozen
    )

    engine: Literal["aims"] = Field(description="The engine.")
    species_dir: ExistingFolder = Field(
        description="Folder of species defaults, with files such as `14_Si_default`. The "
        "original's places are INITIAL_DATASET_GENERATION and ACTIVE_LEARNING.",
    )
    launch_str: Annotated[str, AfterValidator(_a_line)] = Field(
        description="The shell line that runs FHI-aims, as it is: "
        "`srun path/to/aims.x >> aims.out`. The original's place is CLUSTER.",
        json_schema_extra={"allowed": "a shell line, such as: srun path/to/aims.x >> aims.out"},
    )
    control: ExistingControls = Field(
        Path("./control.in"),
        description="The settings of FHI-aims, without species: a file, or files by index of the "
        "geometry. The original's place is `MISC.path_to_control`.",
        json_schema_extra={"allowed": "a file, or files by index: {0: control.in, 1: bulk.in}"},
    )
    timeout: Positive = Field(
        86400.0, description="Seconds after which a calculation is ended and tried elsewhere."
    )
    energy: Literal["free", "total"] = Field(
        "free",
        description="Which energy is learnt: the electronic free energy, which the forces belong "
        "to and which ASE reads, or the total energy (that of zero broadening for metals). They "
        "differ only where states are partly occupied.",
    )
    compute_stress: bool = Field(
        False,
        description="Compute the stress of periodic structures; it is computed in any case if the "
        "models train on it.",
    )
    version: str = Field(
        "",
        description="Part of every label's key: write the version of FHI-aims, and change it when "
        "the executable changes.",
    )

    @classmethod
    def example(cls, charge: int, spin: int, periodic: bool) -> dict[str, Any]:
        """See `EngineSection.example`."""
        return {
            "engine": "aims",
            "species_dir": "path/to/species_defaults/defaults_2020/light",
            "launch_str": "mpirun -np 4 path/to/aims.x > aims.out",
        }

    @classmethod
    def example_files(cls, charge: int, spin: int, periodic: bool) -> dict[str, str]:
        """See `EngineSection.example_files`; the species come from `species_dir`."""
        lines = [
            "# FHI-aims; the basis comes from species_dir, forces are added",
            "xc                  pbe",
        ]
        if spin > 1 and not periodic:
            lines += ["spin                collinear", "default_initial_moment  hund"]
        else:
            lines.append("spin                none")
        lines += [f"charge              {charge}", "relativistic        atomic_zora scalar"]
        lines += ["sc_accuracy_rho     1e-5", "sc_accuracy_forces  1e-4", "sc_iter_limit       200"]
        if periodic:
            lines += ["k_grid              2 2 2    # as dense as your cell needs"]
        return {"control.in": "\n".join(lines) + "\n"}

    @property
    def method_text(self) -> str:
        """See `EngineSection.method_text`."""
        files = self.control.values() if isinstance(self.control, dict) else [self.control]
        return ", ".join(map(str, dict.fromkeys(files)))

    @property
    def command_text(self) -> str:
        """See `EngineSection.command_text`."""
        return self.launch_str

    def by_geometry(self) -> Mapping[str, Mapping[int, Any]]:
        """See `EngineSection.by_geometry`."""
        return {"control": self.control} if isinstance(self.control, dict) else {}

    def of_geometry(self, index: int) -> Self:
        """Return these settings with the one control file that holds for a geometry."""
        if not isinstance(self.control, dict):
            return self
        return self.model_copy(update={"control": self.control[index]})

    def with_stress(self) -> Self:
        """See `EngineSection.with_stress`."""
        return self.model_copy(update={"compute_stress": True})


def _check(section: AimsReference, use: Use) -> Iterator[Finding]:
    """A launch line may begin with a program that only the nodes have."""
    first = section.launch_str.split()[0]
    plain = not set(first) & set("=$(){};&|<>\"'`") and first not in _OF_SHELLS
    if plain and shutil.which(first) is None and not Path(first).expanduser().exists():
        yield Finding("launch_str", f"{first} is not found on this machine", note=True)


def _check_structure(section: AimsReference, use: Use, atoms: Atoms) -> Iterator[Finding]:
    from aimspax_core.reference.aims.engine import mistakes

    for key, text in mistakes(section, use.directory, atoms):
        yield Finding(key, text)


def _frozen(section: AimsReference, directory: Path, elements: frozenset[str]) -> Mapping[str, Any]:
    """Return the identity by keyword, with the species that the campaign needs."""
    identity = _make(section, directory).identity()
    keywords: dict[str, str] = {}
    for name, *values in identity["control"]:
        text = " ".join(values) or "set"
        keywords[name] = f"{keywords[name]}; {text}" if name in keywords else text
    species = {name: sha[:16] for name, sha in identity["species"].items() if name in elements}
    return {**identity, "control": keywords, "species": species}


def _in_vacuum(
    section: AimsReference, directory: Path, folder: Path, multiplicity: int
) -> EngineSection:
    """Write a control file without what belongs to cells, spin-polarised above a singlet.

    Raises:
        SettingsError: The control file cannot be read.
    """
    from aimspax_core.settings.aims_control.control import Control
    from aimspax_core.settings.aims_control.keywords import PART_OF

    assert not isinstance(section.control, dict)
    control, wrong = Control.read(directory / section.control)
    if wrong:
        raise SettingsError("\n".join(str(mistake) for mistake in wrong))
    for name in (*_OF_CELLS, *_OF_SPIN, "output", *PART_OF):
        control = control.without(name)
    polarised = multiplicity > 1
    control = control.with_("spin", "collinear" if polarised else "none")
    file = folder / f"control-{'open' if polarised else 'closed'}-shell.in"
    write_text(file, control.text())
    return section.model_copy(update={"control": file, "compute_stress": False})


def _make(section: AimsReference, directory: Path) -> Reference:
    from aimspax_core.reference.aims.engine import AimsEngine

    return AimsEngine(section, directory)


AIMS = Kind(
    section=AimsReference,
    make=_make,
    check=_check,
    check_structure=_check_structure,
    frozen=_frozen,
    identity_has_files=True,
    in_vacuum=_in_vacuum,
)
