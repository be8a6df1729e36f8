"""What a trained model saves: campaigns from SO3LR, fine-tuned, and from nothing.

Run as a script: `python tests/benchmarks/bench_finetuning.py [--quick] [--seeds 3] [--folder DIR]
[--ways naive …] [--molecules aspirin …] [--figure FILE.png]`. It needs `aimspax[so3lr]`.

Campaigns by the command of two molecules at 500 K, labelled by GFN2-xTB: aspirin, and cysteine,
which is floppy and has N and S. All ways of a seed begin with the same structures, sampled by
GFN1-xTB, and explore until a training set has the same size. They differ in `mace.yaml` alone:

- nothing: the MACE of `examples/aspirin`, from random weights.
- so3lr-nothing: the network of SO3LR, from random weights.
- naive: SO3LR, all weights of which are trained on.
- lora: SO3LR, whose weights stay, beside what is trained.

The initial dataset grows in small steps, so that there are errors of few labels, too. These are
of 100 frames of GFN2-xTB trajectories: of aspirin those of the example, of cysteine made as these
and kept in the cache folder; mean of the members as they explore (`explored`: at the end), and of
the model that is delivered (`converged`; meV/Å, and meV/atom for the energy).

- labels to an error: where the curve is first there, interpolated in the logarithm of the error.
  SO3LR as it comes stands at 0 labels. Where some seeds do not get there, it says how many do.
- fewer labels: for the error at which the campaign from nothing of the same seed has ended to
  explore, with the 95 % confidence interval of its mean over the seeds (Student's t).

Campaigns in `--folder` are kept, go on and are refused as those of `bench_selection.py`. Nothing is
asserted.
"""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ase.io
import numpy as np
import yaml
from bench_selection import (
    COLUMNS,
    EXAMPLE,
    Outcome,
    campaign,
    folder_of_runs,
    gain_text,
    mean_curve,
    of_errors,
    row,
    spread_text,
    values_text,
)
from bench_serial import CACHE, HERE
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aimspax_core.report.curves import Points
from aimspax_core.report.looks import BLUE, GREEN, GREY, VERMILION

MOLECULES = {"aspirin": EXAMPLE / "geometry.in", "cysteine": HERE / "cysteine.xyz"}

NOTHING = "nothing"

SO3LR: dict[str, object] = {
    "GENERAL.model_choice": "so3lr",
    "TRAINING.batch_size": 3,
    "TRAINING.valid_batch_size": 10,
    "TRAINING.scheduler": "ExponentialLR",
    "TRAINING.lr_scheduler_gamma": 0.96,
}
"""As the example's MACE has it."""

TUNED: dict[str, object] = SO3LR | {
    "TRAINING.perform_finetuning": True,
    "TRAINING.pretrained_model": "so3lr",
}


@dataclass(frozen=True)
class Way:
    """What a campaign begins from.

    Attributes:
        said: In the figure.
        color: There.
        model: What the settings of its models have, for `--set`; None: `mace.yaml` of the example.
    """

    said: str
    color: str
    model: dict[str, object] | None = None

    @property
    def tunes(self) -> bool:
        """Whether it begins from SO3LR as it comes."""
        return bool((self.model or {}).get("TRAINING.perform_finetuning"))


WAYS = {
    NOTHING: Way("MACE from nothing", GREY),
    "so3lr-nothing": Way(
        "SO3LR's network from nothing",
        VERMILION,
        SO3LR | {"ARCHITECTURE.r_max_lr": 12, "TRAINING.lr": 0.003},
    ),
    "naive": Way("SO3LR, all weights trained", BLUE, TUNED),
    "lora": Way(
        "SO3LR with LoRA",
        GREEN,
        TUNED | {"TRAINING.finetuning_choice": "lora"},
    ),
}

