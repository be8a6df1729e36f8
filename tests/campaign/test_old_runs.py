"""Run directories that earlier releases left, as today's code reads them.

`NAME.expected.json`, beside each of them, holds what the code of that release read. Today's state
may hold more than was known then; what was known must be the same.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aimspax_core.campaign.actions import Label
from aimspax_core.campaign.events import Resumed
from aimspax_core.campaign.journal import Journal, entries, load
from aimspax_core.campaign.rules import next_actions
from aimspax_core.campaign.state import CampaignState
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.inputs.pretrained import with_its_architecture
from aimspax_core.inputs.provenance import changed
from aimspax_core.labels.store import LabelStore
from aimspax_core.model.family import load_any
from aimspax_core.model.member import Member
from aimspax_core.run_directory import RunDir
from aimspax_core.sampling.dynamics import load_state
from aimspax_core.settings.load import load as load_settings
from aimspax_core.settings.settings import Settings
from aimspax_core.structures import digest

FIXTURES = Path(__file__).parents[1] / "fixtures"
FIRST, SECOND = "0.1.0-8e65e71", "0.2.0-d0e02b3"
OF_FIRST = tuple(f"{FIRST}/{name}" for name in ("finished", "interrupted", "adopted"))
OF_SECOND = tuple(f"{SECOND}/{name}" for name in ("initial", "exploring", "converging", "finished"))
ADOPTED = f"{FIRST}/adopted"
OFTEN = {
    "started", "exploration-asked", "launched", "label-arrived", "segment-finished",
    "training-finished", "convergence-advanced", "published",
}  # fmt: skip
KINDS = {
    FIRST: OFTEN | {"resumed", "sampled", "label-failed", "labels-gone", "adopted", "task-lost"},
    SECOND: OFTEN | {"sampled", "label-failed", "assessed"},
}


@dataclass(frozen=True)
class OldRun:
    """A copy of a run directory, and what the old code read in it."""

    name: str
    directory: Path
    expected: dict[str, Any]

    @property
    def part(self) -> Any:
        """What of a campaign it is."""
        return "active" if self.name == ADOPTED else "all"

    @property
    def settings(self) -> Settings:
        """With the architecture of the model that members have begun from, if they are tuned."""
        return with_its_architecture(load_settings(self.directory), self.state)

    @property
    def run(self) -> RunDir:
        return RunDir.of(load_settings(self.directory))

    @property
    def state(self) -> CampaignState:
        state = load(self.run)[1]
        assert state is not None
        return state


@pytest.fixture(params=OF_FIRST + OF_SECOND)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> OldRun:
    return copied(request.param, tmp_path)


def copied(name: str, folder: Path) -> OldRun:
    """Copy a run directory to where it may be written to."""
    shutil.copytree(FIXTURES / name, folder / name)
    return OldRun(name, folder / name, expected(name))


def expected(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.expected.json").read_text())


# ---- what is read; `expected.json` was made by these functions ------------------------------


def told(old: OldRun) -> dict[str, Any]:
    """All that the old code read."""
    run, state = old.run, old.state
    return {
        "events": load(run)[0],
        "kinds": dict(sorted(Counter(e.event.kind for e in entries(run.journal)).items())),
        "state": plain(state),
        "summary": summary(state),
        "labels": labels(run),
        "checkpoints": checkpoints(run, old.settings),
        "md_states": md_states(run),
        "models": models(old.directory),
    }


def plain(value: Any) -> Any:
    """A record as its JSON is read."""
    return json.loads(value.model_dump_json())


def summary(state: CampaignState) -> dict[str, Any]:
    """What a user would ask about first."""
    return {
        "phase": state.phase.value,
        "stop_reason": state.stop_reason,
        "labels": state.labels,
        "failed_labels": state.failed_labels,
        "labelled": len(state.labelled),
        "training_set_size": state.training_set_size,
        "in_flight": sorted(state.in_flight),
        "sets": {tag: [len(keys) for keys in state.dataset(tag)] for tag in state.members},
        "mae_f": {t: m.errors and m.errors.mae_f for t, m in state.members.items()},
        "valid_loss": {t: m.errors and m.errors.valid_loss for t, m in state.members.items()},
        "epochs": {tag: member.epochs for tag, member in state.members.items()},
        "checkpoints": {tag: member.checkpoint for tag, member in state.members.items()},
        "best": {t: m.best and m.best.mae_f for t, m in state.members.items()},
    }


def labels(run: RunDir) -> dict[str, Any]:
    """Each label in the store, by key."""
    store, found = LabelStore(run.labels), {}
    for file in sorted(run.labels.glob("*/*.json")):
        stored = store.get(file.stem)
        assert stored is not None
        found[stored.key] = {
            "formula": stored.atoms.get_chemical_formula(),
            "positions": sha(stored.atoms.positions),
            "energy": stored.label.energy,
            "forces": sha(stored.label.forces),
            "stress": None if stored.label.stress is None else sha(stored.label.stress),
            "provenance": stored.label.provenance,
        }
    return found


def checkpoints(run: RunDir, settings: Settings) -> dict[str, Any]:
    """Each checkpoint, as a member that it was loaded into."""
    files = sorted(run.checkpoints_dir.glob("*/*.pt"))
    return {f"{f.parent.name}/{f.stem}": member(Member.load(f, settings.model)) for f in files}


def member(found: Member) -> dict[str, Any]:
    best = found.best_weights
    return {
        "tag": found.tag,
        "seed": found.seed,
        "elements": found.elements,
        "stage": found.stage.value,
        "epoch": found.epoch,
        "total_epochs": found.total_epochs,
        "best_valid_loss": found.progress.best_valid_loss,
        "validations_without_improvement": found.progress.validations_without_improvement,
        "last_improvement": found.progress.last_improvement,
        "lr": found.learner.lr,
        "constants": {
            "atomic_energies": [*map(list, sorted(found.constants.atomic_energies.items()))],
            **{
                name: getattr(found.constants, name)
                for name in ("avg_num_neighbors", "scale", "shift")
                if hasattr(found.constants, name)
            },
        },
        "weights": {n: sha(w) for n, w in found.model.named_parameters()},
        "averaged": {n: sha(w) for n, w in found.learner.averaged_weights().items()},
        "best": None if best is None else {n: sha(w) for n, w in best.items()},
        "best_metrics": None if found.best_metrics is None else asdict(found.best_metrics),
        "moments": {
            str(index): {name: sha(moment) for name, moment in sorted(moments.items())}
            for index, moments in found.learner.optimizer.state_dict()["state"].items()
        },
    }


def md_states(run: RunDir) -> dict[str, Any]:
    """Each trajectory's MD state."""
    found = {}
    for file in sorted((run.state / "trajectories").glob("*/*.json")):
        state = load_state(file)
        found[f"{file.parent.name}/{file.stem}"] = {
            "step": state.step,
            "positions": sha(state.structure.positions),
            "momenta": sha(state.structure.get_momenta()),
            "rng": state.rng,
            "extras": state.extras,
        }
    return found


