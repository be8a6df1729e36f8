"""Which form computes a MACE model, and that neither files nor results hang on it."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import ase
import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from mace.calculators import MACECalculator
from mace.tools.torch_geometric.batch import Batch

from aimspax_core.errors import SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.inputs.provenance import changed, write_provenance
from aimspax_core.model.committee import Committee
from aimspax_core.model.ensemble import Ensemble
from aimspax_core.model.family import family_of
from aimspax_core.model.learner import Metrics
from aimspax_core.model.mace import build, foundation, graphs, kernel, model_files
from aimspax_core.model.mace.evaluator import MaceEvaluator
from aimspax_core.model.mace.lean import Lean, LeanEvaluator, why_not
from aimspax_core.model.member import Member
from aimspax_core.model.schedule import Stage
from aimspax_core.settings.families.mace import Interaction, why_no_lean
from aimspax_core.settings.model import ModelSettings

ELEMENTS = (1, 8, 29)
TINY = {
    "num_channels": 4, "num_interactions": 2, "max_L": 1, "max_ell": 2, "correlation": 2,
    "num_radial_basis": 3, "radial_MLP": [4], "r_max": 3.0,
}  # fmt: skip
WITHOUT = "RealAgnosticAttResidualInteractionBlock"
CONSTANTS = build.Constants(dict.fromkeys(ELEMENTS, -1.5), 3.0, 1.25, 0.5)


def settings(form: str, architecture: dict[str, Any] | None = None, **given: Any) -> ModelSettings:
    return ModelSettings.model_validate(
        {
            "GENERAL": {"name_exp": "tiny", "default_dtype": "float64", "compute_stress": True},
            "ARCHITECTURE": TINY | (architecture or {}),
            "TRAINING": {"batch_size": 2} | given.pop("TRAINING", {}),
            "MISC": {"kernel": form} | given,
        }
    )


def structures(count: int) -> list[ase.Atoms]:
    """Water and copper by turns, with EMT's labels."""
    made = []
    for index in range(count):
        atoms = bulk("Cu", cubic=True) if index % 2 else molecule("H2O")
        atoms.rattle(0.08, rng=np.random.default_rng(index))
        atoms.calc = EMT()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        if atoms.pbc.all():
            atoms.info["REF_stress"] = atoms.get_stress()
        atoms.calc = None
        made.append(atoms)
    return made


@cache
def built(**architecture: Any) -> torch.nn.Module:
    """A model that is not trained."""
    return build.build(settings("mace", architecture), ELEMENTS, CONSTANTS, seed=1)


DATA = graphs.graphs(structures(10), ELEMENTS, settings("mace"))
TRAIN, VALID = DATA[:7], DATA[7:]


def member(form: str, **given: Any) -> Member:
    return Member.create(settings(form, **given), ELEMENTS, "one", 1, TRAIN)


def train(one: Member, epochs: int, valid_skip: int = 1) -> list[Metrics]:
    found = one.train(TRAIN, VALID, epochs=epochs, valid_skip=valid_skip, scheduler=True)
    return [replace(metrics, seconds=0.0) for metrics in found]


def weights(one: Member) -> torch.Tensor:
    return torch.cat([weight.detach().ravel() for weight in one.model.parameters()])


@pytest.mark.parametrize(
    ("form", "architecture", "lean"),
    [("auto", {}, True), ("lean", {}, True), ("mace", {}, False),
     ("auto", {"interaction": WITHOUT}, False)],
)  # fmt: skip
def test_the_key_says_what_computes_in_training_and_in_md(
    form: str, architecture: dict[str, Any], lean: bool, tmp_path: Path
) -> None:
    given = settings(form, architecture)
    one = Member.create(given, ELEMENTS, "one", 1, TRAIN)
    assert isinstance(kernel.in_training(one.model, given), Lean) == lean
    one.save(tmp_path / "one.pt")
    evaluator = Ensemble(given).committee([tmp_path / "one.pt"]).evaluator
    assert type(evaluator) is (LeanEvaluator if lean else MaceEvaluator)


