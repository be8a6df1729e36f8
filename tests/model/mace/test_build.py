"""Claims about graphs, constants, building, saving and loading of MACE models."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from mace import modules
from mace.calculators import MACECalculator
from mace.calculators import foundations_models as foundations
from mace.data.utils import compute_average_E0s, config_from_atoms_list
from mace.tools import AtomicNumberTable, torch_geometric

from aimspax_core.errors import ModelError
from aimspax_core.model.mace import build, foundation, model_files
from aimspax_core.model.mace import graphs as mace_graphs
from aimspax_core.model.number_format import number_format
from aimspax_core.settings.model import ModelSettings

ELEMENTS = (1, 6, 8)
TINY = {
    "num_channels": 8,
    "max_L": 0,
    "max_ell": 1,
    "correlation": 2,
    "num_radial_basis": 4,
    "radial_MLP": [8],
    "r_max": 3.5,
}


def settings(
    architecture: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    **general: Any,
) -> ModelSettings:
    return ModelSettings.model_validate(
        {
            "GENERAL": {"name_exp": "tiny", "default_dtype": "float64"} | general,
            "ARCHITECTURE": TINY | (architecture or {}),
            "TRAINING": {"batch_size": 3} | (training or {}),
        }
    )


def structures(count: int, seed: int = 0) -> list[ase.Atoms]:
    """Rattled molecules with EMT's labels."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        atoms = molecule(["CH3OH", "H2O", "CO2"][index % 3])
        atoms.positions += rng.normal(scale=0.08, size=atoms.positions.shape)
        atoms.calc = EMT()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
        made.append(atoms)
    return made


def predict(model: torch.nn.Module, data: list) -> tuple[torch.Tensor, torch.Tensor]:
    (batch,) = mace_graphs.batches(data, len(data))
    output = model(batch.to_dict(), compute_force=True)
    return output["energy"].detach(), output["forces"].detach()


@pytest.fixture(scope="module")
def data() -> list:
    return mace_graphs.graphs(structures(6), ELEMENTS, settings())


@pytest.fixture(scope="module")
def constants(data: list) -> build.Constants:
    return build.constants_of(data, ELEMENTS, settings())


@pytest.fixture(scope="module")
def model(constants: build.Constants) -> torch.nn.Module:
    return build.build(settings(), ELEMENTS, constants, seed=1)


# ---- graphs ---------------------------------------------------------------------------------


def test_unlabelled_structure_has_weight_zero() -> None:
    bare = molecule("H2O")
    (graph,) = mace_graphs.graphs([bare], ELEMENTS, settings())
    assert graph.energy_weight == graph.forces_weight == graph.stress_weight == 0


def test_graph_carries_labels_weight_and_number_format() -> None:
    atoms = structures(1)[0]
    atoms.info["config_type"] = "rare"
    chosen = settings(training={"config_type_weights": {"Default": 1.0, "rare": 7.0}})
    (graph,) = mace_graphs.graphs([atoms], ELEMENTS, chosen)
    assert graph.weight == 7.0
    assert graph.positions.dtype == torch.float64
    assert graph.energy.item() == atoms.info["REF_energy"]
    np.testing.assert_array_equal(graph.forces.numpy(), atoms.arrays["REF_forces"])


@pytest.mark.parametrize("voigt", [True, False])
def test_stress_label_in_voigt_or_matrix_form(voigt: bool) -> None:
    atoms = bulk("Cu").repeat(2)
    atoms.rattle(0.05, rng=np.random.default_rng(0))
    atoms.calc = EMT()
    matrix = atoms.get_stress(voigt=False)
    atoms.info["REF_stress"] = atoms.get_stress(voigt=voigt)
    (graph,) = mace_graphs.graphs([atoms], [29], settings())
    np.testing.assert_allclose(graph.stress[0].numpy(), matrix)
    assert graph.stress_weight == 1


