"""What the user takes away: the original's layout, and the best epoch of a convergence."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from aimspax_core.campaign.members import Errors
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.state import CampaignState
from aimspax_core.errors import CampaignError, ModelError
from aimspax_core.evaluation.calculator import CommitteeCalculator
from aimspax_core.evaluation.delivered import Delivered, delivered, delivered_together
from aimspax_core.evaluation.delivering import calibrate_results
from aimspax_core.evaluation.evaluation import evaluate, open_models
from aimspax_core.evaluation.frames import read_frames
from aimspax_core.evaluation.results_files import as_json
from aimspax_core.labels.dataset import labelled, read, write
from aimspax_core.labels.label import Label
from aimspax_core.labels.store import LabelStore, StoredLabel
from aimspax_core.model.learner import Metrics
from aimspax_core.model.mace import graphs as mace_graphs
from aimspax_core.model.mace import model_files
from aimspax_core.model.member import Member
from aimspax_core.model.schedule import Budget, Stage
from aimspax_core.output.results import (
    Holdings,
    holdings,
    publish_final,
    publish_initial,
)
from aimspax_core.reference.tblite.engine import TbliteEngine
from aimspax_core.reference.tblite.section import TbliteReference
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from aimspax_core.settings.settings import Settings
from aimspax_core.uncertainty.force_spread import atomic_sd
from flows.commands.evaluate import tables

PROJECT = """
REFERENCE: {engine: tblite}
INITIAL_DATASET_GENERATION:
  {initial_sampling: aimd, n_points_per_sampling_step_idg: 3, ensemble_size: 2,
   max_initial_epochs: 4}
ACTIVE_LEARNING: {num_trajectories: 3, max_train_set_size: 16}
MD: {stat_ensemble: NVT}
"""
MODEL = """
GENERAL: {name_exp: water, default_dtype: float64}
ARCHITECTURE:
  {r_max: 3.0, num_channels: 4, max_L: 0, max_ell: 1, correlation: 1, num_interactions: 1,
   num_radial_basis: 3, radial_MLP: [4]}
TRAINING: {batch_size: 2}
"""
KEYS = tuple(f"ab{number}" for number in range(8))
TRAIN, VALID = KEYS[:5], KEYS[5:]


@dataclass
class Finished:
    """A published campaign of two members; only the first has converged."""

    settings: Settings
    run: RunDir
    members: tuple[Holdings, ...]
    best: Member
    other: Member


def errors(metrics: Metrics) -> Errors:
    return Errors.model_validate(vars(metrics))


def structures(store: LabelStore, keys: tuple[str, ...]) -> list[Atoms]:
    stored = [store.get(key) for key in keys]
    return [labelled(one) for one in stored if isinstance(one, StoredLabel)]


def settings_of(folder: Path, project: str, model: str) -> Settings:
    folder.mkdir(exist_ok=True)
    (folder / "aimsPAX.yaml").write_text(project, encoding="utf-8")
    (folder / "mace.yaml").write_text(model, encoding="utf-8")
    (folder / "geometry.in").write_text("atom 0 0 0 O\natom 0 0 1 H\n", encoding="utf-8")
    return load(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    settings = settings_of(tmp_path_factory.mktemp("run"), PROJECT, MODEL)
    run, engine = RunDir.of(settings), TbliteEngine(TbliteReference(engine="tblite"))
    store = LabelStore(run.labels)
    for seed, key in enumerate(KEYS):
        atoms = molecule("H2O")
        atoms.rattle(0.05, seed=seed)
        store.put(key, atoms, engine.label(atoms))
    train, valid = (
        mace_graphs.graphs(structures(store, keys), (1, 8), settings.model)
        for keys in (TRAIN, VALID)
    )
    members = []
    for tag, seed in settings.member_seeds.items():
        member = Member.create(settings.model, (1, 8), tag, seed, train)
        found = member.train(train, valid, epochs=3, valid_skip=1, scheduler=False)
        member.save(run.checkpoint(member.tag, "train-3"))
        members.append((member, found[-1]))
    best, other = members[0][0], members[1][0]
    best.enter(Stage.CONVERGE)
    options = {"max_epochs": 6, "patience": 9, "margin": 0.0}
    _, done = best.converge(train, valid, budget=Budget(0.0, step=2), **options)
    assert not done
    for group in best.learner.optimizer.param_groups:
        group["lr"] = 1.0  # from here on every epoch is worse
    _, done = best.converge(train, valid, budget=Budget(step=2), **options)
    assert done
    assert best.best_metrics is not None
    assert best.best_metrics.epoch < best.epoch == 6
    best.save(run.checkpoint(best.tag, "converge"))
    held = tuple(
        Holdings(
            tag=member.tag,
            checkpoint=run.checkpoint(member.tag, "train-3"),
            converged=run.checkpoint(member.tag, "converge") if member is best else None,
            initial_training=(KEYS[0], KEYS[1 + number]),
            initial_validation=(KEYS[5 + number],),
            training=TRAIN,
            validation=VALID,
            errors=errors(best.best_metrics if member is best else last),
        )
        for number, (member, last) in enumerate(members)
    )
    publish_initial(run, settings, tuple(replace(one, converged=None) for one in held))
    initial = {p.name: p.read_bytes() for p in run.models.iterdir()}
    publish_final(run, settings, held)
    assert {p.name for p in run.models.iterdir()} == set(initial)
    yield Finished(settings, run, held, best, other)


def force_mae(model: Path, dataset: Path) -> float:
    """With MACE's own calculator, as a user would."""
    from mace.calculators import MACECalculator

    calculator = MACECalculator(model_paths=str(model), device="cpu", default_dtype="float64")
    away = []
    for atoms in read(dataset):
        label = atoms.arrays["REF_forces"]
        atoms.calc = calculator
        away.append(np.abs(atoms.get_forces() - label).ravel())
    return float(np.concatenate(away).mean())


