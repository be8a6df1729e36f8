"""The committee of checkpoints, against the members themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from aimspax_core.errors import DamagedError, ModelError
from aimspax_core.model.committee import Committee
from aimspax_core.model.ensemble import Ensemble
from aimspax_core.model.mace import graphs as mace_graphs
from aimspax_core.model.mace.kernel import evaluator
from aimspax_core.model.member import Member
from aimspax_core.model.schedule import Stage
from aimspax_core.reference.tblite.engine import TbliteEngine
from aimspax_core.reference.tblite.section import TbliteReference
from aimspax_core.settings.model import ModelSettings

ELEMENTS = (1, 8)


def settings(**training: object) -> ModelSettings:
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


def labelled(count: int, seed: int) -> list[Atoms]:
    engine, made = TbliteEngine(TbliteReference(engine="tblite")), []
    for number in range(count):
        atoms = molecule("H2O")
        atoms.rattle(0.05, seed=100 * seed + number)
        label = engine.label(atoms)
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = label.energy, label.forces
        made.append(atoms)
    return made


STRUCTURES = labelled(3, seed=9)
TRAIN = mace_graphs.graphs(labelled(4, seed=1), ELEMENTS, settings())
VALID = mace_graphs.graphs(labelled(2, seed=2), ELEMENTS, settings())


def member(seed: int, epochs: int = 2, **training: object) -> Member:
    made = Member.create(settings(**training), ELEMENTS, f"tiny-{seed}", seed, TRAIN)
    made.train(TRAIN, VALID, epochs=epochs, valid_skip=1, scheduler=False)
    return made


def saved(folder: Path, *members: Member) -> list[Path]:
    paths = [folder / m.tag / f"{m.stage.value}-{m.total_epochs}.pt" for m in members]
    for one, path in zip(members, paths, strict=True):
        one.save(path)
    return paths


def predicted(committee: Committee) -> np.ndarray:
    return np.stack([p.member_forces for p in committee.evaluate(STRUCTURES)])


def expected(*models: torch.nn.Module) -> np.ndarray:
    return predicted(Committee(evaluator(models)))


@pytest.mark.parametrize("ema", [True, False])
def test_it_predicts_what_the_averaged_members_do(tmp_path: Path, ema: bool) -> None:
    one = member(1, ema=ema)
    committee = Ensemble(settings(ema=ema)).committee(saved(tmp_path, one))
    np.testing.assert_array_equal(predicted(committee), expected(one.averaged_model()))


def test_a_member_that_converged_counts_with_its_best_weights(tmp_path: Path) -> None:
    one = member(1)
    one.enter(Stage.CONVERGE)
    for group in one.learner.optimizer.param_groups:
        group["lr"] = 1.0  # every epoch makes it worse
    one.converge(TRAIN, VALID, max_epochs=3, patience=9, margin=0.0)
    assert one.best_metrics is not None
    assert one.best_metrics.epoch < 3
    found = predicted(Ensemble(settings()).committee(saved(tmp_path, one)))
    np.testing.assert_array_equal(found, expected(one.best_model()))
    assert np.abs(found - expected(one.averaged_model())).max() > 1e-3


def test_a_new_version_takes_over_weights_and_constants_in_the_same_networks(
    tmp_path: Path,
) -> None:
    one, other = member(1), member(2)
    ensemble = Ensemble(settings())
    first = ensemble.committee(saved(tmp_path, one, other))
    before, networks = predicted(first), list(ensemble._models)
    one.renew_constants(TRAIN[:2])
    one.train(TRAIN, VALID, epochs=1, valid_skip=1, scheduler=False)
    second = ensemble.committee(saved(tmp_path, one, other))
    assert all(now is then for now, then in zip(ensemble._models, networks, strict=True))
    found = predicted(second)
    np.testing.assert_array_equal(found, expected(one.averaged_model(), other.averaged_model()))
    assert (found[:, 0] != before[:, 0]).any()
    np.testing.assert_array_equal(found[:, 1], before[:, 1])


def test_the_same_version_is_read_once(tmp_path: Path) -> None:
    ensemble = Ensemble(settings())
    paths = saved(tmp_path, member(1))
    committee = ensemble.committee(paths)
    paths[0].unlink()
    assert ensemble.committee(paths) is committee


def test_a_version_that_cannot_be_read_is_not_mixed_with_the_one_before(tmp_path: Path) -> None:
    one = member(1)
    ensemble, old = Ensemble(settings()), saved(tmp_path, one) * 2
    before = predicted(ensemble.committee(old))
    one.train(TRAIN, VALID, epochs=1, valid_skip=1, scheduler=False)
    (new,) = saved(tmp_path, one)
    with pytest.raises(DamagedError, match="no checkpoint"):
        ensemble.committee([new, tmp_path / "missing.pt"])
    np.testing.assert_array_equal(predicted(ensemble.committee(old)), before)


def test_a_checkpoint_of_another_architecture_is_told(tmp_path: Path) -> None:
    paths = saved(tmp_path, member(1))
    wider = settings()
    wider = wider.model_copy(
        update={"ARCHITECTURE": wider.ARCHITECTURE.model_copy(update={"num_channels": 8})}
    )
    with pytest.raises(ModelError, match="does not fit these settings"):
        Ensemble(wider).committee(paths)
