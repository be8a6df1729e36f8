"""`analysis/`, from journals of virtual campaigns with predictions and labels on disk."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import molecule

from aimspax_core.campaign.actions import Propagate, Train
from aimspax_core.campaign.events import (
    Checked,
    Event,
    LabelArrived,
    Launched,
    Look,
    SegmentFinished,
    Started,
    TrainingFinished,
)
from aimspax_core.campaign.journal import Journal
from aimspax_core.campaign.members import Errors
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.state import CampaignState
from aimspax_core.labels.label import Label
from aimspax_core.labels.store import LabelStore
from aimspax_core.output.analysis import Analysis
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from aimspax_core.settings.settings import Settings
from tests.campaign.virtual import VirtualShell, World

PROJECT = """
REFERENCE: {engine: tblite}
INITIAL_DATASET_GENERATION:
  {initial_sampling: aimd, n_points_per_sampling_step_idg: 3, ensemble_size: 2,
   max_initial_epochs: 4, analysis: True}
ACTIVE_LEARNING: {num_trajectories: 3, max_train_set_size: 16, analysis: True}
MD: {stat_ensemble: NVT}
"""
MODEL = "GENERAL: {name_exp: water}\n"
RULES = Rules(
    tags=("a-1", "a-2"), geometries=1, seed=1, points_per_step=3, initial_epochs=5,
    initial_accuracy=0.4, max_initial_epochs=math.inf, max_initial_set_size=200,
    initial_valid_ratio=0.2, converge_initial=True, num_trajectories=3, epochs_per_round=2,
    valid_ratio=0.2, desired_acc=0.0, max_train_set_size=40, freeze_threshold_dataset=math.inf,
    c_x=0.0, max_md_steps=math.inf, converge_al=True, converge_best=True, max_segments=2,
)  # fmt: skip
MEMBERS, ATOMS = 2, 3


def settings_of(folder: Path, changes: dict[str, Any] | None = None) -> Settings:
    folder.mkdir(exist_ok=True)
    (folder / "aimsPAX.yaml").write_text(PROJECT, encoding="utf-8")
    (folder / "mace.yaml").write_text(MODEL, encoding="utf-8")
    (folder / "geometry.in").write_text("atom 0 0 0 O\natom 0 0 1 H\n", encoding="utf-8")
    return load(folder, changes)


def loss(tag: str, stage: str, epoch: int) -> float:
    """A validation loss that tells which one it is."""
    return epoch + (100.0 if stage == "active" else 0.0) + (0.5 if tag == "a-2" else 0.0)


@dataclass
class Told:
    """Writes a virtual campaign into a run directory, with what its workers would have written."""

    run: RunDir
    settings: Settings
    journal: Journal
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))
    looks: list[tuple[Look, int]] = field(default_factory=list)
    checks: dict[int, list[Checked]] = field(default_factory=lambda: defaultdict(list))
    labelled: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)
    epochs: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    trainings: dict[str, Train] = field(default_factory=dict)
    last: list[tuple[Event, CampaignState]] = field(default_factory=list)

    def watch(self, _: CampaignState, event: Event) -> None:
        if isinstance(event, SegmentFinished):
            event = self._seen(event)
        if isinstance(event, TrainingFinished):
            event = self._validated(event)
        state = self.journal.append(event)
        self.last.append((event, state))
        if isinstance(event, Launched) and isinstance(event.action, Propagate):
            self.sizes[event.action.id] = state.training_set_size
        if isinstance(event, Launched) and isinstance(event.action, Train):
            self.trainings[event.action.id] = event.action
        if isinstance(event, LabelArrived):
            self._label(event.key)

    def _seen(self, event: SegmentFinished) -> SegmentFinished:
        """With a check at each end of the segment; the threshold comes with the second look."""
        looks = tuple(
            look.model_copy(update={"threshold": 0.1 if self.looks else None})
            for look in event.looks
        )
        for look in looks:
            self.looks.append((look, self.sizes[event.action_id]))
            forces = self.rng.normal(size=(MEMBERS, ATOMS, 3))
            path = self.run.prediction(look.key)
            path.parent.mkdir(parents=True, exist_ok=True)
            energies = self.rng.normal(size=MEMBERS)
            np.savez(
                path, member_forces=forces, forces=forces.mean(axis=0), member_energies=energies
            )
        checks = tuple(
            Checked(
                trajectory=r.trajectory, step=r.step, uncertainty=r.step / 1000,
                threshold=0.2 if r.step > 100 else None,
            )
            for r in event.results
        )  # fmt: skip
        for check in checks:
            self.checks[check.trajectory].append(check)
        return event.model_copy(update={"looks": looks, "checks": checks})

    def _validated(self, event: TrainingFinished) -> TrainingFinished:
        """With a validation of every epoch, counted as a member counts them."""
        stage = self.trainings[event.action_id].stage
        first = self.epochs[event.tag, stage] + 1
        self.epochs[event.tag, stage] += event.epochs
        errors = tuple(
            event.errors[0].model_copy(update={"epoch": n, "valid_loss": loss(event.tag, stage, n)})
            for n in range(first, first + event.epochs)
        )
        return event.model_copy(update={"errors": errors})

    def _label(self, key: str) -> None:
        self.labelled.add(key)
        label = Label(energy=float(self.rng.normal()), forces=self.rng.normal(size=(ATOMS, 3)))
        LabelStore(self.run.labels).put(key, molecule("H2O"), label)


def told_campaign(folder: Path, **world: float) -> Told:
    settings = settings_of(folder)
    run = RunDir.of(settings)
    with Journal(run) as journal:
        journal.append(Started(rules=RULES))
        told = Told(run, settings, journal)
        shell = VirtualShell(RULES, World(looks=0.5, **world), np.random.default_rng(0), told.watch)
        shell.run()
    return told


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """A campaign in which some labels fail and some tasks are lost."""
    told = told_campaign(tmp_path_factory.mktemp("told"), label_fails=0.1, task_lost=0.05)
    Analysis.of(told.run, told.settings).write()
    return told


def arrays(told: Told, name: str) -> dict[str, Any]:
    """All arrays of a file; `np.load` refuses pickled objects."""
    with np.load(told.run.analysis / f"{name}.npz", allow_pickle=False) as found:
        return {key: found[key] for key in found}


def seen(told: Told, trajectory: int) -> list[tuple[Look, int]]:
    """The looks at a trajectory that have their labels."""
    return [
        (look, size)
        for look, size in told.looks
        if look.trajectory == trajectory and look.key in told.labelled
    ]


# ---- predictions against labels -------------------------------------------------------------


def test_files_are_the_originals_and_one_more_without_pickle(told: Told) -> None:
    names = {path.name for path in told.run.analysis.iterdir()}
    assert names == {
        "initial_losses.npz", "al_losses.npz", "analysis_checks.npz", "t_intervals.npz",
        "thresholds.npz", "uncertainties.npz",
    }  # fmt: skip
    for name in names:
        assert all(array.dtype.kind in "ifU" for array in arrays(told, Path(name).stem).values())


def test_every_look_with_a_label_has_an_entry_in_the_order_of_the_md(told: Told) -> None:
    found = arrays(told, "analysis_checks")
    for index in range(RULES.num_trajectories):
        looks = seen(told, index)
        assert len(looks) > 1
        assert found[f"{index}/current_md_step"].tolist() == [look.step for look, _ in looks]


def test_looks_whose_label_failed_are_missing(told: Told) -> None:
    found = arrays(told, "analysis_checks")
    count = sum(len(found[f"{i}/threshold"]) for i in range(RULES.num_trajectories))
    assert count == sum(len(seen(told, i)) for i in range(RULES.num_trajectories))
    assert count < len(told.looks)


def test_shapes_are_as_documented(told: Told) -> None:
    found = arrays(told, "analysis_checks")
    n = len(seen(told, 0))
    shapes = {key.removeprefix("0/"): a.shape for key, a in found.items() if key[:2] == "0/"}
    scalars = (
        "current_md_step train_set_length threshold predicted_energy true_energy "
        "uncertainty_via_max uncertainty_via_mean max_error mean_error uncertainty error "
        "expected_error"
    )
    assert shapes == {
        "numbers": (ATOMS,), "prediction": (n, ATOMS, 3), "true_forces": (n, ATOMS, 3),
        "atom_wise_uncertainty": (n, ATOMS), "atom_wise_error": (n, ATOMS),
        **dict.fromkeys(scalars.split(), (n,)),
    }  # fmt: skip


def test_uncertainty_and_error_are_the_originals(told: Told) -> None:
    """Written out atom by atom: both are root means over x, y and z, the first over members too."""
    found = arrays(told, "analysis_checks")
    for row, (look, _) in enumerate(seen(told, 1)):
        with np.load(told.run.prediction(look.key)) as prediction:
            members, energies = prediction["member_forces"], prediction["member_energies"]
        stored = LabelStore(told.run.labels).get(look.key)
        assert stored is not None
        for atom in range(ATOMS):
            mean = members[:, atom].sum(axis=0) / MEMBERS
            spread = sum((members[m, atom] - mean) ** 2 for m in range(MEMBERS)).sum()
            sd = math.sqrt(spread / (3 * MEMBERS))
            error = math.sqrt(((stored.label.forces[atom] - mean) ** 2).sum() / 3)
            assert found["1/atom_wise_uncertainty"][row, atom] == pytest.approx(sd)
            assert found["1/atom_wise_error"][row, atom] == pytest.approx(error)
        assert found["1/predicted_energy"][row] == pytest.approx(energies.sum() / MEMBERS)
        assert found["1/true_energy"][row] == stored.label.energy
        assert (found["1/true_forces"][row] == stored.label.forces).all()


def test_max_and_mean_are_over_the_atoms(told: Told) -> None:
    found = arrays(told, "analysis_checks")
    sd, error = found["2/atom_wise_uncertainty"], found["2/atom_wise_error"]
    for key, expected in (
        ("uncertainty_via_max", sd.max(axis=1)), ("uncertainty_via_mean", sd.mean(axis=1)),
        ("max_error", error.max(axis=1)), ("mean_error", error.mean(axis=1)),
    ):  # fmt: skip
        assert (found[f"2/{key}"] == expected).all()
    assert found["2/numbers"].tolist() == [8, 1, 1]


def test_error_and_uncertainty_are_those_of_the_campaigns_measure(told: Told) -> None:
    found = arrays(told, "analysis_checks")
    for index in range(3):
        np.testing.assert_allclose(
            found[f"{index}/uncertainty"], found[f"{index}/uncertainty_via_max"]
        )
        np.testing.assert_allclose(found[f"{index}/error"], found[f"{index}/max_error"])
        assert np.isnan(found[f"{index}/expected_error"]).all(), "no label had told it"


def test_the_error_to_be_expected_is_that_of_the_labels_before(tmp_path: Path) -> None:
    told = told_campaign(tmp_path, factor=2.0)
    Analysis.of(told.run, told.settings).write()
    found = arrays(told, "analysis_checks")
    whole = [
        found[f"{i}/expected_error"] / found[f"{i}/uncertainty"]
        for i in range(3)
        if f"{i}/uncertainty" in found
    ]
    ratios = np.concatenate(whole)
    known = ratios[np.isfinite(ratios)]
    assert 0 < len(known) < len(ratios)
    assert np.median(known) == pytest.approx(2.0, rel=0.15)


def test_threshold_and_set_size_are_those_of_the_prediction(told: Told) -> None:
    found = arrays(told, "analysis_checks")
    for index in range(RULES.num_trajectories):
        looks = seen(told, index)
        expected = [math.nan if look.threshold is None else look.threshold for look, _ in looks]
        assert np.array_equal(found[f"{index}/threshold"], expected, equal_nan=True)
        assert found[f"{index}/train_set_length"].tolist() == [size for _, size in looks]
    sizes = {size for _, size in told.looks}
    assert len(sizes) > 3


# ---- every check ----------------------------------------------------------------------------


def test_steps_uncertainties_and_thresholds_belong_together(told: Told) -> None:
    steps, thresholds, values = (
        arrays(told, name) for name in ("t_intervals", "thresholds", "uncertainties")
    )
    assert set(steps) == {str(i) for i in range(RULES.num_trajectories)}
    for index, checks in told.checks.items():
        key = str(index)
        assert steps[key].tolist() == [check.step for check in checks]
        assert values[key].tolist() == [check.uncertainty for check in checks]
        expected = [math.nan if c.threshold is None else c.threshold for c in checks]
        assert np.array_equal(thresholds[key], expected, equal_nan=True)
        assert np.isnan(thresholds[key]).any() and (thresholds[key] == 0.2).any()


# ---- losses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stage"), [("initial_losses", "initial"), ("al_losses", "active")]
)
def test_losses_have_a_row_for_each_epoch_that_all_members_did(
    told: Told, name: str, stage: str
) -> None:
    found = arrays(told, name)
    epochs = [n for (_, of), n in told.epochs.items() if of == stage]
    assert found["tags"].tolist() == list(RULES.tags)
    assert found["epoch"].tolist() == list(range(1, min(epochs) + 1))
    expected = [[loss(tag, stage, n) for tag in RULES.tags] for n in found["epoch"]]
    assert found["ensemble_losses"].tolist() == expected
    assert (found["avg_losses"] == np.mean(expected, axis=1)).all()


ERRORS = Errors(
    epoch=1, train_loss=1.0, valid_loss=1.0, mae_f=0.5, rmse_f=1.0, mae_e=1.0, rmse_e=1.0,
    mae_e_per_atom=1.0, rmse_e_per_atom=1.0, mae_stress=None, rmse_stress=None, lr=0.1, seconds=1,
)  # fmt: skip


def trained(
    analysis: Analysis, tag: str, round_: int, start: str | None, epochs: int, *validated: int
) -> str:
    """Tell of a member's training in a round of two epochs; return its new checkpoint."""
    state = CampaignState.begin(RULES)
    checkpoint = f"train-{tag}-{round_}-{start}"
    action = Train(
        tag=tag, stage="active", round=round_, start=start, checkpoint=checkpoint, epochs=2
    )
    errors = tuple(ERRORS.model_copy(update={"epoch": n, "valid_loss": n}) for n in validated)
    event = TrainingFinished(
        action_id=action.id, tag=tag, checkpoint=checkpoint, epochs=epochs, errors=errors
    )
    analysis.note(Launched(action=action), state)
    analysis.note(event, state)
    return checkpoint