def test_files_lie_where_the_original_puts_them(finished: Finished) -> None:
    run = finished.run
    data = {
        f"{stage}/{kind}/{name}_set_{tag}.xyz".replace("//", "/")
        for stage, prefix in (("initial", "initial_"), ("final", ""))
        for kind, short in (("training", "train"), ("validation", "valid"))
        for tag in ("water-89", "water-773")
        for name in (f"{prefix}{short}",)
    } | {
        "initial/training/combined_initial_train_set.xyz",
        "initial/validation/combined_initial_valid_set.xyz",
    }
    assert {str(p.relative_to(run.data)) for p in run.data.rglob("*.xyz")} == data
    assert {p.name for p in run.models.iterdir()} == {"water-89.model", "water-773.model"}
    assert {p.name for p in run.results.iterdir()} == {
        "water-89.model", "water-773.model", "train_set_water-89.xyz", "train_set_water-773.xyz",
        "valid_set_water-89.xyz", "valid_set_water-773.xyz", "errors.csv", "README.txt",
        "uncertainty.json",
        "last_ensemble",
    }  # fmt: skip


def test_a_converged_model_is_that_of_its_best_epoch(finished: Finished) -> None:
    """The original publishes another one; see fault 13 of the algorithm."""
    run, best = finished.run, finished.best
    assert best.best_metrics is not None
    found = force_mae(run.results / "water-89.model", run.results / "valid_set_water-89.xyz")
    assert found == pytest.approx(best.best_metrics.mae_f, rel=1e-5)
    model_files.save_model(best.averaged_model(), run.output / "last.model")
    last = force_mae(run.output / "last.model", run.results / "valid_set_water-89.xyz")
    assert last > 1.5 * found
    assert (run.models / "water-89.model").stat().st_size > 0
    assert force_mae(run.models / "water-89.model", run.results / "valid_set_water-89.xyz") == found


def test_another_model_has_its_averaged_weights(finished: Finished) -> None:
    published = model_files.load_model(finished.run.results / "water-773.model")
    averaged = finished.other.averaged_model()
    raw = finished.other.model
    pairs = zip(published.parameters(), averaged.parameters(), raw.parameters(), strict=True)
    for one, same, other in pairs:
        assert (one == same).all()
        assert one.numel() < 2 or (one != other).any()