SIZE: dict[str, object] = {
    "INITIAL_DATASET_GENERATION.initial_sampling": "engine",
    "INITIAL_DATASET_GENERATION.sampling_engine": {"engine": "tblite", "method": "GFN1-xTB"},
    "INITIAL_DATASET_GENERATION.ensemble_size": 2,
    "INITIAL_DATASET_GENERATION.n_points_per_sampling_step_idg": 4,
    "INITIAL_DATASET_GENERATION.intermediate_epochs_idg": 10,
    "INITIAL_DATASET_GENERATION.max_initial_epochs": 40,
    "ACTIVE_LEARNING.ensemble_size": 2,
    "ACTIVE_LEARNING.num_trajectories": 4,
    "ACTIVE_LEARNING.max_train_set_size": 28,
    "ACTIVE_LEARNING.max_convergence_epochs": 20,
}
QUICK: dict[str, object] = SIZE | {
    "INITIAL_DATASET_GENERATION.max_initial_epochs": 20,
    "ACTIVE_LEARNING.max_train_set_size": 10,
    "ACTIVE_LEARNING.max_convergence_epochs": 5,
}
"""A smaller campaign, for `make bench`."""

ERRORS = (200, 150, 100, 75, 50)
"""To which labels are counted (meV/Å)."""


