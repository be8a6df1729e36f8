"""Keys and what changes with them: the sampling MD."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule

import tasks.sample
from aimspax_core.model import worker_memory as worker_memory_module
from aimspax_core.model.worker_memory import worker_memory
from aimspax_core.output.thinning import Thinning
from aimspax_core.output.trajectories import gather, part
from aimspax_core.reference.ase.section import AseReference
from aimspax_core.reference.registry import build_reference
from aimspax_core.run_directory import RunDir
from aimspax_core.sampling.dynamics import load_state
from aimspax_core.settings.settings import Settings
from aimspax_core.structures import decode
from tasks.sample import SampleRequest, sample
from tests.every_key.base import AL, IDG, Asked, with_values


def sampled(settings: Settings, points: int = 2) -> tuple[RunDir, Any]:
    run = RunDir.of(settings)
    return run, sample.fn(SampleRequest("sample:1:0", run, settings, 0, 0, points))


@pytest.mark.key("InitialDatasetGeneration", "skip_step_initial")
@pytest.mark.parametrize("steps", [3, 7])
def test_skip_step_initial_is_the_steps_between_points(folder: Path, steps: int) -> None:
    run, _ = sampled(with_values(folder, {IDG: {"skip_step_initial": steps}}))
    assert load_state(run.sampler(0, 1)).step == 2 * steps


@pytest.mark.key("InitialDatasetGeneration", "save_trajectories", "save_trajectories_interval")
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


FOUNDATION: list[tuple[str, Any, str, Any]] = [
    ("mace_model", "medium", "model", "medium"),
    ("dispersion", True, "dispersion", True),
    ("dispersion_xc", "b3lyp", "dispersion_xc", "b3lyp"),
    ("dispersion_cutoff", 10.0, "dispersion_cutoff", 10.0),
    ("damping", "zero", "damping", "zero"),
]
SO3LR: list[tuple[str, Any, str, Any]] = [
    ("model_path", "own.model", "file", "own.model"),
    ("r_max_lr", 9.0, "r_max_lr", 9.0),
    ("dispersion_lr_damping", 1.0, "dispersion_lr_damping", 1.0),
]
with_foundation = pytest.mark.parametrize(
    ("key", "value", "name", "expected"), [pytest.param(*row, id=row[0]) for row in FOUNDATION]
)


@pytest.mark.key("FoundationalModel", *(key for key, *_ in FOUNDATION))
@pytest.mark.key("InitialDatasetGeneration", "foundational_model_settings")
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


@pytest.mark.key("ActiveLearning", "foundational_model_settings")
@with_foundation
def test_the_driver_is_the_foundation_model_asked_for(
    folder: Path, asked: list[Any], key: str, value: Any, name: str, expected: Any
) -> None:
    for given in ({}, {key: value}):
        settings = with_values(folder, {AL: {"foundational_model_settings": given}})
        with pytest.raises(Asked):
            worker_memory().foundation(
                settings.al.foundational_model,
                settings.al.foundational_model_settings,
                settings.directory,
                settings.model,
            )
    without, with_it = (one[name] for one in asked)
    assert with_it == expected
    assert without != with_it


@pytest.mark.key("FoundationalModel", *(key for key, *_ in SO3LR))
@pytest.mark.key("InitialDatasetGeneration", "foundational_model")
@pytest.mark.key("ActiveLearning", "foundational_model")
@pytest.mark.parametrize(
    ("key", "value", "name", "expected"), [pytest.param(*row, id=row[0]) for row in SO3LR]
)
def test_so3lr_samples_and_drives_as_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: Any, name: str, expected: Any
) -> None:
    asked: list[Any] = []

    def load_foundation(kind: str, **given: Any) -> Any:
        asked.append(given)
        assert kind == "so3lr"
        raise Asked

    monkeypatch.setattr(worker_memory_module, "load_foundation", load_foundation)
    (folder / "own.model").touch()
    kind = {"foundational_model": "so3lr"}
    for given in ({}, {key: value}):
        more = kind | {"foundational_model_settings": given}
        settings = with_values(
            folder, {IDG: {"initial_sampling": "foundational"} | more}, {AL: more}
        )
        with pytest.raises(Asked):
            sampled(settings)
        al = settings.al
        with pytest.raises(Asked):
            worker_memory().foundation(
                al.foundational_model,
                al.foundational_model_settings,
                settings.directory,
                settings.model,
            )
    assert [str(one[name]).rpartition("/")[2] for one in asked[2:]] == 2 * [str(expected)]
    assert str(asked[0][name]) != str(expected)


@pytest.mark.key("InitialDatasetGeneration", "initial_foundational_size")
def test_the_first_generations_size_names_the_sampler(folder: Path, asked: list[Any]) -> None:
    for size in ("medium", "large"):
        given = {"initial_sampling": "mace-mp0", "initial_foundational_size": size}
        with pytest.raises(Asked):
            sampled(with_values(folder, {IDG: given}))
    assert [one["model"] for one in asked] == ["medium", "large"]


@pytest.mark.key("InitialDatasetGeneration", "initial_sampling", "sampling_engine")
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
    atoms.calc = tasks.sample._calculator(with_values(folder, {IDG: given}), 0)
    plain = AseReference(engine="ase", calculator=calculator)
    expected = build_reference(plain, folder).label(molecule("H2O")).energy
    assert atoms.get_potential_energy() == pytest.approx(expected)


@pytest.mark.key("InitialDatasetGeneration", "save_trajectories_max_frames")
@pytest.mark.parametrize(("changes", "steps"), [
    ({}, [5, 10, 15, 20]),
    ({"save_trajectories_max_frames": 4}, [5, 10, 15, 20]),
    ({"save_trajectories_max_frames": 3}, [20]),
    ({"save_trajectories_max_frames": 2}, [20]),
])  # fmt: skip
def test_a_saved_sampling_md_that_is_full_is_thinned(
    folder: Path, changes: dict[str, Any], steps: list[int]
) -> None:
    saved = {"skip_step_initial": 10, "save_trajectories": True}
    settings = with_values(folder, {IDG: saved | changes})
    run, event = sampled(settings)
    gather(run, event, Thinning.of(settings))
    frames = ase.io.read(run.trajectories / "initial_0.extxyz", ":")
    assert [frame.info["step"] for frame in frames] == steps


@pytest.mark.key("InitialDatasetGeneration", "rattle")
@pytest.mark.key("Rattle", "displacement", "strain")
def test_rattled_copies_are_of_the_amplitudes_asked_for(folder: Path) -> None:
    copper = bulk("Cu", cubic=True)
    ase.io.write(folder / "copper.xyz", copper, format="extxyz")
    files = {"MISC": {"path_to_geometry": "copper.xyz"}}

    def positions(**how: Any) -> list[Any]:
        given = {IDG: {"initial_sampling": "rattle", **({"rattle": how} if how else {})}}
        run, event = sampled(with_values(folder, files, given), 40)
        texts = (run.structure(key).read_text(encoding="utf-8") for key in event.found)
        return [decode(json.loads(text)) for text in texts]

    small = positions(displacement=0.01, strain=0.0)
    assert all((one.cell.array == copper.cell.array).all() for one in small)
    assert np.std([one.positions - copper.positions for one in small]) == pytest.approx(
        0.01, rel=0.2
    )
    large = positions(displacement=0.05, strain=0.05)
    by_default = positions()
    volumes = [np.std([one.get_volume() for one in found]) for found in (small, by_default, large)]
    assert volumes[0] == 0 < volumes[1] < volumes[2]


def test_each_geometry_is_rattled_by_its_own_section(folder: Path) -> None:
    given = {"initial_sampling": "rattle", "rattle": {"1": {"displacement": 0.3}}}
    settings = with_values(folder, {IDG: given})
    found = [settings.sampled_by_rattling(geometry) for geometry in (0, 1)]
    assert [how.displacement for how in found if how is not None] == [0.1, 0.3]
    assert with_values(folder, {IDG: {"rattle": {}}}).sampled_by_rattling(0) is None
