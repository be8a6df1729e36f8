"""What rounds and the MD beside them buy: real learning on a virtual clock.

Run as a script: `python tests/benchmarks/bench_rounds.py [--seeds 1 2 3] [--points 40]
[--set round_points_counted=1 md_steps_while_training=25 ...]`. By itself it plays the defaults for
one seed, in a minute or two; three seeds and more points say something about errors.

The rules and the tasks of a campaign are the real ones; they run one after another in this process,
and what they cost is a virtual clock's: so many seconds an epoch and structure, an MD step of a
batch, a label, and around every task (`Costs`: two workers and the lean network, aspirin). So the
figures do not hang on what else the machine does, and campaigns differ only by their settings.

Active learning of ethanol (GFN2-xTB labels, GFN1-xTB samples, two members of 8 channels), until the
training set has `--points`. Each of the settings of `--set` is one campaign for each seed, beside
the one of the defaults. `held out` is the force MAE of the mean of all members, before any
convergence, on frames of a GFN2-xTB trajectory of its own. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: small models

import ase.io
import numpy as np
import yaml
from ase import Atoms, units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

sys.path.insert(0, str(Path(__file__).parents[2]))

from aimspax_core.campaign.actions import Action, Label, Propagate, Sample, Train
from aimspax_core.campaign.events import Event, ExplorationAsked, LabelArrived, SegmentFinished
from aimspax_core.campaign.exploration import segment_budget_s
from aimspax_core.campaign.state import Phase
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.model.worker_memory import worker_memory
from aimspax_core.reference.registry import build_reference
from aimspax_core.reference.tblite.section import TbliteReference
from flows.loops.task_requests import TaskRequests
from tasks.label import label
from tasks.propagate import propagate
from tasks.sample import sample
from tasks.train import train
from tests.campaign.virtual import VirtualShell, World

MD = {"stat_ensemble": "NVT", "temperature": 500, "timestep": 0.5, "friction": 0.01}
HELD_OUT, SPACING = 60, 40


@dataclass(frozen=True)
class Costs:
    """What tasks cost on the virtual clock (s)."""

    epoch: float = 0.006  # a structure
    step: float = 0.006  # of a batch
    structure: float = 0.0045  # and each of its structures
    label: float = 0.3
    around: float = 0.2


COSTS = Costs()


@dataclass
class RealTasks(VirtualShell):
    """Runs the real tasks when they begin; they end when the virtual clock says so."""

    inputs: Inputs | None = None
    structures: int = 0
    evaluations: int = 0
    epochs: int = 0
    _ended: dict[str, Event] = field(default_factory=dict)

    def _seconds(self, action: Action) -> float:
        assert self.inputs is not None
        asked = TaskRequests(self.inputs)
        seconds, event = self._done(action, asked)
        self._ended[action.id] = event
        return seconds

    def _outcome(self, action: Action) -> Event:
        return self._ended.pop(action.id)

    def _done(self, action: Action, asked: TaskRequests) -> tuple[float, Event]:
        state = self.state
        match action:
            case Label():
                record = label.fn(asked.label(action, state))
                return COSTS.label, LabelArrived(key=record.key, wall_s=COSTS.label)
            case Sample():
                event = sample.fn(replace(asked.sample(action, state), time_budget_s=math.inf))
                return 0.1 * action.points, event
            case Train():
                request = replace(asked.train(action, state), time_budget_s=1e9)
                trained = train.fn(request)
                size = len(state.dataset(action.tag)[0])
                seconds = COSTS.epoch * size * trained.epochs
                self.epochs += trained.epochs
                return seconds, trained.but(task_seconds=seconds)
            case Propagate():
                return self._segment_of(action, asked)
        raise AssertionError(action)

    def _segment_of(self, action: Propagate, asked: TaskRequests) -> tuple[float, Event]:
        request = asked.segment(action, self.state)
        step_s = COSTS.step + COSTS.structure * len(action.trajectories)
        enough = max(1.0, segment_budget_s(self.state) / step_s)
        most = tuple(min(enough, steps) for steps in request.most_steps)
        event: SegmentFinished = propagate.fn(
            replace(request, time_budget_s=math.inf, most_steps=most)
        )
        if self.state.phase is Phase.ACTIVE:
            self.structures += event.structures
            self.evaluations += event.evaluations
        return COSTS.step * event.evaluations + COSTS.structure * event.structures, event


def campaign(folder: Path, seed: int, points: int, changes: dict[str, Any]) -> RealTasks:
    """Play a campaign until exploring is over."""
    folder.mkdir(parents=True)
    active = {
        "num_trajectories": 4, "ensemble_size": 2, "c_x": -0.1, "skip_step_mlff": 10,
        "epochs_per_worker": 2, "max_train_set_size": points, "converge_al": False,
    }  # fmt: skip
    initial = {
        "initial_sampling": "engine", "sampling_engine": {"engine": "tblite", "method": "GFN1-xTB"},
        "n_points_per_sampling_step_idg": 5, "skip_step_initial": 20, "ensemble_size": 2,
        "max_initial_set_size": 20,
    }  # fmt: skip
    project = {
        "REFERENCE": {"engine": "tblite", "method": "GFN2-xTB"},
        "INITIAL_DATASET_GENERATION": initial,
        "ACTIVE_LEARNING": active | changes,
        "MD": MD | {"MD_seed": seed},
        "CLUSTER": {"type": "local", "max_workers": 2, "ml": {"max_workers": 2}},
        "MISC": {"path_to_geometry": "ethanol.xyz"},
    }
    model = {
        "GENERAL": {"name_exp": "ethanol", "seed": seed},
        "ARCHITECTURE": {
            "r_max": 4.0, "num_channels": 8, "max_L": 0, "max_ell": 2, "correlation": 2,
            "radial_MLP": [16, 16],
        },
        "TRAINING": {"batch_size": 5, "valid_batch_size": 5, "lr": 0.01},
    }  # fmt: skip
    (folder / "aimsPAX.yaml").write_text(yaml.safe_dump(project), encoding="utf-8")
    (folder / "mace.yaml").write_text(yaml.safe_dump(model), encoding="utf-8")
    ase.io.write(folder / "ethanol.xyz", molecule("CH3CH2OH"))
    inputs = Inputs.read(folder)
    world = World(reference_slots=2, ml_slots=2, steady=True, around_s=COSTS.around)
    shell = RealTasks(inputs.rules, world, np.random.default_rng(seed), inputs=inputs)
    while shell.state.phase in (Phase.INITIAL, Phase.ACTIVE, Phase.DRAIN):
        shell.advance()
        if shell.state.phase is Phase.INITIAL_PUBLISH:
            shell.state = shell.state.but(phase=Phase.READY)
            shell.tell(ExplorationAsked())
    return shell


def held_out() -> list[Atoms]:
    """Return frames of a trajectory of the reference, with its forces."""
    atoms = molecule("CH3CH2OH")
    rng = np.random.default_rng(99)
    reference = TbliteReference(engine="tblite", method="GFN2-xTB")
    atoms.calc = build_reference(reference, Path()).calculator()
    MaxwellBoltzmannDistribution(atoms, temperature_K=500, rng=rng)
    dynamics = Langevin(atoms, 0.5 * units.fs, temperature_K=500, friction=0.02 / units.fs, rng=rng)
    found = []
    for _ in range(HELD_OUT):
        dynamics.run(SPACING)
        frame = Atoms(atoms.numbers, atoms.positions)
        frame.arrays["forces"] = atoms.get_forces()
        found.append(frame)
    return found


def error(shell: RealTasks, frames: Sequence[Atoms]) -> float:
    """Return the force MAE of the members' mean (meV/Å)."""
    inputs = shell.inputs
    assert inputs is not None
    names = zip(shell.state.members, shell.state.ensemble, strict=True)
    files = tuple(inputs.run.checkpoint(tag, name) for tag, name in names)
    committee = worker_memory().ensemble(inputs.settings.model, inputs.elements).committee(files)
    structures = [Atoms(frame.numbers, frame.positions) for frame in frames]
    predictions = committee.evaluate(structures)
    misses = [p.forces - f.arrays["forces"] for p, f in zip(predictions, frames, strict=True)]
    return 1000 * float(np.abs(np.concatenate(misses)).mean())


def main() -> None:
    """Play the campaigns and print what each cost and gave."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--points", type=int, default=16)
    parser.add_argument("--set", nargs="*", default=[], help="key=value of ACTIVE_LEARNING")
    options = parser.parse_args()
    frames = held_out()
    title = ("settings", "seed", "labels", "epochs", "rounds", "propagated", "batch", "clock s")
    print(f"{title[0]:<32}" + "".join(f"{t:>12}" for t in (*title[1:], "held out")))
    for given in ["", *options.set]:
        key, _, value = given.partition("=")
        changes = {key: yaml.safe_load(value)} if key else {}
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                shell = campaign(Path(folder) / "run", seed, options.points, changes)
                mean = shell.structures / max(1, shell.evaluations)
                row = (
                    seed, shell.state.labels, shell.epochs, shell.state.rounds, shell.structures,
                    f"{mean:.2f}", f"{shell.clock:.0f}", f"{error(shell, frames):.1f}",
                )  # fmt: skip
                worker_memory().clear()
            print(f"{given or 'defaults':<32}" + "".join(f"{c:>12}" for c in row), flush=True)


if __name__ == "__main__":
    main()