def test_unknown_element_is_named() -> None:
    with pytest.raises(ModelError, match=r"structure 0 \(H3N\) has N, .* only H, C, O"):
        mace_graphs.graphs([molecule("NH3")], ELEMENTS, settings())


# ---- constants ------------------------------------------------------------------------------


def test_atomic_energies_are_recovered_from_made_up_ones() -> None:
    truth = {1: -13.6, 6: -1030.0, 8: -2040.5}
    made = structures(6)
    for atoms in made:
        atoms.info["REF_energy"] = sum(truth[int(z)] for z in atoms.numbers)
    graphs = mace_graphs.graphs(made, ELEMENTS, settings())
    found = build.constants_of(graphs, ELEMENTS, settings())
    assert found.atomic_energies == pytest.approx(truth)
    assert found.shift == pytest.approx(0.0, abs=1e-9)


def test_undetermined_atomic_energies_have_the_smallest_norm() -> None:
    found = build.fit_atomic_energies([[2, 1], [4, 2]], [-5.0, -10.0], [1, 8])
    assert found == pytest.approx({1: -2.0, 8: -1.0})


@pytest.mark.parametrize("scaling", ["rms_forces_scaling", "std_scaling"])
def test_constants_are_those_of_mace(scaling: str) -> None:
    chosen = settings({"scaling": scaling})
    made = structures(7)
    table = AtomicNumberTable(list(ELEMENTS))
    energies = compute_average_E0s(config_from_atoms_list(made, mace_graphs.KEYS), table)
    graphs = mace_graphs.graphs(made, ELEMENTS, chosen)
    with number_format("float64"):
        loader = torch_geometric.dataloader.DataLoader(graphs, batch_size=2)
        array = np.array([[energies[z] for z in ELEMENTS]])
        shift, scale = modules.scaling_classes[scaling](loader, array)
        neighbours = modules.compute_avg_num_neighbors(loader)
    found = build.constants_of(graphs, ELEMENTS, chosen)
    assert found.atomic_energies == pytest.approx(energies)
    assert found.avg_num_neighbors == pytest.approx(neighbours)
    assert found.scale == pytest.approx(float(np.ravel(scale)[0]))
    assert found.shift == pytest.approx(float(np.ravel(shift)[0]), abs=1e-12)


def test_settings_switch_constants_off(data: list) -> None:
    given = {1: -1.0, 6: -2.0, 8: -3.0}
    chosen = settings(
        {
            "atomic_energies": {"H": -1.0, "C": -2.0, "O": -3.0},
            "scaling": "no_scaling",
            "compute_avg_num_neighbors": False,
        }
    )
    assert build.constants_of(data, ELEMENTS, chosen) == build.Constants(given, 1.0, 1.0, 0.0)


def test_unlabelled_structures_do_not_count(data: list, constants: build.Constants) -> None:
    bare = mace_graphs.graphs([molecule("CH4")], ELEMENTS, settings())
    assert build.constants_of([*data, *bare], ELEMENTS, settings()) == constants


def test_nan_label_is_refused() -> None:
    made = structures(3)
    made[1].info["REF_energy"] = float("nan")
    graphs = mace_graphs.graphs(made, ELEMENTS, settings())
    with pytest.raises(ModelError, match="structure 1 is not finite"):
        build.constants_of(graphs, ELEMENTS, settings())


def test_missing_atomic_energy_is_named(data: list) -> None:
    with pytest.raises(ModelError, match="no energy of C, O"):
        build.constants_of(data, ELEMENTS, settings({"atomic_energies": {1: -1.0}}))


def test_set_without_labels_or_neighbours_is_refused() -> None:
    with pytest.raises(ModelError, match="labelled"):
        build.constants_of(
            mace_graphs.graphs([molecule("H2O")], ELEMENTS, settings()), ELEMENTS, settings()
        )
    apart = ase.Atoms("H2", [[0, 0, 0], [0, 0, 20]], info={"REF_energy": 0.0})
    apart.arrays["REF_forces"] = np.zeros((2, 3))
    with pytest.raises(ModelError, match="closer than r_max"):
        build.constants_of(mace_graphs.graphs([apart], ELEMENTS, settings()), ELEMENTS, settings())


