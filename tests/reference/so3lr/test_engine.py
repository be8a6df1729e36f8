"""SO3LR as a teacher: labels by the foundation model, and what changes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from aimspax_core.errors import LabelError, ModelError
from aimspax_core.inputs.engine_findings import findings
from aimspax_core.model.family import family
from aimspax_core.reference.interface import Use
from aimspax_core.reference.registry import build_reference, kind_of
from aimspax_core.reference.so3lr.section import So3lrReference
from aimspax_core.settings.families import so3krates

if (why := so3krates.why_not_installed()) is not None:
    pytest.skip(why, allow_module_level=True)

from aimspax_core.model.so3krates.foundation import packaged_file

KIND = kind_of(So3lrReference(engine="so3lr"))


def section(**keys: Any) -> So3lrReference:
    return So3lrReference.model_validate({"engine": "so3lr", **keys})


def energy(folder: Path, atoms: Atoms, **keys: Any) -> float:
    return build_reference(section(**keys), folder).label(atoms).energy


def save_own(folder: Path) -> None:
    """A model of the user's: other weights."""
    model = family("so3lr").load(packaged_file())
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 1.01
    torch.save(model, folder / "own.model")


@pytest.mark.key(
    "So3lrReference", "engine", "charge", "spin", "default_dtype", "dispersion_lr_damping",
    "model_path", "r_max_lr",
)  # fmt: skip
@pytest.mark.parametrize(
    "change",
    [
        {"charge": 1}, {"spin": 3}, {"default_dtype": "float32"}, {"dispersion_lr_damping": 0.5},
        {"r_max_lr": 5.0}, {"model_path": "own.model"},
    ],
    ids=str,
)  # fmt: skip
def test_what_changes_a_label_is_in_its_identity(tmp_path: Path, change: dict[str, Any]) -> None:
    if "model_path" in change:
        save_own(tmp_path)
    atoms = molecule("trans-butane")
    plain = {} if "r_max_lr" in change else {"r_max_lr": 6.0}
    assert energy(tmp_path, atoms, **plain, **change) != energy(tmp_path, atoms, **plain)
    identities = [
        build_reference(section(**keys), tmp_path).identity() for keys in (plain, plain | change)
    ]
    assert identities[0] != identities[1]


@pytest.mark.key("So3lrReference", "device")
def test_a_gpu_that_is_missing_is_told(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    found = KIND.check(section(device="cuda"), Use(tmp_path))
    assert [one.key for one in found] == ["device"]


def test_a_structure_says_its_own_charge(tmp_path: Path) -> None:
    atoms = molecule("H2O")
    charged = energy(tmp_path, atoms, charge=1, spin=2)
    atoms.info |= {"charge": 1, "spin": 2}
    assert energy(tmp_path, atoms) == charged


def test_an_element_that_it_does_not_know_is_told_before_and_after_launch(tmp_path: Path) -> None:
    silane = molecule("SiH4")
    (found,) = KIND.check_structure(section(), Use(tmp_path), silane)
    assert (found.key, found.note) == ("engine", False)
    with pytest.raises(LabelError, match="Si") as caught:
        energy(tmp_path, silane)
    assert not caught.value.transient


def test_what_is_wrong_with_a_file_is_told_before_launch(tmp_path: Path) -> None:
    save_own(tmp_path)
    (tmp_path / "no.model").write_bytes(b"no model")
    use = Use(tmp_path)

    def told(name: str, *molecules: str, use: Use = use) -> list[tuple[str, str]]:
        asked = [(section(model_path=name), one, molecule(one)) for one in molecules]
        return [(one.finding.key, one.finding.text) for one in findings(asked, use)]

    assert told("own.model", "CH3OH") == []
    ((key, text),) = told("own.model", "CH3OH", "SiH4")
    assert (key, text.partition(";")[0]) == ("model_path", "own.model does not know Si")
    ((key, text),) = told("no.model", "CH3OH", "H2O")
    assert (key, "is not a readable so3lr model file" in text) == ("model_path", True)
    assert told("no.model", "CH3OH", use=Use(tmp_path, here=False)) == []


def test_without_its_package_the_install_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(so3krates, "PACKAGE", "no_such_package")
    (found,) = KIND.check(section(), Use(tmp_path))
    assert so3krates.EXTRA in found.text
    assert list(KIND.check(section(), Use(tmp_path, here=False))) == []


def test_a_file_that_changes_on_the_way_is_refused(tmp_path: Path) -> None:
    save_own(tmp_path)
    engine = build_reference(section(model_path="own.model"), tmp_path)
    with (tmp_path / "own.model").open("ab") as file:
        file.write(b" ")
    with pytest.raises((LabelError, ModelError), match=r"own\.model"):
        engine.label(molecule("H2O"))


def test_its_calculator_gives_the_label(tmp_path: Path) -> None:
    atoms = molecule("H2O")
    engine = build_reference(section(), tmp_path)
    label, atoms.calc = engine.label(atoms), engine.calculator()
    assert atoms.get_potential_energy() == label.energy
    np.testing.assert_array_equal(atoms.get_forces(), label.forces)
