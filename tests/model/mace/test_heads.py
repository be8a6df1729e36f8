"""Claims about MACE members that replay data by a second head."""

from __future__ import annotations

import hashlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from pydantic import ValidationError

from aimspax_core.errors import ModelError
from aimspax_core.labels.dataset import DEFAULT_KEYS
from aimspax_core.model.assessing import Assessor
from aimspax_core.model.committee import Committee
from aimspax_core.model.energies import renew, settle_energies
from aimspax_core.model.family import Graph, family
from aimspax_core.model.fine_tuning import begin_member
from aimspax_core.model.mace import build, model_files
from aimspax_core.model.mace.graphs import REPLAY_HEAD, batches, graphs, heads
from aimspax_core.model.mace.kernel import evaluator
from aimspax_core.model.mace.lean import why_not
from aimspax_core.model.mace.pretrained import pretrained, with_replay_head
from aimspax_core.model.member import Member
from aimspax_core.model.replay import replayed
from aimspax_core.model.trained import trained_model
from aimspax_core.settings.families.known_families import row_of
from aimspax_core.settings.fine_tuning import Pretrained
from aimspax_core.settings.model import ModelSettings
from tests.model.test_fine_tuning import CONSTANTS, ELEMENTS, KNOWN, TINY, forces, structures

TUNED = {"perform_finetuning": True, "pretrained_model": "foundation.model"}
REPLAY = {"multiheads_finetuning": True, "pt_train_file": Path("replay.xyz")}


def plain(architecture: dict[str, Any] | None = None, **training: Any) -> ModelSettings:
    return ModelSettings.model_validate(
        {
            "GENERAL": {"name_exp": "tiny", "default_dtype": "float64"},
            "ARCHITECTURE": TINY | {"num_interactions": 1} | (architecture or {}),
            "TRAINING": {"batch_size": 3, "valid_batch_size": 3} | TUNED | training,
        }
    )


def settings(architecture: dict[str, Any] | None = None, **training: Any) -> ModelSettings:
    return plain(architecture, **REPLAY | training)


def labelled(model: torch.nn.Module, made: list[Atoms], away: float = 0.0) -> list[Atoms]:
    """What the model says, or a reference that says something else."""
    committee = Committee(evaluator([model_files.copy_model(model)], kernel="mace"))
    for atoms, found in zip(made, committee.evaluate(made), strict=True):
        atoms.info["REF_energy"] = found.energy + 700.0 * bool(away)
        atoms.arrays["REF_forces"] = found.forces + away * np.sin(3 * atoms.positions)
    return made


