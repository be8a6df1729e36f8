"""Active learning by plain MACE and ASE: one process, one thread, one thing after another.

What `bench_serial.py` holds the program against. It reads the same two settings files, and does
what the method does (aims-PAX, arXiv 2508.12888), as fast as MACE allows without changing it:
models are built once, a structure is turned into a graph once, all members share the graph of an
MD step, and no stress is computed. A step of training is `mace.tools.train`'s, models, optimizer
and loss are those of MACE's `run_train`, the integrator is ASE's.

Run as a script: `python tests/benchmarks/plain_campaign.py RUN_DIRECTORY`. It writes the models and
`figures.json` into `RUN_DIRECTORY/plain`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
import yaml
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from mace import modules
from mace.data import AtomicData, KeySpecification, config_from_atoms
from mace.tools import AtomicNumberTable, build_default_arg_parser, check_args
from mace.tools.model_script_utils import configure_model
from mace.tools.scripts_utils import LRScheduler, get_optimizer, get_params_options
from mace.tools.torch_geometric.batch import Batch
from mace.tools.torch_geometric.dataloader import DataLoader
from mace.tools.train import evaluate, train_one_epoch
from torch_ema import ExponentialMovingAverage

CPU = torch.device("cpu")
OUTPUTS = {"energy": True, "forces": True, "virials": False, "stress": False}
KEYS = KeySpecification(info_keys={"energy": "REF_energy"}, arrays_keys={"forces": "REF_forces"})
HEAD = "Default"
WINDOW, FEWEST = 400, 10
"""Of the threshold: uncertainties that are averaged, and how many there must be."""


class Silent:
    """In the place of MACE's logger of metrics."""

    def log(self, metrics: dict[str, Any]) -> None:
        """Drop what MACE tells of a step."""


def graph(atoms: Atoms, table: AtomicNumberTable, r_max: float) -> AtomicData:
    """Return MACE's graph of a structure and its label."""
    config = config_from_atoms(atoms, KEYS, head_name=HEAD)
    return AtomicData.from_config(config, table, r_max, heads=[HEAD])


class Models(Calculator):
    """MACE models as an ASE calculator: their mean drives the dynamics, their spread is kept.

    Args:
        models: They are evaluated one after another on one graph.
        table: Elements that they know.
        r_max: Their cutoff (Å).
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - ASE's own interface

    def __init__(
        self, models: Sequence[torch.nn.Module], table: AtomicNumberTable, r_max: float
    ) -> None:
        super().__init__()
        self._models, self._table, self._r_max = models, table, r_max
        self.evaluations = 0
        self.all_forces = np.empty(0)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = None,
        system_changes: Any = all_changes,
    ) -> None:
        """Evaluate all models."""
        super().calculate(atoms, properties, system_changes)
        batch = Batch.from_data_list([graph(self.atoms, self._table, self._r_max)]).to_dict()
        found = [model(batch, compute_stress=False) for model in self._models]
        self.evaluations += 1
        self.all_forces = np.stack([one["forces"].detach().numpy() for one in found])
        self.results = {
            "energy": float(np.mean([one["energy"].item() for one in found])),
            "forces": self.all_forces.mean(axis=0).astype(float),
        }

    def uncertainty(self) -> float:
        """Return the largest standard deviation of an atom's force among the models (eV/Å)."""
        deviation = ((self.all_forces - self.all_forces.mean(axis=0)) ** 2).mean(axis=(0, 2))
        return float(np.sqrt(deviation).max())


def for_evaluation(models: Sequence[torch.nn.Module]) -> list[torch.nn.Module]:
    """Return copies that ask for no gradients of their parameters."""
    copies = [copy.deepcopy(model).eval() for model in models]
    for model in copies:
        model.requires_grad_(False)
    return copies


def arguments(settings: dict[str, Any]) -> argparse.Namespace:
    """Return what MACE's `run_train` would have parsed for the settings of models."""
    args = build_default_arg_parser().parse_args(["--name=plain"])
    for section in ("ARCHITECTURE", "TRAINING"):
        for name, value in settings.get(section, {}).items():
            setattr(args, name, value)
    args.radial_MLP = str(args.radial_MLP)
    args.default_dtype = settings["GENERAL"]["default_dtype"]
    args.compute_energy, args.compute_dipole = True, False  # as `run_train` sets them
    return check_args(args)[0]


