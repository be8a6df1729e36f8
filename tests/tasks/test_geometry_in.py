"""A label's `geometry.in` beside the one that it came from, keyword by keyword.

FHI-aims's stand-in keeps what it was given: in a campaign, and with `aimspax label`.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from pyfhiaims.geometry.geometry import AimsGeometry as SecondReader

from aimspax_core.errors import AimspaxError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.inputs.relabel_inputs import RelabelInputs, RelabelRequest
from aimspax_core.labels.dataset import DataKeys
from aimspax_core.labels.waiting import keep_structure
from aimspax_core.reference.registry import build_reference
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.geometries.aims_reader import read_aims_geometry
from aimspax_core.settings.geometries.held_atoms import NOTHING_HELD, HeldAtoms
from aimspax_core.settings.geometries.keywords import KEYWORDS, Fate
from aimspax_core.settings.settings import Settings
from aimspax_core.structures import encode
from tasks.label import LabelRequest, labelled
from tests.settings.geometries.test_aims_reader import EXAMPLES as NOTED
from tests.settings.geometries.test_aims_reader import WURTZITE

ROOT = Path(__file__).parents[2]
AIMS = ROOT / "tests" / "aims"
LAUNCH = f"AIMS_STAND_IN_METHOD=emt {shlex.quote(sys.executable)} "
LAUNCH += f"{shlex.quote(str(AIMS / 'stand_in.py'))} > aims.out"

PROJECT = f"""
REFERENCE: {{engine: aims, species_dir: {AIMS / "species"}, external_field: true}}
INITIAL_DATASET_GENERATION:
  {{initial_sampling: aimd, n_points_per_sampling_step_idg: 2, max_initial_epochs: 4}}
ACTIVE_LEARNING: {{num_trajectories: 1, max_train_set_size: 16}}
MD: {{stat_ensemble: NVT}}
CLUSTER: {{type: local, launch_str: '{LAUNCH}', clean_dirs: false}}
"""
CONTROL = "xc pbe\nspin collinear\nrelativistic atomic_zora scalar\n"

SLAB = (
    (ROOT / "examples" / "slab" / "geometry.in").read_text(encoding="utf-8")
    + "  Initial_Moment 0.123456789012d0\n  initial_charge -3.3333333333333335e-7  # by O\n"
    + "homogeneous_field 0 0 0.0512345678901234\nset_vacuum_level 13.25\n"
)
CELL = """\
Lattice_Vector 3.6149 0 1d-9   # 0.5 0.5
lattice_vector 0 3.61 0
lattice_vector .1 0 7.21
atom_frac 0.3333333333 0.6667 0.2651 Cu
  initial_moment 1
  constrain_relaxation x
  constrain_relaxation z
  velocity 1 2 3
atom 0.1 -4.2 5.3000000000000007 cu
  initial_moment -1.0000001
  constrain_relaxation .false.