# ---- build ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The TorchScript type system:UserWarning")
def test_built_model_is_scale_shift_mace_made_by_hand(
    model: torch.nn.Module, constants: build.Constants
) -> None:
    from e3nn import o3  # only loads once MACE has been imported

    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    with number_format("float64"), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        by_hand = modules.ScaleShiftMACE(
            r_max=3.5,
            num_bessel=4,
            num_polynomial_cutoff=5,
            max_ell=1,
            interaction_cls=block,
            interaction_cls_first=block,
            num_interactions=2,
            num_elements=3,
            hidden_irreps=o3.Irreps("8x0e"),
            MLP_irreps=o3.Irreps("16x0e"),
            atomic_energies=np.array([[constants.atomic_energies[z] for z in ELEMENTS]]),
            avg_num_neighbors=constants.avg_num_neighbors,
            atomic_numbers=list(ELEMENTS),
            correlation=2,
            gate=torch.nn.functional.silu,
            radial_MLP=[8],
            radial_type="bessel",
            atomic_inter_scale=constants.scale,
            atomic_inter_shift=constants.shift,
            heads=["Default"],
        )
    theirs, ours = by_hand.state_dict(), model.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_mace_as_model_has_plain_first_block_and_no_shift() -> None:
    made = structures(4)
    chosen = settings({"model": "MACE", "atomic_energies": {1: 0.0, 6: 0.0, 8: 0.0}})
    graphs = mace_graphs.graphs(made, ELEMENTS, chosen)
    constants = build.constants_of(graphs, ELEMENTS, chosen)
    built: Any = build.build(chosen, ELEMENTS, constants, seed=1)
    assert constants.shift == 0.0
    assert built.scale_shift.shift.item() == 0.0
    assert type(built.interactions[0]).__name__ == "RealAgnosticInteractionBlock"


def test_same_seed_same_weights_and_the_global_random_state_is_left_alone(
    model: torch.nn.Module, constants: build.Constants
) -> None:
    before, dtype = torch.get_rng_state(), torch.get_default_dtype()
    again = build.build(settings(), ELEMENTS, constants, seed=1)
    other = build.build(settings(), ELEMENTS, constants, seed=2)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_default_dtype() == dtype
    pairs = list(zip(model.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(first, second) for first, second, _ in pairs)
    assert not all(torch.equal(first, third) for first, _, third in pairs)


def test_threads_build_the_same_models_as_one(
    model: torch.nn.Module, constants: build.Constants
) -> None:
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(build.build, settings(), ELEMENTS, constants, 1) for _ in range(3)]
        built = [future.result() for future in futures]
    for other in built:
        for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(mine, theirs)


def test_impossible_architecture_is_one_message_and_restores_the_number_format(
    constants: build.Constants,
) -> None:
    before = torch.get_default_dtype()
    with pytest.raises(ModelError, match="ARCHITECTURE"):
        build.build(settings({"MLP_irreps": "16x1o"}), ELEMENTS, constants, seed=1)
    assert torch.get_default_dtype() == before


@pytest.mark.parametrize(
    "interaction",
    ["RealAgnosticResidualInteractionBlock", "RealAgnosticDensityResidualInteractionBlock"],
)
def test_renewed_constants_predict_as_a_model_built_with_them(
    interaction: str, data: list, constants: build.Constants
) -> None:
    chosen = settings({"interaction": interaction, "interaction_first": interaction})
    renewed = build.Constants({1: -3.0, 6: -4.5, 8: -6.0}, 9.25, 0.75, -0.5)
    ours = build.build(chosen, ELEMENTS, constants, seed=3)
    first_energy, _ = predict(ours, data)
    build.set_constants(ours, renewed, ELEMENTS)
    energy, forces = predict(ours, data)
    their_energy, their_forces = predict(build.build(chosen, ELEMENTS, renewed, seed=3), data)
    assert torch.equal(energy, their_energy)
    assert torch.equal(forces, their_forces)
    assert not torch.allclose(energy, first_energy)