class Member:
    """One model in training, as MACE's `run_train` trains it.

    Args:
        args: MACE's own.
        table: Elements.
        seed: Of the first weights and of the order of batches.
        train: Its training set.
        valid: Its validation set.

    Attributes:
        model: Holds the weights.
        network: Computes energies and forces with them: the model itself.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        table: AtomicNumberTable,
        seed: int,
        train: list[AtomicData],
        valid: list[AtomicData],
    ) -> None:
        self.args, self.table, self.train, self.valid = copy.copy(args), table, train, valid
        self.generator = torch.Generator().manual_seed(seed)
        self.loss = modules.WeightedEnergyForcesLoss(args.energy_weight, args.forces_weight)
        self.epochs, self.errors = 0, {"loss": math.inf, "mae_f": math.inf}
        self.without_improvement, self.best = 0, math.inf
        energies, neighbours, shift, scale = self._constants()
        self.args.avg_num_neighbors, self.args.mean, self.args.std = neighbours, shift, scale
        torch.manual_seed(seed)
        with contextlib.redirect_stdout(io.StringIO()):
            self.model, _ = configure_model(
                self.args, None, energies[np.newaxis], heads=[HEAD], z_table=table
            )
        self.network: torch.nn.Module = self.model
        self.fresh_optimizer(average=True)

    def _constants(self) -> tuple[np.ndarray, float, float, float]:
        """Return atomic energies, mean number of neighbours, shift, scale of the training set."""
        counts = np.array([one.node_attrs.sum(dim=0).numpy() for one in self.train], dtype=float)
        totals = np.array([one.energy.item() for one in self.train])
        energies = np.linalg.lstsq(counts, totals, rcond=None)[0]
        batches = [Batch.from_data_list(self.train)]
        shift, scale = modules.scaling_classes[self.args.scaling](batches, energies[np.newaxis])
        neighbours = modules.compute_avg_num_neighbors(batches)
        return energies, float(neighbours), float(np.ravel(shift)[0]), float(np.ravel(scale)[0])

    def renew_constants(self) -> None:
        """Let atomic energies, neighbours, shift and scale follow the training set."""
        energies, neighbours, shift, scale = self._constants()
        parts: Any = self.model
        with torch.no_grad():
            buffer = parts.atomic_energies_fn.atomic_energies
            buffer.copy_(torch.tensor(energies).reshape(buffer.shape))
            parts.scale_shift.shift.fill_(shift)
            parts.scale_shift.scale.fill_(scale)
        for interaction in parts.interactions:
            interaction.avg_num_neighbors = neighbours

    def fresh_optimizer(self, average: bool = False) -> None:
        """Forget the optimizer's moments and the learning rate, and the average if asked to."""
        self.optimizer = get_optimizer(self.args, get_params_options(self.args, self.model))
        self.scheduler = LRScheduler(self.optimizer, self.args)
        if average:
            self.ema = ExponentialMovingAverage(self.model.parameters(), decay=self.args.ema_decay)

    def train_epoch(self, scheduler: bool) -> None:
        """Train one epoch and validate with averaged weights."""
        size = self.args.batch_size if len(self.train) >= self.args.batch_size else 1
        loader = DataLoader(
            self.train, size, shuffle=True, drop_last=True, generator=self.generator
        )
        train_one_epoch(
            self.network, self.loss, loader, self.optimizer, 0, OUTPUTS, self.args.clip_grad,
            self.ema, Silent(), CPU, distributed=False,
        )  # fmt: skip
        size = self.args.valid_batch_size
        batches = [
            Batch.from_data_list(self.valid[i : i + size]) for i in range(0, len(self.valid), size)
        ]
        with self.ema.average_parameters():
            loss, found = evaluate(self.network, self.loss, batches, OUTPUTS, CPU)
        self.errors = {"loss": float(loss), "mae_f": float(found["mae_f"])}
        self.epochs += 1
        if scheduler:
            self.scheduler.step(self.errors["loss"])

    def active_epoch(self, patience: int) -> None:
        """Train an epoch of active learning; an optimizer that is stuck is renewed."""
        self.train_epoch(scheduler=False)
        better = self.errors["loss"] < self.best
        self.best = min(self.best, self.errors["loss"])
        self.without_improvement = 0 if better else self.without_improvement + 1
        if self.without_improvement > patience:
            self.without_improvement = 0
            self.fresh_optimizer()

    def averaged(self) -> dict[str, torch.Tensor]:
        """Return a copy of weights and buffers, with averages in the place of raw weights."""
        with self.ema.average_parameters():
            return copy.deepcopy(self.model.state_dict())

    def converge(self, epochs: int, patience: int, margin: float) -> int:
        """Train to the end from the averaged weights, keep the best epoch's; return the epochs."""
        self.model.load_state_dict(self.averaged())
        self.fresh_optimizer(average=True)
        best, improved = math.inf, 0
        kept, self.best_mae = self.averaged(), math.inf
        for epoch in range(1, epochs + 1):
            self.train_epoch(scheduler=True)
            if self.errors["loss"] < best:
                kept, self.best_mae = self.averaged(), self.errors["mae_f"]
            if best - self.errors["loss"] > margin:
                improved = epoch
            best = min(best, self.errors["loss"])
            if epoch - improved >= patience:
                break
        self.model.load_state_dict(kept)
        return epoch


