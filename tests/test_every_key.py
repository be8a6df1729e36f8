"""Every key of aimsPAX.yaml does something, and so do those of mace.yaml that no network has.

`TESTS` names the test of each key; the last tests hold it against the models of the settings, so
that no key is without one. The other keys of mace.yaml: tests/model/test_keys.py.
"""

from __future__ import annotations

import ast
import contextlib
import json
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from pydantic import BaseModel, ValidationError

import tasks.propagate
import tasks.sample
from aimspax_core.campaign.actions import Converge, Propagate, Sample, Train
from aimspax_core.campaign.events import (
    Event,
    ExplorationAsked,
    LabelArrived,
    Launched,
    Sampled,
    SegmentFinished,
    Started,
    TrainingFinished,
    TrajectoryResult,
)
from aimspax_core.campaign.journal import Journal
from aimspax_core.campaign.labels import LabelStore, StoredLabel, label_key
from aimspax_core.campaign.rules import apply, next_actions
from aimspax_core.campaign.state import CampaignState, Errors, Phase, Rules, Trajectory
from aimspax_core.campaign.training import replayed
from aimspax_core.dataset import DataKeys, carried, labelled, read_labels, write
from aimspax_core.errors import CampaignError, LabelError, StructureError
from aimspax_core.inputs import Inputs
from aimspax_core.model import kept, mace
from aimspax_core.model.committee import Prediction
from aimspax_core.pretrained import find_pretrained
from aimspax_core.reference import teacher
from aimspax_core.reference.base import Label
from aimspax_core.reference.engines import build_reference
from aimspax_core.reference.gate import check_label, check_structure
from aimspax_core.report.narrative import lines
from aimspax_core.report.trajectories import part
from aimspax_core.rundir import RunDir
from aimspax_core.sampling.dynamics import (
    capture,
    integrator,
    load_state,
    random_stream,
    resume,
    start,
)
from aimspax_core.settings import engines, md, project
from aimspax_core.settings.load import Settings, load
from aimspax_core.settings.seeds import member_seeds
from aimspax_core.uncertainty import Window
from flows import pools
from flows.campaign import _Campaign
from flows.logs import campaign_logs
from flows.tidy import tidy
from tasks.propagate import PropagateRequest, propagate
from tasks.sample import SampleRequest, sample
from tasks.train import TrainRequest, converge, train
from tests.model.test_keys import NOT_OF_THE_MODEL

IDG, AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
PROJECT = """
REFERENCE: {engine: ase, calculator: ase.calculators.emt.EMT}
INITIAL_DATASET_GENERATION:
  {n_points_per_sampling_step_idg: 5, ensemble_size: 2, max_initial_epochs: 1000,
   initial_sampling: aimd}
ACTIVE_LEARNING: {num_trajectories: 3, max_MD_steps: 100000}
MD: {stat_ensemble: nvt, friction: 0.01}
"""
MODEL = """
GENERAL: {name_exp: water, default_dtype: float64}
ARCHITECTURE:
  {r_max: 3.0, num_channels: 4, max_L: 0, max_ell: 1, correlation: 1, num_interactions: 1,
   num_radial_basis: 3, radial_MLP: [4]}
TRAINING: {batch_size: 2, valid_batch_size: 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run directory of one water molecule."""
    (tmp_path / "aimsPAX.yaml").write_text(PROJECT, encoding="utf-8")
    (tmp_path / "mace.yaml").write_text(MODEL, encoding="utf-8")
    ase.io.write(tmp_path / "geometry.in", molecule("H2O"))
    return tmp_path


def with_values(folder: Path, *sections: dict[str, dict[str, Any]]) -> Settings:
    """The settings with other values in some sections."""
    return load(
        folder,
        {f"{name}.{k}": v for part in sections for name, c in part.items() for k, v in c.items()},
    )


# --- The rules ------------------------------------------------------------------------------------


class Story:
    """A campaign of these settings, told event by event; labels are texts."""

    def __init__(self, settings: Settings) -> None:
        tags = tuple(member_seeds(settings))
        self.rules = Rules.of(settings, tags, geometries=1)
        self.state = apply(None, Started(rules=self.rules))
        self.told: list[str] = []
        self.replays: list[tuple[int, ...]] = []

    def tell(self, event: Event) -> CampaignState:
        before, self.state = self.state, apply(self.state, event)
        self.told += lines(before, event, self.state)
        return self.state

    def launch(self) -> list[Any]:
        actions = next_actions(self.state)
        for action in actions:
            self.tell(Launched(action=action))
        return actions

    def sampled(self) -> CampaignState:
        """One step of sampling, with all its labels."""
        (action,) = (a for a in self.launch() if isinstance(a, Sample))
        keys = tuple(f"{action.step}-{i}" for i in range(action.points))
        self.tell(Sampled(action_id=action.id, geometry=0, version=action.step, found=keys))
        for key in keys:
            self.tell(LabelArrived(key=key, wall_s=1.0))
        return self.state

    def trained(self, error: float = 1.0) -> CampaignState:
        """The round that is due; each member has this force error afterwards (eV/Å)."""
        for action in [a for a in self.launch() if isinstance(a, Train)]:
            errors = Errors(
                epoch=0, train_loss=1.0, valid_loss=1.0, mae_f=error, rmse_f=1.0, mae_e=1.0,
                rmse_e=1.0, mae_e_per_atom=1.0, rmse_e_per_atom=1.0, mae_stress=None,
                rmse_stress=None, lr=0.1, seconds=1.0,
            )  # fmt: skip
            self.tell(
                TrainingFinished(
                    action_id=action.id, tag=action.tag, checkpoint=action.checkpoint,
                    epochs=action.epochs, errors=(errors,),
                )
            )  # fmt: skip
        return self.state

    def exploring(self) -> CampaignState:
        """Through the shortest initial dataset into active learning."""
        self.sampled()
        while self.state.phase is Phase.INITIAL:
            self.trained()
        while self.state.phase is Phase.INITIAL_PUBLISH:
            self.state = self.state.but(phase=Phase.READY)
        return self.tell(ExplorationAsked())

    def crossed(self, *found: str, values: Sequence[float] = (0.1,)) -> CampaignState:
        """Let the first trajectory cross once for each key and each have its label."""
        for key in found:
            state = self.state
            number = state.segments + 1
            action = Propagate(number=number, trajectories=(0,), checkpoints=state.ensemble)
            self.tell(Launched(action=action))
            result = TrajectoryResult(
                trajectory=0, outcome="crossed", version=number, step=10 * number,
                since_crossing=0, key=key,
            )  # fmt: skip
            self.tell(
                SegmentFinished(action_id=action.id, results=(result,), uncertainties=tuple(values))
            )
            self.tell(LabelArrived(key=key, wall_s=1.0))
            if self.state.round is not None:
                tags = self.state.members
                self.replays = [tuple(map(len, replayed(self.state, tag))) for tag in tags]
            while self.state.round is not None and self.state.phase is Phase.ACTIVE:
                self.trained()
        return self.state


