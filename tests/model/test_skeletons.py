"""Models that are loaded anew instead of built: nothing of what they were before is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.emt import EMT

from aimspax_core.model.family import family_of
from aimspax_core.model.mace import graphs as mace_graphs
from aimspax_core.model.member import Member
from aimspax_core.model.member_content import content_of
from aimspax_core.model.schedule import Stage
from aimspax_core.model.skeletons import Skeletons
from aimspax_core.model.trained import trained_model
from aimspax_core.model.worker_memory import WorkerMemory
from aimspax_core.settings.model import ModelSettings

ELEMENTS = (1, 8)


def settings(**training: Any) -> ModelSettings:
    return ModelSettings.model_validate(
        {
            "GENERAL": {"name_exp": "tiny", "default_dtype": "float64"},
            "ARCHITECTURE": {
                "num_channels": 4, "num_interactions": 1, "max_L": 0, "max_ell": 1,
                "correlation": 1, "num_radial_basis": 3, "radial_MLP": [4], "r_max": 3.0,
            },
            "TRAINING": {"batch_size": 2, **training},
        }
    )  # fmt: skip


def structures(count: int, seed: int) -> list[ase.Atoms]:
    made = []
    for index in range(count):
        atoms = molecule("H2O")
        atoms.rattle(0.08, rng=np.random.default_rng(seed + index))
        atoms.calc = EMT()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
        made.append(atoms)
    return made


TRAIN = mace_graphs.graphs(structures(6, seed=0), ELEMENTS, settings())
VALID = mace_graphs.graphs(structures(3, seed=50), ELEMENTS, settings())
OTHERS = mace_graphs.graphs(structures(5, seed=90), ELEMENTS, settings())

CASES: dict[str, dict[str, Any]] = {
    "with averages and a second stage": {"swa": True, "start_swa": 2},
    "without, another schedule": {"ema": False, "optimizer": "adamw", "scheduler": "ExponentialLR"},
}


def advance(one: Member, epochs: int) -> list[Any]:
    """Train on in whatever stage the member is; what came out, without times."""
    if one.stage is Stage.CONVERGE:
        found, _ = one.converge(
            TRAIN, VALID, max_epochs=one.epoch + epochs, patience=99, margin=0.0, valid_skip=1
        )
    else:
        found = one.train(TRAIN, VALID, epochs=epochs, valid_skip=1, scheduler=True)
    return [replace(metrics, seconds=0.0) for metrics in found]


def content(one: Member) -> dict[str, Any]:
    found = content_of(one)
    if found["best_metrics"]:
        found["best_metrics"]["seconds"] = 0.0
    return found


def alike(left: Any, right: Any) -> bool:
    """Whether two contents of checkpoints are the same to the last bit."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(alike(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(alike, left, right))
    return bool(left == right)


def used(given: ModelSettings, stage: Stage) -> Member:
    """A member that has been somewhere else: moments, averages, constants, a best epoch."""
    other = Member.create(given, ELEMENTS, "other", 9, OTHERS)
    if stage is not Stage.INITIAL:
        other.enter(stage)
    advance(other, 3)
    for group in other.learner.optimizer.param_groups:
        group["lr"] = 0.7
    return other


@pytest.mark.parametrize("case", list(CASES))
def test_a_member_in_a_used_model_trains_on_bit_by_bit_as_one_in_a_new_model(
    case: str, tmp_path: Path
) -> None:
    given, stages = settings(**CASES[case]), list(Stage)
    saved = Member.create(given, ELEMENTS, "one", 1, TRAIN)
    for stage in stages:
        if stage is not Stage.INITIAL:
            saved.enter(stage)
        advance(saved, 1)
        saved.save(tmp_path / f"{stage}.pt")
    spare = used(given, Stage.CONVERGE)
    for stage in stages:  # each time into what the stage before has left
        new = Member.load(tmp_path / f"{stage}.pt", given)
        reused = Member.load(tmp_path / f"{stage}.pt", given, used=spare)
        assert reused.model is spare.model
        assert alike(content(reused), content(new))
        assert advance(reused, 3) == advance(new, 3)
        assert alike(content(reused), content(new))
        spare = reused