@dataclass
class Trajectory:
    """One exploring MD.

    Attributes:
        dynamics: ASE's integrator; its atoms hold the state.
        calculator: Its own, of the shared models.
        status: What it does next: `running`, `waiting` (for a label), `training`.
        checkpoint: Its last labelled structure with momenta, or its start.
        epochs: That have been trained for its point.
        steps: MD steps made.
    """

    dynamics: Langevin
    calculator: Models
    status: str = "running"
    checkpoint: Atoms = field(default_factory=Atoms)
    epochs: int = 0
    steps: int = 0

    def roll_back(self) -> None:
        """Go back to the checkpoint."""
        self.dynamics.atoms.set_positions(self.checkpoint.positions)
        self.dynamics.atoms.set_momenta(self.checkpoint.get_momenta())
        self.status = "running"


class Campaign:
    """The whole campaign.

    Args:
        directory: With `aimsPAX.yaml`, `mace.yaml` and `geometry.in`.
    """

    def __init__(self, directory: Path) -> None:
        project = yaml.safe_load((directory / "aimsPAX.yaml").read_text())
        model = yaml.safe_load((directory / "mace.yaml").read_text())
        self.initial, self.active = (
            project["INITIAL_DATASET_GENERATION"],
            project["ACTIVE_LEARNING"],
        )
        self.md = project["MD"]
        self.args = arguments(model)
        torch.set_default_dtype(getattr(torch, model["GENERAL"]["default_dtype"]))
        self.geometry: Any = ase.io.read(directory / "geometry.in")
        self.table = AtomicNumberTable(sorted({int(z) for z in self.geometry.numbers}))
        self.seeds = np.random.default_rng(model["GENERAL"]["seed"]).integers(
            0, 1000, self.initial["ensemble_size"]
        )
        teacher = torch.load(
            directory / project["REFERENCE"]["model_path"], map_location="cpu", weights_only=False
        )
        teacher.to(torch.get_default_dtype())
        self.teacher = Models(for_evaluation([teacher]), self.table, float(teacher.r_max))
        self.members: list[Member] = []
        self.ensemble: list[torch.nn.Module] = []
        self.uncertainties: list[float] = []
        self.points = {"training": 0, "validation": 0}
        self.labels = self.propagated = self.converge_epochs = 0

    def run(self) -> None:
        """Run all of it."""
        self.initial_dataset()
        self.explore()
        best = min(self.members, key=lambda member: member.errors["loss"])
        self.converge_epochs = best.converge(
            self.active["max_convergence_epochs"],
            self.active["convergence_patience"],
            self.active.get("margin", 0.002),
        )
        self.best = self.members.index(best)

    def dynamics(self, calculator: Models, *stream: int) -> Langevin:
        """Return ASE's integrator, with velocities of its own."""
        rng = np.random.default_rng([self.md["MD_seed"], *stream])
        atoms = self.geometry.copy()
        MaxwellBoltzmannDistribution(atoms, temperature_K=self.md["temperature"], rng=rng)
        Stationary(atoms, preserve_temperature=False)
        atoms.calc = calculator
        return Langevin(
            atoms,
            self.md["timestep"] * units.fs,
            temperature_K=self.md["temperature"],
            friction=self.md["friction"] / units.fs,
            rng=rng,
        )

    def label(self, atoms: Atoms) -> AtomicData:
        """Return the graph of a structure with the teacher's energy and forces."""
        labelled = Atoms(atoms.numbers, atoms.positions)
        self.teacher.calculate(labelled)
        labelled.info["REF_energy"] = self.teacher.results["energy"]
        labelled.arrays["REF_forces"] = self.teacher.results["forces"]
        self.labels += 1
        return graph(labelled, self.table, float(self.args.r_max))

    def initial_dataset(self) -> None:
        """Sample with the teacher, label, deal out, train; until there are enough points."""
        share, ratio = self.initial["n_points_per_sampling_step_idg"], self.initial["valid_ratio"]
        size = len(self.seeds)
        sampling = self.dynamics(self.teacher, 0)
        sets: list[tuple[list[AtomicData], list[AtomicData]]] = [([], []) for _ in self.seeds]
        shuffle = np.random.default_rng(int(self.seeds[0]))
        while self.labels < self.initial["max_initial_set_size"]:
            found = []
            for _ in range(share * size):
                sampling.run(self.initial["skip_step_initial"])
                found.append(sampling.atoms.copy())
            points = [self.label(atoms) for atoms in found]
            shuffle.shuffle(points)  # type: ignore[arg-type]
            for number, (train, valid) in enumerate(sets):
                own = points[number::size]
                wanted = max(1, math.floor(ratio * (len(train) + len(valid) + len(own)) + 1e-9))
                count = max(0, wanted - len(valid))
                valid += own[:count]
                train += own[count:]
            if self.members:
                for member in self.members:
                    member.renew_constants()
            else:
                self.members = [
                    Member(self.args, self.table, int(seed), *own)
                    for seed, own in zip(self.seeds, sets, strict=True)
                ]
            for member in self.members:
                for _ in range(self.initial["intermediate_epochs_idg"]):
                    member.train_epoch(scheduler=True)

    def renew_ensemble(self) -> None:
        """Give the averaged weights to the models that drive the trajectories."""
        if not self.ensemble:
            self.ensemble += for_evaluation([member.model for member in self.members])
        for model, member in zip(self.ensemble, self.members, strict=True):
            model.load_state_dict(member.averaged())
            model.requires_grad_(False)
            for own, theirs in zip(model.interactions, member.model.interactions, strict=True):  # type: ignore[arg-type, call-overload]
                own.avg_num_neighbors = theirs.avg_num_neighbors

    def explore(self) -> None:
        """Run the trajectories turn by turn until the training set is large enough."""
        self.renew_ensemble()
        trajectories = []
        for index in range(self.active["num_trajectories"]):
            calculator = Models(self.ensemble, self.table, float(self.args.r_max))
            dynamics = self.dynamics(calculator, 1, index)
            trajectories.append(Trajectory(dynamics, calculator, checkpoint=dynamics.atoms.copy()))
        while max(len(m.train) for m in self.members) < self.active["max_train_set_size"]:
            for trajectory in trajectories:
                {"running": self.advance, "waiting": self.serve, "training": self.train}[
                    trajectory.status
                ](trajectory)
        self.propagated = sum(t.calculator.evaluations for t in trajectories)

    def advance(self, trajectory: Trajectory) -> None:
        """Make MD steps, and look whether the ensemble is too unsure."""
        trajectory.dynamics.run(self.active["skip_step_mlff"])
        trajectory.steps += self.active["skip_step_mlff"]
        uncertainty = trajectory.calculator.uncertainty()
        if not math.isfinite(uncertainty):
            trajectory.roll_back()
            return
        self.uncertainties.append(uncertainty)
        if len(self.uncertainties) <= FEWEST:
            return
        threshold = np.mean(self.uncertainties[-WINDOW:]) * (1 + self.active["c_x"])
        if uncertainty > threshold:
            trajectory.status = "waiting"

    def serve(self, trajectory: Trajectory) -> None:
        """Label the structure that a trajectory waits with, and put it into a set."""
        atoms = trajectory.dynamics.atoms
        point = self.label(atoms)
        trajectory.checkpoint = atoms.copy()
        wanted = self.active["valid_ratio"] * (self.points["training"] + self.points["validation"])
        which = "validation" if self.points["validation"] < wanted else "training"
        self.points[which] += 1
        for member in self.members:
            (member.valid if which == "validation" else member.train).append(point)
        trajectory.status, trajectory.epochs = "running", 0
        if which == "training":
            trajectory.status = "training"
            for member in self.members:
                member.renew_constants()

    def train(self, trajectory: Trajectory) -> None:
        """Train every member some epochs; after the last, the trajectory runs on with them."""
        patience = self.active["epochs_per_worker"]
        for _ in range(self.active["intermediate_epochs_al"]):
            for member in self.members:
                member.active_epoch(patience)
            trajectory.epochs += 1
        if trajectory.epochs >= self.active["epochs_per_worker"]:
            trajectory.status = "running"
            self.renew_ensemble()
            trajectory.calculator.reset()

    def save(self, folder: Path) -> None:
        """Write the models, the best of them converged, and what was counted."""
        folder.mkdir(exist_ok=True)
        self.renew_ensemble()
        self.ensemble[self.best].load_state_dict(self.members[self.best].model.state_dict())
        for index, model in enumerate(self.ensemble):
            torch.save(model, folder / f"member-{index}.model")
        figures = {
            "labels": self.labels,
            "structures": self.propagated,
            "training_set": max(len(member.train) for member in self.members),
            "member_epochs": sum(member.epochs for member in self.members) - self.converge_epochs,
            "converge_epochs": self.converge_epochs,
            "converged": f"member-{self.best}.model",
        }
        (folder / "figures.json").write_text(json.dumps(figures))


def main() -> None:
    """Run the campaign of a run directory."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    directory = Path(sys.argv[1])
    began = time.perf_counter()
    campaign = Campaign(directory)
    campaign.run()
    campaign.save(directory / "plain")
    print(f"{time.perf_counter() - began:.1f} s without imports")


if __name__ == "__main__":
    main()
