"""What active learning gains: structures chosen by uncertainty, and by chance.

Run as a script: `python tests/benchmarks/bench_selection.py [--quick] [--seeds 3] [--folder DIR]
[--figure FILE.png]`.

Campaigns of `examples/aspirin`, by the command, with a Prefect server of their own. Each seed has
two, which begin with the same initial dataset, networks and velocities, and explore until a
training set has the same size (labels may differ by the few that were under way then):

- uncertainty: as the example is.
- random: `selection: random`, the control. Its `random_share` is the share of the checks, once
  there was a threshold, that were above it in the other campaign of the seed.

Errors are those on the example's held-out set (100 frames of GFN2-xTB trajectories):

- explored: mean of the members as exploring ended, by the last round that was assessed.
- converged: of the model that is delivered; meV/Å, and meV/atom for the energy.

`gain` is how much lower the error of the uncertainty's campaign is than that of its twin; it is
given with the 95 % confidence interval of its mean over the seeds (Student's t), and no gain is
told where that holds 0.

Campaigns that are finished in `--folder` are not run again: delete the folder to measure anew. One
that was interrupted goes on, and its times, marked *, are those of its last part: means leave them
out. One that was begun otherwise, as of another size, is refused. `--figure` draws the held-out
errors against labels. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench_serial import BIN, measured
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from scipy.stats import t as student

from aimspax_core.campaign.events import SegmentFinished
from aimspax_core.campaign.journal import entries
from aimspax_core.report.curves import Points, curves
from aimspax_core.report.looks import BLUE, VERMILION, frame
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load

EXAMPLE = Path(__file__).parents[2] / "examples" / "aspirin"
WAYS = {"uncertainty": BLUE, "random": VERMILION}

QUICK: dict[str, object] = {
    "ACTIVE_LEARNING.max_train_set_size": 30,
    "ACTIVE_LEARNING.max_convergence_epochs": 20,
}
"""A smaller campaign, for `make bench`."""


@dataclass(frozen=True)
class Outcome:
    """What a campaign came to.

    Attributes:
        labels: How many it had.
        share: Of the checks, those at which a structure was taken.
        curve: Held-out force MAE (meV/Å), mean of the members, by labels.
        forces: Held-out force MAE (meV/Å) of the converged model.
        energy: Its held-out energy MAE (meV/atom).
        wall_s: From the command's start to its end.
        cpu_s: User and system time of all processes.
        resumed: Both times are those of its last part only.
    """

    labels: int
    share: float
    curve: Points
    forces: float
    energy: float
    wall_s: float
    cpu_s: float
    resumed: bool

    @property
    def explored(self) -> float:
        """Held-out force MAE (meV/Å) as exploring ended."""
        return self.curve[-1][1]


def changes(way: str, seed: int, share: float | None) -> dict[str, object]:
    """Return what a campaign has other than the example, whose own seeds are those of seed 0."""
    changed: dict[str, object] = {
        "GENERAL.seed": 100 + seed,
        "MD.MD_seed": 42 + seed,
        "ACTIVE_LEARNING.selection": way,
    }
    return changed if share is None else changed | {"ACTIVE_LEARNING.random_share": share}


def example(directory: Path) -> None:
    """Make a run directory of the example."""
    shutil.copytree(EXAMPLE, directory)


def campaign(
    directory: Path, changed: dict[str, object], inputs: Callable[[Path], None] = example
) -> Outcome:
    """Run a campaign to its end, unless it has been, and return what it came to.

    Args:
        directory: The run directory.
        changed: What it has other than its files, for `--set`.
        inputs: Makes the directory with these files.
    """
    told = timed(directory, changed, inputs)
    return outcome(directory, told["wall_s"], told["cpu_s"], told["resumed"])


def timed(
    directory: Path, changed: dict[str, object], inputs: Callable[[Path], None] = example
) -> dict[str, Any]:
    """Run a campaign to its end, unless it has been, and return what `measured` said of it."""
    note = directory.parent / f"{directory.name}.json"
    told = json.loads(note.read_text()) if note.exists() else {}
    resumed = directory.exists()
    if (resumed or told) and told.get("changed") != changed:
        raise SystemExit(
            f"{directory} was begun with {told.get('changed', 'changes that are not noted')}, not "
            f"with {changed}: give another --folder, or delete the campaign and {note.name}"
        )
    if "wall_s" not in told:
        note.write_text(json.dumps({"changed": changed}))
        if not resumed:
            inputs(directory)
        aimspax, home = str(BIN / "aimspax"), {"PREFECT_HOME": str(directory.parent / "prefect")}
        without = ["env", *(p for n in os.environ if n.startswith("PREFECT_") for p in ("-u", n))]
        without += [f"{name}={value}" for name, value in home.items()]
        sets = [part for key, value in changed.items() for part in ("--set", f"{key}={value}")]
        found = measured(
            [*without, aimspax, "run", str(directory), *sets],
            2,
            {},
            directory.parent / f"{directory.name}.log",
            afterwards=[*without, aimspax, "server", "stop"],
        )
        told = {"changed": changed, "resumed": resumed, **found}
        note.write_text(json.dumps(told))
    return told


def outcome(directory: Path, wall_s: float, cpu_s: float, resumed: bool) -> Outcome:
    """Read the journal of a finished campaign."""
    run = RunDir.of(load(directory))
    above = checks = 0
    for entry in entries(run.journal):
        if isinstance(entry.event, SegmentFinished):
            pairs = zip(entry.event.uncertainties, entry.event.thresholds, strict=True)
            held = [(spread, limit) for spread, limit in pairs if limit is not None]
            checks += len(held)
            above += sum(spread > limit for spread, limit in held)
    found = curves(entries(run.journal))
    assert found.state is not None
    best = next(m for m in found.state.members.values() if m.converge_epochs)
    assert best.assessed is not None and best.assessed_at == best.converging
    return Outcome(
        labels=found.state.labels,
        share=above / checks if checks else math.nan,
        curve=found.held_out,
        forces=1000 * best.assessed.mae_f,
        energy=1000 * best.assessed.mae_e_per_atom,
        wall_s=wall_s,
        cpu_s=cpu_s,
        resumed=resumed,
    )


def twins(folder: Path, seed: int, size: dict[str, object]) -> Iterator[tuple[str, Outcome]]:
    """Run both campaigns of a seed."""
    share = None
    for way in WAYS:
        found = campaign(folder / f"{way}-{seed}", size | changes(way, seed, share))
        share = round(found.share, 3)
        yield way, found


COLUMNS: dict[str, Callable[[Outcome], float]] = {
    "labels": lambda one: one.labels,
    "explored": lambda one: one.explored,
    "converged": lambda one: one.forces,
    "energy": lambda one: one.energy,
    "wall s": lambda one: one.wall_s,
    "CPU s": lambda one: one.cpu_s,
}
TIMES = ("wall s", "CPU s")


def row(name: str, share: str, values: Sequence[str], width: int = 14) -> str:
    """Return a line of a table, with so wide columns."""
    return f"{name:<24}{share:>6}" + "".join(f"{value:>{width}}" for value in values)


def values_text(one: Outcome) -> list[str]:
    """Return its values for the table."""
    return [
        f"{value(one):.1f}{'*' if one.resumed and name in TIMES else ''}"
        for name, value in COLUMNS.items()
    ]


def spread_text(values: Sequence[float]) -> str:
    """Return mean and standard deviation."""
    if not values:
        return "–"
    sd = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{sd}"


def gain_text(pairs: Sequence[tuple[float, float]]) -> str:
    """Return how much lower the first errors are than the second, and whether that says anything.

    Half the width of the interval is t(0.975, n - 1) standard errors of the mean over n seeds
    (Student, 1908): 4.3 of three, 2 of very many.

    Args:
        pairs: Errors by uncertainty and by chance, of each seed.
    """
    gains = [100 * (1 - one / other) for one, other in pairs]
    mean = statistics.mean(gains)
    if len(gains) < 2:
        return f"{mean:+.0f} %, of one seed: that says nothing"
    error = statistics.stdev(gains) / len(gains) ** 0.5
    half = float(student.ppf(0.975, len(gains) - 1)) * error
    says = "" if abs(mean) > half else ": nothing that these seeds can tell"
    return f"{mean:+.0f} ± {half:.0f} % (95 % confidence){says}"


def show(found: dict[str, list[Outcome]]) -> None:
    """Print what all campaigns came to, means with standard deviations, and the gains."""
    seeds = len(found["random"])
    for way, some in found.items():
        print(row(f"{way}, {seeds} seeds", "", [
            spread_text([value(one) for one in some if not (one.resumed and name in TIMES)])
            for name, value in COLUMNS.items()
        ]))  # fmt: skip
    for name in ("explored", "converged", "energy"):
        value = COLUMNS[name]
        pairs = [(value(a), value(b)) for a, b in zip(*found.values(), strict=True)]
        print(f"gain, {name}: {gain_text(pairs)}")


def draw(found: dict[str, list[Outcome]], path: Path) -> None:
    """Draw held-out errors against labels: each campaign, means over the seeds, what converged."""
    figure = Figure(figsize=(7.2, 4.0), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for way, some in found.items():
        color, name = WAYS[way], {"uncertainty": "chosen by uncertainty"}.get(way, "by chance")
        for one in some:
            axes.plot(*zip(*one.curve, strict=True), color=color, linewidth=0.8, alpha=0.35)
        axes.plot(*mean_curve([one.curve for one in some]), color=color, linewidth=2.4, label=name)
        ends = [(one.labels, one.forces) for one in some]
        mean = statistics.mean(error for _, error in ends)
        axes.plot(
            *zip(*ends, strict=True), linestyle="none", marker="*", markersize=12, color=color,
            markeredgecolor="white", label=f"… converged ({mean:.0f} on average)",
        )  # fmt: skip
    of_errors(axes)
    axes.legend(fontsize=9.5, frameon=False)
    figure.savefig(path, metadata={"Software": None})


def of_errors(axes: Axes) -> None:
    """Make axes, on which all is drawn, those of held-out errors against labels."""
    frame(axes, "labels", "held-out force MAE (meV/Å)")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlim(left=0)


def mean_curve(some: Sequence[Points]) -> tuple[list[int], list[float]]:
    """Return the geometric mean of curves, where all of them are."""
    first = max(curve[0][0] for curve in some)
    last = min(curve[-1][0] for curve in some)
    labels = list(range(first, last + 1))
    logs = [np.interp(labels, [n for n, _ in c], np.log([e for _, e in c])) for c in some]
    return labels, np.exp(np.mean(logs, axis=0)).tolist()


@contextlib.contextmanager
def folder_of_runs(given: Path | None) -> Iterator[Path]:
    """Yield the folder that was given, or a temporary one; SIGTERM ends what runs in it as Ctrl-C.

    Args:
        given: By the command line.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server is stopped then, too
    with contextlib.ExitStack() as stack:
        if given is None:
            given = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aimspax-bench-")))
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()


def main() -> None:
    """Run the campaigns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="smaller campaigns")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed; 0: the example's")
    parser.add_argument("--folder", type=Path, help="of the runs; not given: a temporary one")
    parser.add_argument("--figure", type=Path, help="a PNG to draw")
    options = parser.parse_args()
    found: dict[str, list[Outcome]] = {way: [] for way in WAYS}
    with folder_of_runs(options.folder) as folder:
        print(row("", "share", list(COLUMNS)))
        for seed in range(options.first, options.first + options.seeds):
            for way, one in twins(folder, seed, QUICK if options.quick else {}):
                found[way].append(one)
                print(row(f"{way}, seed {seed}", f"{one.share:.2f}", values_text(one)), flush=True)
        show(found)
        if options.figure:
            draw(found, options.figure)


if __name__ == "__main__":
    main()