def frames() -> list[Atoms]:
    """Structures of what the foundation model was trained on: nine of twelve of H, C, O alone."""
    made = []
    for index in range(12):
        atoms = molecule(["CH4", "H2CO", "SH2", "C2H4"][index % 4])
        atoms.rattle(0.1, rng=np.random.default_rng(100 + index))
        made.append(atoms)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A foundation model and what it was trained on."""
    place = tmp_path_factory.mktemp("heads")
    model = build.build(plain(), tuple(KNOWN), CONSTANTS, seed=7)
    model_files.save_model(model, place / "foundation.model")
    ase.io.write(place / "replay.xyz", labelled(model, frames()), format="extxyz")
    return place


def data(folder: Path, chosen: ModelSettings) -> list[Graph]:
    theirs = model_files.load_model(folder / "foundation.model")
    return graphs(labelled(theirs, structures(), away=0.2), ELEMENTS, chosen)


def replay(folder: Path, chosen: ModelSettings, seed: int = 1) -> list[Graph]:
    return replayed(folder / "replay.xyz", DEFAULT_KEYS, chosen, ELEMENTS, seed)


def begun(folder: Path, chosen: ModelSettings, seed: int = 1) -> Member:
    """Return a member as it begins; the same one again is read, which is quicker."""
    name = hashlib.sha256(f"{seed} {chosen.model_dump_json()}".encode()).hexdigest()
    if not (folder / name).exists():
        own = data(folder, chosen)
        begin_member(chosen, ELEMENTS, f"t-{seed}", seed, own, folder).save(folder / name)
    return Member.load(folder / name, chosen)


def trained(folder: Path, member: Member, epochs: int = 2) -> Member:
    own, chosen = data(folder, member.settings), member.settings
    again = replay(folder, chosen, member.seed) if chosen.TRAINING.replays else []
    member.train([*own, *again], own, epochs=epochs, valid_skip=1, scheduler=True)
    return member


def by_head(member: Member, found: Sequence[Graph]) -> dict[str, torch.Tensor]:
    """What the model in training says of graphs, each by its own head."""
    with member.learner.averaged():
        (batch,) = batches(found, len(found))
        inputs = batch.to_dict()
        said: dict[str, torch.Tensor] = member.model(inputs)
    return {name: said[name].detach() for name in ("energy", "forces")}


def test_frames_with_other_elements_are_left_out_and_the_rest_has_its_own_head(
    folder: Path,
) -> None:
    found = replay(folder, settings(weight_pt_head=0.5))
    assert len(found) == 9
    assert heads(settings())[int(found[0].head)] == REPLAY_HEAD
    assert {float(graph.weight) for graph in found} == {0.5}
    (own, *_) = data(folder, settings())
    assert (int(own.head), float(own.weight)) == (0, 1.0)


def test_both_heads_begin_as_the_model_each_with_energies_of_its_reference(folder: Path) -> None:
    member = begun(folder, settings())
    theirs = model_files.load_model(folder / "foundation.model")
    np.testing.assert_allclose(forces(member.averaged_model()), forces(theirs), atol=1e-9)
    again = replay(folder, member.settings)
    said = by_head(member, again)
    np.testing.assert_allclose(said["energy"], [float(g.energy) for g in again], atol=1e-6)
    np.testing.assert_allclose(said["forces"], torch.cat([g.forces for g in again]), atol=1e-7)
    ours = sum(member.constants.atomic_energies[z] * n for z, n in ((1, 2), (8, 1)))
    before = sum(KNOWN[z] * n for z, n in ((1, 2), (8, 1)))
    assert ours - before == pytest.approx(700.0, abs=1.0)


@pytest.mark.parametrize("at", ["pretrained.load_foundations_elements", "heads.remove_pt_head"])
def test_a_model_that_mace_cannot_bring_to_two_heads_and_back_is_refused(
    at: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a release of MACE left readouts out, which then stay random."""
    place = f"aimspax_core.model.mace.{at}"
    of_mace = pkgutil.resolve_name(place)

    def without_readouts(model: Any, *args: Any, **more: Any) -> Any:
        made = of_mace(model, *args, **more)
        made = model if made is None else made
        for weight in made.readouts.parameters():
            torch.nn.init.normal_(weight)
        return made

    theirs = Pretrained(str(folder / "foundation.model"))
    given = pretrained(theirs, plain(), ELEMENTS, 1)
    monkeypatch.setattr(place, without_readouts)
    with pytest.raises(ModelError, match="multiheads_finetuning"):
        with_replay_head(given, settings(), 1)


def test_replayed_data_are_forgotten_less(folder: Path) -> None:
    """The layers that both heads share stay closer to what the model was."""
    member = trained(folder, begun(folder, settings()), 10)
    naive = trained(folder, begun(folder, plain()), 10)
    again = replay(folder, settings())
    known = torch.cat([graph.forces for graph in again])
    kept = abs(by_head(member, again)["forces"] - known).mean()
    theirs = labelled(naive.averaged_model(), [a for a in frames() if 16 not in a.numbers])
    lost = abs(np.concatenate([a.arrays["REF_forces"] for a in theirs]) - known.numpy()).mean()
    assert kept < 0.5 * lost