def losses_of(analysis: Analysis, run: RunDir) -> dict[str, Any]:
    analysis.write()
    with np.load(run.analysis / "al_losses.npz", allow_pickle=False) as found:
        return {key: found[key] for key in found}


@pytest.fixture
def analysis(tmp_path: Path) -> tuple[Analysis, RunDir]:
    settings = settings_of(tmp_path)
    return Analysis(RunDir.of(settings), settings), RunDir.of(settings)


def test_members_are_compared_on_the_same_data_after_a_round_was_cut_short(
    analysis: tuple[Analysis, RunDir],
) -> None:
    told, run = analysis
    one = trained(told, "a-1", 1, "start", 2, 1, 2)
    trained(told, "a-1", 2, one, 2, 3, 4)
    two = trained(told, "a-2", 2, "start", 2, 1, 2)
    found = losses_of(told, run)
    assert found["ensemble_losses"].tolist() == [[3, 1], [4, 2]]
    assert found["epoch"].tolist() == [3, 4]
    trained(told, "a-2", 3, two, 2, 3, 4)
    assert losses_of(told, run)["epoch"].tolist() == [3, 4]


def test_a_training_in_parts_gives_the_rows_of_one_in_one_go(
    analysis: tuple[Analysis, RunDir],
) -> None:
    """With a validation every other epoch, a part may end without one."""
    told, run = analysis
    one = trained(told, "a-1", 1, "start", 1)
    trained(told, "a-1", 1, one, 1, 2)
    trained(told, "a-2", 1, "start", 2, 2)
    found = losses_of(told, run)
    assert (found["epoch"].tolist(), found["ensemble_losses"].tolist()) == ([2], [[2, 2]])


