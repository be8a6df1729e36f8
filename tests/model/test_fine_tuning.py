"""Claims about members that begin from a pretrained model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from mace.modules.radial import ZBLBasis
from pydantic import ValidationError

from aimspax_core.errors import ModelError
from aimspax_core.model.committee import Committee
from aimspax_core.model.energies import renew, settle_energies
from aimspax_core.model.family import Graph
from aimspax_core.model.fine_tuning import begin_member
from aimspax_core.model.mace import build, model_files
from aimspax_core.model.mace.graphs import graphs
from aimspax_core.model.mace.kernel import evaluator
from aimspax_core.model.mace.lean import why_not
from aimspax_core.model.mace.pretrained import architecture_of
from aimspax_core.model.member import Member
from aimspax_core.model.schedule import Stage
from aimspax_core.model.trained import trained_model
from aimspax_core.settings.families.mace import mace_architecture
from aimspax_core.settings.fine_tuning import Pretrained
from aimspax_core.settings.model import ModelSettings

ELEMENTS = (1, 6, 8)
TINY = {
    "num_channels": 4,
    "num_interactions": 2,
    "max_L": 0,
    "max_ell": 1,
    "correlation": 2,
    "num_radial_basis": 4,
    "radial_MLP": [8],
    "r_max": 3.5,
}
KNOWN = {1: -13.5, 6: -1029.25, 7: -1480.5, 8: -2041.75, 16: -10800.0}
CONSTANTS = build.Constants(KNOWN, 5.5, 1.75, -0.375)
OTHER_REFERENCE = {1: 0.75, 6: -3.5, 8: 12.0}
"""What an atom's energy (eV) is more by the new reference."""


