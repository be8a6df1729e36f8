"""The section MISC of `aimsPAX.yaml`: folders, files, names in datasets, the server.

Source: aims-PAX README, section "Settings", and the second generation's keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from aimspax_core.settings.geometries.folders import geometry_files
from aimspax_core.settings.values import (
    AnyCase,
    DataKey,
    ExistingControls,
    ExistingPlaces,
    Place,
    Section,
)


class Misc(Section):
    """MISC: folders and files."""

    create_restart: bool = Field(
        True,
        description="Go on where a run stopped; else a second start is refused without --fresh.",
    )
    restarts: int = Field(
        3,
        ge=0,
        description="How often a deployed run that died is started again by itself, in a row and "
        "without progress; one that a signal stopped, 20 times.",
    )
    dataset_dir: Place = Field(Path("./data"), description="Folder of the datasets.")
    log_dir: Place = Field(Path("./logs"), description="Folder of the logs.")
    output_dir: Place = Field(
        Path(), description="Folder of all that is written, the folders above included."
    )
    path_to_geometry: ExistingPlaces = Field(
        Path("./geometry.in"),
        description="Start geometries, in any format that ASE reads: a file (its last frame), a "
        "folder of files (in the order of their names), or files by index.",
        json_schema_extra={"allowed": "a path, or files by index: {0: a.xyz, 1: b.xyz}"},
    )
    label_store: Place | None = Field(
        None,
        description="Folder of the label store; several campaigns may share one, at the same "
        "time too. Not given: each has its own, in `aimspax/labels`.",
    )
    test_dataset: ExistingControls | None = Field(
        None,
        description="Held-out set (extended XYZ, each frame with energy and forces): the models "
        "are judged by it after each round, by an idle worker; it steers nothing. A file, or one "
        "for each geometry, by index.",
        json_schema_extra={"allowed": "a path, or files by index: {0: a.xyz, 1: b.xyz}"},
    )
    without_server: Literal["go_on", "wait"] = Field(
        "go_on",
        description="While the Prefect server is away: go on without it, and without its page; or "
        "begin nothing until it is back.",
    )
    energy_key: DataKey = Field("REF_energy", description="Name of the energy (eV) in datasets.")
    forces_key: DataKey = Field("REF_forces", description="Name of the forces (eV/Å).")
    stress_key: DataKey = Field("REF_stress", description="Name of the stress (eV/Å³).")
    virials_key: DataKey = Field("REF_virials", description="Name of the virials (eV).")
    dipole_key: DataKey = Field("REF_dipole", description="Name of the dipole; carried along.")
    polarizability_key: DataKey = Field(
        "REF_polarizability", description="Name of the polarizability; carried along."
    )
    hirshfeld_ratios_key: DataKey = Field(
        "REF_hirshfeld_ratios", description="Name of the Hirshfeld ratios; carried along."
    )
    charges_key: DataKey = Field(
        "REF_charges", description="Name of atomic charges; carried along."
    )
    head_key: DataKey = Field("head", description="Name of the head; carried along.")
    total_charge_key: DataKey = Field("total_charge", description="Name of the total charge (e).")
    total_spin_key: DataKey = Field("total_spin", description="Name of the multiplicity (2S+1).")

    server_password: Annotated[Literal["auto", "always", "never"], AnyCase()] = Field(
        "auto",
        description="Whether the local Prefect server asks for a password: `auto` if others can "
        "log in to this machine; beyond this machine it always does.",
    )

    @property
    def electron_names(self) -> dict[str, str]:
        """What files call `charge` and `spin`, beside these names."""
        return {"charge": self.total_charge_key, "spin": self.total_spin_key}

    def test_files(self, directory: Path) -> dict[str, Path]:
        """Return the files of the held-out set: one, or by the index of their geometry."""
        named = self.test_dataset
        if named is None:
            return {}
        by_index = named if isinstance(named, dict) else {0: named}
        return {str(index): directory / by_index[index] for index in sorted(by_index)}

    def geometry_files(self, directory: Path) -> list[Path]:
        """Return the files of the start geometries, in their order.

        Args:
            directory: The run directory.

        Raises:
            StructureError: There is none.
        """
        named = self.path_to_geometry
        if isinstance(named, dict):
            return [directory / named[index] for index in sorted(named)]
        return geometry_files(directory / named)