SHORT = {IDG: {"max_initial_epochs": 1}}


def points_of_a_step(story: Story) -> Any:
    (action,) = next_actions(story.state)
    return action.points


def members(story: Story) -> Any:
    return len(story.state.members)


def initial_sets(story: Story) -> Any:
    state = story.sampled()
    return [(len(m.training), len(m.validation)) for m in state.members.values()]


def shared_points(story: Story) -> Any:
    first, second = ({*m.training, *m.validation} for m in story.sampled().members.values())
    return bool(first & second)


def epochs_of_a_round(story: Story) -> Any:
    state = story.sampled()
    return state.round and state.round.epochs


def ends_at_error(story: Story, error: float = 0.3) -> Any:
    story.sampled()
    return story.trained(error).stop_reason


def steps_until_the_end(story: Story) -> Any:
    for step in range(1, 9):
        story.sampled()
        if story.trained().stop_reason:
            return step
    return None


def after_the_initial_dataset(story: Story) -> Any:
    story.sampled()
    return story.trained().phase


def lines_on_labels(story: Story) -> Any:
    story.sampled()
    return [line for line in story.told if line.startswith("labels:")]


def trajectories(story: Story) -> Any:
    return len(story.exploring().trajectories)


def sets_of_points_found(story: Story) -> Any:
    story.exploring()
    state = story.crossed(*"abcdefgh")
    return len(state.training), len(state.validation)


def epochs_for_a_point(story: Story) -> Any:
    before = story.exploring().members
    after = story.crossed("a", "b").members
    return [after[tag].epochs - before[tag].epochs for tag in after]


def frozen_at(story: Story) -> Any:
    story.exploring()
    for number in range(4):
        if story.crossed(f"p{number}", values=[1.0] * 11).window.frozen is not None:
            return len(story.state.training)
    return None


def frozen_threshold(story: Story) -> Any:
    story.exploring()
    return story.crossed("p", values=[1.0] * 11).window.frozen


def points_until_the_end(story: Story) -> Any:
    story.exploring()
    for number in range(1, 6):
        story.crossed(f"p{number}")
        if story.state.stop_reason:
            return number, story.state.stop_reason.split(":")[0]
    return None


def stops_at_error(story: Story) -> Any:
    story.exploring()
    story.crossed("a")
    return bool(story.state.stop_reason)


def converged_members(story: Story) -> Any:
    story.exploring()
    story.crossed("a")
    return len([a for a in next_actions(story.state) if isinstance(a, Converge)])


def replayed_sizes(story: Story) -> Any:
    story.exploring()
    story.crossed(*"abcdef")
    return story.replays


def checkpoint_of_the_trajectory(story: Story) -> Any:
    story.exploring()
    return story.crossed("a").trajectories[0].checkpoint_step


END = SHORT | {AL: {"valid_ratio": 0, "max_train_set_size": 5}}
SUBSET = {
    **SHORT,
    AL: {"valid_ratio": 0.4, "replay_strategy": "random_subset", "train_subset_size": 3},
}

# Section, key, value, what it shows, with it, without it, and what else it needs to show.
RULES: list[tuple[str, str, Any, Any, Any, Any, dict[str, dict[str, Any]]]] = [
    (IDG, "n_points_per_sampling_step_idg", 7, points_of_a_step, 14, 10, {}),
    (IDG, "ensemble_size", 3, members, 3, 2, {}),
    (IDG, "valid_ratio", 0.4, initial_sets, [(3, 2)] * 2, [(4, 1)] * 2, {}),
    (IDG, "distinct_model_sets", False, shared_points, True, False, {}),
    (IDG, "intermediate_epochs_idg", 3, epochs_of_a_round, 3, 5, {}),
    (
        IDG,
        "desired_acc",
        0.03,
        ends_at_error,
        "validation force MAE 0.3000 eV/Å reached 0.3000 eV/Å",
        "",
        {},
    ),
    (
        IDG,
        "desired_acc_scale_idg",
        30,
        ends_at_error,
        "validation force MAE 0.3000 eV/Å reached 0.3000 eV/Å",
        "",
        {IDG: {"desired_acc": 0.01}},
    ),
    (IDG, "max_initial_epochs", 12, steps_until_the_end, 3, None, {}),
    (IDG, "max_initial_set_size", 35, steps_until_the_end, 4, None, {}),
    (
        IDG,
        "converge_initial",
        True,
        after_the_initial_dataset,
        "initial-converge",
        "initial-publish",
        SHORT,
    ),
    (
        IDG,
        "progress_dft_update",
        4,
        lines_on_labels,
        ["labels: 4 of 10", "labels: 8 of 10"],
        ["labels: 10 of 10"],
        {},
    ),
    (AL, "num_trajectories", 6, trajectories, 6, 3, SHORT),
    (AL, "valid_ratio", 0.5, sets_of_points_found, (4, 4), (7, 1), SHORT),
    (
        AL,
        "epochs_per_worker",
        5,
        epochs_for_a_point,
        [10, 10],
        [4, 4],
        SHORT | {AL: {"valid_ratio": 0}},
    ),
    (AL, "freeze_threshold_dataset", 6, frozen_at, 2, None, SHORT | {AL: {"valid_ratio": 0}}),
    (AL, "c_x", 0.5, frozen_threshold, 1.5, 1.0, SHORT | {AL: {"freeze_threshold_dataset": 1}}),
    (
        AL,
        "max_train_set_size",
        7,
        points_until_the_end,
        (3, "max_train_set_size"),
        None,
        SHORT | {AL: {"valid_ratio": 0}},
    ),
    (AL, "desired_acc", 1.1, stops_at_error, True, False, SHORT),
    (AL, "converge_al", False, converged_members, 0, 1, END),
    (AL, "converge_best", False, converged_members, 2, 1, END),
    (
        AL,
        "replay_strategy",
        "random_subset",
        replayed_sizes,
        [(3, 3)] * 2,
        [(8, 3)] * 2,
        SHORT | {AL: {"valid_ratio": 0.4, "train_subset_size": 3}},
    ),
    (AL, "train_subset_size", 5, replayed_sizes, [(5, 3)] * 2, [(3, 3)] * 2, SUBSET),
    (AL, "valid_subset_size", 1, replayed_sizes, [(3, 1)] * 2, [(3, 3)] * 2, SUBSET),
    (AL, "update_md_checkpoints", False, checkpoint_of_the_trajectory, 0, 10, SHORT),
]


