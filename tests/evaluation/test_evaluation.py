"""Models against a labelled dataset: every number against MACE's own calculator, frame by frame."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.stress import voigt_6_to_full_3x3_stress
from mace.calculators import MACECalculator
from PIL import Image
from scipy import stats

from aimspax_core.errors import CampaignError, ModelError
from aimspax_core.evaluation import parity_plots
from aimspax_core.evaluation.evaluation import Evaluation, evaluate, open_models
from aimspax_core.evaluation.frames import read_frames
from aimspax_core.evaluation.parity_plots import FIGURES, draw
from aimspax_core.evaluation.results_files import as_json, write_arrays, write_json
from aimspax_core.evaluation.results_files import write_predictions as write_xyz
from aimspax_core.labels.dataset import DataKeys, write
from aimspax_core.model.mace.model_files import save_model
from tests.model.test_committee import tiny_mace

NAN, INF = float("nan"), float("inf")
STATISTICS = {
    "mae": lambda off: np.abs(off).mean(),
    "rmse": lambda off: np.sqrt((off**2).mean()),
    "max": lambda off: np.abs(off).max(),
}


def dataset() -> list[Atoms]:
    """Water, ethanol (one of each called `mine`) and bulk copper with stress, all shaken."""
    made = []
    for number in range(9):
        atoms = [molecule("H2O"), molecule("CH3CH2OH"), bulk("Cu", "fcc", a=3.6, cubic=True)][
            number % 3
        ]
        atoms.rattle(0.1, seed=number)
        noise = np.random.default_rng(number)
        atoms.info["REF_energy"] = float(-2.0 * len(atoms) + noise.normal())
        atoms.arrays["REF_forces"] = noise.normal(size=(len(atoms), 3))
        if atoms.pbc.all():
            stress = noise.normal(scale=0.01, size=(3, 3))
            atoms.info["REF_stress"] = stress + stress.T
        if number in (0, 1):
            atoms.info["config_type"] = "mine"
        made.append(atoms)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models that differ in cutoff, elements and number format, and a dataset."""
    folder = tmp_path_factory.mktemp("evaluation")
    save_model(tiny_mace(0), folder / "a.model")
    save_model(tiny_mace(1, r_max=3.5, elements=[1, 6, 7, 8, 29]), folder / "b.model")
    save_model(tiny_mace(2).to(torch.float32), folder / "c.model")
    write(folder / "test.xyz", dataset())
    return folder


def models(folder: Path, tags: str = "abc") -> dict[str, Path]:
    return {tag: folder / f"{tag}.model" for tag in tags}


def evaluated(folder: Path, tags: str = "abc", name: str = "test.xyz", **asked: Any) -> Evaluation:
    return evaluate(read_frames(folder / name), open_models(models(folder, tags)), **asked)


@pytest.fixture(scope="module")
def found(folder: Path) -> Evaluation:
    return evaluated(folder, batch_size=4)


Results = list[tuple[float, np.ndarray, np.ndarray | None]]


@pytest.fixture(scope="module")
def theirs(folder: Path) -> dict[str, Results]:
    """Energy, forces and stress of every frame, by MACE's own calculator and for their mean."""
    own: dict[str, Results] = {}
    for tag, path in models(folder).items():
        dtype = "float32" if tag == "c" else "float64"
        calculator = MACECalculator(model_paths=str(path), device="cpu", default_dtype=dtype)
        own[tag] = []
        for atoms in dataset():
            calculator.calculate(atoms)
            result = calculator.results
            stress = voigt_6_to_full_3x3_stress(result["stress"]) if atoms.pbc.all() else None
            own[tag].append((float(result["energy"]), np.array(result["forces"], float), stress))
    own["mean"] = [
        tuple(
            None if part[0] is None else np.mean(part, axis=0) for part in zip(*each, strict=True)
        )
        for each in zip(*own.values(), strict=True)
    ]
    return own


