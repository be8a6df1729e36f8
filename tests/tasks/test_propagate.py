"""The segment task: where trajectories begin, and what is on disk when it returns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator

import tasks.propagate as module
from aimspax_core.campaign.state import Trajectory
from aimspax_core.labels.store import LabelStore, label_key
from aimspax_core.labels.waiting import keep_structure
from aimspax_core.model.committee import Committee
from aimspax_core.model.known_structures import KnownStructures
from aimspax_core.model.mace.build import Constants, build
from aimspax_core.model.mace.foundation import foundation
from aimspax_core.model.mace.model_files import save_model
from aimspax_core.model.member import Member
from aimspax_core.model.worker_memory import worker_memory
from aimspax_core.output.predictions import read_prediction
from aimspax_core.output.trajectories import gather, part
from aimspax_core.reference.registry import build_reference
from aimspax_core.run_directory import RunDir
from aimspax_core.sampling.dynamics import (
    MDState,
    load_state,
    random_stream,
    resume,
    save_state,
    start,
)
from aimspax_core.sampling.segment import SegmentSettings, Start
from aimspax_core.settings import settings as settings_module
from aimspax_core.settings.geometries.earlier import structures_as_begun
from aimspax_core.settings.geometries.files import read_geometries
from aimspax_core.settings.geometries.held_atoms import HeldAtoms
from aimspax_core.settings.load import load
from aimspax_core.settings.settings import Settings
from aimspax_core.structures import decode
from aimspax_core.uncertainty.measures import measure_of
from aimspax_core.uncertainty.nearness import apart
from aimspax_core.uncertainty.threshold import Window
from tasks.propagate import PropagateRequest, propagate


@pytest.fixture
def checkpoints(settings: Settings, run: RunDir) -> tuple[Path, ...]:
    """Two untrained members."""
    made = []
    for seed in (1, 2):
        member = Member(
            settings.model, (1, 8), f"water-{seed}", seed, Constants({1: 0, 8: 0}, 2, 1, 0)
        )
        made.append(run.checkpoint(member.tag, "c"))
        member.save(made[-1])
    return tuple(made)


def request(
    settings: Settings,
    run: RunDir,
    *trajectories: Trajectory,
    checkpoints: tuple[Path, ...] = (),
    number: int = 7,
    window: Window | None = None,
) -> PropagateRequest:
    return PropagateRequest(
        action_id=f"propagate:{number}", number=number, run=run, settings=settings,
        trajectories=trajectories, elements=(1, 8), checkpoints=checkpoints,
        windows=(window or Window(),), time_budget_s=0.0,
    )  # fmt: skip


def begun(monkeypatch: pytest.MonkeyPatch, asked: PropagateRequest) -> MDState:
    """Where the only trajectory of a request would begin."""
    (only,) = all_begun(monkeypatch, asked)
    return only.state


def all_begun(monkeypatch: pytest.MonkeyPatch, asked: PropagateRequest) -> list[Start]:
    """What a request would make of its trajectories."""
    starts: list[Start] = []

    class Seen(Exception):
        pass

    def look(given: list[Start], *_: Any) -> None:
        starts.extend(given)
        raise Seen

    with monkeypatch.context() as patch:
        patch.setattr(module, "run_segment", look)
        with pytest.raises(Seen):
            propagate.fn(asked)
    return starts


def same(left: MDState, right: MDState) -> bool:
    return (
        (left.structure.positions == right.structure.positions).all()
        and (left.structure.get_momenta() == right.structure.get_momenta()).all()
        and (left.step, left.rng) == (right.step, right.rng)
    )


def test_version_0_is_the_geometry_with_velocities_of_its_own(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def first(**changes: Any) -> MDState:
        trajectory = Trajectory(index=0, geometry=0).model_copy(update=changes)
        return begun(monkeypatch, request(settings, run, trajectory, checkpoints=checkpoints))

    one = first()
    np.testing.assert_allclose(one.structure.positions, molecule("H2O").positions, atol=1e-8)
    assert one.step == 0
    assert same(one, first()), "a segment that was lost begins the same way"
    another, again = first(index=1), first(rollbacks=1, rollbacks_in_a_row=1)
    for other in (another, again):
        assert (other.structure.get_momenta() != one.structure.get_momenta()).all()
        assert other.rng != one.rng


def test_a_trajectory_begins_goes_on_and_begins_anew_with_the_held_atoms_of_its_geometry(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldAtoms(fixed=(2,))
    holding, fresh = replace(settings, held={0: held}), Trajectory(index=0, geometry=0)
    first = begun(monkeypatch, request(holding, run, fresh, checkpoints=checkpoints))
    save_state(run.trajectory(0, 3), first)
    for rollbacks in (0, 1, 2):  # goes on, with new noise, with new velocities
        back = {"rollbacks": rollbacks, "rollbacks_in_a_row": rollbacks}
        later = fresh.model_copy(update={"version": 3, "checkpoint": 3, **back})
        state = begun(monkeypatch, request(settings, run, later, checkpoints=checkpoints))
        assert state.held == held
        assert not state.structure.get_momenta()[2].any()


def test_after_a_rollback_the_checkpoint_goes_on_with_new_noise(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = start(molecule("H2O"), settings.md(0), random_stream(5))
    for version in (3, 4):
        save_state(run.trajectory(0, version), saved)

    def resumed(**changes: Any) -> MDState:
        trajectory = Trajectory(index=0, geometry=0, version=3, checkpoint=3)
        changed = trajectory.model_copy(update=changes)
        return begun(monkeypatch, request(settings, run, changed, checkpoints=checkpoints))

    assert same(resumed(), saved)
    first = resumed(rollbacks=1, rollbacks_in_a_row=1)
    second = resumed(rollbacks=2, rollbacks_in_a_row=2)
    for state in (first, second):
        np.testing.assert_array_equal(state.structure.positions, saved.structure.positions)
    np.testing.assert_array_equal(first.structure.get_momenta(), saved.structure.get_momenta())
    assert not np.isclose(second.structure.get_momenta(), saved.structure.get_momenta()).all()
    assert second.step == saved.step
    assert len({str(state.rng) for state in (saved, first, second)}) == 3
    assert same(resumed(rollbacks=1, rollbacks_in_a_row=1, version=4), saved), "on its way again"
    assert same(resumed(rollbacks=1), saved), "labelled since"


def test_states_and_crossing_structures_are_on_disk_when_it_returns(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...]
) -> None:
    low = Window().extend([1e-9] * 400)
    trajectories = [Trajectory(index=i, geometry=0) for i in range(2)]
    event = propagate.fn(request(settings, run, *trajectories, checkpoints=checkpoints, window=low))
    assert event.action_id == "propagate:7"
    assert len(event.uncertainties) == 2
    assert (event.evaluations, event.structures) == (5, 10)
    identity = build_reference(settings.reference, settings.directory).identity()
    for result in event.results:
        assert (result.outcome, result.version, result.step) == ("crossed", 7, 4)
        state = load_state(run.trajectory(result.trajectory, 7))
        assert state.step == 4
        assert result.key == label_key(state.structure, identity)
        kept = decode(json.loads(run.structure(result.key).read_text(encoding="utf-8")))
        np.testing.assert_array_equal(kept.positions, state.structure.positions)


def test_what_asked_for_a_label_is_kept_as_it_was_said_first(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...]
) -> None:
    low = Window().extend([1e-9] * 400)
    trajectory = Trajectory(index=0, geometry=0)
    event = propagate.fn(request(settings, run, trajectory, checkpoints=checkpoints, window=low))
    (result,), (check,) = event.results, event.all_checks()
    path = run.prediction(str(result.key))
    said = read_prediction(path)
    assert said is not None
    prediction, threshold, _ = said
    state = load_state(run.trajectory(0, 7))
    measure = measure_of(settings.al.uncertainty_type).function
    assert measure(prediction, state.structure) == pytest.approx(check.uncertainty)
    assert threshold == check.threshold
    before = path.read_bytes()
    others = tuple(reversed(checkpoints))  # as if they had been trained since
    propagate.fn(request(settings, run, trajectory, checkpoints=others, window=low))
    assert path.read_bytes() == before


def test_segments_on_two_workers_equal_one_run(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...]
) -> None:
    event = propagate.fn(
        request(settings, run, Trajectory(index=0, geometry=0), checkpoints=checkpoints)
    )
    (first,) = event.results
    assert (first.outcome, first.key, first.since_crossing) == ("running", None, 4)
    further = Trajectory(index=0, geometry=0, version=7, step=4, since_crossing=4)
    propagate.fn(request(settings, run, further, checkpoints=checkpoints, number=8))
    at_once = settings.project.model_copy(
        update={"ACTIVE_LEARNING": settings.al.model_copy(update={"skip_step_mlff": 8})}
    )
    whole = Settings(settings.directory, at_once, settings.model)
    propagate.fn(
        request(whole, run, Trajectory(index=0, geometry=0), checkpoints=checkpoints, number=9)
    )
    assert same(load_state(run.trajectory(0, 8)), load_state(run.trajectory(0, 9)))


def test_an_explosion_leaves_no_state_and_says_why(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...]
) -> None:
    spoilt = start(molecule("H2O"), settings.md(0), random_stream(5))
    spoilt.structure.positions[1] = spoilt.structure.positions[0] + 0.01
    save_state(run.trajectory(0, 3), spoilt)
    trajectory = Trajectory(index=0, geometry=0, version=3, step=11, checkpoint=3)
    event = propagate.fn(request(settings, run, trajectory, checkpoints=checkpoints))
    (result,) = event.results
    assert (result.outcome, result.version, result.step, result.key) == ("exploded", 3, 11, None)
    assert result.reason
    assert not run.trajectory(0, 7).exists()


def with_al(settings: Settings, **changes: Any) -> Settings:
    al = settings.al.model_copy(update=changes)
    project = settings.project.model_copy(update={"ACTIVE_LEARNING": al})
    return Settings(settings.directory, project, settings.model)


def test_looks_are_on_disk_with_what_the_committee_said(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...]
) -> None:
    analysed = with_al(settings, analysis=True, analysis_skip=3, skip_step_mlff=7)
    trajectories = [Trajectory(index=i, geometry=0) for i in range(2)]
    window = Window().extend([1.0] * 400)
    event = propagate.fn(
        request(analysed, run, *trajectories, checkpoints=checkpoints, window=window)
    )
    assert [(look.trajectory, look.step) for look in event.looks] == [
        (0, 3),
        (0, 6),
        (1, 3),
        (1, 6),
    ]
    assert [(c.trajectory, c.step) for c in event.all_checks()] == [(0, 7), (1, 7)]
    assert tuple(c.uncertainty for c in event.all_checks()) == event.uncertainties
    identity = build_reference(settings.reference, settings.directory).identity()
    for look in event.looks:
        assert look.threshold == 1.0
        atoms = decode(json.loads(run.structure(look.key).read_text(encoding="utf-8")))
        assert look.key == label_key(atoms, identity)
        with np.load(run.prediction(look.key), allow_pickle=False) as said:
            assert said["member_forces"].shape == (2, 3, 3)
            np.testing.assert_allclose(said["forces"], said["member_forces"].mean(axis=0))
            assert said["member_energies"].shape == (2,)
            assert (int(said["trajectory"]), int(said["step"])) == (look.trajectory, look.step)


def test_without_analysis_there_are_no_looks_and_where_nothing_crosses_no_predictions(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...]
) -> None:
    trajectory = Trajectory(index=0, geometry=0)
    event = propagate.fn(request(settings, run, trajectory, checkpoints=checkpoints))
    assert (event.looks, len(event.all_checks()), event.thresholds) == ((), 1, (None,))
    assert not run.prediction("ab").parent.parent.exists()


def test_frames_of_segments_are_those_of_one_trajectory(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...]
) -> None:
    """Segments of 4 steps, frames of 3, the second segment lost once."""
    saving = with_al(settings, save_trajectories_interval=3)
    trajectory = Trajectory(index=0, geometry=0, rollbacks=2)
    for number in (1, 2, 3, 4):
        asked = request(saving, run, trajectory, checkpoints=checkpoints, number=number)
        event = propagate.fn(replace(asked, tags=("water-1", "water-2")))
        if number == 2:
            continue
        gather(run, event)
        trajectory = trajectory.model_copy(
            update={"version": number, "step": event.results[0].step}
        )
    frames = ase.io.read(run.trajectories / "trajectory_0.extxyz", ":")
    assert [frame.info["step"] for frame in frames] == [3, 6, 9, 12]
    assert ["uncertainty" in frame.info for frame in frames] == [False, False, False, True]
    last = frames[-1]
    members = [last.arrays[f"forces_water-{i}"] for i in (1, 2)]
    np.testing.assert_allclose(last.get_forces(), np.mean(members, axis=0), atol=1e-7)
    state = load_state(run.trajectory(0, 4)).structure
    np.testing.assert_allclose(last.positions, state.positions, atol=1e-7)
    np.testing.assert_allclose(last.arrays["velocities"], state.get_velocities(), atol=1e-7)
    assert {k: last.info[k] for k in ("trajectory", "geometry", "rollbacks")} == {
        "trajectory": 0, "geometry": 0, "rollbacks": 2,
    }  # fmt: skip
    assert not [*run.frames.iterdir()]


def test_unless_asked_no_frames_are_kept(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...]
) -> None:
    plain = with_al(settings, save_trajectories=False, save_trajectories_interval=1)
    propagate.fn(request(plain, run, Trajectory(index=0, geometry=0), checkpoints=checkpoints))
    assert not run.frames.exists()


MIXED = """
REFERENCE: {engine: ase, calculator: ase.calculators.emt.EMT}
INITIAL_DATASET_GENERATION:
  {n_points_per_sampling_step_idg: 3, max_initial_epochs: 4, ensemble_size: 2}