@pytest.mark.parametrize(
    ("section", "key", "value", "show", "expected", "otherwise", "needs"),
    [pytest.param(*row, id=f"{row[0]}.{row[1]}") for row in RULES],
)
def test_the_rules_follow_the_key(
    folder: Path, section: str, key: str, value: Any, show: Any, expected: Any, otherwise: Any,
    needs: dict[str, dict[str, Any]],
) -> None:  # fmt: skip
    without = with_values(folder, needs)
    with_it = with_values(folder, needs, {section: {key: value}})
    assert (show(Story(without)), show(Story(with_it))) == (otherwise, expected)


# --- The dynamics ---------------------------------------------------------------------------------

NVT = {"stat_ensemble": "nvt"}
NPT = {"stat_ensemble": "npt"}
MTK = NPT | {"barostat": "mtk"}
MELCHIONNA = NPT | {"barostat": "npt"}

DYNAMICS: list[tuple[str, Any, dict[str, Any]]] = [
    ("stat_ensemble", "nve", NVT),
    ("barostat", "mtk", NPT),
    ("temperature", 310.0, NVT),
    ("timestep", 1.0, NVT),
    ("friction", 0.1, NVT),
    ("fixcm", False, NVT),
    ("pressure", 2e9, NPT),
    ("pressure_au", 1e-2, NPT),
    ("taut", 50.0, NPT),
    ("taup", 100.0, NPT),
    ("compressibility_au", 1.0, NPT),
    ("external_stress", 1e-2, MELCHIONNA),
    ("ttime", 60.0, MELCHIONNA),
    ("pfactor", 1e4, MELCHIONNA),
    ("tdamp", 100.0, MTK),
    ("pdamp", 100.0, MTK),
    ("tchain", 2, MTK),
    ("pchain", 2, MTK),
    ("tloop", 3, MTK),
    ("ploop", 3, MTK),
    ("mask", (1, 0, 1), NPT),
    ("MD_seed", 43, NVT),
]


@pytest.mark.parametrize(
    ("key", "value", "needs"), [pytest.param(*row, id=f"MD.{row[0]}") for row in DYNAMICS]
)
def test_atoms_move_otherwise_with_another_value(
    folder: Path, key: str, value: Any, needs: dict[str, Any]
) -> None:
    paths = []
    for changes in ({}, {}, {key: value}):
        settings = with_values(folder, {"MD": needs}, {"MD": changes}).md(0)
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=1)
        begin = start(atoms, settings, random_stream(settings.MD_seed, 1, 0))
        dynamics, rng = resume(begin, settings, EMT())
        dynamics.run(6)
        structure = capture(dynamics, rng, 6).structure
        paths.append(np.concatenate([structure.positions, structure.cell.array]))
    assert np.array_equal(paths[0], paths[1]), "it was not the key"
    assert not np.array_equal(paths[0], paths[2])


GPA = 1e9 * units.Pascal

# Key, value, needs, where ASE's integrator has it, and in ASE's units.
UNITS: list[tuple[str, Any, dict[str, Any], Any, float]] = [
    ("temperature", 310.0, NVT, lambda d: d.temp, 310 * units.kB),
    ("timestep", 2.0, NVT, lambda d: d.dt, 2 * units.fs),
    ("friction", 0.05, NVT, lambda d: d.fr, 0.05 / units.fs),
    ("pressure", 1e9, NPT, lambda d: d.pressure, GPA),
    ("pressure", 1e9, MTK, lambda d: d._pressure_au, GPA),
    ("pressure", 1e9, MELCHIONNA, lambda d: d.externalstress[0], -GPA),
    ("pressure_au", 0.5, NPT, lambda d: d.pressure, 0.5),
    ("compressibility_au", 3.0, NPT, lambda d: d.compressibility, 3.0),
    ("taut", 70.0, NPT, lambda d: d.taut, 70 * units.fs),
    ("taup", 70.0, NPT, lambda d: d.taup, 70 * units.fs),
    ("external_stress", 0.01, MELCHIONNA, lambda d: d.externalstress[0], -0.01),
    ("ttime", 70.0, MELCHIONNA, lambda d: d.ttime, 70 * units.fs),
    ("pfactor", 70.0, MELCHIONNA, lambda d: d.pfactor_given, 70 * units.fs),
    ("tdamp", 70.0, MTK, lambda d: d._thermostat._tdamp, 70 * units.fs),
    ("pdamp", 70.0, MTK, lambda d: d._barostat._pdamp, 70 * units.fs),
]


@pytest.mark.parametrize(
    ("key", "value", "needs", "seen", "expected"),
    [pytest.param(*row, id=f"{row[2].get('barostat', row[0])}-{row[0]}") for row in UNITS],
)
def test_ase_is_given_the_value_in_its_own_units(
    folder: Path, key: str, value: float, needs: dict[str, Any], seen: Any, expected: float
) -> None:
    settings = with_values(folder, {"MD": needs | {key: value}}).md(0)
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    assert seen(integrator(atoms, settings, random_stream(1))) == pytest.approx(expected, rel=1e-12)


def test_each_geometry_has_the_dynamics_of_its_index(folder: Path) -> None:
    ase.io.write(folder / "a.xyz", molecule("H2O"))
    given = {
        "MISC": {"path_to_geometry": {0: "a.xyz", 1: "a.xyz"}},
        "MD": {"0": NVT, "1": NVT | {"temperature": 500}},
    }
    text = PROJECT.replace("MD: {stat_ensemble: nvt, friction: 0.01}", f"MD: {given['MD']}")
    (folder / "aimsPAX.yaml").write_text(text, encoding="utf-8")
    settings = with_values(folder, {"MISC": given["MISC"]})
    assert [settings.md(index).temperature for index in (0, 1)] == [300, 500]


# --- The sampling MD ------------------------------------------------------------------------------


def sampled(settings: Settings, points: int = 2) -> tuple[RunDir, Any]:
    run = RunDir.of(settings)
    return run, sample.fn(SampleRequest("sample:1:0", run, settings, 0, 0, points))


@pytest.mark.parametrize("steps", [3, 7])
def test_skip_step_initial_is_the_steps_between_points(folder: Path, steps: int) -> None:
    run, _ = sampled(with_values(folder, {IDG: {"skip_step_initial": steps}}))
    assert load_state(run.sampler(0, 1)).step == 2 * steps


@pytest.mark.parametrize(("changes", "steps"), [
    ({}, []),
    ({"save_trajectories": True}, [5, 10]),
    ({"save_trajectories": True, "save_trajectories_interval": 4}, [4, 8, 12]),
])  # fmt: skip
def test_the_sampling_md_is_kept_as_asked(
    folder: Path, changes: dict[str, Any], steps: list[int]
) -> None:
    run, _ = sampled(with_values(folder, {IDG: {"skip_step_initial": 6} | changes}))
    file = part(run, "initial", 0, 1)
    frames = ase.io.read(file, ":") if file.exists() else []
    assert [frame.info["step"] for frame in frames] == steps