def expected(frames: list[Atoms], predicted: Results) -> dict[str, float | None]:
    """The errors of some frames in the units of the JSON file, by plain loops."""
    off: dict[str, list[float]] = {"e_meV_per_atom": [], "e_meV": [], "f_meV_per_A": [], "s": []}
    for atoms, (energy, forces, stress) in zip(frames, predicted, strict=True):
        error = energy - atoms.info["REF_energy"]
        off["e_meV"].append(1000 * error)
        off["e_meV_per_atom"].append(1000 * error / len(atoms))
        off["f_meV_per_A"].extend((1000 * (forces - atoms.arrays["REF_forces"])).ravel())
        if stress is not None:
            off["s"].extend((stress - atoms.info["REF_stress"]).ravel())
    values = {name: np.array(listed) for name, listed in off.items()}
    stresses = values.pop("s")
    values["stress_meV_per_A3"], values["stress_GPa"] = 1000 * stresses, 160.21766208 * stresses
    return {
        f"{kind}_{name}": float(statistic(listed)) if len(listed) else None
        for kind, statistic in STATISTICS.items()
        for name, listed in values.items()
    }


def close(ours: dict[str, Any], independent: dict[str, float | None], tag: str) -> None:
    tolerance = 1e-3 if tag in ("c", "mean") else 1e-7
    assert set(independent) <= set(ours)
    for name, value in independent.items():
        assert ours[name] == (value if value is None else pytest.approx(value, rel=tolerance)), name


def of(found: Evaluation, tag: str) -> dict[str, Any]:
    told = as_json(found)
    return told["ensemble_mean"] if tag == "mean" else told["models"][tag]["errors"]


@pytest.mark.parametrize("tag", ["a", "b", "c", "mean"])
def test_total_errors_are_those_of_maces_calculator(
    found: Evaluation, theirs: dict[str, Results], tag: str
) -> None:
    close(of(found, tag)["total"], expected(dataset(), theirs[tag]), tag)


@pytest.mark.parametrize("tag", ["a", "b", "c", "mean"])
def test_a_geometry_is_a_config_type_or_else_a_formula(
    found: Evaluation, theirs: dict[str, Results], tag: str
) -> None:
    groups = {"mine": (0, 1), "H2O": (3, 6), "C2H6O": (4, 7), "Cu4": (2, 5, 8)}
    ours = of(found, tag)["by_geometry"]
    assert set(ours) == set(groups)
    for name, chosen in groups.items():
        frames = [dataset()[n] for n in chosen]
        assert ours[name]["frames"] == len(frames)
        assert ours[name]["atoms"] == sum(map(len, frames))
        close(ours[name], expected(frames, [theirs[tag][n] for n in chosen]), tag)


@pytest.mark.parametrize("tag", ["a", "b", "c", "mean"])
def test_an_elements_error_is_over_the_components_of_its_atoms(
    found: Evaluation, theirs: dict[str, Results], tag: str
) -> None:
    numbers = np.concatenate([atoms.numbers for atoms in dataset()])
    off = np.concatenate(
        [
            forces - atoms.arrays["REF_forces"]
            for atoms, (_, forces, _) in zip(dataset(), theirs[tag], strict=True)
        ]
    )
    ours = of(found, tag)["by_element"]
    assert set(ours) == {"H", "C", "O", "Cu"}
    for symbol, z in {"H": 1, "C": 6, "O": 8, "Cu": 29}.items():
        own = 1000 * off[numbers == z]
        independent = {f"{kind}_f_meV_per_A": float(s(own)) for kind, s in STATISTICS.items()}
        assert ours[symbol]["atoms"] == len(own)
        close(ours[symbol], independent, tag)