def test_with_cuequivariance_auto_is_cuequivariance() -> None:
    model = built()
    assert kernel.in_training(model, settings("auto", enable_cueq=True)) is model


@pytest.mark.slow
def test_a_hundred_steps_end_in_the_same_weights() -> None:
    found: dict[Any, Any] = {}
    for form in ("mace", "lean"):
        found[form] = member(form, TRAINING={"loss": "huber"})  # on energies, forces and stress
        metrics = train(found[form], 34, valid_skip=17)  # of three steps each
        found[form, "loss"] = [one.valid_loss for one in metrics]
    theirs, ours = weights(found["mace"]), weights(found["lean"])
    assert (theirs - ours).abs().max() < 1e-9 * theirs.abs().max()
    np.testing.assert_allclose(found["lean", "loss"], found["mace", "loss"], rtol=1e-9)


def test_resumed_training_equals_unbroken_training_bit_by_bit(tmp_path: Path) -> None:
    whole, parts = member("lean"), member("lean")
    found = train(whole, 4)
    first = train(parts, 2)
    parts.save(tmp_path / "one.pt")
    again = Member.load(tmp_path / "one.pt", parts.settings)
    assert [*first, *train(again, 2)] == found
    assert torch.equal(weights(again), weights(whole))


@pytest.mark.parametrize(("before", "after"), [("mace", "lean"), ("lean", "mace")])
def test_a_member_of_one_form_goes_on_in_the_other(before: str, after: str, tmp_path: Path) -> None:
    one = member(before)
    train(one, 2)
    one.enter(Stage.ACTIVE)
    train(one, 1)
    one.save(tmp_path / "one.pt")
    other = Member.load(tmp_path / "one.pt", settings(after))
    assert torch.equal(weights(other), weights(one))
    train(one, 2)
    train(other, 2)
    assert (weights(one) - weights(other)).abs().max() < 1e-10 * weights(one).abs().max()


def test_a_published_model_is_maces_and_predicts_what_the_committee_does(tmp_path: Path) -> None:
    one = member("lean")
    train(one, 1)
    one.save(tmp_path / "one.pt")
    family_of(one.settings).save(one.averaged_model(), tmp_path / "one.model")
    calculator = MACECalculator(
        model_paths=str(tmp_path / "one.model"), device="cpu", default_dtype="float64"
    )
    assert type(calculator.models[0]).__module__ == "mace.modules.models"
    committee = Ensemble(one.settings).committee([tmp_path / "one.pt"])
    for atoms, found in zip(
        structures(2), committee.evaluate(structures(2), stress=True), strict=True
    ):
        atoms.calc = calculator
        assert found.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-10)
        np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-10)
        if atoms.pbc.all():
            np.testing.assert_allclose(found.stress, atoms.get_stress(voigt=False), atol=1e-10)


@pytest.mark.parametrize("interaction", get_args(Interaction))
def test_settings_and_models_agree_on_what_has_a_lean_form(interaction: str) -> None:
    small = {"max_L": 0, "max_ell": 1, "correlation": 1}
    key = "interaction_first" if "Residual" in interaction else "interaction"
    given = settings("auto", small | {key: interaction})
    model = build.build(given, ELEMENTS, CONSTANTS, seed=1)
    assert (why_no_lean(given) is None) == (why_not(model) is None)


