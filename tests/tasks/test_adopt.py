"""Members and datasets of somebody else become those of a campaign."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from aimspax_core.errors import CampaignError, ModelError
from aimspax_core.inputs.given_models import GivenModels
from aimspax_core.labels.dataset import DataKeys, labelled, write
from aimspax_core.labels.store import LabelStore
from aimspax_core.model.ensemble import Ensemble
from aimspax_core.model.mace.build import Constants, build
from aimspax_core.model.mace.model_files import load_model, save_model
from aimspax_core.model.member import Member
from aimspax_core.model.schedule import Stage
from aimspax_core.reference.registry import build_reference
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.settings import Settings
from tasks.adopt import AdoptRequest, adopt

TAGS = ("mine-1", "mine-2")


def frames(settings: Settings, count: int, seed: int) -> list[Atoms]:
    """Labelled water, as another program writes it."""
    engine = build_reference(settings.reference, settings.directory)
    made = []
    for number in range(count):
        atoms = molecule("H2O")
        atoms.rattle(0.03, seed=seed + number)
        label = engine.label(atoms)
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = label.energy, label.forces
        atoms.info["config_type"] = "water"
        made.append(atoms)
    return made


@pytest.fixture
def request_(settings: Settings, run: RunDir) -> AdoptRequest:
    """Two models, a training set for both, a validation set each."""
    constants = Constants({1: -10.0, 8: -90.0}, 2.0, 1.5, 0.1)
    models = {}
    for seed, tag in enumerate(TAGS):
        models[tag] = run.models / f"{tag}.model"
        save_model(build(settings.model, [1, 8], constants, seed), models[tag])
    files = {name: run.output / f"{name}.xyz" for name in ("train", *TAGS)}
    for number, file in enumerate(files.values()):
        write(file, frames(settings, 3, 10 * number))
    found = GivenModels(
        models, dict.fromkeys(TAGS, files["train"]), {tag: files[tag] for tag in TAGS}
    )
    return AdoptRequest("adopt", run, settings, found, {"mine-1": 1, "mine-2": 2})


def test_adopted_members_predict_what_their_files_do(request_: AdoptRequest) -> None:
    event = adopt.fn(request_)
    run, settings = request_.run, request_.settings
    checkpoints = [run.checkpoint(tag, event.checkpoints[tag]) for tag in TAGS]
    (ours,) = Ensemble(settings.model).committee(checkpoints).evaluate([molecule("CH3OH")[[1, 2]]])
    from aimspax_core.model.committee import Committee
    from aimspax_core.model.mace.evaluator import MaceEvaluator

    files = [load_model(path) for path in request_.given.models.values()]
    (theirs,) = Committee(MaceEvaluator(files)).evaluate([molecule("CH3OH")[[1, 2]]])
    np.testing.assert_allclose(ours.member_forces, theirs.member_forces, atol=1e-10)


def test_active_learning_goes_on_from_an_adopted_member(request_: AdoptRequest) -> None:
    event = adopt.fn(request_)
    path = request_.run.checkpoint(TAGS[0], event.checkpoints[TAGS[0]])
    member = Member.load(path, request_.settings.model)
    member.enter(Stage.ACTIVE)
    assert (member.tag, member.epoch) == (TAGS[0], 0)


def test_datasets_are_in_the_label_store_each_label_once(request_: AdoptRequest) -> None:
    event = adopt.fn(request_)
    assert event.elements == (1, 8)
    assert event.training["mine-1"] == event.training["mine-2"]
    assert not set(event.validation["mine-1"]) & set(event.validation["mine-2"])
    store = LabelStore(request_.run.labels)
    (given,) = {energies(request_.given.training["mine-1"])}
    assert tuple(store.get(key).label.energy for key in event.training["mine-1"]) == given


def energies(file: Path) -> tuple[float, ...]:
    return tuple(atoms.info["REF_energy"] for atoms in ase.io.read(file, index=":"))


def test_adopting_again_changes_nothing(request_: AdoptRequest) -> None:
    first, second = adopt.fn(request_), adopt.fn(request_)
    assert first.model_dump(exclude={"task_seconds"}) == second.model_dump(exclude={"task_seconds"})


def test_kind_and_what_else_a_dataset_says_is_carried_along(request_: AdoptRequest) -> None:
    file = request_.given.training["mine-1"]
    given = ase.io.read(file, index=":")
    for atoms in given:
        atoms.info["REF_dipole"] = np.array([0.1, 0.2, 0.3])
        atoms.arrays["REF_charges"] = np.array([-0.8, 0.4, 0.4])
        atoms.info["head"] = "Default"
    write(file, given)
    key = adopt.fn(request_).training["mine-1"][0]
    atoms = labelled(LabelStore(request_.run.labels).get(key), DataKeys())
    np.testing.assert_allclose(atoms.info["REF_dipole"], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(atoms.arrays["REF_charges"], [-0.8, 0.4, 0.4])
    assert (atoms.info["config_type"], atoms.info["head"]) == ("water", "Default")


def test_a_label_that_the_gate_refuses_is_told_with_its_frame(request_: AdoptRequest) -> None:
    file = request_.given.validation["mine-2"]
    given = ase.io.read(file, index=":")
    given[1].arrays["REF_forces"][0] = 1e6
    write(file, given)
    with pytest.raises(CampaignError, match=r"mine-2.xyz, frame 1: a force of"):
        adopt.fn(request_)


def test_a_dataset_with_elements_that_the_models_do_not_know_is_refused(
    request_: AdoptRequest,
) -> None:
    file = request_.given.training["mine-1"]
    given = ase.io.read(file, index=":")
    given[0].symbols[1] = "F"
    write(file, given)
    with pytest.raises(CampaignError, match=r"frame 0 has F, but the models know only H, O"):
        adopt.fn(request_)


def test_geometries_with_elements_that_the_models_do_not_know_are_refused(
    request_: AdoptRequest,
) -> None:
    ase.io.write(request_.settings.directory / "geometry.in", molecule("CH4"))
    with pytest.raises(CampaignError, match=r"geometry.in has C, but the models know only H, O"):
        adopt.fn(request_)


def test_models_that_know_different_elements_are_no_ensemble(request_: AdoptRequest) -> None:
    constants = Constants({1: -10.0, 6: -30.0, 8: -90.0}, 2.0, 1.5, 0.1)
    other = build(request_.settings.model, [1, 6, 8], constants, 5)
    save_model(other, request_.given.models["mine-2"])
    with pytest.raises(ModelError, match=r"different elements: mine-1: H, O; mine-2: H, C, O"):
        adopt.fn(request_)


def test_an_empty_dataset_is_refused(request_: AdoptRequest) -> None:
    write(request_.given.training["mine-1"], [])
    with pytest.raises(CampaignError, match="holds no structures"):
        adopt.fn(request_)
