"""Claims about what is trained of a So3krates or SO3LR that is fine-tuned: LoRA, frozen parts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from pydantic import ValidationError

from aimspax_core.model.committee import Committee
from aimspax_core.model.energies import renew, settle_energies
from aimspax_core.model.family import Graph, family
from aimspax_core.model.fine_tuning import begin_member
from aimspax_core.model.member import Member
from aimspax_core.model.number_format import number_format
from aimspax_core.model.schedule import Stage
from aimspax_core.model.trained import trained_model
from aimspax_core.settings.families.known_families import row_of
from aimspax_core.settings.families.so3krates import why_not_installed
from aimspax_core.settings.fine_tuning import PARTS
from aimspax_core.settings.model import ModelSettings
from tests.model.so3krates.test_keys import BASE, FAR

if (why := why_not_installed()) is not None:
    pytest.skip(why, allow_module_level=True)

from so3krates_torch.calculator.so3 import TorchkratesCalculator

from aimspax_core.model.so3krates import network

each = pytest.mark.parametrize("name", ["so3krates", "so3lr"])
ELEMENTS = (1, 8)
ALL = {f"freeze_{part}": True for part in PARTS}
OF_SO3KRATES = {f"freeze_{part}": True for part in ("embedding", "shifts", "scales")}


def settings(name: str, training: dict[str, Any], **keys: Any) -> ModelSettings:
    architecture = BASE["ARCHITECTURE"] | (FAR if name == "so3lr" else {}) | keys
    tuned = {"perform_finetuning": True, "pretrained_model": f"{name}.model"}
    sections = {"ARCHITECTURE": architecture, "TRAINING": BASE["TRAINING"] | tuned | training}
    return ModelSettings.model_validate(BASE | sections)


def lora(name: str, **training: Any) -> ModelSettings:
    return settings(name, {"finetuning_choice": "lora"} | training)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each family to begin from, whose weights are all something."""
    place = tmp_path_factory.mktemp("tuned")
    for name in ("so3krates", "so3lr"):
        chosen, own = settings(name, {}), family(name)
        constants = own.constants(dict.fromkeys(ELEMENTS, -1.0), 4.0)
        model = network.build(chosen, ELEMENTS, constants, 5)
        draw = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.1 * torch.randn(weight.shape, dtype=weight.dtype, generator=draw)
        weights = dict(model.named_parameters())
        own.save(own.copy_with(model, weights, chosen), place / f"{name}.model")
    return place


def structures(count: int, seed: int = 0) -> list[ase.Atoms]:
    made = []
    for index in range(count):
        atoms = molecule(["H2O", "H2O2"][index % 2])
        atoms.rattle(0.1, rng=np.random.default_rng(seed + index))
        atoms.info["REF_energy"] = -14.0 * len(atoms) + 0.1 * index
        atoms.arrays["REF_forces"] = np.sin(3 * atoms.positions)
        made.append(atoms)
    return made


@cache
def graphs(name: str) -> list[Graph]:
    return family(name).graphs(structures(4), ELEMENTS, settings(name, {}))


def begun(folder: Path, name: str, chosen: ModelSettings, seed: int = 1) -> Member:
    """Return a member as it begins; the same one again is read, which is quicker."""
    path = folder / hashlib.sha256(f"{seed} {chosen.model_dump_json()}".encode()).hexdigest()
    if not path.exists():
        begin_member(chosen, ELEMENTS, f"t-{seed}", seed, graphs(name), folder).save(path)
    return Member.load(path, chosen)


def trained(member: Member, name: str, epochs: int = 2) -> Member:
    member.train(graphs(name), graphs(name), epochs=epochs, valid_skip=1, scheduler=True)
    return member


def forces(name: str, model: torch.nn.Module, made: Sequence[ase.Atoms] = ()) -> np.ndarray:
    committee = Committee(family(name).evaluator([family(name).copy(model)]))
    found = committee.evaluate(made or structures(2, seed=7))
    return np.concatenate([one.forces.ravel() for one in found])


def moved(before: Member, after: Member) -> set[str]:
    """The names of weights that have changed."""
    own = dict(before.model.named_parameters())
    return {n for n, w in after.model.named_parameters() if not torch.equal(w, own[n])}


def of(part: str, names: set[str]) -> set[str]:
    """Those of a part's weights."""
    begins = {
        "embedding": ("inv_feature_embedding", "charge_embedding", "spin_embedding"),
        "zbl": ("zbl_repulsion",),
        "hirshfeld": ("hirshfeld_output_block",),
        "partial_charges": ("partial_charges_output_block",),
        "shifts": ("atomic_energy_output_block.energy_shifts",),
        "scales": ("atomic_energy_output_block.energy_scales",),
    }
    return {name for name in names if name.startswith(begins[part])}


