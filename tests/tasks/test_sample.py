"""The sampling task, called as the plain function that it is."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from aimspax_core.labels.store import LabelStore, label_key
from aimspax_core.output.trajectories import gather, part
from aimspax_core.reference.registry import build_reference
from aimspax_core.run_directory import RunDir
from aimspax_core.sampling.collect import MAX_FRESH_STARTS
from aimspax_core.sampling.dynamics import load_state, save_state
from aimspax_core.settings.aims_control.control import Control
from aimspax_core.settings.geometries.held_atoms import HeldAtoms
from aimspax_core.settings.load import load
from aimspax_core.settings.settings import Settings
from aimspax_core.structures import decode
from tasks.sample import SampleRequest, sample


def request(settings: Settings, run: RunDir, version: int, points: int) -> SampleRequest:
    return SampleRequest("sample:1:0", run, settings, 0, version, points)


def positions(run: RunDir, key: str) -> np.ndarray:
    import json

    return decode(json.loads(run.structure(key).read_text(encoding="utf-8"))).positions


def test_structures_and_state_are_on_disk_when_it_returns(settings: Settings, run: RunDir) -> None:
    event = sample.fn(request(settings, run, 0, 3))
    assert (event.action_id, event.geometry, event.version, event.refused) == (
        "sample:1:0",
        0,
        1,
        0,
    )
    assert len(set(event.found)) == 3
    state = load_state(run.sampler(0, 1))
    assert state.step == 15
    np.testing.assert_array_equal(positions(run, event.found[-1]), state.structure.positions)
    identity = build_reference(settings.reference, settings.directory).identity()
    assert event.found[-1] == label_key(state.structure, identity)


def test_it_goes_on_from_the_state_it_is_given(settings: Settings, run: RunDir) -> None:
    whole = sample.fn(request(settings, run, 0, 4))
    first = sample.fn(request(settings, run, 0, 2))
    second = sample.fn(request(settings, run, first.version, 2))
    assert second.version == 2
    for one, other in zip(whole.found, (*first.found, *second.found), strict=True):
        np.testing.assert_allclose(positions(run, one), positions(run, other), atol=1e-10)


HELD = HeldAtoms(fixed=(0,), planes=(((0.0, 0.0, 1.0), (1,)),))


def test_held_atoms_stay_in_all_its_parts_and_are_in_no_key(
    settings: Settings, run: RunDir
) -> None:
    held = replace(settings, held={0: HELD})
    first = sample.fn(request(held, run, 0, 2))
    second = sample.fn(request(settings, run, first.version, 2))  # its state knows it
    geometry = settings.geometries()[0].positions
    for key in (*first.found, *second.found):
        assert (positions(run, key)[0] == geometry[0]).all()
        assert positions(run, key)[1, 2] == geometry[1, 2]
    state = load_state(run.sampler(0, 2))
    assert state.held == HELD
    identity = build_reference(settings.reference, settings.directory).identity()
    assert second.found[-1] == label_key(state.structure, identity)


def test_without_time_it_hands_over_one_structure_and_says_that_there_is_more(
    settings: Settings, run: RunDir
) -> None:
    event = sample.fn(replace(request(settings, run, 0, 3), time_budget_s=0.0))
    assert (len(event.found), event.more) == (1, True)
    assert run.structure(event.found[0]).exists()
    rest = sample.fn(request(settings, run, event.version, 2))
    assert (len(rest.found), rest.more, load_state(run.sampler(0, 2)).step) == (2, False, 15)


def test_it_begins_with_the_geometry(settings: Settings, run: RunDir) -> None:
    event = sample.fn(request(settings, run, 0, 1))
    moved = np.abs(positions(run, event.found[0]) - molecule("H2O").positions).max()
    assert 0 < moved < 0.3


PROJECT = """
REFERENCE: {engine: ase, calculator: ase.calculators.emt.EMT}
INITIAL_DATASET_GENERATION:
  {initial_sampling: aimd, n_points_per_sampling_step_idg: 3, skip_step_initial: 5,
   max_initial_epochs: 4, save_trajectories: true, save_trajectories_interval: 3}
ACTIVE_LEARNING: {num_trajectories: 2, max_train_set_size: 16}
MISC: {path_to_geometry: {0: water.xyz, 1: copper.xyz}}
MD:
  0: {stat_ensemble: nvt}
  1: {stat_ensemble: npt, barostat: mtk, timestep: 2.0}