ACTIVE_LEARNING: {num_trajectories: 2, skip_step_mlff: 3, max_train_set_size: 16}
MISC: {path_to_geometry: {0: water.xyz, 1: copper.xyz}}
MD:
  0: {stat_ensemble: nvt}
  1: {stat_ensemble: npt, barostat: mtk, timestep: 2.0, MD_seed: 7}
"""


@pytest.fixture
def mixed(settings: Settings) -> Settings:
    """A molecule in NVT and a crystal in NPT."""
    folder = settings.directory
    (folder / "aimsPAX.yaml").write_text(MIXED, encoding="utf-8")
    ase.io.write(folder / "water.xyz", molecule("H2O"))
    ase.io.write(folder / "copper.xyz", bulk("Cu", cubic=True), format="extxyz")
    return load(folder)


def members(settings: Settings, run: RunDir) -> tuple[Path, ...]:
    """Two untrained members that know copper, too."""
    made = []
    for seed in (1, 2):
        energies = {1: 0.0, 8: 0.0, 29: 0.0}
        constants = Constants(energies, 9, 0.1, 0)
        member = Member(settings.model, (1, 8, 29), f"m-{seed}", seed, constants)
        made.append(run.checkpoint(member.tag, "c"))
        member.save(made[-1])
    return tuple(made)


def mixed_request(settings: Settings, run: RunDir, number: int, *given: Trajectory) -> Any:
    asked = request(settings, run, *given, checkpoints=members(settings, run), number=number)
    return replace(asked, elements=(1, 8, 29))


def test_each_trajectory_has_the_md_of_its_geometry(mixed: Settings, run: RunDir) -> None:
    trajectories = [Trajectory(index=i, geometry=i) for i in range(2)]
    event = propagate.fn(mixed_request(mixed, run, 1, *trajectories))
    assert [r.outcome for r in event.results] == ["running", "running"]
    water, copper = (load_state(run.trajectory(i, 1)) for i in range(2))
    assert not water.extras
    assert copper.extras, "a barostat"
    assert np.abs(copper.structure.cell.array - bulk("Cu", cubic=True).cell.array).max() > 1e-7
    np.testing.assert_array_equal(water.structure.cell.array, 0)


def test_a_cell_that_moves_is_guarded_against_the_geometrys(
    mixed: Settings, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    swollen = bulk("Cu", cubic=True)
    swollen.set_cell(1.9 * swollen.cell, scale_atoms=True)
    save_state(run.trajectory(2, 3), start(swollen, mixed.md(1), random_stream(5)))
    given = [Trajectory(index=i, geometry=i) for i in range(2)]
    given.append(Trajectory(index=2, geometry=1, version=3))
    starts = all_begun(monkeypatch, mixed_request(mixed, run, 5, *given))
    volume = bulk("Cu", cubic=True).cell.volume
    assert [s.volume for s in starts] == [None, pytest.approx(volume), pytest.approx(volume)]
    assert starts[2].state.structure.cell.volume > 6 * volume


def test_geometries_are_read_once_and_only_if_they_are_needed(
    mixed: Settings, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def seen(files: Sequence[Path], begun_without: Any, names: Any) -> Any:
        asked.append([file.name for file in files])
        return structures_as_begun(files, begun_without, names)

    monkeypatch.setattr(settings_module, "structures_as_begun", seen)
    for index, geometry in ((5, 0), (6, 1)):
        atoms = mixed.geometries([geometry])[0]
        save_state(run.trajectory(index, 3), start(atoms, mixed.md(geometry), random_stream(5)))

    def read(*given: Trajectory) -> list[str]:
        asked.clear()
        all_begun(monkeypatch, mixed_request(mixed, run, 5, *given))
        (once,) = asked
        return once

    later = [Trajectory(index=i, geometry=g, version=3) for i, g in ((5, 0), (6, 1))]
    assert read(*(Trajectory(index=i, geometry=0) for i in range(3))) == ["water.xyz"]
    assert read(Trajectory(index=0, geometry=0), later[1]) == ["water.xyz", "copper.xyz"]
    assert read(later[1]) == ["copper.xyz"]
    assert read(later[0]) == []


def test_stress_is_evaluated_only_if_a_trajectory_needs_it(
    mixed: Settings, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    evaluate = Committee.evaluate

    def seen(self: Committee, structures: Any, stress: bool = False) -> Any:
        asked.append(stress)
        return evaluate(self, structures, stress)

    monkeypatch.setattr(Committee, "evaluate", seen)
    propagate.fn(mixed_request(mixed, run, 1, Trajectory(index=0, geometry=0)))
    assert {*asked} == {False}
    asked.clear()
    propagate.fn(mixed_request(mixed, run, 2, *(Trajectory(index=i, geometry=i) for i in (0, 1))))
    assert {*asked} == {True}


def test_after_a_rollback_a_deterministic_integrator_has_fresh_velocities(
    mixed: Settings, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    atoms = bulk("Cu", cubic=True)
    saved = start(atoms, mixed.md(1), random_stream(5))
    save_state(run.trajectory(1, 3), saved)
    trajectory = Trajectory(
        index=1, geometry=1, version=3, checkpoint=3, rollbacks=1, rollbacks_in_a_row=1
    )
    state = begun(monkeypatch, mixed_request(mixed, run, 5, trajectory))
    np.testing.assert_array_equal(state.structure.positions, saved.structure.positions)
    moved = state.structure.get_momenta() != saved.structure.get_momenta()
    assert moved.all()
    assert (state.step, state.extras) == (saved.step, {})


@pytest.fixture
def driven(settings: Settings) -> Settings:
    """A foundation model, small and untrained, drives."""
    constants = Constants({1: 0.0, 8: 0.0}, 2, 3.0, 0)
    save_model(build(settings.model, (1, 8), constants, seed=9), settings.directory / "f.model")
    model = settings.al.foundational_model_settings.model_copy(update={"mace_model": "f.model"})
    return with_al(
        settings, use_foundational=True, foundational_model_settings=model,
        save_trajectories_interval=4,
    )  # fmt: skip


@pytest.mark.key("ActiveLearning", "use_foundational")
def test_a_foundation_model_drives(
    driven: Settings, run: RunDir, checkpoints: tuple[Path, ...]
) -> None:
    asked = request(driven, run, Trajectory(index=0, geometry=0), checkpoints=checkpoints)
    propagate.fn(asked)
    moved = load_state(run.trajectory(0, 7)).structure.positions
    md = driven.md(0)
    begin = start(read_geometries(driven.geometry_files)[0], md, random_stream(42, 1, 0, 0))
    alone = Alone(foundation(model=str(driven.directory / "f.model"), dtype="float64").driver)
    dynamics, _ = resume(begin, md, alone)
    dynamics.run(4)
    np.testing.assert_allclose(moved, dynamics.atoms.positions, rtol=0, atol=1e-12)
    propagate.fn(replace(asked, settings=with_al(driven, use_foundational=False), number=8))
    by_committee = load_state(run.trajectory(0, 8)).structure.positions
    assert not np.allclose(moved, by_committee, rtol=0, atol=1e-6)


def test_under_a_foundation_model_the_committee_judges(
    driven: Settings, run: RunDir, checkpoints: tuple[Path, ...]
) -> None:
    trajectory = Trajectory(index=0, geometry=0)
    event = propagate.fn(request(driven, run, trajectory, checkpoints=checkpoints))
    assert (event.evaluations, event.structures) == (6, 6), "five of the driver, one judgement"
    committee = worker_memory().ensemble(driven.model, (1, 8)).committee(checkpoints)
    structure = load_state(run.trajectory(0, 7)).structure
    (judged,) = committee.evaluate([structure])
    uncertainty = measure_of("max_atomic_sd").function(judged, structure)
    assert event.uncertainties == (pytest.approx(uncertainty, rel=1e-9),)
    frame = ase.io.read(part(run, "trajectory", 0, 7))
    np.testing.assert_allclose(frame.get_forces(), judged.forces, atol=1e-7)


class Alone(Calculator):
    """The driver as an ordinary calculator."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE's)

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def calculate(self, atoms: Any = None, *args: Any) -> None:
        super().calculate(atoms, *args)
        (said,) = self.model.evaluate([atoms])
        self.results = {"energy": said.energy, "forces": said.forces}


