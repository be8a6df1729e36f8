"""What every reference engine must hold; docs/extending/reference-engine.md tells how to try one.

An engine is tried by the example that `aimspax init` writes for it, with water.
"""

from __future__ import annotations

import json
import pickle
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms, FixCartesian
from pydantic import TypeAdapter

from aimspax_core.errors import EngineError, LabelError
from aimspax_core.labels.gate import check_label
from aimspax_core.labels.store import label_key
from aimspax_core.reference.interface import Finding, Kind, Reference, Use
from aimspax_core.reference.registry import kind_of, kinds, make_reference
from aimspax_core.reference.trial_label import hold_against_energies
from aimspax_core.settings.derived.reference_page import page
from aimspax_core.settings.derived.template import write_inputs
from aimspax_core.settings.engines import EngineSection, Gate
from aimspax_core.settings.known_engines import EngineSettings
from aimspax_core.settings.load import load
from aimspax_core.structures import encode

AIMS = Path(__file__).parents[1] / "aims"
every_kind = pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.name)


def rattled(atoms: Atoms) -> Atoms:
    atoms.rattle(0.05, seed=1)
    return atoms


@dataclass(frozen=True)
class Case:
    """With what an engine is tried.

    Attributes:
        keys: Keys of its section beside those of its example.
        files: Writes what the keys name into the run directory.
        atoms: A structure that it labels, not at rest.
    """

    keys: dict[str, Any] = field(default_factory=dict)
    files: Callable[[Path], object] = lambda directory: None
    atoms: Atoms = field(default_factory=lambda: rattled(molecule("H2O")))


@cache
def model_content() -> bytes:
    """A tiny model file, made once."""
    import tempfile

    from tests.reference.mace.test_engine import saved

    with tempfile.TemporaryDirectory() as folder:
        return saved(Path(folder) / "teacher.model").read_bytes()


def write_model(directory: Path) -> None:
    (directory / "teacher.model").write_bytes(model_content())


LAUNCH = f"{sys.executable} {shlex.quote(str(AIMS / 'stand_in.py'))} > aims.out"
CASES = {
    "aims": Case({"species_dir": str(AIMS / "species"), "launch_str": LAUNCH}),
    "pyscf": Case({"basis": "sto-3g", "conv_tol": 1e-11}),
    "mace": Case(files=write_model),
    "mace-mp": Case({"mace_model": "teacher.model"}, write_model),
}


def case(kind: Kind) -> Case:
    return CASES.get(kind.name, Case())