@pytest.mark.parametrize("measure", ["max_atomic_sd", "mean_atomic_sd", "ensemble_sd"])
def test_uncertainty_and_error_are_reduced_alike_and_correlated_as_scipy_does(
    found: Evaluation, theirs: dict[str, Results], measure: str
) -> None:
    spreads, errors = [], []
    for n, atoms in enumerate(dataset()):
        members = np.array([theirs[tag][n][1] for tag in "abc"])
        variance = ((members - members.mean(axis=0)) ** 2).mean(axis=(0, 2))
        square = ((members.mean(axis=0) - atoms.arrays["REF_forces"]) ** 2).mean(axis=1)
        for squares, into in ((variance, spreads), (square, errors)):
            if measure == "max_atomic_sd":
                into.append(np.sqrt(squares).max())
            elif measure == "mean_atomic_sd":
                into.append(np.sqrt(squares).mean())
            else:
                into.append(np.sqrt(squares.mean()))
    ours = as_json(found)["uncertainty"][measure]
    assert ours["frames"] == 9
    assert ours["mean_uncertainty_meV_per_A"] == pytest.approx(1000 * np.mean(spreads), rel=1e-4)
    assert ours["mean_error_meV_per_A"] == pytest.approx(1000 * np.mean(errors), rel=1e-4)
    assert ours["pearson"] == pytest.approx(stats.pearsonr(spreads, errors)[0], abs=1e-4)
    assert ours["spearman"] == pytest.approx(stats.spearmanr(spreads, errors)[0], abs=1e-9)


@pytest.mark.parametrize("batch_size", [1, 100])
def test_the_size_of_a_batch_changes_nothing(
    folder: Path, found: Evaluation, batch_size: int
) -> None:
    other = evaluated(folder, batch_size=batch_size)
    np.testing.assert_allclose(other.predictions.forces, found.predictions.forces, atol=1e-5)
    np.testing.assert_allclose(other.predictions.energy, found.predictions.energy, atol=1e-5)


def test_one_model_has_neither_mean_nor_uncertainty(folder: Path) -> None:
    told = as_json(evaluated(folder, "a"))
    assert told["ensemble_mean"] is None
    assert told["uncertainty"] == {}


def test_labels_that_are_missing_are_left_out_and_counted(
    folder: Path, tmp_path: Path, theirs: dict[str, Results]
) -> None:
    frames = dataset()
    del frames[0].arrays["REF_forces"], frames[1].info["REF_energy"], frames[2].info["REF_stress"]
    write(tmp_path / "some.xyz", frames)
    found = evaluate(read_frames(tmp_path / "some.xyz"), open_models(models(folder, "a")))
    told = as_json(found)
    assert told["dataset"]["frames"] == 9
    assert told["dataset"]["labelled"] == {"energy": 8, "forces": 8, "stress": 2}
    off = [
        p[1] - atoms.arrays["REF_forces"] for atoms, p in zip(dataset(), theirs["a"], strict=True)
    ]
    without = 1000 * np.abs(np.concatenate(off[1:])).mean()
    assert of(found, "a")["total"]["mae_f_meV_per_A"] == pytest.approx(without, rel=1e-7)


def test_virials_are_taken_for_stress(folder: Path, tmp_path: Path, found: Evaluation) -> None:
    frames = dataset()
    for atoms in frames:
        if atoms.pbc.all():
            atoms.info["REF_virials"] = -atoms.get_volume() * atoms.info.pop("REF_stress")
    write(tmp_path / "virials.xyz", frames)
    np.testing.assert_allclose(
        read_frames(tmp_path / "virials.xyz").stress, found.frames.stress, atol=1e-7
    )


def test_quantities_that_are_not_asked_for_are_not_compared(folder: Path) -> None:
    frames = read_frames(folder / "test.xyz", quantities=("forces",))
    total = as_json(evaluate(frames, open_models(models(folder, "a"))))["models"]["a"]["errors"][
        "total"
    ]
    assert total["mae_e_meV"] is None
    assert total["mae_stress_GPa"] is None
    assert total["mae_f_meV_per_A"] is not None


def test_names_that_ase_knows_itself_can_be_keys(tmp_path: Path, found: Evaluation) -> None:
    frames = dataset()
    for atoms in frames:
        atoms.info["energy"] = atoms.info.pop("REF_energy")
        atoms.arrays["forces"] = atoms.arrays.pop("REF_forces")
    write(tmp_path / "plain.xyz", frames)
    keys = replace(DataKeys(), energy="energy", forces="forces")
    read = read_frames(tmp_path / "plain.xyz", keys)
    np.testing.assert_allclose(read.energy, found.frames.energy)
    np.testing.assert_allclose(read.forces, found.frames.forces)