"""


@pytest.fixture
def mixed(settings: Settings) -> Settings:
    """A molecule in NVT and a crystal in NPT, with EMT; the sampling MD is saved."""
    folder = settings.directory
    (folder / "aimsPAX.yaml").write_text(PROJECT, encoding="utf-8")
    ase.io.write(folder / "water.xyz", molecule("H2O"))
    ase.io.write(folder / "copper.xyz", bulk("Cu", cubic=True), format="extxyz")
    return load(folder)


def test_each_geometry_has_its_own_md_and_frames(mixed: Settings, run: RunDir) -> None:
    for geometry, atoms in enumerate((molecule("H2O"), bulk("Cu", cubic=True))):
        event = sample.fn(SampleRequest(f"sample:1:{geometry}", run, mixed, geometry, 0, 2))
        state = load_state(run.sampler(geometry, 1))
        assert bool(state.extras) == (geometry == 1)
        assert np.array_equal(state.structure.cell, atoms.cell) == (geometry == 0)
        assert part(run, "initial", geometry, 1).exists()
        gather(run, event)
    for geometry in (0, 1):
        frames = ase.io.read(run.trajectories / f"initial_{geometry}.extxyz", ":")
        assert [(f.info["step"], f.info["geometry"]) for f in frames] == [
            (step, geometry) for step in (3, 6, 9)
        ]
        assert frames[0].arrays["velocities"].any()
        assert frames[0].get_forces().any()


def test_unless_asked_no_frames_are_kept(settings: Settings, run: RunDir) -> None:
    sample.fn(request(settings, run, 0, 2))
    assert not run.frames.exists()


def test_an_explosion_is_what_the_gate_says(settings: Settings, run: RunDir) -> None:
    """Under a limit that no moving molecule keeps, every beginning explodes."""
    gate = settings.gate.model_copy(update={"max_force": 1e-6})
    strict = Settings(
        settings.directory, settings.project.model_copy(update={"GATE": gate}), settings.model
    )
    event = sample.fn(request(strict, run, 0, 9))
    assert (event.found, event.refused) == ((), MAX_FRESH_STARTS + 1)


def test_structures_that_the_gate_refuses_are_kept_aside(settings: Settings, run: RunDir) -> None:
    gate = settings.gate.model_copy(update={"min_distance": 0.999})
    project = settings.project.model_copy(update={"GATE": gate})
    event = sample.fn(request(replace(settings, project=project), run, 0, 6))
    kept = sorted(run.refused.iterdir())
    assert len(kept) == event.refused > 0
    for file in kept:
        assert "Å apart" in str(ase.io.read(file).info["reason"])  # type: ignore[union-attr]


AIMS = Path(__file__).parents[1] / "aims"
STAND_IN = {
    "engine": "aims",
    "species_dir": str(AIMS / "species"),
    "launch_str": f"{shlex.quote(sys.executable)} {shlex.quote(str(AIMS / 'stand_in.py'))} > out",
    "clean_dirs": False,
}


def sampled_by(settings: Settings, engine: dict[str, Any], **md: Any) -> Settings:
    """The settings, with an engine that samples a point after one step; another one labels."""
    phase = "INITIAL_DATASET_GENERATION"
    given = {"initial_sampling": "engine", "sampling_engine": engine, "skip_step_initial": 1}
    overrides: dict[str, Any] = {f"{phase}.{key}": value for key, value in given.items()}
    overrides |= {f"MD.{key}": value for key, value in md.items()}
    return load(settings.directory, overrides)


@pytest.mark.slow
def test_fhi_aims_samples_each_geometry_by_its_own_control_file(
    settings: Settings, run: RunDir
) -> None:
    folder = settings.directory
    (folder / "pbe.in").write_text("xc pbe\n", encoding="utf-8")
    (folder / "blyp.in").write_text("xc blyp\n", encoding="utf-8")
    (folder / "aimsPAX.yaml").write_text(PROJECT, encoding="utf-8")
    for name in ("water", "copper"):
        ase.io.write(folder / f"{name}.xyz", molecule("H2O"))
    engine = STAND_IN | {"control": {0: "pbe.in", 1: "blyp.in"}}
    asked = sampled_by(settings, engine, **{"1": {"stat_ensemble": "nvt"}})
    for geometry, functional in enumerate(("pbe", "blyp")):
        sample.fn(SampleRequest(f"sample:1:{geometry}", run, asked, geometry, 0, 1))
        newest = max((folder / "calc").iterdir(), key=lambda path: path.stat().st_mtime)
        written, _ = Control.read(newest / "control.in")
        assert written.get("xc") == (functional,)


def crystal(settings: Settings) -> None:
    """Put hydrogen molecules in a cell in the place of the geometry."""
    positions = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.75]]
    cell = Atoms("H2", positions, cell=[3.0, 3.0, 3.2], pbc=True)
    ase.io.write(settings.directory / "geometry.in", cell)


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine",
    [
        STAND_IN | {"control": "bulk.in"},
        {"engine": "pyscf", "basis": "gth-szv", "pseudo": "gth-pade", "ke_cutoff": 40.0},
    ],
    ids=["aims", "pyscf"],
)
def test_engines_that_label_can_drive_sampling_that_moves_a_cell(
    settings: Settings, run: RunDir, engine: dict[str, Any]
) -> None:
    crystal(settings)
    control = "xc pbe\nk_grid 1 1 1\n"
    (settings.directory / "bulk.in").write_text(control, encoding="utf-8")
    asked = sampled_by(settings, engine, stat_ensemble="npt", barostat="mtk")
    assert len(sample.fn(request(asked, run, 0, 2)).found) == 2
    before = ase.io.read(settings.directory / "geometry.in")
    assert isinstance(before, Atoms)
    assert load_state(run.sampler(0, 1)).structure.cell.volume != before.cell.volume


def test_sampling_steps_take_one_temperature_after_another(settings: Settings, run: RunDir) -> None:
    """NVE has no thermostat: its steps are hotter only by new velocities."""
    given = {"stat_ensemble": "NVE", "temperature": [50, 2000, 2000]}
    several = load(settings.directory, {f"MD.{key}": value for key, value in given.items()})

    def after(step: int, part: int = 0, version: int = 0) -> tuple[int, float]:
        asked = replace(request(several, run, version, 1), step=step, part=part)
        state = load_state(run.sampler(0, sample.fn(asked).version))
        return state.step, state.structure.get_kinetic_energy()

    cold, hot = after(1)[1], after(2, version=1)[1]
    assert hot > 10 * cold
    moved = load_state(run.sampler(0, 2)).structure
    later = replace(request(several, run, 2, 1), step=3)
    sample.fn(later)
    on = load_state(run.sampler(0, 3)).structure
    sample.fn(replace(later, step=2, part=1))
    assert (on.positions == load_state(run.sampler(0, 3)).structure.positions).all(), (
        "the same temperature, or the same step: it goes on as it was"
    )
    assert (moved.positions != on.positions).any()


def test_a_hotter_step_begins_the_same_way_when_it_is_repeated(
    settings: Settings, run: RunDir
) -> None:
    several = load(settings.directory, {"MD.temperature": [300, 900]})
    sample.fn(request(several, run, 0, 1))
    again = replace(request(several, run, 1, 1), step=2)
    first = sample.fn(again).found
    assert first == sample.fn(again).found
    assert first != sample.fn(replace(again, step=3)).found


def test_a_temperature_that_is_set_on_the_way_is_that_of_the_next_step(
    settings: Settings, run: RunDir
) -> None:
    def energy(temperature: float, step: int, part: int = 0) -> float:
        given = {"MD.stat_ensemble": "NVE", "MD.temperature": temperature}
        now = load(settings.directory, given)
        sample.fn(replace(request(now, run, step - 1 + part, 1), step=step, part=part))
        return float(load_state(run.sampler(0, step + part)).structure.get_kinetic_energy())

    cold = energy(50.0, 1)
    within = energy(2000.0, 1, part=1)
    assert within < 10 * cold, "the step goes on as it began"
    save_state(run.sampler(0, 1), load_state(run.sampler(0, 2)))
    assert energy(2000.0, 2) > 10 * cold
    unknown = replace(load_state(run.sampler(0, 2)), drawn_for=None)
    save_state(run.sampler(0, 2), unknown)
    energy(50.0, 3)
    on = load_state(run.sampler(0, 3))
    save_state(run.sampler(0, 2), replace(unknown, drawn_for=50.0))
    energy(50.0, 3)
    assert (on.structure.positions == load_state(run.sampler(0, 3)).structure.positions).all(), (
        "an older release does not tell: it goes on"
    )
    assert on.drawn_for == 50.0


def stored(run: RunDir, settings: Settings, stretch: float) -> str:
    """The key of a label that is in the store, of a stretched molecule."""
    atoms = molecule("H2O")
    atoms.positions *= stretch
    reference = build_reference(settings.reference, settings.directory)
    key = label_key(atoms, reference.identity())
    LabelStore(run.labels).put(key, atoms, reference.label(atoms))
    return key


def test_a_step_begins_anew_from_a_labelled_point(
    settings: Settings, run: RunDir, caplog: pytest.LogCaptureFixture
) -> None:
    sample.fn(request(settings, run, 0, 1))
    key = stored(run, settings, 1.2)
    asked = replace(request(settings, run, 1, 1), step=2, origin=key)
    found = sample.fn(asked).found
    went_on = sample.fn(replace(asked, origin=None)).found
    first = 1.2 * molecule("H2O").positions
    moved, other = (np.abs(positions(run, keys[0]) - first).max() for keys in (found, went_on))
    assert 0 < moved < other
    assert sample.fn(asked).found == found
    assert load_state(run.sampler(0, 2)).step == 10
    gone = replace(asked, origin="0" * 64)
    with caplog.at_level("WARNING", "aimspax"):
        assert sample.fn(gone).found == went_on, "without the label it goes on"
    assert "label 00000000 is gone" in caplog.text