def models(directory: Path) -> dict[str, Any]:
    """Each `.model` file."""
    found = {}
    for file in sorted(directory.rglob("*.model")):
        model = load_any(file)[1]
        found[str(file.relative_to(directory))] = {n: sha(w) for n, w in model.named_parameters()}
    return found


def sha(array: Any) -> str:
    """Tell an array or a tensor from all others: its kind, its shape and every bit."""
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu().numpy()
    array = np.ascontiguousarray(array)
    head = f"{array.dtype} {array.shape} ".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()[:16]


def assert_holds(now: Any, then: Any, where: str = "") -> None:
    """Check that all that was known then is the same now; there may be more keys."""
    if isinstance(then, dict):
        assert isinstance(now, dict), where
        for key, value in then.items():
            assert key in now, f"{where}.{key} is gone"
            assert_holds(now[key], value, f"{where}.{key}")
    elif isinstance(then, list):
        assert isinstance(now, list) and len(now) == len(then), where
        for index, (one, other) in enumerate(zip(now, then, strict=True)):
            assert_holds(one, other, f"{where}[{index}]")
    else:
        assert now == then, where


# ---- the journal ----------------------------------------------------------------------------


@pytest.mark.parametrize("snapshot", ["with", "without"])
def test_an_old_journal_leads_to_the_state_that_it_led_to(old: OldRun, snapshot: str) -> None:
    if snapshot == "without":
        old.run.snapshot.unlink(missing_ok=True)  # so early there is none yet
    assert load(old.run)[0] == old.expected["events"]
    assert_holds(plain(old.state), old.expected["state"], "state")
    assert summary(old.state) == old.expected["summary"]


