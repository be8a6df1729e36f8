"""Claims about members that begin as trained models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.emt import EMT

from aimspax_core.errors import ModelError
from aimspax_core.model.committee import Committee
from aimspax_core.model.energies import renew, shift_of
from aimspax_core.model.ensemble import Ensemble
from aimspax_core.model.given_models import adopt
from aimspax_core.model.mace import build, model_files
from aimspax_core.model.mace import graphs as mace_graphs
from aimspax_core.model.mace.kernel import evaluator
from aimspax_core.model.member import Member
from aimspax_core.model.schedule import Stage
from aimspax_core.settings.model import ModelSettings

ELEMENTS = (1, 6, 8)
TINY = {
    "num_channels": 8,
    "num_interactions": 2,
    "max_L": 0,
    "max_ell": 1,
    "correlation": 2,
    "num_radial_basis": 4,
    "radial_MLP": [8],
    "r_max": 3.5,
}
CONSTANTS = build.Constants({1: -13.5, 6: -1029.25, 8: -2041.75}, 5.5, 1.75, -0.375)


def settings(architecture: dict[str, Any] | None = None, dtype: str = "float64") -> ModelSettings:
    return ModelSettings.model_validate(
        {
            "GENERAL": {"name_exp": "tiny", "default_dtype": dtype},
            "ARCHITECTURE": TINY | (architecture or {}),
            "TRAINING": {"batch_size": 3},
        }
    )


def structures(count: int) -> list[ase.Atoms]:
    made = []
    for index in range(count):
        atoms = molecule(["CH3OH", "H2O", "CO2"][index % 3])
        atoms.rattle(0.08, rng=np.random.default_rng(index))
        atoms.calc = EMT()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
        made.append(atoms)
    return made


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pretrained") / "given.model"
    model_files.save_model(build.build(settings(), ELEMENTS, CONSTANTS, seed=7), path)
    return path


def predictions(committee: Committee) -> np.ndarray:
    found = committee.evaluate(structures(3))
    return np.concatenate([[p.energy, *p.forces.ravel()] for p in found])


def test_an_adopted_member_predicts_what_the_file_predicts(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "member.pt"
    assert adopt(file, settings(), "mine", 3, path) == ELEMENTS
    theirs = predictions(Committee(evaluator([model_files.load_model(file)])))
    ours = predictions(Ensemble(settings()).committee([path]))
    np.testing.assert_array_equal(ours, theirs)
    member = Member.load(path, settings())
    assert (member.tag, member.seed, member.stage, member.epoch) == ("mine", 3, Stage.INITIAL, 0)
    assert member.constants == CONSTANTS


@pytest.mark.parametrize(("held", "asked"), [("float64", "float32"), ("float32", "float64")])
def test_the_number_format_of_the_settings_counts(held: str, asked: str, tmp_path: Path) -> None:
    given, path = tmp_path / "given.model", tmp_path / "member.pt"
    model_files.save_model(build.build(settings(dtype=held), ELEMENTS, CONSTANTS, seed=7), given)
    adopt(given, settings(dtype=asked), "mine", 3, path)
    committee = Ensemble(settings(dtype=asked)).committee([path])
    assert committee.evaluator.dtype == getattr(torch, asked)
    theirs = predictions(Committee(evaluator([model_files.load_model(given)], dtype="float64")))
    np.testing.assert_allclose(predictions(committee), theirs, rtol=1e-4, atol=1e-3)


def test_an_adopted_member_goes_on_with_active_learning(file: Path, tmp_path: Path) -> None:
    adopt(file, settings(), "mine", 3, tmp_path / "member.pt")
    member = Member.load(tmp_path / "member.pt", settings())
    data = mace_graphs.graphs(structures(6), ELEMENTS, settings())
    member.enter(Stage.ACTIVE)
    member.renew_constants(data)
    assert member.constants.avg_num_neighbors != CONSTANTS.avg_num_neighbors
    first, *_, last = member.train(data, data, epochs=6, valid_skip=1, scheduler=False)
    assert last.valid_loss < first.valid_loss


def test_the_files_atomic_energies_stay_when_the_set_grows(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "member.pt"
    data = mace_graphs.graphs(structures(6), ELEMENTS, settings())
    adopt(file, settings(), "mine", 3, path)
    member = Member.load(path, settings())
    member.save(path)  # not only the first checkpoint knows
    member = Member.load(path, settings())
    member.renew_constants(data)
    assert member.constants.atomic_energies == CONSTANTS.atomic_energies
    given = settings({"atomic_energies": {"H": -1.0, "C": -2.0, "O": -3.0}})
    adopt(file, given, "mine", 3, path)
    member = Member.load(path, given)
    assert member.constants.atomic_energies == CONSTANTS.atomic_energies
    member.renew_constants(data)
    assert member.constants.atomic_energies == {1: -1.0, 6: -2.0, 8: -3.0}


def test_what_a_given_model_misses_on_average_is_solved_for_beside_its_atomic_energies(
    file: Path, tmp_path: Path
) -> None:
    adopt(file, settings(), "mine", 3, tmp_path / "member.pt")
    member = Member.load(tmp_path / "member.pt", settings())
    data = mace_graphs.graphs(structures(6), ELEMENTS, settings())
    missed = member.family.misses
    assert missed is not None
    member.renew_constants(data)  # a shift as for weights that are random yet

    def off() -> float:
        """What is missed an atom (eV) on average."""
        return shift_of(missed(member.learner.steps, member.model, data, member.constants))

    assert abs(off()) > 1e-3
    renew(member, data, "set")
    assert off() == pytest.approx(0.0, abs=1e-4)
    assert member.constants.atomic_energies == CONSTANTS.atomic_energies


@pytest.mark.parametrize(
    ("key", "value", "theirs"),
    [
        ("r_max", 4.5, 3.5),
        ("num_channels", 16, 8),
        ("max_L", 1, 0),
        ("num_interactions", 1, 2),
        ("correlation", 3, 2),
        ("max_ell", 2, 1),
        ("num_radial_basis", 5, 4),
        ("num_cutoff_basis", 6, 5),
        ("radial_type", "gaussian", "BesselBasis"),
        ("radial_MLP", [8, 8], r"\[8\]"),
        ("MLP_irreps", "8x0e", "16x0e"),
        ("gate", "tanh", "silu"),
        ("interaction", "RealAgnosticDensityResidualInteractionBlock", "RealAgnosticResidual"),
        ("interaction_first", "RealAgnosticInteractionBlock", "RealAgnosticResidual"),
    ],
)
def test_a_key_that_differs_is_named(
    key: str, value: Any, theirs: Any, file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "member.pt"
    with pytest.raises(ModelError, match=rf"ARCHITECTURE\.({key}|interaction\w*) is {theirs}"):
        adopt(file, settings({key: value}), "mine", 3, path)
    assert not path.exists()


def test_a_model_with_options_that_settings_lack_is_refused(tmp_path: Path) -> None:
    given = build.build(settings(), ELEMENTS, CONSTANTS, seed=7)
    given.radial_embedding.cutoff_fn.p = torch.tensor(5)
    given.apply_cutoff = given.radial_embedding.apply_cutoff = False
    for interaction in given.interactions:
        interaction.cutoff = None
    model_files.save_model(given, tmp_path / "given.model")
    with pytest.raises(ModelError, match="predicts something else"):
        adopt(tmp_path / "given.model", settings(), "mine", 3, tmp_path / "member.pt")


@pytest.mark.parametrize("held", [True, False], ids=["reduced", "full"])
def test_a_basis_that_the_settings_name_is_taken(held: bool, tmp_path: Path) -> None:
    order = {"correlation": 3}
    given, path = tmp_path / "given.model", tmp_path / "member.pt"
    theirs = build.build(settings(order | {"use_reduced_cg": held}), ELEMENTS, CONSTANTS, seed=7)
    model_files.save_model(theirs, given)
    asked = settings(order | {"use_reduced_cg": not held})
    adopt(given, asked, "mine", 3, path)
    wanted = predictions(Committee(evaluator([theirs])))
    np.testing.assert_allclose(predictions(Ensemble(asked).committee([path])), wanted, atol=1e-10)


def test_a_given_model_keeps_its_basis_if_the_settings_name_none(tmp_path: Path) -> None:
    given, path = tmp_path / "given.model", tmp_path / "member.pt"
    chosen = settings({"correlation": 3})
    theirs = build.build(
        settings({"correlation": 3, "use_reduced_cg": True}), ELEMENTS, CONSTANTS, seed=7
    )
    model_files.save_model(theirs, given)
    adopt(given, chosen, "mine", 3, path)
    found = predictions(Ensemble(chosen).committee([path]))
    np.testing.assert_array_equal(found, predictions(Committee(evaluator([theirs]))))
    data = mace_graphs.graphs(structures(6), ELEMENTS, chosen)
    member = Member.load(path, chosen)
    member.renew_constants(data)
    member.train(data, data, epochs=1, valid_skip=1, scheduler=False)
    member.save(path)
    again = dict(Member.load(path, chosen).model.named_parameters())
    assert {name: one.shape for name, one in again.items()} == {
        name: one.shape for name, one in theirs.named_parameters()
    }


def test_missing_atomic_energy_and_missing_file_are_named(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "member.pt"
    with pytest.raises(ModelError, match="no energy of C, O"):
        adopt(file, settings({"atomic_energies": {"H": -1.0}}), "mine", 3, path)
    with pytest.raises(ModelError, match="no model file"):
        adopt(tmp_path / "none.model", settings(), "mine", 3, path)