def settings(architecture: dict[str, Any] | None = None, **training: Any) -> ModelSettings:
    tuned = {"perform_finetuning": True, "pretrained_model": "foundation.model"}
    return ModelSettings.model_validate(
        {
            "GENERAL": {"name_exp": "tiny", "default_dtype": "float64"},
            "ARCHITECTURE": TINY | (architecture or {}),
            "TRAINING": {"batch_size": 3, "valid_batch_size": 3} | tuned | training,
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A foundation model that knows more elements than it takes, and other weights for it."""
    place = tmp_path_factory.mktemp("pretrained")
    model = build.build(settings(), tuple(KNOWN), CONSTANTS, seed=7)
    model_files.save_model(model, place / "foundation.model")
    other = build.build(settings(), tuple(KNOWN), CONSTANTS, seed=8)
    torch.save(other.state_dict(), place / "bare.pt")
    torch.save({"model": other.state_dict(), "epoch": 9}, place / "checkpoint.pt")
    small = build.build(settings({"num_channels": 2}), tuple(KNOWN), CONSTANTS, seed=8)
    torch.save(small.state_dict(), place / "small.pt")
    return place


def structures(count: int = 6) -> list[Atoms]:
    made = []
    for index in range(count):
        atoms = molecule(["CH3OH", "H2O", "CO2"][index % 3])
        atoms.rattle(0.08, rng=np.random.default_rng(index))
        made.append(atoms)
    return made


def forces(model: torch.nn.Module) -> np.ndarray:
    return np.concatenate([one.forces.ravel() for one in _predicted(model)])


def _predicted(model: torch.nn.Module) -> list[Any]:
    copy = model_files.copy_model(model)
    return Committee(evaluator([copy], kernel="mace")).evaluate(structures())


@pytest.fixture(scope="module")
def data(folder: Path) -> list[Graph]:
    """What the foundation model says, as a reference with other atoms' energies would."""
    theirs = model_files.load_model(folder / "foundation.model")
    labelled = structures()
    for atoms, found in zip(labelled, _predicted(theirs), strict=True):
        shift = sum(OTHER_REFERENCE[int(z)] for z in atoms.numbers)
        atoms.info["REF_energy"] = found.energy + shift
        atoms.arrays["REF_forces"] = found.forces + 0.1 * np.sin(atoms.positions)
    return graphs(labelled, ELEMENTS, settings())


def begun(
    folder: Path, data: Sequence[Graph], given: ModelSettings | None = None, seed: int = 1
) -> Member:
    """Return a member as it begins; the same one again is read, which is quicker."""
    given = given or settings()
    name = hashlib.sha256(f"{seed} {given.model_dump_json()}".encode()).hexdigest()
    if not (folder / name).exists():
        begin_member(given, ELEMENTS, f"tiny-{seed}", seed, data, folder).save(folder / name)
    return Member.load(folder / name, given)


def test_a_tuned_member_has_the_forces_of_the_model_for_its_elements(
    folder: Path, data: list[Graph]
) -> None:
    member = begun(folder, data)
    assert member.elements == list(ELEMENTS)
    theirs = model_files.load_model(folder / "foundation.model")
    np.testing.assert_allclose(forces(member.averaged_model()), forces(theirs), atol=1e-9)
    untuned = Member.create(settings(), ELEMENTS, "tiny", 1, data)
    assert abs(forces(untuned.averaged_model()) - forces(theirs)).max() > 0.01


def test_messages_with_a_direction_are_taken_for_each_element(
    data: list[Graph], tmp_path: Path
) -> None:
    given = settings({"max_L": 1, "max_ell": 2})
    theirs = build.build(given, tuple(KNOWN), CONSTANTS, seed=7)
    model_files.save_model(theirs, tmp_path / "foundation.model")
    member = begin_member(given, ELEMENTS, "tiny-1", 1, data, tmp_path)
    np.testing.assert_allclose(forces(member.averaged_model()), forces(theirs), atol=1e-9)


def test_energies_of_free_atoms_follow_from_what_the_model_misses(
    folder: Path, data: list[Graph]
) -> None:
    found = begun(folder, data).constants.atomic_energies
    assert found == pytest.approx({z: KNOWN[z] + OTHER_REFERENCE[z] for z in ELEMENTS})


def test_energies_that_are_given_hold(folder: Path, data: list[Graph]) -> None:
    given = {"H": -1.0, "C": -2.0, "O": -3.0}
    member = begun(folder, data, settings({"atomic_energies": given}))
    renew(member, data, "set")
    assert member.constants.atomic_energies == {1: -1.0, 6: -2.0, 8: -3.0}
    held: Any = member.model
    assert held.atomic_energies_fn.atomic_energies.ravel().tolist() == [-1.0, -2.0, -3.0]


def test_all_other_constants_stay_the_models(
    folder: Path, data: list[Graph], tmp_path: Path
) -> None:
    member = begun(folder, data)
    renew(member, data, "set")
    member.save(tmp_path / "one.pt")
    member = Member.load(tmp_path / "one.pt", settings())
    renew(member, data[:3], "another")
    constants: Any = member.constants
    assert (constants.avg_num_neighbors, constants.scale, constants.shift) == (5.5, 1.75, -0.375)


def trained(member: Member, data: list[Graph], epochs: int) -> Member:
    member.train(data, data, epochs=epochs, valid_skip=1, scheduler=True)
    return member


def weights(member: Member) -> list[torch.Tensor]:
    return [*member.learner.averaged_weights().values(), *member.model.parameters()]


def test_a_tuned_member_goes_on_from_its_checkpoint_to_the_bit(
    folder: Path, data: list[Graph], tmp_path: Path
) -> None:
    unbroken = trained(begun(folder, data), data, 4)
    trained(begun(folder, data), data, 2).save(tmp_path / "half.pt")
    whole = trained(Member.load(tmp_path / "half.pt", settings()), data, 2)
    assert all(map(torch.equal, weights(whole), weights(unbroken)))
    settle_energies(whole, data, data, whole.errors_on(data))
    whole.save(tmp_path / "whole.pt")
    published = trained_model(tmp_path / "whole.pt", settings())
    np.testing.assert_array_equal(forces(published), forces(whole.averaged_model()))


def test_members_of_one_set_differ_by_the_order_of_their_batches(
    folder: Path, data: list[Graph]
) -> None:
    first, second = (begun(folder, data, seed=seed) for seed in (1, 2))
    assert all(map(torch.equal, weights(first), weights(second)))
    one, other = (forces(trained(m, data, 3).averaged_model()) for m in (first, second))
    assert abs(one - other).max() > 1e-6


@pytest.mark.parametrize("name", ["bare.pt", "checkpoint.pt"])
def test_weights_of_a_file_take_the_place_of_the_models(
    name: str, folder: Path, data: list[Graph]
) -> None:
    member = begun(folder, data, settings(pretrained_weights=Path(name)))
    other = build.build(settings(), tuple(KNOWN), CONSTANTS, seed=8)
    np.testing.assert_allclose(forces(member.averaged_model()), forces(other), atol=1e-9)


@pytest.mark.parametrize(
    ("name", "why"), [("small.pt", "does not fit"), ("foundation.model", "no weights")]
)
def test_a_file_without_fitting_weights_is_refused(
    name: str, why: str, folder: Path, data: list[Graph]
) -> None:
    with pytest.raises(ModelError, match=why):
        begun(folder, data, settings(pretrained_weights=Path(name)))


def test_elements_that_the_model_does_not_know_are_told(folder: Path, data: list[Graph]) -> None:
    with pytest.raises(ModelError, match="does not know F"):
        begin_member(settings(), (1, 9), "tiny-1", 1, data, folder)


def test_a_model_tells_its_architecture(folder: Path) -> None:
    energies = {"H": -1.0, "O": -2.0}  # of fewer elements than the model knows
    bare = ModelSettings.model_validate(
        {"GENERAL": {"name_exp": "bare"}, "ARCHITECTURE": {"atomic_energies": energies}}
    )
    found = architecture_of(Pretrained(str(folder / "foundation.model")), bare)
    wanted = mace_architecture(settings())
    assert found == {key: getattr(wanted, key) for key in found}
    assert set(TINY) < set(found) == set(settings().family.pretrained_keys)


def test_a_model_that_members_cannot_be_like_is_told_by_what_it_predicts(tmp_path: Path) -> None:
    model: Any = build.build(settings(), tuple(KNOWN), CONSTANTS, seed=7)
    model.pair_repulsion_fn, model.pair_repulsion = ZBLBasis(p=5).double(), True
    model_files.save_model(model, tmp_path / "repulsive.model")
    with pytest.raises(ModelError, match="predicts something else"):
        architecture_of(Pretrained(str(tmp_path / "repulsive.model")), settings())


def moved(before: torch.nn.Module, after: torch.nn.Module) -> set[str]:
    """The parts of a model of which weights have changed."""
    own = dict(before.named_parameters())
    return {
        name.partition(".")[0]
        for name, weight in after.named_parameters()
        if not torch.equal(weight, own[name])
    }


ALL = {"node_embedding", "interactions", "products", "readouts"}


@pytest.mark.parametrize(
    ("freeze", "fixed", "kernel"),
    [
        (1, {"node_embedding"}, "lean"),
        (5, {"node_embedding", "interactions"}, "mace"),
        (6, ALL - {"readouts"}, "lean"),
    ],
)
def test_what_is_frozen_is_not_trained(
    freeze: int, fixed: set[str], kernel: str, folder: Path, data: list[Graph], tmp_path: Path
) -> None:
    chosen = settings(freeze=freeze, swa=True)
    misc = chosen.MISC.model_copy(update={"kernel": kernel, "compile": "off"})
    chosen = chosen.model_copy(update={"MISC": misc})
    member = trained(begun(folder, data, chosen), data, 1)
    assert member.learner.lr == chosen.TRAINING.lr
    member.save(tmp_path / "one.pt")
    member = Member.load(tmp_path / "one.pt", chosen)
    member.enter(Stage.CONVERGE)
    member.converge(data, data, max_epochs=4, patience=9, margin=0.0)
    assert member.progress.stage_two_from is not None
    assert moved(begun(folder, data, chosen).model, member.model) == ALL - fixed


def lora(**training: Any) -> ModelSettings:
    return settings(finetuning_choice="lora", **training)


def test_lora_trains_nothing_but_what_it_adds(folder: Path, data: list[Graph]) -> None:
    before, member = (begun(folder, data, lora()) for _ in range(2))
    theirs = model_files.load_model(folder / "foundation.model")
    np.testing.assert_allclose(forces(member.averaged_model()), forces(theirs), atol=1e-9)
    trained(member, data, 2)
    own = dict(before.model.named_parameters())
    changed = {n for n, w in member.model.named_parameters() if not torch.equal(w, own[n])}
    assert changed
    assert all("lora_A" in name or "lora_B" in name for name in changed)


def test_a_lora_member_goes_on_from_its_checkpoint_to_the_bit(
    folder: Path, data: list[Graph], tmp_path: Path
) -> None:
    unbroken = trained(begun(folder, data, lora()), data, 4)
    trained(begun(folder, data, lora()), data, 2).save(tmp_path / "half.pt")
    whole = trained(Member.load(tmp_path / "half.pt", lora()), data, 2)
    assert all(map(torch.equal, weights(whole), weights(unbroken)))


def test_what_lora_adds_is_in_the_weights_of_models_that_are_written(
    folder: Path, data: list[Graph], tmp_path: Path
) -> None:
    member = trained(begun(folder, data, lora()), data, 3)
    theirs = model_files.load_model(folder / "foundation.model")
    member.save(tmp_path / "one.pt")
    models = [member.averaged_model(), trained_model(tmp_path / "one.pt", lora())]
    for model in models:
        assert not any("lora" in name for name, _ in model.named_parameters())
        assert why_not(model) is None
    first, second = map(forces, models)
    np.testing.assert_array_equal(first, second)
    assert abs(first - forces(theirs)).max() > 1e-4
    # What LoRA computes is what is written: its validation is that of the model.
    found = member.errors_on(data)
    plain = Member(settings(), ELEMENTS, "plain", 1, member.constants, models[0])
    assert found.mae_f == pytest.approx(plain.errors_on(data).mae_f, rel=1e-9)
    assert found.mae_e == pytest.approx(plain.errors_on(data).mae_e, rel=1e-9)


def test_energies_are_solved_for_with_the_weights_of_now(folder: Path, data: list[Graph]) -> None:
    member = begun(folder, data, lora())
    renew(member, data, "set")  # has computed energies without gradients
    trained(member, data, 3)
    learner: Any = member.learner
    with learner.averaged():
        found = learner.steps.interaction_energies(member.model, data)
    plain = Member(settings(), ELEMENTS, "plain", 1, member.constants, member.averaged_model())
    wanted: Any = plain.learner.steps
    np.testing.assert_allclose(found, wanted.interaction_energies(plain.model, data), atol=1e-9)


@pytest.mark.parametrize(
    ("key", "value"), [("lora_rank", 2), ("lora_alpha", 1.0), ("lora_freeze_A", True)]
)
def test_keys_of_lora_change_what_is_learnt(
    key: str, value: Any, folder: Path, data: list[Graph]
) -> None:
    usual, other = (
        trained(begun(folder, data, s), data, 2) for s in (lora(), lora(**{key: value}))
    )
    assert abs(forces(usual.averaged_model()) - forces(other.averaged_model())).max() > 1e-9
    sizes = [{n: tuple(w.shape) for n, w in m.model.named_parameters()} for m in (usual, other)]
    assert (sizes[0] == sizes[1]) == (key != "lora_rank")
    before = dict(begun(folder, data, other.settings).model.named_parameters())
    first = [n for n in before if "lora_A" in n]
    still = all(torch.equal(before[n], dict(other.model.named_parameters())[n]) for n in first)
    assert still == (key == "lora_freeze_A")


@pytest.mark.parametrize(
    "given",
    [
        {"freeze": 7},
        {"freeze": 5, "finetuning_choice": "lora"},
        {"freeze": 5, "perform_finetuning": False, "pretrained_model": None},
        {"finetuning_choice": "lora", "lora_rank": 0},
    ],
)
def test_choices_that_do_not_go_together_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**given)