@pytest.mark.parametrize(
    ("choice", "architecture"),
    [("naive", {"max_L": 1, "max_ell": 2, "use_reduced_cg": True, "correlation": 3}), ("lora", {})],
)
def test_published_models_have_the_own_head_alone(
    choice: str, architecture: dict[str, Any], tmp_path: Path
) -> None:
    """Readouts of both kinds, as two layers have them."""
    architecture = {"num_interactions": 2} | architecture
    chosen = settings(architecture, finetuning_choice=choice)
    model = build.build(plain(architecture), ELEMENTS, CONSTANTS, seed=7)
    model_files.save_model(model, tmp_path / "foundation.model")
    ase.io.write(tmp_path / "replay.xyz", labelled(model, frames()[:2]), format="extxyz")
    state = torch.random.get_rng_state()
    member = trained(tmp_path, begun(tmp_path, chosen), 1)
    member.save(tmp_path / "one.pt")
    models = [member.averaged_model(), trained_model(tmp_path / "one.pt", chosen)]
    assert torch.equal(torch.random.get_rng_state(), state)
    own = data(tmp_path, chosen)
    told = Assessor(chosen, {"held out": own}).errors_of(tmp_path / "one.pt")[""]
    assert told.mae_f == pytest.approx(member.errors_on(own).mae_f, rel=1e-9)
    said = by_head(member, own)
    for published in models:
        assert published.heads == ["Default"]
        assert why_not(published) is None
        theirs = labelled(published, structures())
        energies = [atoms.info["REF_energy"] for atoms in theirs]
        np.testing.assert_allclose(energies, said["energy"], atol=1e-6)
        found = np.concatenate([atoms.arrays["REF_forces"] for atoms in theirs])
        np.testing.assert_allclose(found, said["forces"], atol=1e-8)
    np.testing.assert_array_equal(*map(forces, models))
    file = tmp_path / "published.model"
    family("mace").save(models[0], file)
    np.testing.assert_array_equal(forces(family("mace").load(file)), forces(models[0]))


def test_energies_are_solved_for_in_the_own_head_alone(folder: Path) -> None:
    member, own = begun(folder, settings()), data(folder, settings())
    renew(member, own, "set")
    trained(folder, member)
    before = by_head(member, replay(folder, settings()))["energy"]
    first = member.constants.atomic_energies
    settle_energies(member, own, own, member.errors_on(own))
    assert member.constants.atomic_energies != first
    assert torch.equal(by_head(member, replay(folder, settings()))["energy"], before)


def test_a_member_goes_on_from_its_checkpoint_to_the_bit(folder: Path, tmp_path: Path) -> None:
    unbroken = trained(folder, begun(folder, settings()), 4)
    trained(folder, begun(folder, settings()), 2).save(tmp_path / "half.pt")
    whole = trained(folder, Member.load(tmp_path / "half.pt", settings()), 2)
    for name, weight in unbroken.model.state_dict().items():
        assert torch.equal(weight, whole.model.state_dict()[name]), name
    first, second = (one.learner.averaged_weights() for one in (unbroken, whole))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("key", "value"), [("num_samples_pt", 4), ("weight_pt_head", 100.0)])
def test_keys_of_replay_change_what_is_learnt(key: str, value: Any, folder: Path) -> None:
    usual, other = (
        trained(folder, begun(folder, chosen)) for chosen in (settings(), settings(**{key: value}))
    )
    first, second = (forces(one.averaged_model()) for one in (usual, other))
    assert abs(first - second).max() > 1e-9
    assert len(replay(folder, other.settings)) == (4 if key == "num_samples_pt" else 9)


def test_each_member_draws_its_own_frames(folder: Path) -> None:
    chosen = settings(num_samples_pt=4)
    drawn = [[float(g.energy) for g in replay(folder, chosen, seed)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_file_without_known_frames_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"no frame of N alone"):
        replayed(folder / "replay.xyz", DEFAULT_KEYS, settings(), (7,), 1)


@pytest.mark.parametrize(
    "given",
    [
        {"pt_train_file": None},
        {"multiheads_finetuning": False},
        {"perform_finetuning": False, "pretrained_model": None},
        {"num_samples_pt": 0},
        {"weight_pt_head": 0.0},
    ],
    ids=str,
)
def test_half_of_the_keys_is_a_mistake(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**given)


def test_what_several_heads_are_not_computed_by_is_refused() -> None:
    chosen = settings()
    lean = chosen.MISC.model_copy(update={"kernel": "lean"})
    told = row_of("mace").mistakes(chosen.model_copy(update={"MISC": lean}), ELEMENTS, False)
    assert any(one.startswith("MISC.kernel:") for one in told)
    notes = " ".join(row_of("mace").notes(chosen))
    assert "multiheads_finetuning" in notes