def numbers(module: torch.nn.Module) -> dict[str, Any]:
    """What a module has of its own that no state dict holds."""
    plain = (bool, int, float, str)
    return {k: v for k, v in vars(module).items() if k[0] != "_" and isinstance(v, plain)}


def test_a_model_has_the_same_attributes_used_or_new(tmp_path: Path) -> None:
    Member.create(settings(), ELEMENTS, "one", 1, TRAIN).save(tmp_path / "one.pt")
    new = Member.load(tmp_path / "one.pt", settings())
    reused = Member.load(tmp_path / "one.pt", settings(), used=used(settings(), Stage.CONVERGE))
    for mine, other in zip(reused.model.modules(), new.model.modules(), strict=True):
        assert numbers(mine) == numbers(other)
    for mine, other in zip(reused.model.parameters(), new.model.parameters(), strict=True):
        assert mine.requires_grad == other.requires_grad
        assert mine.grad is None


def test_a_member_of_other_elements_or_settings_is_no_spare_part(tmp_path: Path) -> None:
    Member.create(settings(), ELEMENTS, "one", 1, TRAIN).save(tmp_path / "one.pt")
    graphs = mace_graphs.graphs(structures(2, 0), (1, 6, 8), settings())
    others = [
        Member.create(settings(), (1, 6, 8), "other", 1, graphs),
        Member.create(settings(lr=0.5), ELEMENTS, "other", 1, TRAIN),
    ]
    for other in others:
        assert Member.load(tmp_path / "one.pt", settings(), used=other).model is not other.model


def test_a_new_member_has_the_weights_of_its_seed_whatever_was_built_before() -> None:
    first = Member.create(settings(), ELEMENTS, "one", 1, TRAIN)
    advance(first, 1)
    again, other = (Member.create(settings(), ELEMENTS, "one", seed, TRAIN) for seed in (1, 2))
    built = family_of(settings()).build(settings(), ELEMENTS, again.constants, 1)
    assert alike(again.model.state_dict(), built.state_dict())
    assert not alike(other.model.state_dict(), built.state_dict())


def test_a_second_model_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Member.create(settings(), ELEMENTS, "one", 1, TRAIN)
    one.save(tmp_path / "one.pt")
    monkeypatch.setattr("aimspax_core.model.mace.build.configure_model", None)
    loaded = Member.load(tmp_path / "one.pt", settings())
    assert loaded.model is not one.model
    first = trained_model(tmp_path / "one.pt", settings())
    second = trained_model(tmp_path / "one.pt", settings())
    assert first is not second
    weights = one.learner.averaged_weights()
    assert alike(dict(second.named_parameters()), weights)


def test_copies_do_not_share_their_weights() -> None:
    kept = Skeletons()
    constants = Member.create(settings(), ELEMENTS, "one", 1, TRAIN).constants
    first, second = (kept.copy(settings(), ELEMENTS, constants) for _ in range(2))
    with torch.no_grad():
        for weight in first.parameters():
            weight.fill_(7.0)
    assert not alike(first.state_dict(), second.state_dict())
    assert alike(second.state_dict(), kept.copy(settings(), ELEMENTS, constants).state_dict())


def test_a_later_checkpoint_is_loaded_into_the_member_that_is_there(tmp_path: Path) -> None:
    memory, elsewhere = WorkerMemory(), WorkerMemory()
    one = Member.create(settings(), ELEMENTS, "one", 1, TRAIN)
    memory.keep_member(tmp_path / "c1.pt", one)
    other = elsewhere.take_member(tmp_path / "c1.pt", settings())
    advance(other, 2)
    elsewhere.keep_member(tmp_path / "c2.pt", other)
    taken = memory.take_member(tmp_path / "c2.pt", settings())
    assert taken.model is one.model
    assert alike(content(taken), content(other))
    assert memory.take_member(tmp_path / "c1.pt", settings()).model is not taken.model