@each
def test_lora_begins_as_the_model_that_it_is_added_to(name: str, folder: Path) -> None:
    theirs = family(name).load(folder / f"{name}.model")
    member = begun(folder, name, lora(name))
    assert any("lora_A" in weight for weight, _ in member.model.named_parameters())
    np.testing.assert_allclose(
        forces(name, member.averaged_model()), forces(name, theirs), atol=1e-9
    )


@each
def test_lora_trains_what_it_adds_and_the_parts_that_are_not_frozen(
    name: str, folder: Path
) -> None:
    chosen = lora(name)
    changed = moved(begun(folder, name, chosen), trained(begun(folder, name, chosen), name))
    parts = PARTS if name == "so3lr" else {"embedding", "shifts", "scales"}
    for part in PARTS:
        assert bool(of(part, changed)) == (part in parts), part
    named = set().union(*(of(part, changed) for part in PARTS))
    assert all(".lora_A_" in one or ".lora_B_" in one for one in changed - named)
    chosen = lora(name, **(ALL if name == "so3lr" else OF_SO3KRATES))
    alone = moved(begun(folder, name, chosen), trained(begun(folder, name, chosen), name))
    assert alone == changed - named


@pytest.fixture(scope="module")
def free(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What moves where nothing is frozen."""
    return moves(folder, tmp_path_factory.mktemp("free"), {})


def moves(folder: Path, place: Path, frozen: dict[str, Any]) -> set[str]:
    """What moves over a checkpoint and into a convergence."""
    chosen = settings("so3lr", frozen)
    member = trained(begun(folder, "so3lr", chosen), "so3lr", 1)
    member.save(place / "one.pt")
    member = Member.load(place / "one.pt", chosen)
    member.enter(Stage.CONVERGE)
    member.converge(graphs("so3lr"), graphs("so3lr"), max_epochs=1, patience=9, margin=0.0)
    return moved(begun(folder, "so3lr", chosen), member)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_frozen_does_not_move_and_all_else_does(
    part: str, free: set[str], folder: Path, tmp_path: Path
) -> None:
    assert of(part, free)
    assert moves(folder, tmp_path, {f"freeze_{part}": True}) == free - of(part, free)


def test_energies_of_free_atoms_are_solved_for_beside_frozen_shifts(folder: Path) -> None:
    data = graphs("so3lr")
    for wish in ("auto", "never"):
        chosen = settings("so3lr", {"freeze_shifts": True}, solve_energies=wish)
        member = begun(folder, "so3lr", chosen)
        first = member.constants.atomic_energies
        assert first[8] != pytest.approx(-1.0, abs=0.1)  # the model's own: of another reference
        renew(member, data, "set")
        last = member.train(data, data, epochs=2, valid_skip=1, scheduler=True)
        settle_energies(member, data, data, last[-1])
        assert (member.constants.atomic_energies == first) == (wish == "never")


@each
def test_a_lora_member_goes_on_from_its_checkpoint_to_the_bit(
    name: str, folder: Path, tmp_path: Path
) -> None:
    chosen = lora(name)
    unbroken = trained(begun(folder, name, chosen), name, 4)
    trained(begun(folder, name, chosen), name, 2).save(tmp_path / "half.pt")
    whole = trained(Member.load(tmp_path / "half.pt", chosen), name, 2)
    for one in (unbroken, whole):
        one.save(tmp_path / "end.pt")
    assert not moved(unbroken, whole)
    first, second = (one.learner.averaged_weights() for one in (unbroken, whole))
    assert all(torch.equal(first[weight], second[weight]) for weight in first)
    # Loaded into the model of one that is not needed any more, as workers do.
    used = Member.load(tmp_path / "half.pt", chosen, used=unbroken)
    assert used.model is unbroken.model
    assert not moved(whole, trained(used, name, 2))


@each
def test_what_lora_adds_is_in_the_weights_of_models_that_are_written(
    name: str, folder: Path, tmp_path: Path
) -> None:
    member = trained(begun(folder, name, lora(name)), name)
    member.save(tmp_path / "one.pt")
    models = [member.averaged_model(), trained_model(tmp_path / "one.pt", lora(name))]
    for model in models:
        assert not any("lora" in one for one, _ in model.named_parameters())
    plain = network.build(settings(name, {}), ELEMENTS, member.constants, 1)
    theirs = network.for_users(plain, dict(plain.named_parameters()), settings(name, {}))
    assert list(map(type, models[0].modules())) == list(map(type, theirs.modules()))
    kinds = [
        [(n, w.shape, w.requires_grad) for n, w in one.named_parameters()]
        for one in (models[0], plain)
    ]
    assert kinds[0] == kinds[1]
    first, second = (forces(name, model) for model in models)
    np.testing.assert_array_equal(first, second)
    theirs = family(name).load(folder / f"{name}.model")
    assert abs(first - forces(name, theirs)).max() > 1e-4
    found = member.errors_on(graphs(name))
    again = _adopted(models[0], name, tmp_path)
    assert found.mae_f == pytest.approx(again.errors_on(graphs(name)).mae_f, rel=1e-9)
    assert found.mae_e == pytest.approx(again.errors_on(graphs(name)).mae_e, rel=1e-7)


def _adopted(model: torch.nn.Module, name: str, folder: Path) -> Member:
    """A member that begins from a published model, by naive fine-tuning, to read its errors."""
    family(name).save(model, folder / f"{name}.model")
    own: Any = model
    shifts = own.atomic_energy_output_block.energy_shifts.detach()
    energies = {z: float(shifts[z - 1]) for z in ELEMENTS}
    return begin_member(
        settings(name, {}, atomic_energies=energies), ELEMENTS, "t", 1, graphs(name), folder
    )


@each
def test_the_package_loads_what_was_trained_by_lora(
    name: str, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "published.model"
    model = trained(begun(folder, name, lora(name)), name).averaged_model()
    family(name).save(model, file)
    (water,) = structures(1, seed=3)
    wanted = forces(name, model, [water])
    with number_format("float64"):  # the calculator sets it for good
        water.calc = TorchkratesCalculator(
            model_paths=str(file), model_type=name, default_dtype="float64",
            r_max_lr=5.0 if name == "so3lr" else None,
        )  # fmt: skip
        np.testing.assert_allclose(water.get_forces().ravel(), wanted, atol=1e-8)


@pytest.mark.parametrize(
    ("key", "value"), [("lora_rank", 2), ("lora_alpha", 1.0), ("lora_freeze_A", True)]
)
def test_keys_of_lora_change_what_is_learnt(key: str, value: Any, folder: Path) -> None:
    usual, other = (
        trained(begun(folder, "so3krates", chosen), "so3krates")
        for chosen in (lora("so3krates"), lora("so3krates", **{key: value}))
    )
    first, second = (forces("so3krates", one.averaged_model()) for one in (usual, other))
    assert abs(first - second).max() > 1e-9
    sizes = [[tuple(w.shape) for w in one.model.parameters()] for one in (usual, other)]
    assert (sizes[0] == sizes[1]) == (key != "lora_rank")
    changed = moved(begun(folder, "so3krates", other.settings), other)
    assert any("lora_B" in one for one in changed)
    assert any("lora_A" in one for one in changed) == (key != "lora_freeze_A")


def test_the_other_name_of_lora_means_the_same(folder: Path) -> None:
    state = torch.random.get_rng_state()
    one, other = (
        trained(begun(folder, "so3lr", settings("so3lr", given)), "so3lr")
        for given in ({"finetuning_choice": "lora"}, {"convert_to_lora": True})
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not moved(one, other)
    assert moved(one, trained(begun(folder, "so3lr", one.settings, seed=2), "so3lr"))
    with pytest.raises(ValidationError, match="beside finetuning_choice: naive"):
        settings("so3lr", {"convert_to_lora": True, "finetuning_choice": "naive"})


@pytest.mark.parametrize("key", ["convert_to_lora", *ALL])
def test_what_nothing_is_tuned_by_is_refused(key: str) -> None:
    with pytest.raises(ValidationError, match="perform_finetuning: True"):
        settings("so3lr", {"perform_finetuning": False, "pretrained_model": None, key: True})


@pytest.mark.parametrize(
    ("name", "keys", "refused"),
    [
        ("so3lr", {}, set()),
        ("so3krates", {}, {"freeze_zbl", "freeze_hirshfeld", "freeze_partial_charges"}),
        ("so3lr", {"zbl_repulsion_bool": False}, {"freeze_zbl"}),
        ("so3lr", {"dispersion_energy_bool": False}, {"freeze_hirshfeld"}),
        ("so3lr", {"electrostatic_energy_bool": False}, {"freeze_partial_charges"}),
    ],
)
def test_parts_that_are_not_there_cannot_be_frozen(
    name: str, keys: dict[str, Any], refused: set[str]
) -> None:
    found = row_of(name).mistakes(settings(name, ALL, **keys), ELEMENTS, False)
    assert {one.partition(":")[0] for one in found} == {f"TRAINING.{key}" for key in refused}


def test_parts_of_so3lr_are_not_maces() -> None:
    training = {"perform_finetuning": True, "pretrained_model": "small"} | ALL
    given = ModelSettings.model_validate({"GENERAL": {"name_exp": "t"}, "TRAINING": training})
    found = row_of("mace").mistakes(given, ELEMENTS, False)
    assert {one.partition(":")[0] for one in found} == {f"TRAINING.{key}" for key in ALL}


def test_what_lora_trains_beside_is_noted() -> None:
    def noted(given: ModelSettings) -> str:
        return " ".join(one for one in row_of("so3lr").notes(given) if "lora" in one)

    for part, text in PARTS.items():
        assert text in noted(lora("so3lr"))
        assert text not in noted(lora("so3lr", **{f"freeze_{part}": True}))
    assert not noted(lora("so3lr", **ALL))
    assert not noted(settings("so3lr", {}))
