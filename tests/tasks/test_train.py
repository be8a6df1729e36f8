"""The training tasks: exact continuation whatever a worker remembers."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule

from aimspax_core.campaign.actions import Converge, Train
from aimspax_core.campaign.events import Published
from aimspax_core.campaign.members import Errors
from aimspax_core.errors import DamagedError, DivergedError
from aimspax_core.labels.dataset import write
from aimspax_core.labels.store import LabelStore, label_key
from aimspax_core.model import worker_memory as memory_module
from aimspax_core.model.checkpoint import read_checkpoint
from aimspax_core.model.committee import Committee
from aimspax_core.model.family import family_of, load_any
from aimspax_core.model.learner import Learner
from aimspax_core.model.member import Member
from aimspax_core.model.schedule import Stage
from aimspax_core.model.steps import Settled
from aimspax_core.model.trained import trained_model
from aimspax_core.model.worker_memory import worker_memory
from aimspax_core.output.results import Holdings
from aimspax_core.reference.registry import build_reference
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.settings import Settings
from tasks.publish import PublishRequest, publish
from tasks.train import TrainRequest, converge, train
from tasks.train_several import TrainSeveralRequest, train_several

TAG = "water-1"


@pytest.fixture
def keys(settings: Settings, run: RunDir) -> list[str]:
    """Labelled structures in the store."""
    engine = build_reference(settings.reference, settings.directory)
    found = []
    for seed in range(7):
        atoms = molecule("H2O")
        atoms.rattle(0.05, seed=seed)
        found.append(label_key(atoms, engine.identity()))
        LabelStore(run.labels).put(found[-1], atoms, engine.label(atoms))
    return found


@pytest.fixture(autouse=True)
def fresh_worker() -> None:
    forget()


def forget() -> None:
    """What the death of a worker does to its memory."""
    worker_memory().clear()


def request(
    settings: Settings, run: RunDir, keys: list[str], action: Any, training: int = 4
) -> TrainRequest:
    path = run.dataset(f"{training}")
    path.parent.mkdir(parents=True, exist_ok=True)
    sets = {"training": keys[:training], "validation": keys[5:]}
    path.write_text(json.dumps({TAG: sets}), encoding="utf-8")
    return TrainRequest(action, run, settings, 11, (1, 8), path, 1e9)


def training(start: str | None, checkpoint: str, epochs: int = 2, stage: str = "initial") -> Train:
    return Train(tag=TAG, stage=stage, round=1, start=start, checkpoint=checkpoint, epochs=epochs)  # type: ignore[arg-type]


def converging(start: str, checkpoint: str, first: bool = True, stage: str = "final") -> Converge:
    return Converge(tag=TAG, stage=stage, start=start, first=first, checkpoint=checkpoint)  # type: ignore[arg-type]


def equal(left: Path, right: Path) -> bool:
    one, other = (read_checkpoint(path)["learner"] for path in (left, right))
    averages = (one["ema"]["shadow_params"], other["ema"]["shadow_params"])
    return all(torch.equal(one["model"][k], other["model"][k]) for k in one["model"]) and all(
        torch.equal(a, b) for a, b in zip(*averages, strict=True)
    )


def test_the_checkpoint_is_on_disk_when_it_returns(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    event = train.fn(request(settings, run, keys, training(None, "c1", 3)))
    assert (event.tag, event.checkpoint, event.epochs, len(event.errors)) == (TAG, "c1", 3, 3)
    member = Member.load(run.checkpoint(TAG, "c1"), settings.model)
    assert (member.epoch, member.seed, member.stage) == (3, 11, Stage.INITIAL)


def test_a_member_that_is_fine_tuned_tells_the_energies_of_atoms_that_it_begins_with(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    plain = train.fn(request(settings, run, keys, training(None, "plain")))
    assert plain.atomic_energies == {}
    member = Member.load(run.checkpoint(TAG, "plain"), settings.model)
    family_of(settings.model).save(member.averaged_model(), settings.directory / "theirs.model")
    tuning = {"perform_finetuning": True, "pretrained_model": "theirs.model"}
    chosen = settings.model.TRAINING.model_copy(update=tuning)
    tuned = replace(settings, model=settings.model.model_copy(update={"TRAINING": chosen}))
    first = train.fn(request(tuned, run, keys, training(None, "c1")))
    assert first.atomic_energies.keys() == {1, 8}
    assert train.fn(request(tuned, run, keys, training("c1", "c2"))).atomic_energies == {}
    began = converge.fn(request(tuned, run, keys, converging("c2", "c3")))
    assert began.atomic_energies == {}
    assert Member.load(run.checkpoint(TAG, "c3"), tuned.model).keeps_scaling


def test_a_member_that_replays_is_trained_on_frames_of_the_file_as_it_is_now(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    train.fn(request(settings, run, keys, training(None, "plain")))
    member = Member.load(run.checkpoint(TAG, "plain"), settings.model)
    family_of(settings.model).save(member.averaged_model(), settings.directory / "theirs.model")
    tuning = {
        "perform_finetuning": True, "pretrained_model": "theirs.model",
        "multiheads_finetuning": True, "pt_train_file": Path("replay.xyz"),
    }  # fmt: skip
    chosen = settings.model.TRAINING.model_copy(update=tuning)
    tuned = replace(settings, model=settings.model.model_copy(update={"TRAINING": chosen}))

    def replayed(by: float) -> None:
        frame = molecule("H2O")
        frame.info["REF_energy"], frame.arrays["REF_forces"] = -10.0, by * frame.positions
        write(settings.directory / "replay.xyz", [frame])

    replayed(0.1)
    train.fn(request(tuned, run, keys, training(None, "a")))
    train.fn(request(tuned, run, keys, training(None, "b")))
    forget()
    train.fn(request(tuned, run, keys, training(None, "c")))
    replayed(0.2)
    train.fn(request(tuned, run, keys, training(None, "d")))
    a, b, c, d = (run.checkpoint(TAG, name) for name in "abcd")
    assert equal(a, b)
    assert equal(a, c)
    assert not equal(a, d)
    published(tuned, run, keys, checkpoint="d")
    model: Any = load_any(run.results / f"{TAG}.model")[1]
    assert model.heads == ["Default"]
    assert abs(constant(run, keys)) < 1e-6  # of its own head


def test_an_event_tells_whether_its_steps_were_compiled(
    settings: Settings, run: RunDir, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def settle(self: Learner, train: list[Any], ahead_s: float) -> Settled:
        assert len(train) == 4
        return Settled(ahead_s > 1000.0, ("a note",))

    monkeypatch.setattr(Learner, "settle", settle)
    first = request(settings, run, keys, training(None, "c1"))
    more = request(settings, run, keys, converging("c1", "c2"))
    for ahead_s in (1000.0, 1001.0):
        event = train.fn(replace(first, ahead_s=ahead_s))
        assert (event.compiled, event.compile_notes) == (ahead_s > 1000.0, ("a note",))
        assert converge.fn(replace(more, ahead_s=ahead_s)).compiled is (ahead_s > 1000.0)


def test_a_member_goes_on_the_same_whatever_the_worker_remembers(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    train.fn(request(settings, run, keys, training(None, "c1")))
    remembered = train.fn(request(settings, run, keys, training("c1", "a", stage="active"), 5))
    forget()
    lost = train.fn(request(settings, run, keys, training("c1", "b", stage="active"), 5))
    assert equal(run.checkpoint(TAG, "a"), run.checkpoint(TAG, "b"))
    assert [e.valid_loss for e in remembered.errors] == [e.valid_loss for e in lost.errors]


def test_the_graphs_of_one_set_do_not_drive_out_those_of_another(
    settings: Settings, run: RunDir, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_module, "MAX_GRAPH_ATOMS", 1)
    forget()
    asked: list[list[str]] = []
    original = memory_module.WorkerMemory.graphs

    def counted(self: Any, store: Any, wanted: list[str], *more: Any) -> list[Any]:
        asked.append(list(wanted))
        return original(self, store, wanted, *more)

    monkeypatch.setattr(memory_module.WorkerMemory, "graphs", counted)
    train.fn(request(settings, run, keys, training(None, "c1")))
    assert asked == [[*keys[:4], *keys[5:]]]  # all at once, each once


def test_a_task_that_is_run_again_gives_the_same(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    """Its first run left another epoch in this worker's memory."""
    train.fn(request(settings, run, keys, training(None, "c1")))
    train.fn(request(settings, run, keys, training("c1", "a")))
    train.fn(request(settings, run, keys, training("c1", "b")))
    assert equal(run.checkpoint(TAG, "a"), run.checkpoint(TAG, "b"))