def test_of_an_old_event_nothing_is_lost(old: OldRun) -> None:
    lines = [json.loads(line) for line in old.run.journal.read_text().splitlines()]
    found = list(entries(old.run.journal))
    assert Counter(entry.event.kind for entry in found) == old.expected["kinds"]
    for entry, line in zip(found, lines, strict=True):
        assert_holds(plain(entry.event), line["event"], f"event {entry.seq}")


@pytest.mark.parametrize(("release", "names"), [(FIRST, OF_FIRST), (SECOND, OF_SECOND)])
def test_its_kinds_of_events_are_in_the_journals_of_a_release(
    release: str, names: tuple[str, ...]
) -> None:
    assert {kind for name in names for kind in expected(name)["kinds"]} == KINDS[release]


def test_an_old_journal_is_gone_on_with(old: OldRun) -> None:
    lines = old.run.journal.read_text().splitlines()
    with Journal(old.run) as journal:
        state = journal.append(Resumed(rules=journal.state.rules))
    assert old.run.journal.read_text().splitlines()[:-1] == lines
    assert not state.in_flight
    assert load(old.run) == (len(lines) + 1, state)


@pytest.mark.parametrize("name", [f"{FIRST}/interrupted", f"{SECOND}/exploring"])
def test_a_label_that_was_in_flight_is_wanted_again(name: str, tmp_path: Path) -> None:
    old = copied(name, tmp_path)
    flying = {action for action in old.state.in_flight.values() if isinstance(action, Label)}
    assert flying
    with Journal(old.run) as journal:
        assert flying <= set(next_actions(journal.append(Resumed(rules=journal.state.rules))))


def with_engine_of_today(old: OldRun) -> None:
    """Another release of the engine is another method, and no news."""
    record = json.loads(old.run.settings.read_text())
    for key in record["frozen"]:
        if key.startswith("REFERENCE") and key.endswith(".version"):
            engine = "mace-torch" if old.name == ADOPTED else "tblite"
            record["frozen"][key] = importlib.metadata.version(engine)
    if record.pop("checksum", None) is not None:  # release 0.1.0 wrote none
        record["checksum"] = digest(record)
    old.run.settings.write_text(json.dumps(record))


def test_old_settings_count_as_unchanged(old: OldRun) -> None:
    with_engine_of_today(old)
    inputs = Inputs.read(old.directory, None, old.part)
    changes = changed(inputs.run, inputs.settings, inputs.geometries)
    assert not [change for change in changes if ": was not there, is " not in change]  # new keys
    assert tuple(inputs.seeds) == old.state.rules.tags


@pytest.mark.parametrize("old", OF_FIRST, indirect=True)
def test_an_old_campaign_whose_constraints_were_dropped_goes_on_without(old: OldRun) -> None:
    """Release 0.1.0 read such a file as the same structure, and moved all its atoms."""
    with_engine_of_today(old)
    file = old.directory / "geometry.xyz"
    count, comment, first, *others = file.read_text().splitlines()
    comment = comment.replace("pos:R:3", "pos:R:3:move_mask:L:1")
    rows = [f"{first} F", *(f"{row} T" for row in others)]
    file.write_text("\n".join((count, comment, *rows)) + "\n")
    inputs = Inputs.read(old.directory, None, old.part)
    assert not inputs.settings.held_atoms(0)
    assert changed(inputs.run, inputs.settings, inputs.geometries) is not None  # nothing refused
    (note,) = (note for note in inputs.settings.notes if note.startswith("geometry.xyz: "))
    assert "no atom held" in note and "1 atom fixed" in note and "--fresh" in note
    states = (old.run.state / "trajectories").glob("*/*.json")
    assert not any(load_state(file).held for file in states)
    if old.part == "all":  # the other one's models are gone
        assert Inputs.read(old.directory, anew=True).settings.held_atoms(0).fixed == (0,)


