"""What start geometries hold in MD: found fit before anything starts, and kept as it began."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.constraints import FixAtoms, FixCom, FixedPlane, Hookean

from aimspax_core.campaign.events import Started
from aimspax_core.campaign.journal import Journal
from aimspax_core.errors import SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.inputs.provenance import write_provenance
from aimspax_core.report.plan import plan
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.geometries.held_atoms import NOTHING_HELD, HeldAtoms
from aimspax_core.structures import digest

PROJECT = """
REFERENCE: {engine: ase, calculator: ase.calculators.emt.EMT}
INITIAL_DATASET_GENERATION:
  initial_sampling: aimd
  n_points_per_sampling_step_idg: 3
  max_initial_epochs: 4
  ensemble_size: 2
ACTIVE_LEARNING: {num_trajectories: 3, max_train_set_size: 16, ensemble_size: 2}
MD: {stat_ensemble: NVT}
MISC: {path_to_geometry: slab.traj}
"""

LOWER = HeldAtoms(fixed=(0, 1))


def slab(*constraints: object) -> Atoms:
    atoms = fcc111("Al", (2, 1, 3), vacuum=6.0)
    atoms.pbc = True
    atoms.set_constraint(list(constraints))
    return atoms


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(*constraints: object) -> Path:
        (tmp_path / "aimsPAX.yaml").write_text(PROJECT)
        (tmp_path / "mace.yaml").write_text("GENERAL: {name_exp: test, seed: 3}")
        ase.io.write(tmp_path / "slab.traj", slab(*constraints))
        return tmp_path

    return written


def begin(directory: Path) -> RunDir:
    inputs = Inputs.read(directory)
    with Journal(inputs.run) as journal:
        journal.append(Started(rules=inputs.rules))
    write_provenance(inputs.run, inputs.settings, inputs.geometries)
    return inputs.run


def test_a_campaign_that_begins_holds_what_its_geometry_says(write: Callable[..., Path]) -> None:
    inputs = Inputs.read(write(FixAtoms([0, 1])))
    assert inputs.settings.held_atoms(0) == LOWER
    assert not inputs.geometries[0].constraints
    assert "Al6 with 2 atoms fixed" in plan(inputs.settings, inputs.geometries, ("a",))[0]


@pytest.mark.parametrize("key", ["barostat: mtk", "barostat: npt", "barostat: berendsen"])
def test_a_barostat_is_refused_with_file_key_and_reason(
    write: Callable[..., Path], key: str
) -> None:
    directory = write(FixAtoms([0, 1]))
    project = PROJECT.replace("stat_ensemble: NVT", f"stat_ensemble: NPT, {key}")
    (directory / "aimsPAX.yaml").write_text(project)
    name = key.split()[1]
    with pytest.raises(
        SettingsError, match=rf"aimsPAX\.yaml:9  MD: slab\.traj: found NPT {name}.*2 atoms"
    ):
        Inputs.read(directory)


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        (Hookean(0, 1, 5.0, rt=1.0), r"slab\.traj: .*Hookean.* allowed: FixAtoms, "),
        (FixAtoms(range(6)), r"slab\.traj: nothing is left that can move"),
    ],
)
def test_what_cannot_be_held_is_refused(
    write: Callable[..., Path], constraint: object, text: str
) -> None:
    with pytest.raises(SettingsError, match=text):
        Inputs.read(write(constraint))


def test_a_held_centre_of_mass_needs_an_ensemble_that_holds_it(write: Callable[..., Path]) -> None:
    directory = write(FixCom())
    assert Inputs.read(directory).settings.held_atoms(0) == NOTHING_HELD
    project = PROJECT.replace("{stat_ensemble: NVT}", "{stat_ensemble: NVT, fixcm: false}")
    (directory / "aimsPAX.yaml").write_text(project)
    with pytest.raises(SettingsError, match=r"slab\.traj: .*FixCom.*fixcm"):
        Inputs.read(directory)


# ---- a campaign goes on as it began --------------------------------------------------------


def as_of_a_release_that_held_nothing(run: RunDir) -> None:
    """Take from the record what such a release did not write; it wrote no checksum either."""
    record = json.loads(run.settings.read_text())
    del record["held"], record["checksum"]
    run.settings.write_text(json.dumps(record))


def test_a_campaign_that_goes_on_holds_the_same(write: Callable[..., Path]) -> None:
    directory = write(FixAtoms([0, 1]))
    begin(directory)
    settings = Inputs.read(directory).settings
    assert settings.held_atoms(0) == LOWER
    assert not [note for note in settings.notes if "slab" in note]


def test_a_campaign_that_was_begun_when_constraints_were_dropped_goes_on_without(
    write: Callable[..., Path],
) -> None:
    directory = write(FixAtoms([0, 1]))
    run = begin(directory)
    as_of_a_release_that_held_nothing(run)
    for _ in range(2):  # the second time with the record of this release
        inputs = Inputs.read(directory)
        assert inputs.settings.held_atoms(0) == NOTHING_HELD
        (note,) = (note for note in inputs.settings.notes if note.startswith("slab.traj"))
        assert "no atom held" in note and "2 atoms fixed" in note and "--fresh" in note
        write_provenance(inputs.run, inputs.settings, inputs.geometries)
    assert Inputs.read(directory, anew=True).settings.held_atoms(0) == LOWER


def test_such_a_campaign_goes_on_whatever_could_not_be_held(write: Callable[..., Path]) -> None:
    directory = write(FixAtoms([0, 1]))
    as_of_a_release_that_held_nothing(begin(directory))
    write(FixAtoms(range(6)), Hookean(0, 1, 5.0, rt=1.0))
    project = PROJECT.replace("NVT", "NPT")
    (directory / "aimsPAX.yaml").write_text(project)
    notes = Inputs.read(directory).settings.notes
    assert any("Hookean" in note and "--fresh would refuse" in note for note in notes)


def test_a_campaign_holds_what_it_began_with_whatever_the_file_says_today(
    write: Callable[..., Path],
) -> None:
    directory = write(FixAtoms([0, 1]))
    begin(directory)
    write(FixedPlane([0], (0, 0, 1)))
    inputs = Inputs.read(directory)
    assert inputs.settings.held_atoms(0) == LOWER
    (note,) = (note for note in inputs.settings.notes if note.startswith("slab.traj"))
    assert "2 atoms fixed" in note and "1 atom in planes" in note and "--fresh" in note
    write_provenance(inputs.run, inputs.settings, inputs.geometries)
    assert inputs.with_set_values(inputs.state).settings.held_atoms(0) == LOWER  # type: ignore[arg-type]


def test_where_the_record_is_damaged_the_file_says_what_is_held(write: Callable[..., Path]) -> None:
    directory = write(FixAtoms([0, 1]))
    begin(directory).settings.write_text("{")
    assert Inputs.read(directory).settings.held_atoms(0) == LOWER


def test_constraints_are_not_among_what_is_frozen(write: Callable[..., Path]) -> None:
    directory = write(FixAtoms([0, 1]))
    held = json.loads(begin(directory).settings.read_text())
    free = Inputs.read(write(), anew=True)
    write_provenance(free.run, free.settings, free.geometries)
    record = json.loads(free.run.settings.read_text())
    assert record["held"] == {} and held["held"] == {"0": {"fixed": [0, 1]}}
    assert digest(record["frozen"]) == digest(held["frozen"])
