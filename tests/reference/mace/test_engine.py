"""The teacher, against MACE's own calculator on the same file."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones
from ase.calculators.mixing import SumCalculator

from aimspax_core.errors import LabelError, ModelError
from aimspax_core.model.mace.build import Constants, build
from aimspax_core.model.mace.model_files import save_model
from aimspax_core.reference.interface import Use
from aimspax_core.reference.mace import engine as teachers
from aimspax_core.reference.mace.engine import FoundationTeacher, MaceTeacher
from aimspax_core.reference.mace.section import MaceMpReference, MaceReference
from aimspax_core.reference.registry import build_reference, kind_of
from aimspax_core.reference.tblite.section import TbliteReference
from aimspax_core.settings.model import ModelSettings

SETTINGS = ModelSettings.model_validate(
    {
        "GENERAL": {"name_exp": "tiny", "default_dtype": "float64"},
        "ARCHITECTURE": {
            "num_channels": 4, "num_interactions": 1, "max_L": 0, "max_ell": 1, "correlation": 1,
            "num_radial_basis": 3, "radial_MLP": [4], "r_max": 3.0,
        },
    }
)  # fmt: skip


def saved(path: Path, seed: int = 0) -> Path:
    constants = Constants({1: -1.0, 8: -2.0}, 3.0, 1.0, 0.0)
    save_model(build(SETTINGS, (1, 8), constants, seed), path)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("teacher") / "teacher.model")


def teacher(file: Path, **changes: Any) -> MaceTeacher:
    settings = MaceReference(engine="mace", model_path=Path(file.name), **changes)
    return MaceTeacher(settings, file.parent)


def bent(atoms: Atoms) -> Atoms:
    atoms.rattle(0.05, seed=3)
    return atoms


CRYSTAL = bent(Atoms("OHOH", [[0, 0, 0], [0, 0, 1], [2, 2, 0], [2, 2, 1.1]], cell=[4, 4, 4], pbc=1))


@pytest.mark.key("MaceReference", "model_path")
@pytest.mark.parametrize("atoms", [bent(molecule("H2O")), CRYSTAL], ids=["molecule", "crystal"])
def test_labels_are_those_of_maces_calculator(file: Path, atoms: Atoms) -> None:
    from mace.calculators import MACECalculator

    found = teacher(file).label(atoms)
    theirs = atoms.copy()
    theirs.calc = MACECalculator(model_paths=str(file), device="cpu", default_dtype="float64")
    assert found.energy == theirs.get_potential_energy()
    np.testing.assert_array_equal(found.forces, theirs.get_forces())
    if atoms.pbc.all():
        np.testing.assert_array_equal(found.stress, theirs.get_stress(voigt=False))
        assert np.abs(found.stress).max() > 0
    else:
        assert found.stress is None
    assert (found.provenance["engine"], found.provenance["model"]) == ("mace", "teacher.model")


@pytest.mark.parametrize("engine", ["mace", "mace-mp"])
def test_elements_that_it_does_not_know_are_told_before_anything_runs(
    file: Path, engine: str
) -> None:
    key = {"mace": "model_path", "mace-mp": "mace_model"}[engine]
    made = {"mace": MaceReference, "mace-mp": MaceMpReference}[engine]
    section = made.model_validate({"engine": engine, key: file.name})
    (found,) = kind_of(section).check_structure(section, Use(file.parent), molecule("CH3OH"))
    assert (found.key, found.note) == (key, False)
    assert "does not know C" in found.text
    assert not [*kind_of(section).check_structure(section, Use(file.parent), molecule("H2O"))]
    elsewhere = Use(file.parent / "nowhere")  # a model by name tells when it is loaded
    assert not [*kind_of(section).check_structure(section, elsewhere, molecule("CH3OH"))]


def test_elements_that_it_does_not_know_are_named(file: Path) -> None:
    with pytest.raises(LabelError, match=r"does not know C, Cu$") as found:
        teacher(file).label(Atoms("HCCuO", positions=np.eye(4, 3) * 3))
    assert not found.value.transient


def test_the_file_is_loaded_once_whatever_asks(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []

    def load(*given: Any) -> Any:
        loads.append(given)
        return original(*given)

    original = teachers.file_calculator
    monkeypatch.setattr(teachers, "file_calculator", load)
    one = teacher(file)
    one.identity()
    assert not loads
    threads = [threading.Thread(target=one.label, args=(molecule("H2O"),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one.calculator()
    assert len(loads) == 1


def test_a_teacher_is_known_by_its_content(file: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copy(file, tmp_path / "renamed.model"))
    assert teacher(copied).identity() == teacher(file).identity()
    assert teacher(saved(tmp_path / "other.model", seed=1)).identity() != teacher(file).identity()


def test_number_format_counts_and_device_does_not(file: Path) -> None:
    assert teacher(file, device="cuda").identity() == teacher(file).identity()
    assert teacher(file, default_dtype="float32").identity() != teacher(file).identity()
    assert "teacher.model" not in str(teacher(file).identity())


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no\.model cannot be read"):
        teacher(tmp_path / "no.model")


def test_a_file_that_was_replaced_does_not_label_under_the_old_key(tmp_path: Path) -> None:
    path = saved(tmp_path / "teacher.model")
    begun = teacher(path)
    saved(path, seed=1)
    with pytest.raises(ModelError, match="was replaced"):
        begun.label(molecule("H2O"))


def test_an_engine_is_made_once_in_a_process(file: Path, tmp_path: Path) -> None:
    settings = MaceReference(engine="mace", model_path=Path(file.name))
    one = build_reference(settings, file.parent)
    assert isinstance(one, MaceTeacher)
    assert build_reference(settings.model_copy(), file.parent / ".." / file.parent.name) is one
    shutil.copy(file, tmp_path / file.name)
    assert build_reference(settings, tmp_path) is not one
    xtb = build_reference(TbliteReference(engine="tblite"), tmp_path)
    assert xtb.label(bulk("C")).provenance["engine"] == "tblite"


# One of MACE's foundation models: no name can be downloaded here, so a file stands for them.


def foundation(model: str | Path, directory: Path, **changes: Any) -> FoundationTeacher:
    settings = MaceMpReference(engine="mace-mp", mace_model=str(model), **changes)
    return FoundationTeacher(settings, directory)


@pytest.mark.parametrize("atoms", [bent(molecule("H2O")), CRYSTAL], ids=["molecule", "crystal"])
def test_a_foundation_model_from_a_file_labels_as_the_file_does(file: Path, atoms: Atoms) -> None:
    """A relative path begins in the run directory."""
    found, expected = foundation(file.name, file.parent).label(atoms), teacher(file).label(atoms)
    assert found.energy == expected.energy
    np.testing.assert_array_equal(found.forces, expected.forces)
    assert (found.stress is None) == (expected.stress is None)
    if found.stress is not None:
        np.testing.assert_array_equal(found.stress, expected.stress)
    assert (found.provenance["engine"], found.provenance["model"]) == ("mace-mp", file.name)


def test_a_foundation_model_is_known_by_its_content_if_it_is_a_file(
    file: Path, tmp_path: Path
) -> None:
    copied = Path(shutil.copy(file, tmp_path / "renamed.model"))
    one = foundation(file, file.parent).identity()
    assert one == foundation(file.name, file.parent).identity()
    assert one == foundation("renamed.model", tmp_path).identity()
    assert one == foundation(copied, tmp_path, device="cuda").identity()
    saved(copied, seed=1)
    assert one != foundation(copied, tmp_path).identity()


def test_a_foundation_model_is_known_by_its_name_without_being_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers, "foundation_calculator", None)
    small, medium = (foundation(size, tmp_path).identity() for size in ("small", "medium"))
    assert small != medium
    assert small["model"] == "small"
    assert small["version"]


def test_dispersion_counts_only_if_it_is_on(tmp_path: Path) -> None:
    plain = foundation("small", tmp_path).identity()
    assert foundation("small", tmp_path, dispersion_xc="b3-lyp").identity() == plain
    corrected = foundation("small", tmp_path, dispersion=True).identity()
    assert corrected != plain
    for change in ({"dispersion_xc": "b3-lyp"}, {"dispersion_cutoff": 9.0}, {"damping": "zero"}):
        other = foundation("small", tmp_path, dispersion=True, **change).identity()
        assert other not in (plain, corrected)


def test_with_dispersion_the_model_still_says_what_it_knows(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calculator is then a sum; Lennard-Jones stands for D3, which is not installed."""
    original = teachers.foundation_calculator

    def summed(*args: Any, dispersion: bool, **others: Any) -> SumCalculator:
        assert dispersion
        return SumCalculator([original(*args, dispersion=False, **others), LennardJones()])

    monkeypatch.setattr(teachers, "foundation_calculator", summed)
    corrected = foundation(file, file.parent, dispersion=True)
    energy = corrected.label(molecule("H2O")).energy
    assert energy != teacher(file).label(molecule("H2O")).energy
    with pytest.raises(LabelError, match=r"does not know C$"):
        corrected.label(molecule("CO"))


def test_a_foundation_file_that_was_replaced_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path / "foundation.model")
    begun = foundation(path, tmp_path)
    saved(path, seed=1)
    with pytest.raises(ModelError, match="was replaced"):
        begun.label(molecule("H2O"))


def test_a_name_that_mace_does_not_know_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="did you mean 'medium'"):
        foundation("mediun", tmp_path).label(molecule("H2O"))


def test_the_engine_of_a_foundation_model_is_made_once(file: Path) -> None:
    settings = MaceMpReference(engine="mace-mp", mace_model=file.name)
    one = build_reference(settings, file.parent)
    assert isinstance(one, FoundationTeacher)
    assert build_reference(settings.model_copy(), file.parent) is one