def test_datasets_hold_the_keys_labels_in_order(finished: Finished) -> None:
    run, store = finished.run, LabelStore(finished.run.labels)
    for path, keys in (
        (run.results / "train_set_water-89.xyz", TRAIN),
        (run.results / "valid_set_water-773.xyz", VALID),
        (run.data / "final" / "training" / "train_set_water-773.xyz", TRAIN),
        (run.data / "initial" / "training" / "initial_train_set_water-773.xyz", (KEYS[0], KEYS[2])),
        (
            run.data / "initial" / "training" / "combined_initial_train_set.xyz",
            (KEYS[0], KEYS[1], KEYS[0], KEYS[2]),
        ),
        (
            run.data / "initial" / "validation" / "combined_initial_valid_set.xyz",
            (KEYS[5], KEYS[6]),
        ),
    ):
        found = [atoms.info["REF_energy"] for atoms in read(path)]
        assert found == [atoms.info["REF_energy"] for atoms in structures(store, keys)]


def test_readme_and_table_say_which_is_which(finished: Finished) -> None:
    text = (finished.run.results / "README.txt").read_text(encoding="utf-8")
    first, second = text.splitlines()[-2:]
    assert first.startswith("water-89.model: converged on the final data; the weights of its best")
    assert "not converged" in second
    assert finished.best.best_metrics is not None
    best = 1000 * finished.best.best_metrics.mae_f
    assert f"best epoch, force MAE {best:.1f} meV/Å, energy MAE " in first
    assert "REF_energy in eV, REF_forces in eV/Å, REF_dipole in e·Å about the origin)" in text
    with (finished.run.results / "errors.csv").open(encoding="utf-8") as file:
        rows = {row["member"]: row for row in csv.DictReader(file)}
    assert rows["water-89"]["state"] == "converged"
    assert rows["water-773"]["state"] == "as active learning ended"
    assert float(rows["water-89"]["mae_f_meV_per_A"]) == pytest.approx(best, abs=1e-3)
    assert (rows["water-773"]["training"], rows["water-773"]["validation"]) == ("5", "3")
    assert list(rows["water-89"]) == [
        "member", "state", "training", "validation", "mae_f_meV_per_A", "mae_e_meV_per_atom",
    ]  # fmt: skip