def test_epochs_go_on_when_a_stage_is_entered_anew(analysis: tuple[Analysis, RunDir]) -> None:
    """From a checkpoint that this stage's training did not write a member counts from 0 again."""
    told, run = analysis
    for tag in RULES.tags:
        trained(told, tag, 1, "start", 2, 1, 2)
        trained(told, tag, 2, "of a convergence", 2, 1, 2)
    assert losses_of(told, run)["epoch"].tolist() == [1, 2, 3, 4]


# ---- when it is written ---------------------------------------------------------------------


def test_nothing_is_written_when_analysis_is_off(told: Told, tmp_path: Path) -> None:
    off = {"ACTIVE_LEARNING.analysis": False, "INITIAL_DATASET_GENERATION.analysis": False}
    other = tmp_path / "off"
    settings = settings_of(other, off)
    RunDir.of(settings).state.mkdir()
    RunDir.of(settings).journal.write_bytes(told.run.journal.read_bytes())
    Analysis.of(RunDir.of(settings), settings).write()
    assert not RunDir.of(settings).analysis.exists()


@pytest.mark.key("InitialDatasetGeneration", "analysis")
@pytest.mark.parametrize(
    ("off", "files"),
    [
        ("ACTIVE_LEARNING", {"initial_losses.npz"}),
        ("INITIAL_DATASET_GENERATION", {"al_losses.npz", "t_intervals.npz", "thresholds.npz",
                                        "uncertainties.npz"}),
    ],
)  # fmt: skip
def test_each_phase_has_its_own_switch(
    told: Told, tmp_path: Path, off: str, files: set[str]
) -> None:
    settings = settings_of(tmp_path / "half", {f"{off}.analysis": False})
    run = RunDir.of(settings)
    run.state.mkdir()
    run.journal.write_bytes(told.run.journal.read_bytes())
    Analysis.of(run, settings).write()
    assert {path.name for path in run.analysis.iterdir()} == files


