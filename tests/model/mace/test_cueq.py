"""Claims about cuEquivariance; its package need not be installed, and no GPU is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.emt import EMT

from aimspax_core.errors import ModelError
from aimspax_core.model.committee import Committee
from aimspax_core.model.ensemble import Ensemble
from aimspax_core.model.mace import build, cueq
from aimspax_core.model.mace import graphs as mace_graphs
from aimspax_core.model.mace.evaluator import MaceEvaluator
from aimspax_core.model.mace.model_files import copy_model
from aimspax_core.model.member import Member
from aimspax_core.model.schedule import Stage
from aimspax_core.settings.model import ModelSettings

ELEMENTS = (1, 8)
SMALL = {"num_channels": 4, "max_L": 1, "max_ell": 1, "correlation": 2, "radial_MLP": [8]}


def settings(architecture: dict[str, Any] | None = None, **misc: Any) -> ModelSettings:
    return ModelSettings.model_validate(
        {
            "GENERAL": {"name_exp": "t", "default_dtype": "float64"},
            "ARCHITECTURE": SMALL | {"num_radial_basis": 4} | (architecture or {}),
            "TRAINING": {"batch_size": 2},
            "MISC": misc,
        }
    )


def structures(count: int) -> list[ase.Atoms]:
    made = []
    for index in range(count):
        atoms = molecule("H2O")
        atoms.rattle(0.1, rng=np.random.default_rng(index))
        atoms.calc = EMT()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
        made.append(atoms)
    return made


def test_why_it_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu = settings(enable_cueq=True, device="cuda:1")
    assert cueq.why_no_cueq(settings(device="cuda")) is None
    assert "MISC.device is cpu" in str(cueq.why_no_cueq(settings(enable_cueq=True)))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install cuequivariance-torch" in str(cueq.why_no_cueq(on_gpu))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert cueq.why_no_cueq(on_gpu) is None


def test_it_is_not_left_out_in_silence() -> None:
    train = mace_graphs.graphs(structures(2), ELEMENTS, settings())
    with pytest.raises(ModelError, match=r"MISC\.enable_cueq: .* MISC\.device is cpu"):
        Member.create(settings(enable_cueq=True), ELEMENTS, "t", 1, train)


def test_it_trains_and_predicts_as_e3nn_and_saves_models_of_e3nn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("cuequivariance_torch")
    # On a CPU the package is slow, but gives the same numbers.
    monkeypatch.setattr(cueq, "why_no_cueq", lambda settings: None)
    energies, losses = {}, {}
    for kind in ("e3nn", "cueq"):
        chosen = settings(enable_cueq=kind == "cueq")
        train = mace_graphs.graphs(structures(4), ELEMENTS, chosen)
        member = Member.create(chosen, ELEMENTS, "t", 1, train)
        member.train(train, train, epochs=2, valid_skip=1, scheduler=True)
        member.enter(Stage.CONVERGE)
        found, _ = member.converge(train, train, max_epochs=2, patience=9, margin=0.0)
        losses[kind] = [one.valid_loss for one in found]
        path = tmp_path / f"{kind}.pt"
        member.save(path)
        best = Member.load(path, chosen).best_model()
        for committee in (Ensemble(chosen).committee([path]), Committee(MaceEvaluator([best]))):
            energies[kind, len(energies)] = [
                one.energy for one in committee.evaluate(structures(3))
            ]
    assert losses["cueq"] == pytest.approx(losses["e3nn"], rel=1e-9)
    first, *others = energies.values()
    for other in others:
        assert other == pytest.approx(first, rel=1e-9)
    with pytest.raises(ModelError, match="it holds cueq weights, not e3nn"):
        Member.load(tmp_path / "cueq.pt", settings())
    with pytest.raises(ModelError, match="it holds cueq weights, not e3nn"):
        Ensemble(settings()).committee([tmp_path / "cueq.pt"])


def test_models_in_the_reduced_basis_are_converted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cuequivariance_torch")
    monkeypatch.setattr(cueq, "why_no_cueq", lambda settings: None)
    chosen = settings({"use_reduced_cg": True, "correlation": 3}, enable_cueq=True)
    model = build.build(chosen, ELEMENTS, build.Constants({1: -1.0, 8: -2.0}, 2.0, 1.0, 0.0), 1)
    wanted = energies(copy_model(model))
    kernels = cueq.to_cueq(model, chosen)
    assert energies(copy_model(kernels)) == pytest.approx(wanted, rel=1e-10)
    assert energies(cueq.to_e3nn(kernels, chosen)) == pytest.approx(wanted, rel=1e-10)


def energies(model: torch.nn.Module) -> list[float]:
    return [one.energy for one in Committee(MaceEvaluator([model])).evaluate(structures(2))]