def held_out(molecule: str) -> Path:
    """Return a held-out set; made once, in some minutes."""
    if molecule == "aspirin":
        return EXAMPLE / "held_out.xyz"
    path = CACHE / f"held-out-{molecule}.xyz"
    if not path.exists():
        print(f"making {path} ...", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.xyz")
        script = [sys.executable, str(EXAMPLE / "held_out.py"), str(part)]
        subprocess.run([*script, "--geometry", str(MOLECULES[molecule])], check=True)
        part.replace(path)
    return path


def inputs(molecule: str, way: Way, directory: Path) -> None:
    """Make a run directory of a molecule."""
    directory.mkdir(parents=True)
    shutil.copy(EXAMPLE / "aimsPAX.yaml", directory)
    shutil.copy(held_out(molecule), directory / "held_out.xyz")
    ase.io.write(directory / "geometry.in", ase.io.read(MOLECULES[molecule]), format="aims")
    if way.model is None:
        shutil.copy(EXAMPLE / "mace.yaml", directory)
    else:
        general = {"name_exp": molecule, "default_dtype": "float32"}
        (directory / "mace.yaml").write_text(yaml.safe_dump({"GENERAL": general}))


def untuned(frames: Path) -> tuple[float, float]:
    """Return the errors of SO3LR as it comes on a held-out set.

    Returns:
        Force MAE (meV/Å), and energy MAE (meV/atom) when the mean difference is taken off, for
        the energies of free atoms are of another method.
    """
    from aimspax_core.model.family import load_foundation  # takes torch

    structures = ase.io.read(frames, ":")
    found = load_foundation("so3lr").driver.evaluate(structures)
    forces = [
        one.forces - atoms.arrays["REF_forces"]
        for one, atoms in zip(found, structures, strict=True)
    ]
    energies = np.array([
        (one.energy - atoms.info["REF_energy"]) / len(atoms)
        for one, atoms in zip(found, structures, strict=True)
    ])  # fmt: skip
    energy = np.abs(energies - energies.mean()).mean()
    return 1000 * float(np.abs(np.concatenate(forces)).mean()), 1000 * float(energy)


def labels_to(curve: Points, error: float) -> float:
    """Return how many labels an error took; NaN if it was not reached.

    Args:
        curve: Errors by labels.
        error: In the same unit.
    """
    before: tuple[int, float] | None = None
    for labels, found in curve:
        if found <= error:
            if before is None:
                return labels
            share = math.log(before[1] / error) / math.log(before[1] / found)
            return before[0] + share * (labels - before[0])
        before = labels, found
    return math.nan


def labels_text(some: Sequence[float]) -> str:
    """Return mean and standard deviation, and how many seeds got there if not all did."""
    reached = [one for one in some if math.isfinite(one)]
    if not reached:
        return "not reached"
    missed = "" if len(reached) == len(some) else f" ({len(reached)} of {len(some)})"
    return spread_text(reached) + missed


def fewer_text(some: Sequence[Outcome], curves: Sequence[Points], nothing: list[Outcome]) -> str:
    """Return how many fewer labels a way takes than its twins from nothing, for their last error.

    Args:
        some: Of the way.
        curves: Its held-out errors by labels.
        nothing: From nothing, of the same seeds.
    """
    pairs = [
        (labels_to(curve, twin.explored), twin.curve[-1][0])
        for curve, twin in zip(curves, nothing, strict=True)
    ]
    pairs = [pair for pair in pairs if math.isfinite(pair[0])]
    missed = (
        f", {len(some) - len(pairs)} of {len(some)} not there" if len(pairs) < len(some) else ""
    )
    return (gain_text(pairs) if pairs else "none is there") + (missed if pairs else "")


def show(molecule: str, found: dict[str, list[Outcome]], as_it_comes: float) -> None:
    """Print labels to each error, means over the seeds, and how many fewer labels it takes."""
    print(f"\n{molecule}: means over the seeds")
    for way, some in found.items():
        print(row(way, "", [
            spread_text([value(one) for one in some if not (one.resumed and " s" in name)])
            for name, value in COLUMNS.items()
        ]))  # fmt: skip
    print(f"\n{molecule}: labels to a held-out force MAE (meV/Å)")
    print(row("", "", [str(error) for error in ERRORS], width=20))
    of_way = {way: list(curves(WAYS[way], some, as_it_comes)) for way, some in found.items()}
    for way, some in of_way.items():
        texts = [labels_text([labels_to(curve, error) for curve in some]) for error in ERRORS]
        print(row(way, "", texts, width=20))
    for way, some in found.items():
        if way != NOTHING and NOTHING in found:
            print(f"fewer labels, {way}: {fewer_text(some, of_way[way], found[NOTHING])}")


def curves(way: Way, some: Sequence[Outcome], as_it_comes: float) -> Iterator[Points]:
    """Yield held-out errors by labels, those of SO3LR as it comes before."""
    for one in some:
        yield [(0, as_it_comes), *one.curve] if way.tunes else one.curve


def draw(found: dict[str, dict[str, list[Outcome]]], plain: dict[str, float], path: Path) -> None:
    """Draw held-out errors against labels, for each molecule: all campaigns, and their means."""
    figure = Figure(figsize=(4.6 * len(found), 4.0), dpi=150, facecolor="white")
    figure.set_layout_engine("constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(found), squeeze=False, sharey=True)[0]
    for axes, (molecule, ways) in zip(panels, found.items(), strict=True):
        axes.set_title(f"{molecule}, 500 K, GFN2-xTB", size=10.5)
        for name, some in ways.items():
            way = WAYS[name]
            lines = list(curves(way, some, plain[molecule]))
            for line in lines:
                axes.plot(*zip(*line, strict=True), color=way.color, linewidth=0.8, alpha=0.35)
            axes.plot(*mean_curve(lines), color=way.color, linewidth=2.4, label=way.said)
            ends = [(one.labels, one.forces) for one in some]
            axes.plot(
                *zip(*ends, strict=True), linestyle="none", marker="*", markersize=10,
                color=way.color, markeredgecolor="white",
            )  # fmt: skip
        of_errors(axes)
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    """Run the campaigns and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="smaller campaigns")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--molecules", nargs="+", choices=MOLECULES, default=list(MOLECULES))
    parser.add_argument("--folder", type=Path, help="of the runs; not given: a temporary one")
    parser.add_argument("--figure", type=Path, help="a PNG to draw")
    options = parser.parse_args()
    found: dict[str, dict[str, list[Outcome]]] = {}
    plain: dict[str, float] = {}
    with folder_of_runs(options.folder) as folder:
        for molecule in options.molecules:
            plain[molecule], energy = untuned(held_out(molecule))
            print(
                f"{molecule}: SO3LR as it comes {plain[molecule]:.1f} meV/Å, {energy:.2f} meV/atom"
            )
        print(row("", "share", list(COLUMNS)))
        for seed in range(options.seeds):  # so that a part of the seeds is of all ways
            for molecule in options.molecules:
                for name in options.ways:
                    way = WAYS[name]
                    one = campaign(
                        folder / f"{molecule}-{name}-{seed}",
                        changes(way, seed, QUICK if options.quick else SIZE),
                        partial(inputs, molecule, way),
                    )
                    found.setdefault(molecule, {}).setdefault(name, []).append(one)
                    title = f"{molecule} {name} {seed}"
                    print(row(title, f"{one.share:.2f}", values_text(one)), flush=True)
        for molecule, ways in found.items():
            show(molecule, ways, plain[molecule])
        if options.figure:
            draw(found, plain, options.figure)


def changes(way: Way, seed: int, size: dict[str, object]) -> dict[str, object]:
    """Return what a campaign has other than its files."""
    seeds = {"GENERAL.seed": 100 + seed, "MD.MD_seed": 42 + seed}
    return size | seeds | (way.model or {})


if __name__ == "__main__":
    main()