"""
WATER = "atom 0 0 0.119 O\natom 0 0.763 -0.477 H\natom 0 -0.763 -0.477 H\n"
FILES = {
    "slab": SLAB,
    "cell": CELL,
    "charges": WATER + "multipole 5 0 0 0 1.0\nmultipole 1.27279221 0.7 -4 1 -1d-1\n",
    "noted": "\n".join((WATER, *NOTED.values(), "")),
}

REFUSED = {
    "empty": "empty 0 0 3 H",
    "pseudocore": "pseudocore 0 0 3 H",
    "constraint_region": "constraint_region 1",
}
PARAMETRIC = {"symmetry_n_params", "symmetry_params", "symmetry_lv", "symmetry_frac"}


@dataclass(frozen=True)
class Labelled:
    """What a file says, what the code was given for its label, and what was said about it."""

    said: str
    given: str
    notes: tuple[str, ...]
    held: HeldAtoms = NOTHING_HELD

    @property
    def keywords(self) -> set[str]:
        """Those that the code was given."""
        return {line.split()[0] for line in self.given.splitlines()}


def write(directory: Path, text: str) -> Path:
    directory.mkdir()
    grid = "k_grid 1 1 1\n" if "lattice_vector" in text.lower() else ""
    (directory / "aimsPAX.yaml").write_text(PROJECT, encoding="utf-8")
    (directory / "mace.yaml").write_text("GENERAL: {name_exp: test}", encoding="utf-8")
    (directory / "control.in").write_text(CONTROL + grid, encoding="utf-8")
    (directory / "geometry.in").write_text(text, encoding="utf-8")
    return directory


def in_a_campaign(directory: Path) -> tuple[Settings, Atoms]:
    inputs = Inputs.read(directory)
    return inputs.settings, inputs.geometries[0]


def as_a_dataset(directory: Path) -> tuple[Settings, Atoms]:
    inputs = RelabelInputs.read(directory, RelabelRequest(Path("geometry.in")))
    (frame,) = inputs.frames
    return inputs.settings, frame.structure(DataKeys.of(inputs.settings.misc))


WAYS = {"campaign": in_a_campaign, "label": as_a_dataset}
ONLY_LABEL = ("charges", "campaign")
"""No fixed atoms tell the models how they stand to point charges: a campaign refuses them."""
LABELS = [(name, way) for name in FILES for way in WAYS if (name, way) != ONLY_LABEL]

every_way = pytest.mark.parametrize("way", WAYS)
every_label = pytest.mark.parametrize("which", LABELS, ids="-".join)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Labelled]:
    """Each file, labelled in each way."""
    found = {}
    for name, way in LABELS:
        directory = write(tmp_path_factory.mktemp("labels") / "run", FILES[name])
        settings, atoms = WAYS[way](directory)
        run, reference = RunDir.of(settings), settings.reference
        key = keep_structure(run, atoms, build_reference(reference, directory).identity())
        labelled(LabelRequest.of(key, run, reference, settings.gate, directory, stress=False))
        (given,) = directory.glob("calc/*/geometry.in")
        held = settings.held_atoms(0) if way == "campaign" else NOTHING_HELD
        found[name, way] = Labelled(FILES[name], given.read_text(), settings.notes, held)
    return found


def structure(text: str) -> Atoms:
    geometry, wrong = read_aims_geometry(text)
    assert wrong == []
    return geometry.atoms


@every_label
def test_a_label_is_of_the_structure_in_the_file_to_the_last_bit(
    labels: dict[tuple[str, str], Labelled], which: tuple[str, str]
) -> None:
    label = labels[which]
    assert encode(structure(label.given)) == encode(structure(label.said))


@every_label
def test_a_second_reader_finds_the_same_in_both_files(
    labels: dict[tuple[str, str], Labelled], which: tuple[str, str]
) -> None:
    label = labels[which]
    fortran = label.said.lower().replace("d0", "e0").replace("1d-", "1e-").replace("cu\n", "Cu\n")
    fortran = fortran.replace(" o\n", " O\n").replace(" h\n", " H\n")
    said, given = (SecondReader.from_strings(t.splitlines()) for t in (fortran, label.given))
    assert [a.symbol for a in given.atoms] == [a.symbol for a in said.atoms]
    for what in ("initial_moment", "initial_charge"):
        both = ([getattr(a, what) or 0.0 for a in one.atoms] for one in (given, said))
        assert next(both) == next(both)
    places = [[a.position for a in one.atoms] for one in (given, said)]
    np.testing.assert_allclose(*places, atol=1e-13)
    if said.lattice_vectors is not None and len(said.lattice_vectors):
        np.testing.assert_array_equal(given.lattice_vectors, said.lattice_vectors)
    if said.homogeneous_field is not None:
        np.testing.assert_array_equal(given.homogeneous_field, said.homogeneous_field)
    assert given.multipole == said.multipole


def test_each_keyword_has_its_example() -> None:
    text = "\n".join(FILES.values()).lower()
    shown = {line.split()[0] for line in text.splitlines() if line.strip()}
    assert set(KEYWORDS) <= shown | PARAMETRIC | set(REFUSED)


REACH = [name for name, known in KEYWORDS.items() if known.fate in (Fate.STRUCTURE, Fate.PASSED_ON)]


@pytest.mark.parametrize("keyword", REACH)
def test_it_reaches_the_label(labels: dict[tuple[str, str], Labelled], keyword: str) -> None:
    written = "atom" if keyword == "atom_frac" else keyword
    saying = [label for label in labels.values() if f"{keyword} " in label.said.lower()]
    assert saying
    assert all(written in label.keywords for label in saying)


@every_label
def test_nothing_else_does(labels: dict[tuple[str, str], Labelled], which: tuple[str, str]) -> None:
    assert labels[which].keywords <= set(REACH)


@every_way
@pytest.mark.parametrize("keyword", NOTED)
def test_it_is_named_in_a_note_with_its_line(
    labels: dict[tuple[str, str], Labelled], keyword: str, way: str
) -> None:
    label = labels["noted", way]
    lines = label.said.splitlines()
    line = next(i for i, text in enumerate(lines, 1) if text == NOTED[keyword])
    assert any(f"geometry.in:{line}  {keyword}: " in note for note in label.notes)


def test_what_holds_in_md_is_held_in_a_campaign(
    labels: dict[tuple[str, str], Labelled],
) -> None:
    assert labels["slab", "campaign"].held == HeldAtoms(fixed=tuple(range(8)))
    assert labels["cell", "campaign"].held == HeldAtoms(lines=(((0.0, 1.0, 0.0), (0,)),))


@every_way
@pytest.mark.parametrize("keyword", REFUSED)
def test_it_is_refused_with_its_line(tmp_path: Path, keyword: str, way: str) -> None:
    directory = write(tmp_path / "run", WATER + REFUSED[keyword])
    with pytest.raises(AimspaxError, match=rf"geometry\.in:4  {keyword}: .*leave it out"):
        WAYS[way](directory)


def test_parametric_constraints_shape_the_structure_of_a_label_and_are_refused_in_md(
    tmp_path: Path,
) -> None:
    text = WURTZITE.replace("Pb", "Cu").replace("I\n", "O\n")
    directory = write(tmp_path / "run", text)
    _, atoms = as_a_dataset(directory)
    assert encode(atoms) == encode(structure(text))
    with pytest.raises(AimspaxError, match=r"geometry\.in:6  parametric constraints"):
        in_a_campaign(directory)