class Asked(Exception):
    """A foundation model was asked for."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What MACE's own function is asked for."""
    found: list[Any] = []

    def mace_mp(**given: Any) -> Any:
        found.append(given)
        raise Asked

    monkeypatch.setattr(mace, "mace_mp", mace_mp)
    monkeypatch.setattr(mace, "load_model", lambda path: None)
    monkeypatch.setattr(mace, "_foundation_file", lambda name: Path(name))
    monkeypatch.setattr(mace.importlib.util, "find_spec", lambda name: object())
    tasks.sample._foundation.cache_clear()
    tasks.propagate._driver.cache_clear()
    return found


FOUNDATION: list[tuple[str, Any, str, Any]] = [
    ("mace_model", "medium", "model", "medium"),
    ("dispersion", True, "dispersion", True),
    ("dispersion_xc", "b3lyp", "dispersion_xc", "b3lyp"),
    ("dispersion_cutoff", 10.0, "dispersion_cutoff", pytest.approx(10.0 / units.Bohr)),
    ("damping", "zero", "damping", "zero"),
]
with_foundation = pytest.mark.parametrize(
    ("key", "value", "name", "expected"), [pytest.param(*row, id=row[0]) for row in FOUNDATION]
)


@with_foundation
def test_the_sampler_is_the_foundation_model_asked_for(
    folder: Path, asked: list[Any], key: str, value: Any, name: str, expected: Any
) -> None:
    for given in ({}, {key: value}):
        settings = {"initial_sampling": "mace-mp0", "foundational_model_settings": given}
        with pytest.raises(Asked):
            sampled(with_values(folder, {IDG: settings}))
    without, with_it = (one[name] for one in asked)
    assert with_it == expected
    assert without != with_it


@with_foundation
def test_the_driver_is_the_foundation_model_asked_for(
    folder: Path, asked: list[Any], key: str, value: Any, name: str, expected: Any
) -> None:
    for given in ({}, {key: value}):
        settings = with_values(folder, {AL: {"foundational_model_settings": given}})
        with pytest.raises(Asked):
            tasks.propagate._driver(
                settings.al.foundational_model_settings, settings.directory, "cpu", "float32"
            )
    without, with_it = (one[name] for one in asked)
    assert with_it == expected
    assert without != with_it


def test_the_first_generations_size_names_the_sampler(folder: Path, asked: list[Any]) -> None:
    for size in ("medium", "large"):
        given = {"initial_sampling": "mace-mp0", "initial_foundational_size": size}
        with pytest.raises(Asked):
            sampled(with_values(folder, {IDG: given}))
    assert [one["model"] for one in asked] == ["medium", "large"]


@pytest.mark.parametrize(("sampling", "calculator"), [
    ("aimd", "ase.calculators.emt.EMT"),
    ("engine", "ase.calculators.morse.MorsePotential"),
])  # fmt: skip
def test_the_sampling_md_has_the_engine_asked_for(
    folder: Path, sampling: str, calculator: str
) -> None:
    other = {"engine": "ase", "calculator": "ase.calculators.morse.MorsePotential"}
    given = {"initial_sampling": sampling, "sampling_engine": other}
    atoms = molecule("H2O")
    atoms.calc = tasks.sample._calculator(with_values(folder, {IDG: given}))
    plain = engines.AseReference(engine="ase", calculator=calculator)
    expected = build_reference(plain, folder).label(molecule("H2O")).energy
    assert atoms.get_potential_energy() == pytest.approx(expected)


# --- The exploring MD -----------------------------------------------------------------------------


def springs(structures: Sequence[Atoms], stress: bool = False) -> list[Prediction]:
    """Two members that pull on each atom with other strengths; the oxygen is the surest."""
    strengths = np.array([4.0, 6.0])[:, None, None] * np.array([[1.0], [2.0], [3.0]])
    found = []
    for atoms in structures:
        away = atoms.positions - molecule("H2O").positions
        forces, energies = -strengths * away, (strengths * away**2).sum(axis=(1, 2)) / 2
        found.append(Prediction(energies.mean(), forces.mean(axis=0), energies, forces))
    return found


def explored(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], values: Any = ()
) -> tuple[RunDir, SegmentFinished]:
    """A segment of one trajectory under cheap members; no time, so up to the first check."""
    settings = with_values(folder, {AL: changes})
    run = RunDir.of(settings)
    monkeypatch.setattr(tasks.propagate, "_models", lambda request: (springs, None))
    request = PropagateRequest(
        "propagate:1", 1, run, settings, (Trajectory(index=0, geometry=0),), (1, 8), (),
        Window().extend(values), 0.0, ("a", "b"),
    )  # fmt: skip
    return run, propagate.fn(request)


HIGH = [1e9] * 400  # nothing crosses

# Changes, uncertainties seen before, and the outcome of the first check: what, and at which step.
SEGMENTS: list[tuple[str, dict[str, Any], list[float], tuple[str, int]]] = [
    ("skip_step_mlff", {}, HIGH, ("running", 25)),
    ("skip_step_mlff", {"skip_step_mlff": 4}, HIGH, ("running", 4)),
    ("max_MD_steps", {"max_MD_steps": 25}, HIGH, ("finished", 25)),
    ("max_MD_steps", {"max_MD_steps": 26}, HIGH, ("running", 25)),
    ("uncert_not_crossed_limit", {"uncert_not_crossed_limit": 25}, HIGH, ("crossed", 25)),
    ("uncert_not_crossed_limit", {"uncert_not_crossed_limit": 26}, HIGH, ("running", 25)),
    ("c_x", {"c_x": -0.99}, [1.0] * 400, ("crossed", 25)),
    ("c_x", {"c_x": 1e9}, [1.0] * 400, ("running", 25)),
]


@pytest.mark.parametrize(
    ("key", "changes", "values", "expected"),
    [pytest.param(*row, id=f"{row[0]}-{row[1].get(row[0], 'default')}") for row in SEGMENTS],
)
def test_a_trajectory_halts_where_the_key_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch, key: str, changes: dict[str, Any],
    values: list[float], expected: tuple[str, int],
) -> None:  # fmt: skip
    _, event = explored(folder, monkeypatch, changes, values)
    (result,) = event.results
    assert (result.outcome, result.step) == expected


def test_every_measure_of_the_uncertainty_is_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ("mean_atomic_sd", "ensemble_sd", "max_atomic_sd")
    found = [
        explored(folder, monkeypatch, {"uncertainty_type": kind})[1].uncertainties[0]
        for kind in kinds
    ]
    assert found == sorted(found)
    assert len({*found}) == 3


@pytest.mark.parametrize(("changes", "steps"), [
    ({}, []),
    ({"analysis": True}, [50]),
    ({"analysis": True, "analysis_skip": 20}, [20, 40]),
])  # fmt: skip
def test_structures_are_looked_at_as_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], steps: list[int]
) -> None:
    _, event = explored(folder, monkeypatch, {"skip_step_mlff": 50} | changes)
    assert [look.step for look in event.looks] == steps