@pytest.fixture
def directory(kind: Kind, tmp_path: Path) -> Path:
    """What `aimspax init` writes for the engine, with the files that the case needs."""
    ase.io.write(tmp_path / "water.xyz", case(kind).atoms)
    write_inputs(tmp_path / "run", [tmp_path / "water.xyz"], None, kind.name)
    case(kind).files(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def section(kind: Kind, directory: Path) -> EngineSettings:
    """The section as it is loaded from the files."""
    return load(directory, {"REFERENCE": case(kind).keys} if case(kind).keys else {}).reference


@pytest.fixture
def engine(section: EngineSettings, directory: Path) -> Reference:
    return make_reference(section, directory)


@every_kind
def test_the_example_loads_and_the_section_leads_back_to_the_kind(
    kind: Kind, section: EngineSettings
) -> None:
    assert type(section) is kind.section
    assert kind_of(section) is kind
    assert section.engine == kind.name


@every_kind
def test_every_key_is_explained(kind: Kind) -> None:
    assert kind.section.__doc__
    assert all(field.description for field in kind.section.model_fields.values())
    assert f"`engine: {kind.name}`" in page()


@every_kind
def test_a_section_is_json_and_travels(kind: Kind, section: EngineSettings) -> None:
    assert pickle.loads(pickle.dumps(section)) == section
    again = TypeAdapter(EngineSettings).validate_json(section.model_dump_json())
    assert again == section


@every_kind
def test_texts_are_one_line(kind: Kind, section: EngineSettings) -> None:
    assert "\n" not in section.engine_text
    assert section.engine_text.startswith(kind.name)


@every_kind
def test_an_identity_is_json_and_stable(
    kind: Kind, section: EngineSettings, engine: Reference, directory: Path
) -> None:
    first = json.dumps(engine.identity(), sort_keys=True, allow_nan=False)
    engine.label(case(kind).atoms)
    assert json.dumps(engine.identity(), sort_keys=True) == first
    other = make_reference(section, directory)
    assert json.dumps(other.identity(), sort_keys=True) == first
    assert label_key(case(kind).atoms, engine.identity())


@every_kind
def test_what_is_frozen_is_json_and_stable(
    kind: Kind, section: EngineSettings, directory: Path
) -> None:
    if kind.frozen is None:
        pytest.skip("it is the identity")
    elements = frozenset(case(kind).atoms.symbols)
    first, second = (kind.frozen(section, directory, elements) for _ in range(2))
    assert json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


@every_kind
def test_a_label_has_shapes_and_units(kind: Kind, engine: Reference) -> None:
    atoms = case(kind).atoms
    before = encode(atoms)
    found = hold_against_energies(engine, atoms)
    check_label(atoms, found.label, Gate(), False)
    assert found.label.forces.shape == (len(atoms), 3)
    assert found.comparisons and all(comparison.agrees for comparison in found.comparisons)
    json.dumps(found.label.provenance, allow_nan=False)
    assert found.label.provenance["engine"] == kind.name
    assert encode(atoms) == before
    assert pickle.loads(pickle.dumps(found.label)).energy == found.label.energy


@every_kind
def test_a_label_does_not_depend_on_the_structures_before(kind: Kind, engine: Reference) -> None:
    atoms, other = case(kind).atoms, case(kind).atoms.copy()
    other.rattle(0.05, seed=2)
    first, _, again = (engine.label(each) for each in (atoms, other, atoms))
    assert again.energy == pytest.approx(first.energy, abs=1e-9)
    np.testing.assert_allclose(again.forces, first.forces, atol=1e-7)


@every_kind
def test_a_calculator_answers_as_a_label_does(kind: Kind, engine: Reference) -> None:
    atoms, label = case(kind).atoms.copy(), engine.label(case(kind).atoms)
    atoms.calc = engine.calculator()
    assert atoms.get_potential_energy() == pytest.approx(label.energy, abs=1e-6)
    np.testing.assert_allclose(atoms.get_forces(), label.forces, atol=1e-5)


@every_kind
def test_a_label_has_the_forces_on_held_atoms_too(kind: Kind, engine: Reference) -> None:
    """ASE takes them to be zero, without a word, wherever atoms have constraints."""
    free, held = case(kind).atoms, case(kind).atoms.copy()
    held.set_constraint([FixAtoms([0]), FixCartesian([1], (False, True, False))])
    label, bare = engine.label(held), engine.label(free)
    assert np.abs(bare.forces[0]).max() > 1e-3
    np.testing.assert_allclose(label.forces, bare.forces, atol=1e-7)
    assert label_key(held, engine.identity()) == label_key(free, engine.identity())
    held.calc = engine.calculator()
    np.testing.assert_allclose(held.get_forces(apply_constraint=False), bare.forces, atol=1e-5)


def found(section: EngineSettings, directory: Path, atoms: Atoms) -> list[Finding]:
    """All that is said before a structure is labelled."""
    kind, use = kind_of(section), Use(directory)
    return [*kind.check(section, use), *kind.check_structure(section, use, atoms)]


@every_kind
def test_what_it_labels_is_no_mistake(kind: Kind, section: EngineSettings, directory: Path) -> None:
    assert all(finding.note for finding in found(section, directory, case(kind).atoms))


@every_kind
@pytest.mark.parametrize("pbc", [True, (True, True, False)], ids=["cell", "slab"])
def test_a_periodic_structure_is_labelled_or_refused(
    kind: Kind, section: EngineSettings, engine: Reference, directory: Path, pbc: Any
) -> None:
    atoms = case(kind).atoms.copy()
    atoms.set_cell([6.0, 6.0, 6.0])
    atoms.set_pbc(pbc)
    mistakes = [finding for finding in found(section, directory, atoms) if not finding.note]
    for finding in mistakes:
        assert finding.key.partition(".")[0] in kind.section.model_fields
        assert finding.text and "\n" not in finding.text
    try:
        label = engine.label(atoms)
    except (LabelError, EngineError) as error:
        assert pickle.loads(pickle.dumps(error)).args == error.args
    else:
        assert not mistakes
        assert label.stress is None or label.stress.shape == (3, 3)


@every_kind
def test_what_it_cannot_label_is_an_error_that_travels(kind: Kind, engine: Reference) -> None:
    atoms = Atoms("Og2", [[0, 0, 0], [0, 0, 3]])
    try:
        label = engine.label(atoms)
    except (LabelError, EngineError) as error:
        assert pickle.loads(pickle.dumps(error)).args == error.args
    else:
        assert np.isfinite(label.forces).all()


@every_kind
def test_the_method_in_vacuum_is_the_same_kind(
    kind: Kind, section: EngineSettings, directory: Path
) -> None:
    alone = kind.in_vacuum(section.of_geometry(0), directory, directory / "atoms", 1)
    assert isinstance(alone, EngineSection)
    assert kind_of(alone) is kind


def test_settings_load_no_package_of_an_engine() -> None:
    script = (
        "import sys, aimspax_core.settings.load, aimspax_core.inputs.campaign_inputs\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not {"torch", "mace", "tblite", "pyscf"} & set(done.stdout.split())


def test_the_module_of_each_kind_can_be_imported_first() -> None:
    modules = sorted({kind.section.__module__ for kind in kinds()})
    script = f"""
import sys
from importlib import import_module
for module in {modules}:
    for name in [name for name in sys.modules if name.startswith("aimspax_core")]:
        del sys.modules[name]
    import_module(module)
    import_module("aimspax_core.settings.load")
"""
    subprocess.run([sys.executable, "-c", script], check=True)
