"""Keys and what changes with them: reference and gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import molecule

from aimspax_core.errors import LabelError, StructureError
from aimspax_core.labels.gate import check_label, check_structure
from aimspax_core.labels.label import Label
from aimspax_core.reference.mace import engine as mace_engine
from aimspax_core.reference.mace.section import MaceMpReference, MaceReference
from aimspax_core.reference.registry import build_reference
from aimspax_core.reference.tblite.section import TbliteReference
from tests.every_key.base import Asked, with_values
from tests.every_key.test_sampling import FOUNDATION

# Key, another value, and what else a label needs to show it.
TBLITE: list[tuple[str, Any, dict[str, Any]]] = [
    ("method", "GFN1-xTB", {}),
    ("charge", 1, {"spin": 2}),
    ("spin", 3, {}),
    ("electronic_temperature", 9000.0, {}),
    ("accuracy", 1000.0, {}),
]


def energy(**given: Any) -> float:
    atoms = molecule("H2O")
    atoms.rattle(0.1, seed=0)
    settings = TbliteReference(engine="tblite", **given)
    return build_reference(settings, Path()).label(atoms).energy


@pytest.mark.key("TbliteReference", *(key for key, *_ in TBLITE))
@pytest.mark.parametrize(
    ("key", "value", "needs"), [pytest.param(*row, id=f"tblite.{row[0]}") for row in TBLITE]
)
def test_labels_follow_the_key(key: str, value: Any, needs: dict[str, Any]) -> None:
    needed = {} if key == "charge" else needs
    assert energy(**needed) == energy(**needed)
    assert energy(**needs, **{key: value}) != energy(**needed)


@pytest.mark.key("TbliteReference", "max_iterations")
def test_max_iterations_is_when_a_calculation_counts_as_failed() -> None:
    with pytest.raises(LabelError):
        energy(max_iterations=2)


@pytest.mark.key("MaceReference", "device", "default_dtype")
@pytest.mark.parametrize("key", ["device", "default_dtype"])
def test_a_teacher_runs_where_and_how_it_is_asked_to(
    folder: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    found: list[Any] = []

    def look(path: Path, device: str, default_dtype: str) -> Any:
        found.append({"device": device, "default_dtype": default_dtype}[key])
        raise Asked

    monkeypatch.setattr(mace_engine, "file_calculator", look)
    (folder / "t.model").touch()
    values = ["cpu", "cuda:1"] if key == "device" else ["float32", "float64"]
    for value in values:
        given = MaceReference(engine="mace", model_path=Path("t.model"), **{key: value})
        with pytest.raises(Asked):
            build_reference(given, folder).calculator()
    assert found == values


@pytest.mark.key("MaceMpReference", "device", "default_dtype", *(key for key, *_ in FOUNDATION))
@pytest.mark.parametrize(
    ("key", "value", "name", "expected"),
    [
        *(pytest.param(*row, id=row[0]) for row in FOUNDATION),
        pytest.param("device", "cuda:1", "device", "cuda:1", id="device"),
        pytest.param("default_dtype", "float32", "default_dtype", "float32", id="default_dtype"),
    ],
)
def test_a_teacher_is_the_foundation_model_asked_for(
    folder: Path, asked: list[Any], key: str, value: Any, name: str, expected: Any
) -> None:
    for given in ({}, {key: value}):
        with pytest.raises(Asked):
            build_reference(MaceMpReference(engine="mace-mp", **given), folder).calculator()
    without, with_it = (one[name] for one in asked)
    assert with_it == expected
    assert without != with_it


@pytest.mark.key("Gate", "min_distance")
def test_the_gate_is_as_narrow_as_asked(folder: Path) -> None:
    close = molecule("H2O")
    close.set_distance(0, 1, 0.6, fix=0)
    check_structure(close, with_values(folder, {"GATE": {"min_distance": 0.3}}).gate)
    with pytest.raises(StructureError):
        check_structure(close, with_values(folder, {"GATE": {"min_distance": 0.9}}).gate)


@pytest.mark.key("Gate", "max_force")
def test_the_gate_lets_forces_pass_up_to_the_limit(folder: Path) -> None:
    label = Label(0.0, np.full((3, 3), 10.0), None, {})
    check_label(molecule("H2O"), label, with_values(folder, {"GATE": {"max_force": 20}}).gate)
    with pytest.raises(LabelError):
        check_label(molecule("H2O"), label, with_values(folder, {"GATE": {"max_force": 15}}).gate)