# ---- what the journal names -----------------------------------------------------------------


def test_old_labels_are_in_the_store(old: OldRun) -> None:
    assert labels(old.run) == old.expected["labels"]
    assert set(old.state.labelled) <= set(old.expected["labels"])


def test_old_checkpoints_become_the_members_that_they_were(old: OldRun) -> None:
    now = json.loads(json.dumps(checkpoints(old.run, old.settings)))
    assert_holds(now, old.expected["checkpoints"], "checkpoints")
    trained = {tag: one for tag, one in old.state.members.items() if one.checkpoint}
    assert trained
    for tag, one in trained.items():
        assert now[f"{tag}/{one.checkpoint}"]["total_epochs"] >= one.epochs


def test_an_old_checkpoint_is_written_as_it_was_read(old: OldRun, tmp_path: Path) -> None:
    model = old.settings.model
    file = next(iter(sorted(old.run.checkpoints_dir.glob("*/*.pt"))))
    before = Member.load(file, model)
    before.save(tmp_path / "again.pt")
    assert member(Member.load(tmp_path / "again.pt", model)) == member(before)


def test_old_md_states_are_read(old: OldRun) -> None:
    now = md_states(old.run)
    assert_holds(now, old.expected["md_states"], "md_states")
    for trajectory in old.state.trajectories:
        assert f"{trajectory.index}/{trajectory.version}" in now


def test_old_models_are_loaded(old: OldRun) -> None:
    assert_holds(models(old.directory), old.expected["models"], "models")


@pytest.mark.parametrize("release", [FIRST, SECOND])
def test_an_old_model_predicts_what_it_predicted(release: str, tmp_path: Path) -> None:
    import ase.io
    from mace.calculators import MACECalculator

    old = copied(f"{release}/finished", tmp_path)
    (model,) = (old.directory / "results").glob("*.model")
    frames = ase.io.read(old.directory / "results" / f"valid_set_{model.stem}.xyz", index=":")
    calculator = MACECalculator(model_paths=str(model), device="cpu", default_dtype="float32")
    misses = [
        np.abs(calculator.get_forces(atoms) - atoms.arrays["REF_forces"]).ravel()
        for atoms in frames
    ]
    best = old.expected["summary"]["best"][model.stem]
    assert np.concatenate(misses).mean() == pytest.approx(best, rel=1e-3)


# ---- what Prefect has kept ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["finished", "interrupted"])
def test_an_old_result_in_prefects_storage_is_a_label_record(name: str, tmp_path: Path) -> None:
    """Its class is named there by module and name: who moves it leaves a name behind."""
    from prefect.results import ResultRecord

    from tasks.label import LabelRecord

    old = copied(f"{FIRST}/{name}", tmp_path)
    (file,) = old.run.prefect_results.glob("label-*")
    record = ResultRecord.deserialize(file.read_bytes()).result
    assert isinstance(record, LabelRecord)
    label = old.expected["labels"][record.key]
    assert file.name == f"label-{record.key}"
    assert (record.wall_s, record.core_hours, record.host) == tuple(
        label["provenance"][name] for name in ("wall_s", "core_hours", "host")
    )
    assert record.worker.startswith("tls://")


def test_an_old_failure_in_prefects_storage_is_a_label_error(tmp_path: Path) -> None:
    """What Prefect keeps of an error is its class, by module and name, and its message."""
    from prefect.results import ResultRecord

    from aimspax_core.errors import LabelError

    old = copied(f"{FIRST}/finished", tmp_path)
    (file,) = (f for f in old.run.prefect_results.iterdir() if not f.name.startswith("label-"))
    error = ResultRecord.deserialize(file.read_bytes()).result
    assert isinstance(error, LabelError)
    assert str(error) in {point.reason for point in old.state.points.values()}