def test_an_active_round_after_a_convergence_goes_on_from_the_best_weights(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    train.fn(request(settings, run, keys, training(None, "c1")))
    event = converge.fn(request(settings, run, keys, converging("c1", "c2", stage="initial")))
    assert event.best is not None
    assert event.converged or event.epochs > 0
    best = read_checkpoint(run.checkpoint(TAG, "c2"))["best_weights"]
    member = Member.load(run.checkpoint(TAG, "c2"), settings.model)
    member.enter(Stage.ACTIVE)
    assert all(torch.equal(w.detach(), best[n]) for n, w in member.model.named_parameters())
    train.fn(request(settings, run, keys, training("c2", "c3", stage="active"), 5))
    after = read_checkpoint(run.checkpoint(TAG, "c3"))
    assert (after["stage"], after["counters"]["epoch"]) == ("active", 2)
    assert after["best_weights"] is None


def published(settings: Settings, run: RunDir, keys: list[str], **paths: str) -> Published:
    """Publish a member with these checkpoints."""
    found = {what: run.checkpoint(TAG, name) for what, name in paths.items()}
    held = Holdings(
        tag=TAG, checkpoint=found["checkpoint"], converged=found.get("converged"),
        initial_training=(), initial_validation=(), training=tuple(keys[:4]),
        validation=tuple(keys[5:]), errors=None,
    )  # fmt: skip
    return publish.fn(PublishRequest("final", run, settings, (held,)))


def constant(run: RunDir, keys: list[str]) -> float:
    """What the published model's energies lack on average over its training set (eV/atom)."""
    family, model = load_any(run.results / f"{TAG}.model")
    stored = [one for one in map(LabelStore(run.labels).get, keys[:4]) if one is not None]
    found = Committee(family.evaluator([model])).evaluate([one.atoms for one in stored])
    pairs = zip(stored, found, strict=True)
    return float(np.mean([(one.label.energy - said.energy) / 3 for one, said in pairs]))


def test_a_round_that_was_cut_short_is_published_with_energies_that_were_solved_for(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    whole = training(None, "whole", 4)
    event = train.fn(request(settings, run, keys, whole))
    assert not published(settings, run, keys, checkpoint="whole").settled
    assert constant(run, keys) == pytest.approx(0.0, abs=1e-8)
    cut = request(settings, run, keys, whole.but(checkpoint="cut", at_most=2))
    assert train.fn(cut).epochs == 2
    before = run.checkpoint(TAG, "cut").read_bytes()
    found = published(settings, run, keys, checkpoint="cut").settled[TAG]
    assert constant(run, keys) == pytest.approx(0.0, abs=1e-8)
    assert found.epoch == 2
    forget()
    rest = whole.but(start="cut", checkpoint="rest", epochs=2)
    assert train.fn(request(settings, run, keys, rest)).errors[-1].valid_loss == (
        event.errors[-1].valid_loss
    )
    assert equal(run.checkpoint(TAG, "whole"), run.checkpoint(TAG, "rest"))
    assert run.checkpoint(TAG, "cut").read_bytes() == before


def test_a_convergence_that_was_cut_short_is_published_with_its_best_epochs_energies(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    train.fn(request(settings, run, keys, training(None, "c1")))
    asked = request(settings, run, keys, converging("c1", "cut"))
    event = converge.fn(TrainRequest(**{**vars(asked), "time_budget_s": 0.0}))
    assert not event.converged and event.best is not None
    found = published(settings, run, keys, checkpoint="c1", converged="cut")
    assert constant(run, keys) == pytest.approx(0.0, abs=1e-8)
    assert found.settled[TAG].mae_f == pytest.approx(event.best.mae_f)
    assert not found.last_settled


def test_a_convergence_in_stretches_equals_one(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    train.fn(request(settings, run, keys, training(None, "c1")))
    long = settings.project.model_copy(
        update={"ACTIVE_LEARNING": settings.al.model_copy(update={"max_convergence_epochs": 4})}
    )
    settings = Settings(settings.directory, long, settings.model)
    whole = converge.fn(request(settings, run, keys, converging("c1", "whole")))
    assert whole.converged
    start, first, epochs = "c1", True, 0
    for number in range(9):
        forget()
        asked = request(settings, run, keys, converging(start, f"part-{number}", first))
        event = converge.fn(TrainRequest(**{**vars(asked), "time_budget_s": 0.0}))
        start, first, epochs = event.checkpoint, False, epochs + event.epochs
        if event.converged:
            break
    assert number > 0
    assert epochs == whole.epochs
    assert event.best is not None
    assert whole.best is not None
    assert event.best.valid_loss == whole.best.valid_loss
    assert equal(run.checkpoint(TAG, "whole"), run.checkpoint(TAG, start))


def test_a_convergence_may_follow_a_convergence_on_more_data(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    """`converge_initial`, and a stop before the first round of active learning."""
    train.fn(request(settings, run, keys, training(None, "c1")))
    converge.fn(request(settings, run, keys, converging("c1", "c2", stage="initial")))
    assert converge.fn(request(settings, run, keys, converging("c2", "c3"), 5)).epochs > 0


def test_a_label_that_is_gone_is_named(settings: Settings, run: RunDir, keys: list[str]) -> None:
    LabelStore(run.labels).path(keys[0]).unlink()
    with pytest.raises(DamagedError, match=f"{keys[0]}.json: the label is gone"):
        train.fn(request(settings, run, keys, training(None, "c1")))


def changed_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [changed_byte, Path.unlink])
def test_a_damaged_checkpoint_is_named(
    settings: Settings, run: RunDir, keys: list[str], damage: Any
) -> None:
    train.fn(request(settings, run, keys, training(None, "c1", 1)))
    forget()
    damage(run.checkpoint(TAG, "c1"))
    for task, action in ((train, training("c1", "c2")), (converge, converging("c1", "c2"))):
        with pytest.raises(DamagedError) as caught:
            task.fn(request(settings, run, keys, action))
        assert caught.value.file == str(run.checkpoint(TAG, "c1"))
    assert not run.checkpoint(TAG, "c2").exists()


@pytest.mark.parametrize("text", ["", "{}", '{"water-1": 3}', '{"water-1"'])
def test_a_damaged_file_of_datasets_is_named(
    settings: Settings, run: RunDir, keys: list[str], text: str
) -> None:
    asked = request(settings, run, keys, training(None, "c1"))
    asked.dataset.write_text(text, encoding="utf-8")
    with pytest.raises(DamagedError) as caught:
        train.fn(asked)
    assert caught.value.file == str(asked.dataset)


def test_an_error_ten_times_the_last_rounds_is_a_divergence_unless_new_points_are_the_cause(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    first = request(settings, run, keys, training(None, "c1", 1))
    with pytest.raises(DivergedError):
        train.fn(replace(first, last_mae=1e-6))
    assert not run.checkpoint(TAG, "c1").exists()
    train.fn(first)
    # The weights of before are no better on this set, so training did no harm.
    event = train.fn(replace(request(settings, run, keys, training("c1", "c2")), last_mae=1e-6))
    assert event.checkpoint == "c2"


def trained_at(
    lr: float, settings: Settings, run: RunDir, keys: list[str]
) -> tuple[Errors, TrainRequest]:
    """A good member's errors, and a request to train it on at another learning rate.

    The last round's error is said to be a hundredth of it, as if it had been taken on other points.
    """
    good = train.fn(request(settings, run, keys, training(None, "c1", 3))).errors[-1]
    training_section = settings.model.TRAINING.model_copy(update={"lr": lr})
    model = settings.model.model_copy(update={"TRAINING": training_section})
    member = Member.load(run.checkpoint(TAG, "c1"), settings.model)
    member.renew_optimizer()
    for group in member.learner.optimizer.param_groups:
        group["lr"] = lr
    member.save(run.checkpoint(TAG, "c1"))
    forget()
    wild = Settings(settings.directory, settings.project, model)
    asked = request(wild, run, keys, training("c1", "c2", 10))
    return good, replace(asked, last_mae=good.mae_f / 100)


def test_training_that_makes_a_member_ten_times_worse_diverged(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    _, asked = trained_at(5.0, settings, run, keys)
    with pytest.raises(DivergedError):
        train.fn(asked)
    assert not run.checkpoint(TAG, "c2").exists()


def test_training_that_makes_a_member_a_little_worse_did_not_diverge(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    good, asked = trained_at(50.0, settings, run, keys)
    event = train.fn(asked)
    assert good.mae_f < event.errors[-1].mae_f < 10 * good.mae_f
    assert event.checkpoint == "c2"


def test_another_try_takes_another_order_and_is_exact_itself(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    train.fn(request(settings, run, keys, training(None, "c1")))
    for name, again in (("a", 0), ("b", 1), ("c", 1), ("d", 2)):
        forget()
        action = training("c1", name, stage="active").but(again=again)
        train.fn(request(settings, run, keys, action))
    a, b, c, d = (run.checkpoint(TAG, name) for name in "abcd")
    assert equal(b, c)
    assert not equal(a, b)
    assert not equal(b, d)


def test_what_was_tried_again_leaves_nothing_behind_in_the_worker(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    train.fn(request(settings, run, keys, training(None, "c1").but(again=1)))
    train.fn(request(settings, run, keys, training("c1", "a")))
    forget()
    train.fn(request(settings, run, keys, training("c1", "b")))
    assert equal(run.checkpoint(TAG, "a"), run.checkpoint(TAG, "b"))


def test_a_member_whose_checkpoints_are_lost_begins_anew_in_any_stage(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    train.fn(request(settings, run, keys, training(None, "c1", stage="active")))
    assert read_checkpoint(run.checkpoint(TAG, "c1"))["stage"] == "active"
    event = converge.fn(request(settings, run, keys, converging(None, "c2")))  # type: ignore[arg-type]
    assert event.epochs > 0
    assert read_checkpoint(run.checkpoint(TAG, "c2"))["seed"] == 11


# ---- cut and joined --------------------------------------------------------------------------


def test_a_training_that_is_cut_gives_what_one_that_is_not_gives(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    whole = train.fn(request(settings, run, keys, training(None, "c1", 5)))
    first = train.fn(request(settings, run, keys, training(None, "c2", 5).but(at_most=2)))
    assert first.epochs == 2
    forget()
    rest = train.fn(request(settings, run, keys, training("c2", "c3", 3)))
    assert equal(run.checkpoint(TAG, "c1"), run.checkpoint(TAG, "c3"))
    losses = [e.valid_loss for e in (*first.errors, *rest.errors)]
    assert losses == [e.valid_loss for e in whole.errors]


def test_where_a_training_is_cut_nothing_is_validated_out_of_turn(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    section = settings.idg.model_copy(update={"valid_skip": 3})
    project = settings.project.model_copy(update={"INITIAL_DATASET_GENERATION": section})
    rarely = replace(settings, project=project)
    event = train.fn(request(rarely, run, keys, training(None, "c1", 5).but(at_most=2)))
    assert (event.epochs, event.errors) == (2, ())


def test_trainings_of_one_task_are_those_of_tasks_of_their_own(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    asked = [request(settings, run, keys, training(None, name)) for name in ("a", "b")]
    several = train_several.fn(TrainSeveralRequest(tuple(asked), 1))
    assert [o.checkpoint for o in several.outcomes] == ["a", "b"]  # type: ignore[union-attr]
    forget()
    train.fn(request(settings, run, keys, training(None, "alone")))
    assert equal(run.checkpoint(TAG, "alone"), run.checkpoint(TAG, "b"))


def test_a_member_that_cannot_train_keeps_no_other_from_it(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    bad, good = training("gone", "a"), training(None, "b")
    asked = tuple(request(settings, run, keys, action) for action in (bad, good))
    several = pickle.loads(pickle.dumps(train_several.fn(TrainSeveralRequest(asked, 1))))
    first, second = several.outcomes
    assert isinstance(first, DamagedError)
    assert second.checkpoint == "b"
    assert TrainSeveralRequest(asked, 1).name == "2-members-round-1"


def test_a_round_in_parts_solves_for_energies_as_one_in_one_go(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    whole = train.fn(request(settings, run, keys, training(None, "whole", 4)))
    first = training(None, "first", 4).but(at_most=1)
    assert train.fn(request(settings, run, keys, first)).epochs == 1
    forget()
    rest = train.fn(request(settings, run, keys, training("first", "rest", 3)))
    assert equal(run.checkpoint(TAG, "whole"), run.checkpoint(TAG, "rest"))
    one, other = (Member.load(run.checkpoint(TAG, n), settings.model) for n in ("whole", "rest"))
    assert one.constants == other.constants
    assert whole.errors[-1].mae_e == rest.errors[-1].mae_e


def test_the_errors_of_a_round_and_of_a_convergence_are_those_of_what_is_kept(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    found = train.fn(request(settings, run, keys, training(None, "c1", 3)))
    best = converge.fn(request(settings, run, keys, converging("c1", "c2"), training=5)).best
    assert best is not None
    for checkpoint, told in (("c1", found.errors[-1]), ("c2", best)):
        path = run.checkpoint(TAG, checkpoint)
        evaluator = family_of(settings.model).evaluator([trained_model(path, settings.model)])
        stored = [LabelStore(run.labels).get(key) for key in keys[5:]]
        off = [
            Committee(evaluator).evaluate([one.atoms])[0].energy - one.label.energy
            for one in stored
            if one is not None
        ]
        assert sum(map(abs, off)) / len(off) == pytest.approx(told.mae_e, abs=1e-3)
