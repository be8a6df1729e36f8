"""REFERENCE with `engine: aims`: its keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field

from aimspax_core.settings.engines import ProgramSection
from aimspax_core.settings.reading.mistakes import wrong_value
from aimspax_core.settings.usual import Usual
from aimspax_core.settings.values import ExistingControls, ExistingFolder, Positive

KEYWORDS_OF_CELLS = (
    *("k_grid", "k_grid_density", "k_points_external", "k_offset", "symmetry_reduced_k_grid"),
    *("compute_analytical_stress", "compute_numerical_stress", "use_dipole_correction"),
)


KEYWORDS_OF_SPIN = ("spin", "fixed_spin_moment", "default_initial_moment")


WORDS_OF_SHELLS = (
    *("cd", "export", "module", "ml", "ulimit", "source", ".", "set", "eval", "exec", "time"),
)
"""Words that a launch line may begin with and that are no programs."""


def _a_line(text: str) -> str:
    if not text.strip():
        raise wrong_value("the shell line that runs the code")
    return text


_OF_THE_METHOD = (
    *("xc", "hybrid_xc_coeff", "hse_unit", "relativistic", "include_spin_orbit", "spin"),
    *("vdw_correction_hirshfeld", "many_body_dispersion", "many_body_dispersion_nl"),
    *("k_grid", "k_grid_density", "occupation_type"),
)
"""Keywords of `control.in` that a paper tells."""


class AimsReference(ProgramSection):
    """REFERENCE with `engine: aims`: FHI-aims, run by the user's own launch line.

    The original has some of these keys in other sections, where they may stay; a file without a
    section REFERENCE is read as one for FHI-aims.
    """

    cell_keys: ClassVar[tuple[str, ...]] = ("compute_stress",)
    usual: ClassVar[Mapping[str, Usual]] = {
        "timeout": Usual(60, 1e7, " s", "usual are 3600 s (an hour) to some days")
    }
    free: ClassVar[tuple[str, ...]] = (
        *("launch_str", "calc_dir", "clean_dirs", "timeout"),
        *("control*", "species_dir"),  # their content is frozen
        "external_field",  # the structure says it
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
    external_field: bool = Field(
        False,
        description="Let a campaign learn from geometries in an electric field, or with point "
        "charges, which the models do not know of: fixed atoms have to tell how the structure "
        "stands in it, and all atoms have to stay within reach of them (`r_max` times "
        "`num_interactions`) and on their side, which only the start is checked for; see "
        "docs/fhi-aims.md.",
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
    def cites(self) -> tuple[str, ...]:
        """The program."""
        return ("blum2009",)

    @property
    def method_text(self) -> str:
        """See `EngineSection.method_text`."""
        files = self.control.values() if isinstance(self.control, dict) else [self.control]
        return ", ".join(map(str, dict.fromkeys(files)))

    def told(self, directory: Path) -> str:
        """See `EngineSection.told`; of each control file what is said of the method in it."""
        from aimspax_core.settings.aims_control.control import Control

        files = self.control.values() if isinstance(self.control, dict) else [self.control]
        said: dict[str, None] = {}
        for file in dict.fromkeys(files):
            control, _ = Control.read(directory / file)
            found = ((name, control.get(name)) for name in _OF_THE_METHOD)
            parts = [" ".join((name, *values)) for name, values in found if values is not None]
            said[", ".join(parts) or file.name] = None
        species = "/".join(self.species_dir.parts[-2:])
        return f"FHI-aims ({'; '.join(said)}; species defaults {species})"

    @property
    def command_text(self) -> str:
        """See `EngineSection.command_text`."""
        return self.launch_str

    @property
    def field_in_campaigns(self) -> bool:
        """See `EngineSection.field_in_campaigns`."""
        return self.external_field

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
