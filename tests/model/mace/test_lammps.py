"""Claims about models that are written for LAMMPS: what it computes with them is what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.neighborlist import neighbor_list

from aimspax_core.errors import ModelError
from aimspax_core.model.committee import Committee
from aimspax_core.model.mace.build import Constants, build
from aimspax_core.model.mace.kernel import evaluator
from aimspax_core.model.mace.lammps import write_lammps
from aimspax_core.model.mace.model_files import load_model, save_model
from aimspax_core.settings.model import ModelSettings

ELEMENTS = (1, 6, 8)
TINY = {"num_channels": 4, "max_L": 1, "max_ell": 2, "correlation": 2, "num_radial_basis": 4,
        "radial_MLP": [8], "r_max": 3.5}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lammps") / "tiny.model"
    settings = ModelSettings.model_validate({"GENERAL": {"name_exp": "t"}, "ARCHITECTURE": TINY})
    constants = Constants({1: -13.5, 6: -1029.25, 8: -2041.75}, 5.5, 1.75, -0.375)
    save_model(build(settings, ELEMENTS, constants, seed=7), path)
    return path


@pytest.fixture
def atoms() -> Atoms:
    found = molecule("CH3OH")
    found.rattle(0.05, rng=np.random.default_rng(1))
    return found


def wanted(model: Path, atoms: Atoms) -> tuple[float, np.ndarray]:
    committee = Committee(evaluator([load_model(model, dtype="float64")], kernel="mace"))
    (found,) = committee.evaluate([atoms])
    return found.energy, found.forces


class OneProcess:
    """What LAMMPS gives ML-IAP of a molecule in one process, so without ghost atoms."""

    def __init__(self, atoms: Atoms, cutoff: float) -> None:
        i, j, rij = neighbor_list("ijD", atoms, cutoff)
        self.nlocal = self.ntotal = len(atoms)
        self.npairs, self.pair_i, self.pair_j, self.rij = len(i), i, j, rij
        self.elems = np.array([ELEMENTS.index(z) for z in atoms.numbers])
        self.eatoms, self.energy = np.zeros(len(atoms)), 0.0
        self.forces = np.zeros((len(atoms), 3))

    def forward_exchange(self, features: Any, out: Any, length: int) -> None:
        """Bring features from other processes: there is none."""
        out.copy_(features)

    reverse_exchange = forward_exchange

    def update_pair_forces_gpu(self, pairs: torch.Tensor) -> None:
        """Add the force of each pair to both of its atoms, as LAMMPS does."""
        for sign, ends in ((1, self.pair_i), (-1, self.pair_j)):
            np.add.at(self.forces, ends, sign * pairs.detach().numpy())


def test_ml_iap_has_the_models_energy_and_forces(model: Path, atoms: Atoms, tmp_path: Path) -> None:
    path = write_lammps(model, tmp_path, "mliap")
    assert path.name == "tiny.model-mliap_lammps.pt"
    pair: Any = torch.load(path, weights_only=False)
    assert pair.element_types == ["H", "C", "O"]
    data = OneProcess(atoms, 2 * pair.rcutfac)
    pair.compute_forces(data)
    energy, forces = wanted(model, atoms)
    assert data.energy == pytest.approx(energy, abs=1e-8)
    np.testing.assert_allclose(data.forces, forces, atol=1e-8)


def test_libtorch_has_the_models_energy_and_forces(
    model: Path, atoms: Atoms, tmp_path: Path
) -> None:
    path = write_lammps(model, tmp_path, "libtorch")
    assert path.name == "tiny.model-lammps.pt"
    computes = torch.jit.load(str(path))
    i, j, shifts = neighbor_list("ijS", atoms, 3.5)
    kinds = torch.tensor([ELEMENTS.index(z) for z in atoms.numbers])
    found = computes(
        {
            "batch": torch.zeros(len(atoms), dtype=torch.long),
            "cell": torch.zeros(3, 3, dtype=torch.float64),
            "edge_index": torch.tensor(np.stack([i, j])),
            "energy": torch.zeros(1, dtype=torch.float64),
            "node_attrs": torch.nn.functional.one_hot(kinds, 3).double(),
            "positions": torch.tensor(atoms.positions),
            "ptr": torch.tensor([0, len(atoms)]),
            "shifts": torch.zeros(len(i), 3, dtype=torch.float64),
            "unit_shifts": torch.tensor(shifts).double(),
            "weight": torch.ones(1, dtype=torch.float64),
        },
        torch.ones(len(atoms), dtype=torch.float64),
        False,
    )
    energy, forces = wanted(model, atoms)
    assert float(found["total_energy_local"]) == pytest.approx(energy, abs=1e-8)
    np.testing.assert_allclose(found["forces"].numpy(), forces, atol=1e-8)


def test_what_is_no_model_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "none.model").write_text("no model")
    with pytest.raises(ModelError, match="not a readable"):
        write_lammps(tmp_path / "none.model", tmp_path, "mliap")
    assert [path.name for path in tmp_path.iterdir()] == ["none.model"]
