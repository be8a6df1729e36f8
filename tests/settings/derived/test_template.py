"""`aimspax init`: what it writes can be run as it is, and says what every key means."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ruamel.yaml import YAML

from aimspax_core.errors import SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.settings.aims_control.control import Control
from aimspax_core.settings.derived.explained_yaml import WIDTH
from aimspax_core.settings.derived.first_values import QUICK
from aimspax_core.settings.derived.template import write_inputs
from aimspax_core.settings.derived.yaml_text import value_yaml
from aimspax_core.settings.families.known_families import FAMILIES, row_of
from aimspax_core.settings.fine_tuning import Pretrained
from aimspax_core.settings.load import load
from aimspax_core.settings.md import MD
from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.project import ProjectSettings
from aimspax_core.settings.reading.wording import fields_of, schema_of
from flows.commands.check import check

ASPIRIN = Path(__file__).parents[3] / "examples" / "aspirin" / "geometry.in"
COMMENTED = re.compile(r"^(\s*)# (\s*\w+:( .*)?)$")


def silicon() -> Atoms:
    return bulk("Si", cubic=True)


def water() -> Atoms:
    return molecule("H2O")


def radical() -> Atoms:
    return molecule("CH3")


@pytest.fixture
def geometry(tmp_path: Path) -> Callable[[str, Atoms], Path]:
    def write(name: str, atoms: Atoms) -> Path:
        (tmp_path / "from").mkdir(exist_ok=True)
        ase.io.write(tmp_path / "from" / name, atoms)
        return tmp_path / "from" / name

    return write


@pytest.mark.parametrize(
    ("name", "atoms", "spin"),
    [
        ("water.xyz", water(), 1),
        ("methyl.xyz", radical(), 2),
        ("silicon.cif", silicon(), 1),
        ("POSCAR", silicon(), 1),
        ("slab.extxyz", silicon() * (1, 1, 2), 1),
    ],
)
def test_check_has_nothing_to_say_of_it(
    geometry: Callable[[str, Atoms], Path],
    tmp_path: Path,
    name: str,
    atoms: Atoms,
    spin: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_inputs(tmp_path / "run", [geometry(name, atoms)], None, "tblite")
    inputs = Inputs.read(tmp_path / "run")
    assert not inputs.settings.notes
    assert inputs.settings.reference.spin == spin  # type: ignore[union-attr]
    assert inputs.geometries[0].get_chemical_formula() == atoms.get_chemical_formula()
    assert inputs.settings.model.GENERAL.name_exp == "run"
    assert check(tmp_path / "run", {}) == 0
    said = capsys.readouterr().out
    assert "No mistakes found; nothing has been run here yet." in said
    assert "note" not in said


@pytest.mark.parametrize("atoms", [water(), silicon()], ids=["molecule", "crystal"])
def test_the_quick_one_ends_with_few_labels_and_says_which_keys_to_turn(
    geometry: Callable[[str, Atoms], Path],
    tmp_path: Path,
    atoms: Atoms,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_inputs(tmp_path / "run", [geometry("a.extxyz", atoms)], None, "tblite", quick=True)
    inputs = Inputs.read(tmp_path / "run")
    assert not inputs.settings.notes
    assert inputs.settings.project.BUDGET.labels == 60
    assert inputs.settings.al.max_train_set_size < 60
    assert check(tmp_path / "run", {}) == 0
    assert "note" not in capsys.readouterr().out
    said = (tmp_path / "run" / "aimsPAX.yaml").read_text()
    known = {
        key
        for schema in (ProjectSettings, ModelSettings)
        for section in schema.model_fields
        for key in fields_of(schema_of(schema), section)
    }
    turned = re.findall(r"`([\w.]+)`", QUICK)
    assert {key.rpartition(".")[2] for key in turned} <= known
    assert " ".join(QUICK.split()[:8]) in " ".join(said.replace("#", "").split())


def test_several_geometries_become_a_folder(
    geometry: Callable[[str, Atoms], Path], tmp_path: Path
) -> None:
    files = [geometry("a.xyz", water()), geometry("b.xyz", molecule("CH4"))]
    write_inputs(tmp_path / "run", files, "two", "tblite")
    inputs = Inputs.read(tmp_path / "run")
    assert not inputs.settings.notes
    assert [file.name for file in inputs.settings.geometry_files] == ["a.xyz", "b.xyz"]
    write_inputs(tmp_path / "again", [tmp_path / "from"], "two", "tblite")
    assert len(Inputs.read(tmp_path / "again").geometries) == 2


def test_a_geometry_of_fhi_aims_is_copied_as_it_is(tmp_path: Path) -> None:
    odd_name = tmp_path / "mine.in"
    shutil.copy(ASPIRIN, odd_name)
    write_inputs(tmp_path / "run", [odd_name], None, "tblite")
    assert (tmp_path / "run" / "geometry.in").read_bytes() == ASPIRIN.read_bytes()


def test_a_geometry_that_is_there_already_is_used_where_it_is(
    geometry: Callable[[str, Atoms], Path],
) -> None:
    file = geometry("mine.xyz", water())
    written = write_inputs(file.parent, [file], None, "tblite")
    assert [path.name for path in written] == ["aimsPAX.yaml", "mace.yaml"]
    assert load(file.parent).geometry_files == [file]


@pytest.mark.parametrize("there", ["aimsPAX.yaml", "aimsPAX.yml", "model.yaml", "geometry.xyz"])
def test_nothing_is_overwritten(
    geometry: Callable[[str, Atoms], Path], tmp_path: Path, there: str
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / there).write_text("mine")
    with pytest.raises(SettingsError, match=there):
        write_inputs(tmp_path / "run", [geometry("a.xyz", water())], None, "tblite")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [there]
    assert (tmp_path / "run" / there).read_text() == "mine"


def test_odd_and_even_electrons_need_a_campaign_each(
    geometry: Callable[[str, Atoms], Path], tmp_path: Path
) -> None:
    files = [geometry("a.xyz", water()), geometry("b.xyz", radical())]
    with pytest.raises(SettingsError, match=r"b\.xyz \(CH3\) has 9"):
        write_inputs(tmp_path / "run", files, None, "tblite")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("engine", ["aims", "pyscf", "mace", "mace-mp", "ase"])
def test_other_references(
    geometry: Callable[[str, Atoms], Path], tmp_path: Path, engine: str
) -> None:
    write_inputs(tmp_path / "run", [geometry("a.cif", bulk("Cu"))], None, engine)  # type: ignore[arg-type]
    (tmp_path / "run" / "teacher.model").touch()  # which is the user's to bring
    (tmp_path / "run/path/to/species_defaults/defaults_2020/light").mkdir(parents=True)
    assert load(tmp_path / "run").reference.engine == engine


@pytest.mark.parametrize(
    ("atoms", "lines"),
    [
        (bulk("Cu"), ["spin none", "charge 0", "k_grid 2 2 2"]),
        (molecule("O2"), ["spin collinear", "default_initial_moment hund"]),
    ],
)
def test_fhi_aims_gets_a_control_file(
    geometry: Callable[[str, Atoms], Path], tmp_path: Path, atoms: Atoms, lines: list[str]
) -> None:
    write_inputs(tmp_path / "run", [geometry("a.extxyz", atoms)], None, "aims")
    control, wrong = Control.read(tmp_path / "run" / "control.in")
    assert wrong == []
    written = [" ".join((k.name, *k.values)) for k in control.keywords]
    assert set(lines) <= set(written)
    assert ("k_grid" in {k.name for k in control.keywords}) is bool(atoms.pbc.all())


def test_the_users_own_control_file_stays(
    geometry: Callable[[str, Atoms], Path], tmp_path: Path
) -> None:
    own = tmp_path / "run" / "control.in"
    own.parent.mkdir()
    own.write_text("xc pbe0\n")
    write_inputs(own.parent, [geometry("a.xyz", water())], None, "aims")
    assert own.read_text() == "xc pbe0\n"


@pytest.mark.parametrize("atoms", [water(), silicon()], ids=["molecule", "crystal"])
@pytest.mark.parametrize("family", [row.name for row in FAMILIES])
def test_every_key_is_there_once_at_its_default(
    geometry: Callable[[str, Atoms], Path], tmp_path: Path, atoms: Atoms, family: str
) -> None:
    """Taking the comment marks away changes nothing, but for what has no meaning together."""
    files = write_inputs(tmp_path / "run", [geometry("a.xyz", atoms)], None, "tblite", family)
    before = load(tmp_path / "run")
    for path in files[:2]:
        lines = path.read_text().splitlines()
        assert max(map(len, lines)) <= WIDTH
        # The first lines are prose.
        path.write_text("\n".join(lines[:3] + [_uncommented(line) for line in lines[3:]]))
    after = load(tmp_path / "run")
    assert after.project == before.project
    assert after.model == before.model
    md = after.project.MD
    assert isinstance(md, MD)
    if atoms.pbc.all():
        assert md.model_fields_set == set(MD.model_fields)
    else:
        assert not md.idle, "a molecule has no cell to speak of"
    assert after.al.model_fields_set == set(type(after.al).model_fields)


@pytest.mark.parametrize("family", [row.name for row in FAMILIES])
def test_each_family_has_a_file_that_suits_it(
    geometry: Callable[[str, Atoms], Path], tmp_path: Path, family: str
) -> None:
    files = write_inputs(tmp_path / "run", [geometry("a.xyz", water())], None, "tblite", family)
    inputs = Inputs.read(tmp_path / "run")
    assert not inputs.settings.notes
    assert inputs.settings.model.family.name == family
    small, usual = inputs.settings.model.ARCHITECTURE, row_of(family).architecture
    width = "num_channels" if family == "mace" else "num_features"
    assert getattr(small, width) < usual.model_fields[width].default
    assert files[1].name == ("mace.yaml" if family == "mace" else "model.yaml")


def test_a_foundation_model_of_the_family_walks_where_the_reference_is_slow(
    geometry: Callable[[str, Atoms], Path], tmp_path: Path
) -> None:
    write_inputs(tmp_path / "run", [geometry("a.xyz", water())], None, "pyscf", "so3lr")
    idg = load(tmp_path / "run").idg
    assert (idg.initial_sampling, idg.foundational_model) == ("foundational", "so3lr")


def test_members_may_begin_from_a_model_that_has_a_name(
    geometry: Callable[[str, Atoms], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    write_inputs(run, [geometry("a.xyz", water())], None, "tblite", pretrained="so3lr")
    inputs = Inputs.read(run)
    assert not inputs.settings.notes
    model = inputs.settings.model
    assert model.family.name == "so3lr"
    assert model.TRAINING.pretrained(run) == Pretrained("so3lr")
    assert not model.ARCHITECTURE.model_fields_set & set(model.family.pretrained_keys)
    text = (run / "model.yaml").read_text()
    assert not re.findall(rf"^\s*#?\s*({'|'.join(model.family.pretrained_keys)}):", text, re.M)


def test_the_quick_one_gives_members_that_begin_from_one_model_sets_of_their_own(
    geometry: Callable[[str, Atoms], Path], tmp_path: Path
) -> None:
    files = [geometry("a.xyz", water())]
    write_inputs(tmp_path / "run", files, None, "tblite", pretrained="so3lr", quick=True)
    settings = Inputs.read(tmp_path / "run").settings
    assert not settings.notes
    assert settings.idg.distinct_model_sets
    labels = settings.idg.n_points_per_sampling_step_idg * settings.idg.ensemble_size
    assert labels < settings.al.max_train_set_size < settings.project.BUDGET.labels


@pytest.mark.parametrize("within", [False, True])
def test_members_may_begin_from_a_file(
    geometry: Callable[[str, Atoms], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    within: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    run, file = Path("run"), Path("run/own.model" if within else "own.model")
    run.mkdir()
    file.touch()
    write_inputs(run, [geometry("a.xyz", water())], None, "tblite", pretrained=str(file))
    training = load(run).model.TRAINING
    assert training.pretrained_model == ("own.model" if within else str(tmp_path / "own.model"))
    assert load(run).model.family is FAMILIES[0]


@pytest.mark.parametrize(
    ("family", "pretrained", "said"),
    [(None, "nowhere.model", "no such file"), ("mace", "so3lr", "model of so3lr; found mace")],
)
def test_what_members_cannot_begin_from_is_told_and_nothing_written(
    geometry: Callable[[str, Atoms], Path],
    tmp_path: Path,
    family: str | None,
    pretrained: str,
    said: str,
) -> None:
    files = [geometry("a.xyz", water())]
    with pytest.raises(SettingsError, match=said):
        write_inputs(tmp_path / "run", files, None, "tblite", family, pretrained)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "content",
    [
        *(True, None, 3, 0.5, 1.0, 5e-07, 1e22, -math.inf, math.inf),
        *("16x0e", "GFN2-xTB", "cuda:0", ".", "", "a: b", "a #b", "1e5", "12:30", "0x10", "yes"),
        *("-x", "*", "{{a}}", "[", "a, b", "ends: ", "null", "Å", "2026.8.0"),
        *([1, 2.5, "x, y"], {"H": -13.6, 6: None}, [], {}),
    ],
)
def test_a_value_is_read_back_as_it_was_written(content: object) -> None:
    assert YAML(typ="safe").load(f"key: {value_yaml(content)}") == {"key": content}


def _uncommented(line: str) -> str:
    """Take away the mark in front of a key; comments behind keys have another one."""
    found = COMMENTED.match(line)
    return f"{found[1]}{found[2]}" if found and len(found[1]) < 10 else line


def test_geometries_keep_the_order_in_which_they_are_given(
    geometry: Callable[[str, Atoms], Path], tmp_path: Path
) -> None:
    files = [geometry("z.xyz", water()), geometry("a.xyz", molecule("CH4"))]
    write_inputs(tmp_path / "run", files, None, "tblite")
    found = Inputs.read(tmp_path / "run").geometries
    assert [atoms.get_chemical_formula() for atoms in found] == ["H2O", "CH4"]


def test_the_geometrys_own_moments_and_charges_count(
    geometry: Callable[[str, Atoms], Path], tmp_path: Path
) -> None:
    oxygen = molecule("O2")
    oxygen.set_initial_magnetic_moments([1, 1])
    write_inputs(tmp_path / "o2", [geometry("o2.extxyz", oxygen)], None, "tblite")
    hydroxide = molecule("OH")
    hydroxide.set_initial_magnetic_moments([0, 0])
    hydroxide.set_initial_charges([-1, 0])
    write_inputs(tmp_path / "oh", [geometry("oh.extxyz", hydroxide)], None, "tblite")
    engines = [Inputs.read(tmp_path / name).settings.reference for name in ("o2", "oh")]
    assert [(engine.charge, engine.spin) for engine in engines] == [(0, 3), (-1, 1)]


def test_a_file_in_the_place_of_the_directory_is_told(
    geometry: Callable[[str, Atoms], Path],
) -> None:
    file = geometry("water.xyz", water())
    with pytest.raises(SettingsError, match="found a file; allowed: a folder"):
        write_inputs(file, [file], None, "tblite")