PROJECT = """
REFERENCE: {engine: tblite}
INITIAL_DATASET_GENERATION:
  initial_sampling: aimd
  n_points_per_sampling_step_idg: 3
  max_initial_epochs: 4
  ensemble_size: 2
ACTIVE_LEARNING: {num_trajectories: 3, max_train_set_size: 16}
MD: {stat_ensemble: NVT}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "aimsPAX.yaml").write_text(PROJECT, encoding="utf-8")
    ase.io.write(tmp_path / "geometry.in", molecule("H2O"))
    return tmp_path


def read(directory: Path, misc: str, architecture: str = "{}") -> Inputs:
    (directory / "mace.yaml").write_text(
        f"GENERAL: {{name_exp: t}}\nARCHITECTURE: {architecture}\nMISC: {misc}\n"
    )
    return Inputs.read(directory)


def test_lean_with_cuequivariance_is_a_mistake_that_names_both(directory: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read(directory, "{kernel: lean, enable_cueq: True, device: cuda}")
    (line,) = [line for line in str(caught.value).splitlines() if "MISC.kernel" in line]
    assert "MISC.enable_cueq" in line


@pytest.mark.parametrize(
    ("key", "value"), [("interaction", WITHOUT), ("MLP_irreps", "16x0e + 4x1o")]
)
def test_lean_where_there_is_no_lean_form_is_a_mistake_that_names_the_key(
    directory: Path, key: str, value: str
) -> None:
    with pytest.raises(SettingsError, match=rf"MISC\.kernel: .*ARCHITECTURE\.{key}"):
        read(directory, "{kernel: lean}", f"{{{key}: {value}}}")


def test_auto_says_once_in_the_log_that_mace_itself_computes(directory: Path) -> None:
    def notes(misc: str, architecture: str) -> list[str]:
        inputs = read(directory, misc, architecture)
        return [note for note in inputs.settings.notes if "MISC.kernel" in note]

    without = f"{{interaction: {WITHOUT}}}"
    (note,) = notes("{}", without)
    assert "ARCHITECTURE.interaction" in note
    assert notes("{}", "{}") == notes("{kernel: mace}", without) == []


def test_a_switch_is_free_and_told(directory: Path) -> None:
    before = read(directory, "{kernel: lean}")
    write_provenance(before.run, before.settings, before.geometries)
    after = read(directory, "{kernel: mace}")
    (line,) = changed(after.run, after.settings, after.geometries)
    assert "MISC.kernel" in line


def test_a_foundation_model_without_lean_form_is_computed_by_mace_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = {}
    for name, architecture in (("with", {}), ("without", {"interaction": WITHOUT})):
        model_files.save_model(built(**architecture), tmp_path / f"{name}.model")
        asked = {"model": str(tmp_path / f"{name}.model"), "dtype": "float64", "kernel": "lean"}
        with caplog.at_level(logging.INFO, kernel.log.name):
            caplog.clear()
            loaded = foundation.foundation(**asked)
            assert isinstance(loaded.calculator, MACECalculator) == (name == "without")
            found[name] = loaded.driver._committee.evaluator
            assert len(caplog.records) == (name == "without")
    assert type(found["with"]) is LeanEvaluator
    assert type(found["without"]) is MaceEvaluator


def test_a_committee_of_models_that_others_made_is_computed_by_what_they_allow() -> None:
    models = [built(), built(interaction=WITHOUT)]
    assert type(kernel.evaluator(models[:1])) is LeanEvaluator
    assert type(kernel.evaluator(models[:1], kernel="mace")) is MaceEvaluator
    found = Committee(kernel.evaluator(models)).evaluate(structures(1))
    assert found[0].member_energies.shape == (2,)


@pytest.mark.parametrize("count", [1, 5])
def test_batches_are_maces_own(count: int) -> None:
    ours, theirs = graphs.collated(DATA[:count]), Batch.from_data_list(DATA[:count])
    assert ours.num_graphs == theirs.num_graphs
    mine, other = ours.to(torch.device("cpu")).to_dict(), theirs.to_dict()
    assert mine.keys() == other.keys()
    for name, value in other.items():
        assert mine[name].dtype == value.dtype
        assert torch.equal(mine[name], value), name


def test_members_of_two_bases_are_maces_business() -> None:
    models = [built(), built(use_reduced_cg=True)]
    assert type(kernel.evaluator(models)) is MaceEvaluator