@pytest.mark.parametrize(("value", "key"), [(NAN, "REF_energy"), (INF, "REF_forces")])
def test_a_label_that_is_not_finite_is_refused_by_frame(
    tmp_path: Path, value: float, key: str
) -> None:
    frames = dataset()
    if key == "REF_energy":
        frames[4].info[key] = value
    else:
        frames[4].arrays[key][2, 1] = value
    write(tmp_path / "nan.xyz", frames)
    with pytest.raises(CampaignError, match=rf"nan.xyz, frame 4 \(C2H6O\): .*{key}.* not finite"):
        read_frames(tmp_path / "nan.xyz")


def test_without_any_label_the_message_says_what_there_is(tmp_path: Path) -> None:
    frames = [Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.7]], info={"DFT_energy": -1.0})]
    write(tmp_path / "none.xyz", frames)
    with pytest.raises(CampaignError, match=r"none of its 1 frames has energy.*DFT_energy"):
        read_frames(tmp_path / "none.xyz")


@pytest.mark.parametrize(
    ("text", "said"), [("", "none of its 0 frames"), ("3\nx\nH", "ASE cannot")]
)
def test_a_file_without_frames_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "empty.xyz").write_text(text)
    with pytest.raises(CampaignError, match=said):
        read_frames(tmp_path / "empty.xyz")


def test_an_unknown_element_is_named_with_file_frame_and_model(
    folder: Path, tmp_path: Path
) -> None:
    frames = dataset()
    frames[3].numbers[0] = 7
    write(tmp_path / "n.xyz", frames)
    with pytest.raises(ModelError, match=r"n.xyz, frame 3 .*a.model does not know N, only H, C"):
        evaluate(read_frames(tmp_path / "n.xyz"), open_models(models(folder)))


def test_a_position_that_is_not_finite_is_named_by_frame(folder: Path, tmp_path: Path) -> None:
    frames = dataset()
    frames[1].positions[0, 0] = NAN
    write(tmp_path / "gone.xyz", frames)
    with pytest.raises(ModelError, match=r"gone.xyz, frame 1 .* nothing finite"):
        evaluate(read_frames(tmp_path / "gone.xyz"), open_models(models(folder, "a")))


def test_a_file_that_holds_no_mace_model_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), tmp_path / "foreign.model")
    with pytest.raises(ModelError, match="holds no MACE model but a Linear"):
        open_models({"foreign": tmp_path / "foreign.model"})


def test_a_device_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="cannot be put on device 'cuda:99'"):
        open_models(models(folder, "a"), "cuda:99")


def test_json_is_json_without_nan(found: Evaluation, tmp_path: Path) -> None:
    write_json(found, tmp_path / "evaluation.json")
    read = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert read["models"]["c"]["dtype"] == "float32"
    assert read["models"]["b"]["elements"] == [1, 6, 7, 8, 29]


def test_arrays_hold_each_models_errors_and_their_average(
    found: Evaluation, theirs: dict[str, Results], tmp_path: Path
) -> None:
    write_arrays(found, tmp_path / "r.npz", predictions=True)
    with np.load(tmp_path / "r.npz", allow_pickle=False) as arrays:
        each = [float(arrays[f"ensemble_metrics/{tag}/rmse_f"]) for tag in "abc"]
        assert each[0] == pytest.approx(
            expected(dataset(), theirs["a"])["rmse_f_meV_per_A"] / 1000, rel=1e-7
        )
        assert float(arrays["avg_ensemble_metrics/rmse_f"]) == pytest.approx(np.mean(each))
        own = arrays["ensemble_metrics/b/predictions/energy"]
        np.testing.assert_allclose(own, [energy for energy, _, _ in theirs["b"]], atol=1e-8)