def test_chance_is_that_of_trajectory_rollback_and_step(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    chances = []
    for rollbacks, step in ((0, 0), (0, 4), (1, 0)):
        trajectory = Trajectory(index=2, geometry=0, rollbacks=rollbacks, step=step)
        (begun_there,) = all_begun(
            monkeypatch, request(settings, run, trajectory, checkpoints=checkpoints)
        )
        assert begun_there.chance is not None
        chances.append([begun_there.chance(at) for at in (4, 8)])
    first, later, rolled_back = chances
    assert first == later, "wherever its life is cut"
    assert len({*first, *rolled_back}) == 4
    assert all(0 <= one < 1 for one in first)


@pytest.mark.parametrize(("selection", "share"), [("random", 0.3), ("uncertainty", None)])
def test_chance_decides_only_in_a_control(
    settings: Settings, run: RunDir, monkeypatch: pytest.MonkeyPatch, selection: str,
    share: float | None,
) -> None:  # fmt: skip
    asked: list[SegmentSettings] = []

    class Seen(Exception):
        pass

    def look(_: Any, given: SegmentSettings, *others: Any) -> None:
        asked.append(given)
        raise Seen

    monkeypatch.setattr(module, "run_segment", look)
    monkeypatch.setattr(module, "_models", lambda request: (None, None))
    control = with_al(settings, selection=selection, random_share=0.3)
    with pytest.raises(Seen):
        propagate.fn(request(control, run, Trajectory(index=0, geometry=0)))
    assert asked[0].random_share == share


def test_trajectory_k_of_a_geometry_has_its_kth_temperature(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    several = load(settings.directory, {"MD.temperature": [200, 800]})
    given = [Trajectory(index=index, geometry=0) for index in range(3)]
    asked = replace(request(several, run, *given, checkpoints=checkpoints), numbers=(0, 1, 2))
    starts = all_begun(monkeypatch, asked)
    assert [one.md.temperature for one in starts] == [200, 800, 200]
    for number, one in enumerate(starts):
        alone = load(settings.directory, {"MD.temperature": (200, 800, 200)[number]})
        same_one = begun(monkeypatch, request(alone, run, given[number], checkpoints=checkpoints))
        assert same(one.state, same_one), "velocities are of its temperature"


@pytest.mark.key("ActiveLearning", "rattle")
def test_trajectories_begin_with_rattled_copies_of_their_own(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "ACTIVE_LEARNING.rattle"
    still = [load(settings.directory), load(settings.directory, {key: {"1": {}}})]
    shaken = load(settings.directory, {key: {"0": {"displacement": [0.01, 0.1]}}})

    def first(settings: Settings, index: int, **changes: Any) -> MDState:
        trajectory = Trajectory(index=index, geometry=0).model_copy(update=changes)
        asked = request(settings, run, trajectory, checkpoints=checkpoints)
        return begun(monkeypatch, replace(asked, numbers=(index,)))

    for one in still:
        assert (first(one, 0).structure.positions == first(one, 1).structure.positions).all()
    plain = first(still[0], 0).structure
    begins = [first(shaken, index).structure for index in (0, 1)]
    moves = [np.abs(one.positions - plain.positions).max() for one in begins]
    assert 0 < moves[0] < 0.05 < moves[1]
    assert (begins[0].get_momenta() == plain.get_momenta()).all(), "its own draws, none of MD's"
    assert same(first(shaken, 0), first(shaken, 0))
    again = first(shaken, 0, rollbacks=1, rollbacks_in_a_row=1).structure
    assert (again.positions != begins[0].positions).all()


def test_where_the_gate_refuses_all_copies_a_trajectory_begins_with_the_geometry(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    close = {"ACTIVE_LEARNING.rattle": {"displacement": 1e-6}, "GATE.min_distance": 0.999}
    asked = [
        request(
            load(settings.directory, given), run, Trajectory(index=0, geometry=0),
            checkpoints=checkpoints,
        )
        for given in ({}, close)
    ]  # fmt: skip
    plain, refused = (begun(monkeypatch, one) for one in asked)
    assert (plain.structure.positions == refused.structure.positions).all()


def test_what_crosses_is_told_where_it_is_among_structures_that_are_known(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...]
) -> None:
    rng = np.random.default_rng(0)
    known = []
    for number in range(7):
        atoms = molecule("H2O") if number < 6 else molecule("H2")
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        known.append(keep_structure(run, atoms, {"engine": "any"}))
    crossing = Window().extend([0.0] * 11)
    trajectories = [Trajectory(index=i, geometry=0) for i in range(2)]
    asked = request(settings, run, *trajectories, checkpoints=checkpoints, window=crossing)
    plain = propagate.fn(asked)
    told = propagate.fn(replace(asked, known=tuple(known)))
    assert [one.key for one in told.results] == [one.key for one in plain.results]
    assert all(one.distance is None and one.sketch == () for one in plain.results)
    for one in told.results:
        assert one.outcome == "crossed"
        assert one.distance is not None
        assert 0 < one.distance < 100
    first, second = (one.sketch for one in told.results)
    assert apart(first, second) > 0
    among = propagate.fn(replace(asked, known=(*known, str(told.results[0].key))))
    assert among.results[0].distance == pytest.approx(0.0, abs=1e-6), "it is known itself"
    assert among.results[0].sketch == first, "whatever is known"
    assert among.results[0].unit != told.results[0].unit


def test_a_known_structure_whose_file_is_damaged_or_gone_is_left_out_of_those_that_are_known(
    run: RunDir, checkpoints: tuple[Path, ...], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    keys = []
    for _ in range(8):
        atoms = molecule("H2O")
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        keys.append(keep_structure(run, atoms, {"engine": "any"}))
    run.structure(keys[0]).unlink()
    run.structure(keys[1]).write_bytes(run.structure(keys[1]).read_bytes()[:-9])
    asked = {4: molecule("H2O")}
    found, without = (
        KnownStructures(checkpoints[0], settings.model).places(asked, run, known)
        for known in (keys, keys[2:])
    )
    assert found == without != {}
    assert [key for key in keys if key in caplog.text] == keys[:2]


def test_a_trajectory_begins_anew_from_the_label_that_was_drawn(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    atoms = molecule("H2O")
    atoms.positions *= 1.2
    reference = build_reference(settings.reference, settings.directory)
    key = label_key(atoms, reference.identity())
    LabelStore(run.labels).put(key, atoms, reference.label(atoms))
    here = start(molecule("H2O"), settings.md(0), random_stream(5))
    save_state(run.trajectory(0, 3), here)

    def resumed(**changes: Any) -> MDState:
        values = {"version": 3, "checkpoint": 3, "step": 40, **changes}
        trajectory = Trajectory(index=0, geometry=0).model_copy(update=values)
        return begun(monkeypatch, request(settings, run, trajectory, checkpoints=checkpoints))

    anew = resumed(origin=key, begun_anew=1)
    np.testing.assert_array_equal(anew.structure.positions, atoms.positions)
    assert (anew.step, anew.rng != here.rng) == (40, True)
    assert anew.structure.get_momenta().any()
    assert same(anew, resumed(origin=key, begun_anew=1)), "a segment that is lost begins so again"
    assert not same(anew, resumed(origin=key, begun_anew=2))
    assert same(resumed(origin="0" * 64, begun_anew=1), here), "without the label it goes on"
    first = resumed(origin=key, begun_anew=1, version=0, checkpoint=0)
    assert same(anew, first), "also one that has no state of its own"