@pytest.mark.parametrize(("changes", "steps"), [
    ({}, [5, 10]),
    ({"save_trajectories": False}, []),
    ({"save_trajectories_interval": 4}, [4, 8, 12]),
])  # fmt: skip
def test_the_exploring_md_is_kept_as_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], steps: list[int]
) -> None:
    run, _ = explored(folder, monkeypatch, {"skip_step_mlff": 12} | changes)
    file = part(run, "trajectory", 0, 1)
    frames = ase.io.read(file, ":") if file.exists() else []
    assert [frame.info["step"] for frame in frames] == steps


# --- Training -------------------------------------------------------------------------------------

TAG = "water-1"


class School:
    """Trains one member of these settings on a few labels of EMT."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.run = settings, RunDir.of(settings)
        engine, store = (
            build_reference(settings.reference, settings.directory),
            LabelStore(self.run.labels),
        )
        keys = []
        for seed in range(6):
            atoms = molecule("H2O")
            atoms.rattle(0.05, seed=seed)
            keys.append(label_key(atoms, engine.identity()))
            store.put(keys[-1], atoms, engine.label(atoms))
        self.dataset = self.run.dataset("all")
        self.dataset.parent.mkdir(parents=True, exist_ok=True)
        sets = {"training": keys[:4], "validation": keys[4:], "constants": keys[:4]}
        self.dataset.write_text(json.dumps({TAG: sets}), encoding="utf-8")
        kept._kept.cache_clear()

    def _request(self, action: Any, budget_s: float) -> TrainRequest:
        return TrainRequest(action, self.run, self.settings, 11, (1, 8), self.dataset, budget_s)

    def train(self, stage: Any, epochs: int, budget_s: float = 1e9, name: str = "c") -> Any:
        action = Train(
            tag=TAG, stage=stage, round=1, start=None, checkpoint=name, epochs=epochs
        )  # fmt: skip
        if stage == "active":
            self.train("initial", 1, name="before")
            action = action.model_copy(update={"start": "before"})
        return train.fn(self._request(action, budget_s))

    def converge(self, stage: Any) -> Any:
        self.train("initial", 1, name="before")
        action = Converge(tag=TAG, stage=stage, start="before", first=True, checkpoint="done")
        return converge.fn(self._request(action, 1e9))


both_phases = pytest.mark.parametrize(
    ("section", "stage"), [(IDG, "initial"), (AL, "active")], ids=[IDG, AL]
)


@both_phases
def test_members_are_validated_as_often_as_asked(folder: Path, section: str, stage: str) -> None:
    schools = [School(with_values(folder, {section: {"valid_skip": skip}})) for skip in (1, 2)]
    epochs = [[e.epoch for e in school.train(stage, 4).errors] for school in schools]
    assert epochs == [[1, 2, 3, 4], [2, 4]]


@pytest.mark.parametrize(
    ("section", "key", "stage"),
    [(IDG, "intermediate_epochs_idg", "initial"), (AL, "intermediate_epochs_al", "active")],
)
def test_a_step_of_training_has_the_epochs_asked_for(
    folder: Path, section: str, key: str, stage: str
) -> None:
    """Without any time left, one step is what a task does before it comes back."""
    done = [
        School(with_values(folder, {section: {key: step}})).train(stage, 6, budget_s=0.0).epochs
        for step in (1, 3)
    ]
    assert done == [1, 3]


def test_the_initial_training_has_a_scheduler_if_asked(folder: Path) -> None:
    decay = {"TRAINING": {"scheduler": "ExponentialLR", "lr_scheduler_gamma": 0.5, "lr": 0.01}}
    asked = [with_values(folder, decay, {IDG: {"scheduler_initial": on}}) for on in (True, False)]
    rates = [[e.lr for e in School(one).train("initial", 3).errors] for one in asked]
    assert rates == [[0.01, 0.005, 0.0025], [0.01, 0.01, 0.01]]


def test_epochs_per_worker_is_the_patience_for_the_optimizer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aimspax_core.model.training import Member

    seen = []
    monkeypatch.setattr(Member, "train", lambda self, *_, **how: seen.append(how["patience"]) or [])
    for epochs in (2, 9):
        School(with_values(folder, {AL: {"epochs_per_worker": epochs}})).train("active", 1)
    assert seen == [None, 2, None, 9], "none in the initial training"


convergences = pytest.mark.parametrize(
    ("section", "stage"), [(IDG, "initial"), (AL, "final")], ids=[IDG, AL]
)


@convergences
@pytest.mark.parametrize(("changes", "epochs"), [
    ({"max_convergence_epochs": 2}, 2),
    ({"max_convergence_epochs": 5, "margin": 1e9, "convergence_patience": 1}, 2),
    ({"max_convergence_epochs": 5, "margin": 1e9, "convergence_patience": 2}, 3),
    ({"max_convergence_epochs": 5, "margin": 0.0, "convergence_patience": 2}, 5),
])  # fmt: skip
def test_a_convergence_ends_where_its_phase_says(
    folder: Path, section: str, stage: str, changes: dict[str, Any], epochs: int
) -> None:
    calm = {"TRAINING": {"lr": 1e-4, "ema": False}}  # every epoch is a little better
    event = School(with_values(folder, calm, {section: changes})).converge(stage)
    assert (event.converged, event.epochs) == (True, epochs)


# --- Reference and gate ---------------------------------------------------------------------------

# Key, another value, and what else a label needs to show it.
TBLITE: list[tuple[str, Any, dict[str, Any]]] = [
    ("method", "GFN1-xTB", {}),
    ("charge", 1, {"spin": 2}),
    ("spin", 3, {}),
    ("electronic_temperature", 9000.0, {}),
    ("accuracy", 1000.0, {}),
]


def energy(**given: Any) -> float:
    atoms = molecule("H2O")
    atoms.rattle(0.1, seed=0)
    settings = engines.TbliteReference(engine="tblite", **given)
    return build_reference(settings, Path()).label(atoms).energy


@pytest.mark.parametrize(
    ("key", "value", "needs"), [pytest.param(*row, id=f"tblite.{row[0]}") for row in TBLITE]
)
def test_labels_follow_the_key(key: str, value: Any, needs: dict[str, Any]) -> None:
    needed = {} if key == "charge" else needs
    assert energy(**needed) == energy(**needed)
    assert energy(**needs, **{key: value}) != energy(**needed)


def test_max_iterations_is_when_a_calculation_counts_as_failed() -> None:
    with pytest.raises(LabelError):
        energy(max_iterations=2)


@pytest.mark.parametrize("key", ["device", "default_dtype"])
def test_a_teacher_runs_where_and_how_it_is_asked_to(
    folder: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    found: list[Any] = []

    def look(path: Path, device: str, default_dtype: str) -> Any:
        found.append({"device": device, "default_dtype": default_dtype}[key])
        raise Asked

    monkeypatch.setattr(teacher, "load_model", look)
    (folder / "t.model").touch()
    values = ["cpu", "cuda:1"] if key == "device" else ["float32", "float64"]
    for value in values:
        given = engines.MaceReference(engine="mace", model_path=Path("t.model"), **{key: value})
        with pytest.raises(Asked):
            build_reference(given, folder).calculator()
    assert found == values


@pytest.mark.parametrize(
    ("key", "value", "name", "expected"),
    [
        *(pytest.param(*row, id=row[0]) for row in FOUNDATION),
        pytest.param("device", "cuda:1", "device", "cuda:1", id="device"),
        pytest.param("default_dtype", "float32", "default_dtype", "float32", id="default_dtype"),
    ],
)
def test_a_teacher_is_the_foundation_model_asked_for(
    folder: Path, asked: list[Any], key: str, value: Any, name: str, expected: Any
) -> None:
    for given in ({}, {key: value}):
        with pytest.raises(Asked):
            build_reference(engines.MaceMpReference(engine="mace-mp", **given), folder).calculator()
    without, with_it = (one[name] for one in asked)
    assert with_it == expected
    assert without != with_it


def test_the_gate_is_as_narrow_as_asked(folder: Path) -> None:
    close = molecule("H2O")
    close.set_distance(0, 1, 0.6, fix=0)
    check_structure(close, with_values(folder, {"GATE": {"min_distance": 0.3}}).gate)
    with pytest.raises(StructureError):
        check_structure(close, with_values(folder, {"GATE": {"min_distance": 0.9}}).gate)


def test_the_gate_lets_forces_pass_up_to_the_limit(folder: Path) -> None:
    label = Label(0.0, np.full((3, 3), 10.0), None, {})
    check_label(molecule("H2O"), label, with_values(folder, {"GATE": {"max_force": 20}}).gate)
    with pytest.raises(LabelError):
        check_label(molecule("H2O"), label, with_values(folder, {"GATE": {"max_force": 15}}).gate)


# --- Folders, files, workers ----------------------------------------------------------------------


@pytest.mark.parametrize(("section", "key", "seen"), [
    ("MISC", "dataset_dir", lambda run: run.data),
    ("MISC", "log_dir", lambda run: run.logs),
    ("GENERAL", "checkpoints_dir", lambda run: run.checkpoint("a-1", "c").parent.parent),
    ("GENERAL", "loss_dir", lambda run: run.losses),
    ("GENERAL", "model_dir", lambda run: run.models),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_a_folder_lies_where_it_is_wanted_in_output_dir(
    folder: Path, section: str, key: str, seen: Any
) -> None:
    settings = with_values(folder, {"MISC": {"output_dir": "out"}}, {section: {key: "other"}})
    assert seen(RunDir.of(settings)) == folder / "out" / "other"


def test_all_that_a_campaign_writes_lies_in_output_dir(folder: Path) -> None:
    run = RunDir.of(with_values(folder, {"MISC": {"output_dir": "out"}}))
    named = [name for name in vars(RunDir) if isinstance(vars(RunDir)[name], property)]
    written = [run.output, *(getattr(run, name) for name in (*run.__dataclass_fields__, *named))]
    assert len(written) > 15
    assert all(path.is_relative_to(folder / "out") for path in written)


@pytest.mark.parametrize("restart", [True, False])
def test_a_campaign_is_taken_up_again_unless_create_restart_is_off(
    folder: Path, restart: bool
) -> None:
    settings = {"MISC.create_restart": restart}
    inputs = Inputs.read(folder, settings)
    with Journal(inputs.run) as journal:
        _Campaign(inputs, journal, "all").take_up()
        again = _Campaign(inputs, journal, "all")
        if restart:
            again.take_up()
            return
        with pytest.raises(CampaignError, match="--fresh"):
            again.take_up()


def test_geometries_are_those_of_the_path(folder: Path) -> None:
    (folder / "several").mkdir()
    for name in ("NH3", "CH4"):
        ase.io.write(folder / "several" / f"{name}.xyz", molecule(name))
    inputs = Inputs.read(folder, {"MISC.path_to_geometry": "several"})
    assert [str(atoms.symbols) for atoms in inputs.geometries] == ["CH4", "NH3"]


@pytest.fixture
def trained(folder: Path) -> Path:
    """A run directory with the files of two members, and datasets of all kinds."""
    (folder / "model").mkdir()
    for tag in ("a-1", "a-2"):
        (folder / "model" / f"{tag}.model").touch()
        for phase, kind, name in (
            ("initial", "training", f"initial_train_set_{tag}"),
            ("initial", "validation", f"initial_valid_set_{tag}"),
            ("final", "training", f"train_set_{tag}"),
            ("final", "validation", f"valid_set_{tag}"),
        ):
            path = folder / "data" / phase / kind / f"{name}.xyz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    for name in ("mine.xyz", "other.xyz"):
        (folder / name).touch()
    return folder


def sets_to_begin_from(folder: Path, **changes: Any) -> dict[str, list[str]]:
    settings = with_values(folder, {AL: changes})
    found = find_pretrained(settings, RunDir.of(settings))
    return {
        "training": [path.name for path in found.training.values()],
        "validation": [path.name for path in found.validation.values()],
    }


@pytest.mark.parametrize(
    ("key", "kind"),
    [("initial_train_dataset", "training"), ("initial_valid_dataset", "validation")],
)
def test_members_begin_from_the_dataset_given(trained: Path, key: str, kind: str) -> None:
    given = {"initial_train_dataset": "mine.xyz", "initial_valid_dataset": "mine.xyz"}
    other = "validation" if kind == "training" else "training"
    assert sets_to_begin_from(trained, **given | {key: "other.xyz"}) == {
        kind: ["other.xyz"] * 2,
        other: ["mine.xyz"] * 2,
    }


def test_members_begin_from_the_final_sets_if_these_are_to_be_extended(trained: Path) -> None:
    initial, final = (
        sets_to_begin_from(trained, extend_existing_final_ds=extend) for extend in (False, True)
    )
    assert initial["training"] == ["initial_train_set_a-1.xyz", "initial_train_set_a-2.xyz"]
    assert final == {
        "training": ["train_set_a-1.xyz", "train_set_a-2.xyz"],
        "validation": ["valid_set_a-1.xyz", "valid_set_a-2.xyz"],
    }


QUANTITIES = ("energy", "forces", "stress", "virials", "dipole", "polarizability")
QUANTITIES += ("hirshfeld_ratios", "charges", "head", "total_charge", "total_spin")


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_quantity_is_read_and_written_under_its_name(folder: Path, quantity: str) -> None:
    """A dataset of somebody else with one name of its own, read, and written again."""
    settings = with_values(folder, {"MISC": {f"{quantity}_key": "my_name"}})
    standard, mine = DataKeys(), DataKeys.of(settings.misc)
    assert getattr(mine, quantity) == "my_name"
    atoms = bulk("Cu", cubic=True)
    info = {"energy": -1.5, "dipole": [1.0, 2.0, 3.0], "polarizability": [1.0, 2.0, 3.0],
            "head": "dft", "total_charge": 1.0, "total_spin": 2.0}  # fmt: skip
    info["virials" if quantity == "virials" else "stress"] = np.eye(3) * 0.5
    arrays = {"forces": np.ones((4, 3)), "hirshfeld_ratios": np.ones(4), "charges": np.ones(4)}
    atoms.info |= {getattr(mine, name): value for name, value in info.items()}
    for name, value in arrays.items():
        atoms.set_array(getattr(mine, name), value)
    write(folder / "set.xyz", [atoms])
    (found,) = read_labels(folder / "set.xyz", mine)
    structure, label = found
    assert label.stress is not None
    label.provenance.update(carried(structure, mine))
    again = labelled(StoredLabel("k", structure, label), mine)
    if quantity == "virials":
        volume = atoms.get_volume()
        np.testing.assert_allclose(label.stress, -np.eye(3) * 0.5 / volume)
        return
    there = {**again.info, **again.arrays}
    expected = {**info, **arrays}[quantity]
    if isinstance(expected, str):
        assert there["my_name"] == expected
    else:
        np.testing.assert_allclose(there["my_name"], expected)
    assert getattr(standard, quantity) not in there


def test_labels_and_training_have_as_many_workers_as_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def local(name: str, workers: int, gpus: Sequence[str] = ()) -> Any:
        asked[name] = workers
        return contextlib.nullcontext(workers)

    monkeypatch.setattr(pools, "_local", local)
    cluster = "CLUSTER: {type: local, max_workers: 7, ml: {max_workers: 3}}"
    (folder / "aimsPAX.yaml").write_text(PROJECT + cluster, encoding="utf-8")
    with pools.pools(load(folder)):
        assert asked == {"reference": 7, "ml": 3}


# --- mace.yaml: names, logs, checkpoints ----------------------------------------------------------


def test_the_experiments_name_and_seed_make_the_members(folder: Path) -> None:
    plain, named, seeded = (
        list(member_seeds(with_values(folder, {"GENERAL": given})))
        for given in ({}, {"name_exp": "ice"}, {"seed": 7})
    )
    assert [tag.replace("ice-", "water-") for tag in named] == plain != named
    assert not {*plain} & {*seeded}


@pytest.mark.parametrize("level", ["DEBUG", "WARNING"])
def test_the_log_has_what_its_level_lets_pass(
    folder: Path, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.logs.APILogHandler", logging.NullHandler)
    settings = with_values(folder, {"MISC": {"log_level": level}})
    run = RunDir.of(settings)
    with campaign_logs(run, settings):
        logging.getLogger("aimspax").info("an ordinary line")
        logging.getLogger("aimspax").warning("a warning")
    text = (run.logs / "initial_dataset.log").read_text(encoding="utf-8")
    assert ("an ordinary line" in text) == (level == "DEBUG")
    assert "a warning" in text


@pytest.mark.parametrize("keep", [True, False])
def test_checkpoints_of_earlier_rounds_are_kept_if_asked(folder: Path, keep: bool) -> None:
    settings = with_values(folder, SHORT, {"MISC": {"keep_checkpoints": keep}})
    story, run = Story(settings), RunDir.of(settings)
    before, after = story.exploring(), story.crossed("a").but(in_flight={})
    for state in (before, after):
        for tag, member in state.members.items():
            path = run.checkpoint(tag, str(member.checkpoint))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    tidy(run, before, after, settings.model.MISC.keep_checkpoints)
    assert len([*run.checkpoints_dir.rglob("*.pt")]) == (4 if keep else 2)


# --- No key is forgotten --------------------------------------------------------------------------

_ME = "tests/test_every_key.py::"
_VALIDATED = _ME + "test_members_are_validated_as_often_as_asked"
_CONVERGED = _ME + "test_a_convergence_ends_where_its_phase_says"
_TEACHER = "tests/settings/test_project.py::test_a_teacher_is_the_reference"
_TEACHER_MP = "tests/settings/test_project.py::test_a_teacher_may_be_a_foundation_model"
_PHASE = {
    "valid_skip": _VALIDATED,
    "margin": _CONVERGED,
    "convergence_patience": _CONVERGED,
    "max_convergence_epochs": _CONVERGED,
    "use_teacher_reference": _TEACHER,
    "teacher_reference_settings": _TEACHER,
}
_HALTS = _ME + "test_a_trajectory_halts_where_the_key_says"
_SAMPLER = _ME + "test_the_sampler_is_the_foundation_model_asked_for"
_ONE_VALUE = _ME + "test_keys_with_one_value_leave_no_choice"
_QUANTITY = _ME + "test_a_quantity_is_read_and_written_under_its_name"
_TBLITE = _ME + "test_labels_follow_the_key"
_WORKERS = _ME + "test_labels_and_training_have_as_many_workers_as_asked"
_FOLDER = _ME + "test_a_folder_lies_where_it_is_wanted_in_output_dir"
_PRETRAINED = _ME + "test_members_begin_from_the_dataset_given"
_SAVED = _ME + "test_the_exploring_md_is_kept_as_asked"
_SAMPLING_SAVED = _ME + "test_the_sampling_md_is_kept_as_asked"
_ASE, _MACE = "tests/reference/test_ase_engine.py::", "tests/reference/test_teacher.py::"
_TEACHER_RUNS = _ME + "test_a_teacher_runs_where_and_how_it_is_asked_to"
_TEACHER_IS = _ME + "test_a_teacher_is_the_foundation_model_asked_for"

RULED = _ME + "test_the_rules_follow_the_key"
TESTS: dict[type[BaseModel], dict[str, str]] = {
    project.InitialDatasetGeneration: {
        **{key: RULED for section, key, *_ in RULES if section == IDG},
        **_PHASE,
        "save_trajectories": _SAMPLING_SAVED,
        "save_trajectories_interval": _SAMPLING_SAVED,
        "initial_sampling": _ME + "test_the_sampling_md_has_the_engine_asked_for",
        "sampling_engine": _ME + "test_the_sampling_md_has_the_engine_asked_for",
        "foundational_model": _ONE_VALUE,
        "initial_foundational_size": _ME + "test_the_first_generations_size_names_the_sampler",
        "foundational_model_settings": _SAMPLER,
        "analysis": "tests/report/test_analysis.py::test_each_phase_has_its_own_switch",
        "scheduler_initial": _ME + "test_the_initial_training_has_a_scheduler_if_asked",
        "skip_step_initial": _ME + "test_skip_step_initial_is_the_steps_between_points",
    },
    project.ActiveLearning: {
        **{key: RULED for section, key, *_ in RULES if section == AL},
        **_PHASE,
        "ensemble_size": "tests/settings/test_project.py::"
        "test_a_phase_without_a_section_is_absent_but_has_the_others_members",
        "save_trajectories": _SAVED,
        "save_trajectories_interval": _SAVED,
        "intermediate_epochs_al": _ME + "test_a_step_of_training_has_the_epochs_asked_for",
        "max_MD_steps": _HALTS,
        "skip_step_mlff": _HALTS,
        "uncert_not_crossed_limit": _HALTS,
        "uncertainty_type": _ME + "test_every_measure_of_the_uncertainty_is_another",
        "analysis": _ME + "test_structures_are_looked_at_as_asked",
        "analysis_skip": _ME + "test_structures_are_looked_at_as_asked",
        "seeds_tags_dict": "tests/settings/test_seeds.py::test_seeds_that_are_given_by_tag_hold",
        "extend_existing_final_ds": _ME
        + "test_members_begin_from_the_final_sets_if_these_are_to_be_extended",
        "initial_train_dataset": _PRETRAINED,
        "initial_valid_dataset": _PRETRAINED,
        "use_foundational": "tests/tasks/test_propagate.py::test_a_foundation_model_drives",
        "foundational_model": _ONE_VALUE,
        "foundational_model_settings": _ME + "test_the_driver_is_the_foundation_model_asked_for",
    },
    md.MD: {
        **{key: _ME + "test_atoms_move_otherwise_with_another_value" for key, *_ in DYNAMICS},
        "thermostat": _ONE_VALUE,
    },
    project.Misc: {
        **{f"{quantity}_key": _QUANTITY for quantity in QUANTITIES},
        "create_restart": _ME + "test_a_campaign_is_taken_up_again_unless_create_restart_is_off",
        "dataset_dir": _FOLDER,
        "log_dir": _FOLDER,
        "output_dir": _ME + "test_all_that_a_campaign_writes_lies_in_output_dir",
        "path_to_geometry": _ME + "test_geometries_are_those_of_the_path",
    },
    project.Cluster: {"type": _ONE_VALUE, "max_workers": _WORKERS, "ml": _WORKERS},
    project.MlPool: {"max_workers": _WORKERS},
    engines.Gate: {
        "min_distance": _ME + "test_the_gate_is_as_narrow_as_asked",
        "max_force": _ME + "test_the_gate_lets_forces_pass_up_to_the_limit",
    },
    engines.TbliteReference: {
        "engine": "tests/settings/test_project.py::test_tblite_is_an_engine",
        **{key: _TBLITE for key, *_ in TBLITE},
        "max_iterations": _ME + "test_max_iterations_is_when_a_calculation_counts_as_failed",
    },
    engines.AseReference: {
        "engine": "tests/settings/test_project.py::"
        "test_foundation_models_and_ase_calculators_are_engines",
        "calculator": _ASE + "test_labels_are_the_calculators_own",
        "arguments": _ASE + "test_arguments_reach_the_calculator",
        "version": _ASE + "test_the_users_version_counts",
    },
    engines.MaceReference: {
        "engine": "tests/settings/test_project.py::test_mace_is_an_engine",
        "model_path": _MACE + "test_labels_are_those_of_maces_calculator",
        "device": _TEACHER_RUNS,
        "default_dtype": _TEACHER_RUNS,
    },
    engines.MaceMpReference: {
        "engine": "tests/settings/test_project.py::"
        "test_foundation_models_and_ase_calculators_are_engines",
        **dict.fromkeys((*(key for key, *_ in FOUNDATION), "device", "default_dtype"), _TEACHER_IS),
    },
    engines.FoundationalModel: {key: _SAMPLER for key, *_ in FOUNDATION},
    engines.Teacher: {"model_type": _TEACHER_MP, "model_path": _TEACHER, "mace_model": _TEACHER_MP},
}
"""For each section of aimsPAX.yaml the test that shows what a key does."""

OF_THE_CAMPAIGN = {
    "name_exp": _ME + "test_the_experiments_name_and_seed_make_the_members",
    "seed": _ME + "test_the_experiments_name_and_seed_make_the_members",
    "checkpoints_dir": _FOLDER,
    "loss_dir": _FOLDER,
    "model_dir": _FOLDER,
    "error_table": "tests/report/test_narrative.py::test_errors_are_those_of_the_error_table",
    "keep_checkpoints": _ME + "test_checkpoints_of_earlier_rounds_are_kept_if_asked",
    "log_level": _ME + "test_the_log_has_what_its_level_lets_pass",
}
"""Keys of mace.yaml that tests/model/test_keys.py leaves to others."""

ROOT = Path(__file__).parents[1]


def sections(schema: Any) -> set[type[BaseModel]]:
    """The models of a settings file, one inside the other, without the file's own."""
    found: set[type[BaseModel]] = set()
    for part_of in [schema, *get_args(schema)]:
        if isinstance(part_of, type) and issubclass(part_of, BaseModel):
            found |= {part_of}
            for field in part_of.model_fields.values():
                found |= sections(field.annotation)
        elif part_of is not schema:
            found |= sections(part_of)
    return found - {project.ProjectSettings}