# ---- files ----------------------------------------------------------------------------------


def test_saved_model_loads_in_mace_calculator(
    model: torch.nn.Module, data: list, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "tiny-1.model"
    model_files.save_model(model, path)
    calculator = MACECalculator(model_paths=str(path), device="cpu", default_dtype="float64")
    energies, forces = predict(model, data[:1])
    atoms = structures(1)[0]
    atoms.calc = calculator
    assert atoms.get_potential_energy() == pytest.approx(energies[0].item(), abs=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), forces.numpy(), atol=1e-10)
    assert [file.name for file in path.parent.iterdir()] == ["tiny-1.model"]


def test_loaded_model_is_the_saved_one_in_the_format_asked_for(
    model: torch.nn.Module, data: list, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.model"
    model_files.save_model(model, path)
    loaded = model_files.load_model(path)
    assert torch.equal(predict(loaded, data)[1], predict(model, data)[1])
    assert all(weight.requires_grad for weight in loaded.parameters())
    assert next(model_files.load_model(path, dtype="float32").parameters()).dtype == torch.float32


def test_what_is_no_model_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.model"
    with pytest.raises(ModelError, match="no model file"):
        model_files.load_model(path)
    path.write_text("not a model")
    with pytest.raises(ModelError, match="not a readable MACE model"):
        model_files.load_model(path)
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(ModelError, match="holds no MACE model but a dict"):
        model_files.load_model(path)


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "state"
    model_files.write_atomically({"epoch": 1}, path)
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        model_files.write_atomically({"epoch": lambda: 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


# ---- foundation models ----------------------------------------------------------------------


def test_local_file_serves_as_foundation_model(
    model: torch.nn.Module, data: list, tmp_path: Path
) -> None:
    path = tmp_path / "local.model"
    model_files.save_model(model, path)
    atoms = structures(1)[0]
    atoms.calc = foundation.foundation_calculator(str(path), "cpu", "float64")
    assert isinstance(atoms.calc, MACECalculator)
    np.testing.assert_allclose(atoms.get_forces(), predict(model, data[:1])[1], atol=1e-10)


def test_impossible_download_is_one_clear_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):  # nobody listens there: no network, anywhere
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ModelError) as caught:
        foundation.foundation_calculator("small", "cpu", "float32")
    text = str(caught.value)
    assert "'small'" in text
    assert foundations.mace_mp_urls["small"] in text
    assert "a local .model file" in text


def test_misspelt_foundation_model_gets_the_nearest_name() -> None:
    with pytest.raises(ModelError, match="did you mean 'medium'"):
        foundation.foundation_calculator("meduim", "cpu", "float32")


def test_dispersion_without_its_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foundation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="torch-dftd"):
        foundation.foundation_calculator("small", "cpu", "float32", dispersion=True)


def test_dispersion_cutoff_reaches_mace_in_angstrom(
    model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # torch-dftd is optional and not installed here; what MACE is asked for is the claim.
    asked: dict[str, Any] = {}
    monkeypatch.setattr(foundation.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(foundation, "mace_mp", lambda **given: asked.update(given))
    model_files.save_model(model, tmp_path / "local.model")
    foundation.foundation_calculator(
        str(tmp_path / "local.model"), "cpu", "float32", dispersion=True, dispersion_cutoff=12.0
    )
    assert asked["dispersion_cutoff"] == pytest.approx(12.0)
    assert (asked["dispersion_xc"], asked["damping"]) == ("pbe", "bj")


def test_building_gives_the_root_logger_no_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one, each line of a campaign that begins from a model would be printed twice."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    constants = build.Constants(dict.fromkeys(ELEMENTS, -1.0), 5.0, 1.0, 0.0)
    build.build(settings(), ELEMENTS, constants, seed=1)
    assert logging.getLogger().handlers == []