def test_nothing_is_written_before_there_is_something_to_tell(
    analysis: tuple[Analysis, RunDir],
) -> None:
    write, run = analysis
    write.write()
    assert not run.analysis.exists()


def test_written_as_it_goes_on_it_is_the_same_as_from_the_journal(
    told: Told, tmp_path: Path
) -> None:
    step_by_step = Analysis(told.run, told.settings)
    for number, (event, state) in enumerate(told.last):
        step_by_step.note(event, state)
        if number % 40 == 0:
            step_by_step.write()
    step_by_step.write()
    now = {p.stem: arrays(told, p.stem) for p in told.run.analysis.iterdir()}
    Analysis.of(told.run, told.settings).write()
    for name, before in now.items():
        after = arrays(told, name)
        assert before.keys() == after.keys()
        for key, array in before.items():
            np.testing.assert_array_equal(array, after[key])


def test_what_has_not_changed_is_not_written_again(told: Told) -> None:
    found = Analysis.of(told.run, told.settings)
    found.write()
    for path in told.run.analysis.iterdir():
        path.unlink()
    found.write()
    assert list(told.run.analysis.iterdir()) == []
    Analysis.of(told.run, told.settings).write()


def test_a_prediction_that_is_gone_is_told_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = told_campaign(tmp_path)
    look, _ = seen(told, 0)[0]
    told.run.prediction(look.key).unlink()
    with caplog.at_level(logging.WARNING):
        Analysis.of(told.run, told.settings).write()
    assert f"{look.key}.npz is left out of the analysis" in caplog.text
    assert len(arrays(told, "analysis_checks")["0/threshold"]) == len(seen(told, 0)) - 1