def test_no_section_is_forgotten() -> None:
    assert set(TESTS) == sections(project.ProjectSettings)


@pytest.mark.parametrize("section", TESTS, ids=lambda section: section.__name__)
def test_no_key_is_forgotten(section: type[BaseModel]) -> None:
    assert set(TESTS[section]) == set(section.model_fields)


def test_no_key_of_the_models_is_forgotten() -> None:
    assert set(OF_THE_CAMPAIGN) == NOT_OF_THE_MODEL


@cache
def functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(
    "node", sorted({*OF_THE_CAMPAIGN.values()}.union(*(t.values() for t in TESTS.values())))
)
def test_the_test_of_a_key_exists(node: str) -> None:
    file, _, name = node.partition("::")
    assert name.startswith("test_")
    assert name in functions(file)


@pytest.mark.parametrize(("section", "key", "refused"), [
    (project.InitialDatasetGeneration, "foundational_model", "so3lr"),
    (project.ActiveLearning, "foundational_model", "so3lr"),
    (md.MD, "thermostat", "berendsen"),
    (project.Cluster, "type", "slurm"),
    *((engine, "engine", "other") for engine in get_args(get_args(engines.EngineSettings)[0])),
])  # fmt: skip
def test_keys_with_one_value_leave_no_choice(
    section: type[BaseModel], key: str, refused: str
) -> None:
    (only,) = get_args(section.model_fields[key].annotation)
    with pytest.raises(ValidationError) as caught:
        section.model_validate({key: refused})
    assert any(error["loc"] == (key,) for error in caught.value.errors())
    with pytest.raises(ValidationError) as caught:
        section.model_validate({key: only, "unknown": 1})
    assert not any(error["loc"] == (key,) for error in caught.value.errors())