def test_the_readmes_lines_load_the_converged_model(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (finished.run.results / "README.txt").read_text(encoding="utf-8")
    _, _, below = text.partition("as the calculator of ASE's atoms:\n")
    lines = [line.strip() for line in below.partition("\n\n")[0].splitlines()]
    (atoms, *_) = read(finished.run.results / "valid_set_water-89.xyz")
    monkeypatch.chdir(finished.run.output)
    exec("\n".join(lines), {"atoms": atoms})  # as a user would paste them
    assert "water-89" in text.partition("as the calculator")[2].partition("\n\n")[0]
    labels = atoms.arrays["REF_forces"]
    away = np.abs(atoms.get_forces() - labels).mean()
    assert away == pytest.approx(_mean_error(finished, atoms), rel=1e-6)


def _mean_error(finished: Finished, atoms: Atoms) -> float:
    """Of the best epoch's weights, in the models' own number format."""
    write(file := finished.run.output / "one.xyz", [atoms])
    return force_mae(finished.run.results / "water-89.model", file)


def test_seeds_are_kept_by_tag_as_the_original_does(finished: Finished) -> None:
    seeds = {"water-89": 89, "water-773": 773}
    with np.load(finished.run.data / "seeds_tags_dict.npz", allow_pickle=False) as found:
        assert {tag: int(found[tag]) for tag in found} == seeds


def republished(
    finished: Finished, folder: Path, project: str, model: str = MODEL, **changes: Any
) -> RunDir:
    """The same campaign published elsewhere, with other settings."""
    settings = replace(settings_of(folder, project, model), **changes)
    run = replace(finished.run, output=folder, data=folder / "data", models=folder / "model")
    shutil.copytree(finished.run.labels, run.labels)
    publish_final(run, settings, finished.members)
    return run


def test_datasets_and_readme_have_the_users_own_keys(finished: Finished, tmp_path: Path) -> None:
    misc = "MISC: {energy_key: dft_energy, forces_key: dft_forces}\n"
    run = republished(finished, tmp_path / "keys", PROJECT + misc)
    store = LabelStore(run.labels)
    (first, *_) = read(run.results / "train_set_water-89.xyz")
    stored = store.get(TRAIN[0])
    assert stored is not None
    assert first.info["dft_energy"] == stored.label.energy
    assert np.allclose(first.arrays["dft_forces"], stored.label.forces)
    assert not {"REF_energy", "REF_forces"} & {*first.info, *first.arrays}
    text = (run.results / "README.txt").read_text(encoding="utf-8")
    assert "dft_energy in eV, dft_forces in eV/Å, REF_dipole in" in text


def test_readme_says_how_a_structure_tells_the_charge_of_the_labels(
    finished: Finished, tmp_path: Path
) -> None:
    told = {0: {"charge": 1.0, "spin": 2.0}}
    run = republished(finished, tmp_path / "charged", PROJECT, electrons=told)
    text = (run.results / "README.txt").read_text(encoding="utf-8")
    assert "  atoms.info.update(charge=1, spin=2, total_spin=0.5)\n" in text


def test_error_table_decides_the_columns(finished: Finished, tmp_path: Path) -> None:
    run = republished(
        finished, tmp_path / "rmse", PROJECT, MODEL + "MISC: {error_table: TotalRMSE}\n"
    )
    with (run.results / "errors.csv").open(encoding="utf-8") as file:
        (first, _) = csv.DictReader(file)
    assert finished.best.best_metrics is not None
    assert {"rmse_f_meV_per_A", "rmse_e_meV"} <= set(first)
    assert "mae_f_meV_per_A" not in first
    best = 1000 * finished.best.best_metrics.rmse_e
    assert float(first["rmse_e_meV"]) == pytest.approx(best, abs=1e-3)


def test_readme_names_the_folders_that_are_there(finished: Finished, tmp_path: Path) -> None:
    always = (finished.run.results / "README.txt").read_text(encoding="utf-8")
    assert "../trajectories/" in always  # on by default
    assert "../analysis/" not in always
    first = "{num_trajectories: 3"
    other = PROJECT.replace(first, f"{first}, analysis: True, save_trajectories: False")
    run = republished(finished, tmp_path / "other", other)
    text = (run.results / "README.txt").read_text(encoding="utf-8")
    assert "../analysis/" in text
    assert "../trajectories/" not in text


def test_a_label_that_is_gone_is_told_before_anything_is_written(
    finished: Finished, tmp_path: Path
) -> None:
    run = replace(finished.run, data=tmp_path / "data")
    gone = replace(finished.members[0], initial_training=("cd0",))
    with pytest.raises(CampaignError, match="label cd0 is gone"):
        publish_initial(run, finished.settings, [gone])
    assert not run.data.exists()


def test_what_converged_is_there_as_active_learning_ended_too(finished: Finished) -> None:
    before = model_files.load_model(finished.run.last_ensemble / "water-89.model")
    assert [p.name for p in finished.run.last_ensemble.iterdir()] == ["water-89.model"]
    checkpoint = Member.load(finished.members[0].checkpoint, finished.settings.model)
    pairs = zip(before.parameters(), checkpoint.averaged_model().parameters(), strict=True)
    assert all((one == other).all() for one, other in pairs)


def test_where_all_have_converged_there_is_no_other_ensemble(
    finished: Finished, tmp_path: Path
) -> None:
    run = republished(finished, tmp_path / "all", PROJECT)
    assert list(run.last_ensemble.glob("*"))
    other = finished.members[1]
    also = run.checkpoint(other.tag, "converge-too")
    shutil.copy(other.checkpoint, also)
    members = (finished.members[0], replace(other, converged=also))
    assert publish_final(run, finished.settings, members) == ()
    assert not list(run.last_ensemble.glob("*"))
    assert "last_ensemble" not in (run.results / "README.txt").read_text(encoding="utf-8")


def test_readme_says_what_was_converged_on(finished: Finished, tmp_path: Path) -> None:
    run = republished(finished, tmp_path / "said", PROJECT)
    first = replace(finished.members[0], on_all=True, for_analysis=2)
    publish_final(run, finished.settings, (first, finished.members[1]))
    told = (run.results / "README.txt").read_text(encoding="utf-8").splitlines()[-2]
    assert "(5 + 3, 2 of them labelled for analysis only)" in told


def test_errors_on_the_held_out_set_are_columns(finished: Finished, tmp_path: Path) -> None:
    run = republished(finished, tmp_path / "held-out", PROJECT)
    found = ERRORS.model_copy(update={"mae_f": 0.25})
    own = {"0": found, "1": found.model_copy(update={"mae_f": 0.5})}
    members = [replace(finished.members[0], assessed=found, assessed_by=own), finished.members[1]]
    publish_final(run, finished.settings, members)
    with (run.results / "errors.csv").open(encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert float(first["test_mae_f_meV_per_A"]) == 250.0
    assert float(first["test_1_mae_f_meV_per_A"]) == 500.0
    assert second["test_mae_f_meV_per_A"] == ""
    assert "on the held-out set: force MAE 250.0" in (run.results / "README.txt").read_text()


def test_readme_says_which_constant_is_left(finished: Finished, tmp_path: Path) -> None:
    run = republished(finished, tmp_path / "offsets", PROJECT)
    first = replace(finished.members[0], offsets={"H2O": 0.036, "CO2": -0.1})
    publish_final(run, finished.settings, (first, finished.members[1]))
    told = (run.results / "README.txt").read_text(encoding="utf-8").splitlines()[-2]
    assert "CO2 -100.0, H2O +36.0" in told and "solve_energies" in told


# ---- all of them as one calculator ----------------------------------------------------------


def molecules() -> list[Atoms]:
    return [molecule(name) for name in ("H2O", "OH", "H2")]


def forces_of(files: list[Path], atoms: Atoms) -> np.ndarray:
    """Each model's own forces, by MACE's own calculator."""
    from mace.calculators import MACECalculator

    found = []
    for file in files:
        kind = {"device": "cpu", "default_dtype": "float64"}
        found.append(MACECalculator(model_paths=str(file), **kind).get_forces(atoms.copy()))
    return np.array(found)


@pytest.mark.parametrize("atoms", molecules(), ids=lambda atoms: str(atoms.symbols))
def test_the_calculator_has_the_converged_models_forces_and_the_ensembles_spread(
    finished: Finished, atoms: Atoms
) -> None:
    results = finished.run.results
    atoms.calc = CommitteeCalculator(results)
    (converged,) = forces_of([results / "water-89.model"], atoms)
    assert atoms.get_forces() == pytest.approx(converged, abs=1e-8)
    ensemble = [finished.run.last_ensemble / "water-89.model", results / "water-773.model"]
    expected = atomic_sd(forces_of(ensemble, atoms))
    assert atoms.calc.results["forces_sd"] == pytest.approx(expected, abs=1e-8)
    assert atoms.calc.results["uncertainty"] == pytest.approx(expected.max(), abs=1e-8)


def test_the_calculator_averages_models_that_have_all_converged(
    finished: Finished, tmp_path: Path
) -> None:
    shutil.copytree(finished.run.results, tmp_path / "results")
    table = tmp_path / "results" / "errors.csv"
    table.write_text(table.read_text().replace("as active learning ended", "converged"))
    atoms = molecule("H2O")
    atoms.calc = CommitteeCalculator(str(tmp_path / "results"), measure="mean_atomic_sd")
    own = forces_of(sorted((tmp_path / "results").glob("*.model")), atoms)
    assert atoms.get_forces() == pytest.approx(own.mean(axis=0), abs=1e-8)
    assert atoms.calc.results["uncertainty"] == pytest.approx(atomic_sd(own).mean(), abs=1e-8)
    assert atoms.calc.results["energy_sd"] > 0


def test_results_of_an_earlier_release_have_the_spread_of_what_is_there(
    finished: Finished, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    shutil.copytree(finished.run.results, results)
    shutil.rmtree(results / "last_ensemble")
    atoms = molecule("H2O")
    atoms.calc = CommitteeCalculator(results)
    atoms.get_forces()
    own = forces_of(sorted(results.glob("*.model")), atoms)
    assert atoms.calc.results["forces_sd"] == pytest.approx(atomic_sd(own), abs=1e-8)


def test_one_model_alone_has_no_spread(finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "errors.csv").write_text("member,state\nwater-89,converged\n")
    shutil.copy(finished.run.results / "water-89.model", tmp_path)
    atoms = molecule("H2O")
    atoms.calc = CommitteeCalculator(tmp_path)
    assert np.isfinite(atoms.get_potential_energy())
    assert "forces_sd" not in atoms.calc.results


@pytest.mark.parametrize("gone", ["errors.csv", "water-773.model"])
def test_results_that_are_not_whole_are_refused(
    finished: Finished, tmp_path: Path, gone: str
) -> None:
    shutil.copytree(finished.run.results, tmp_path / "results")
    (tmp_path / "results" / gone).unlink()
    with pytest.raises(ModelError, match=gone):
        CommitteeCalculator(tmp_path / "results")


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no models"):
        CommitteeCalculator(tmp_path)


# ---- from the state -------------------------------------------------------------------------

RULES = Rules(
    tags=("a", "b"), geometries=1, seed=1, points_per_step=3, initial_epochs=5,
    initial_accuracy=0.1, max_initial_epochs=9, max_initial_set_size=99, initial_valid_ratio=0.2,
    converge_initial=False, num_trajectories=3, epochs_per_round=2, valid_ratio=0.1,
    desired_acc=0.0, max_train_set_size=20, freeze_threshold_dataset=15, c_x=0.0,
    max_md_steps=9, converge_al=True, converge_best=True, max_segments=2,
)  # fmt: skip
ERRORS = Errors(
    epoch=1, train_loss=1.0, valid_loss=1.0, mae_f=0.5, rmse_f=1.0, mae_e=1.0, rmse_e=1.0,
    mae_e_per_atom=1.0, rmse_e_per_atom=1.0, mae_stress=None, rmse_stress=None, lr=0.1, seconds=1,
)  # fmt: skip


def test_members_hold_what_the_state_says(finished: Finished) -> None:
    state = CampaignState.begin(RULES)
    with pytest.raises(CampaignError, match="a has not been trained"):
        holdings(finished.run, state)
    better = ERRORS.model_copy(update={"mae_f": 0.1})
    trained = {
        "checkpoint": "train-1",
        "training": ("k1",),
        "validation": ("k2",),
        "errors": ERRORS,
    }
    converged = {"converging": "converge-1", "converge_epochs": 5, "best": better}
    members = {
        "a": state.members["a"].model_copy(update={**trained, **converged}),
        "b": state.members["b"].model_copy(update=trained),
    }
    state = state.but(members=members, training=("k3",), validation=("k4",))
    a, b = holdings(finished.run, state)
    assert a.converged == finished.run.checkpoint("a", "converge-1")
    assert b.converged is None
    assert (a.errors, b.errors) == (better, ERRORS)
    for one in (a, b):
        assert one.checkpoint == finished.run.checkpoint(one.tag, "train-1")
        assert (one.initial_training, one.initial_validation) == (("k1",), ("k2",))
        assert (one.training, one.validation) == (("k1", "k3"), ("k2", "k4"))


# ---- the errors to be expected of what is delivered -----------------------------------------


@pytest.fixture(scope="module")
def points() -> list[StoredLabel]:
    """Labels that no member was trained on."""
    engine, found = TbliteEngine(TbliteReference(engine="tblite")), []
    for seed in range(100, 108):
        atoms = molecule("H2O")
        atoms.rattle(0.08, seed=seed)
        found.append(StoredLabel(str(seed), atoms, engine.label(atoms)))
    return found


def labels(points: list[StoredLabel]) -> list[tuple[Atoms, Label]]:
    return [(one.atoms, one.label) for one in points]


@pytest.fixture(scope="module")
def known(
    finished: Finished, points: list[StoredLabel], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The results, calibrated on them."""
    results = tmp_path_factory.mktemp("known") / "results"
    shutil.copytree(finished.run.results, results)
    assert calibrate_results(results, labels(points))
    return results


def said(calculator: CommitteeCalculator, point: StoredLabel) -> tuple[dict[str, Any], np.ndarray]:
    """What is predicted of a point, and the true error of each atom's forces."""
    atoms = point.atoms.copy()
    atoms.calc = calculator
    off = atoms.get_forces() - point.label.forces
    return dict(atoms.calc.results), np.sqrt((off**2).mean(axis=1))


@pytest.mark.parametrize("measure", ["max_atomic_sd", "mean_atomic_sd"])
def test_errors_that_are_to_be_expected_have_the_sum_of_the_true_ones(
    known: Path, points: list[StoredLabel], measure: str
) -> None:
    calculator = CommitteeCalculator(known, measure=measure)
    found = [said(calculator, point) for point in points]
    expected = sum(results["expected_error"] for results, _ in found)
    true = sum(error.max() if measure[:3] == "max" else error.mean() for _, error in found)
    assert expected == pytest.approx(true)
    oxygen = sum(results["forces_expected_error"][0] for results, _ in found)
    assert oxygen == pytest.approx(sum(error[0] for _, error in found))


def test_models_side_by_side_are_expected_to_err_as_they_do(
    known: Path, points: list[StoredLabel], tmp_path: Path
) -> None:
    write(tmp_path / "data.xyz", [labelled(point) for point in points])
    files = {path.stem: path for path in sorted(known.glob("*.model"))}
    expecting = delivered_together(list(files.values()))
    frames = read_frames(tmp_path / "data.xyz")
    found = evaluate(frames, open_models(files), known=expecting)
    for kind, trust in found.trust.items():
        assert trust.expected is not None
        assert trust.expected.sum() == pytest.approx(trust.error.sum()), kind
        assert [low for low, _ in trust.quarters] == sorted(low for low, _ in trust.quarters)
        told = as_json(found)["uncertainty"][kind]
        mean = told["mean_expected_error_meV_per_A"]
        assert mean == pytest.approx(told["mean_error_meV_per_A"])
    assert "expected" in [str(column.header) for column in tables(found)[-1].columns]
    without = evaluate(frames, open_models(files))
    assert as_json(without)["uncertainty"]["ensemble_sd"]["mean_expected_error_meV_per_A"] is None


def test_of_some_of_the_models_nothing_is_known(known: Path) -> None:
    first, second = sorted(known.glob("*.model"))
    assert delivered_together([first]) is None
    assert delivered_together([first, second, known.parent / "other.model"]) is None


def test_what_a_user_keeps_beside_the_models_is_none_of_them(
    known: Path, points: list[StoredLabel], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    shutil.copytree(known, results)
    mine = results / "mine.model"
    mine.write_bytes(b"which nobody can load")
    assert delivered_together([path for path in results.glob("*.model") if path != mine])
    assert delivered_together(list(results.glob("*.model"))) is None
    assert "mine" not in CommitteeCalculator(results).ensemble
    assert calibrate_results(results, labels(points))
    assert delivered(results, "models") == delivered(known, "models")
    assert delivered(results, "calculator") == delivered(known, "calculator")


@pytest.mark.parametrize("content", ["", '{"calculator": {"by_m', "[]"])
def test_models_are_calibrated_anew_whatever_was_said_of_them_before(
    known: Path, points: list[StoredLabel], tmp_path: Path, content: str
) -> None:
    results = tmp_path / "results"
    shutil.copytree(known, results)
    (results / "calibration.json").write_text(content, encoding="utf-8")
    assert calibrate_results(results, labels(points))
    assert delivered(results, "calculator") == delivered(known, "calculator")


def test_with_too_few_points_nothing_is_said_any_more(
    known: Path, points: list[StoredLabel], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    shutil.copytree(known, results)
    assert not calibrate_results(results, labels(points[:4]))
    assert delivered(results, "calculator") is None
    found, _ = said(CommitteeCalculator(results), points[0])
    assert not {"expected_error", "forces_expected_error"} & {*found}
    assert "uncertainty" in found


@pytest.mark.parametrize("content", ["", "[]", '{"calculator": {}}', '{"calculator": 3}'])
def test_a_damaged_calibration_is_refused(known: Path, tmp_path: Path, content: str) -> None:
    results = tmp_path / "results"
    shutil.copytree(known, results)
    (results / "calibration.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"calibration\.json"):
        CommitteeCalculator(results)


def test_an_element_that_no_point_had_has_no_expected_error() -> None:
    expected = Delivered({}, {"H": 2.0}).of_atoms(molecule("OH"), np.array([0.1, 0.3]))
    assert np.isnan(expected[0])
    assert expected[1] == pytest.approx(0.6)