def test_predictions_are_written_beside_what_the_dataset_had(
    found: Evaluation, theirs: dict[str, Results], tmp_path: Path
) -> None:
    write_xyz(found, tmp_path / "predictions.xyz")
    written = ase.io.read(tmp_path / "predictions.xyz", ":")
    assert len(written) == 9
    for n, (atoms, before) in enumerate(zip(written, dataset(), strict=True)):
        energy, forces, stress = theirs["mean"][n]
        np.testing.assert_allclose(
            atoms.arrays["REF_forces"], before.arrays["REF_forces"], atol=1e-7
        )
        assert atoms.info["MACE_energy"] == pytest.approx(energy, abs=1e-4)
        np.testing.assert_allclose(atoms.arrays["MACE_forces"], forces, atol=1e-4)
        np.testing.assert_allclose(atoms.arrays["MACE_forces_a"], theirs["a"][n][1], atol=1e-7)
        members = np.array([theirs[tag][n][1] for tag in "abc"])
        spread = np.sqrt(((members - members.mean(axis=0)) ** 2).mean(axis=(0, 2)))
        np.testing.assert_allclose(atoms.arrays["MACE_forces_sd"], spread, atol=1e-4)
        if stress is not None:
            np.testing.assert_allclose(atoms.info["MACE_stress"], stress, atol=1e-5)
    assert written[0].info["config_type"] == "mine"


def test_forces_on_held_atoms_are_judged_too(folder: Path, tmp_path: Path) -> None:
    """A dataset with `move_mask`, and forces under ASE's own name, is judged as without."""
    free = dataset()
    for atoms in free:
        forces, energy = atoms.arrays.pop("REF_forces"), atoms.info.pop("REF_energy")
        atoms.info.pop("REF_stress", None)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    held = [atoms.copy() for atoms in free]
    for atoms, other in zip(held, free, strict=True):
        atoms.calc = other.calc
        atoms.set_constraint(FixAtoms([0, 1]))
    errors, files = [], models(folder, "a")
    keys = DataKeys(energy="energy", forces="forces")
    for name, made in (("free.xyz", free), ("held.xyz", held)):
        ase.io.write(tmp_path / name, made)
        assert ("move_mask" in (tmp_path / name).read_text()) == (name == "held.xyz")
        one = evaluate(read_frames(tmp_path / name, keys), open_models(files))
        write_xyz(one, tmp_path / f"predicted-{name}")
        errors.append([one.frames.forces, as_json(one)])
        predicted = ase.io.read(tmp_path / f"predicted-{name}")
        assert np.abs(predicted.arrays["MACE_forces"][:2]).min() > 1e-6
    (forces, judged), (others, same) = errors
    np.testing.assert_array_equal(forces, others)
    assert {k: v for k, v in judged.items() if k != "dataset"} == {
        k: v for k, v in same.items() if k != "dataset"
    }


def test_figures_are_drawn_of_what_there_is(
    found: Evaluation, folder: Path, tmp_path: Path
) -> None:
    assert [path.name for path in draw(found, tmp_path)] == list(FIGURES)
    for name in FIGURES:
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 500
    frames = read_frames(folder / "test.xyz", quantities=("forces",))
    draw(evaluate(frames, open_models(models(folder, "a"))), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["force_parity.png"]


def test_many_points_are_drawn_as_a_density(
    found: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(found, tmp_path / "points")
    monkeypatch.setattr(parity_plots, "_SINGLE", 5)
    draw(found, tmp_path / "density")
    for name in FIGURES:
        assert (tmp_path / "points" / name).read_bytes() != (
            tmp_path / "density" / name
        ).read_bytes()


def test_a_name_with_blanks_is_readable_among_the_predictions(folder: Path, tmp_path: Path) -> None:
    files = {"a": folder / "a.model", "older/my b": folder / "b.model"}
    found = evaluate(read_frames(folder / "test.xyz"), open_models(files))
    write_xyz(found, tmp_path / "predictions.xyz")
    for n, atoms in enumerate(ase.io.read(tmp_path / "predictions.xyz", ":")):
        own = found.predictions.forces[1, found.frames.own(n)]
        np.testing.assert_allclose(atoms.arrays["MACE_forces_older_my_b"], own, atol=1e-7)
