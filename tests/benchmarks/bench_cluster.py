"""How busy Slurm jobs are kept: labels of a settable time, on a real Slurm of this machine.

Run as a script: `python tests/benchmarks/bench_cluster.py --slots 4 --seconds 10 --labels 60`;
`--run DIRECTORY` reads a campaign that is there.

The reference is the stand-in of FHI-aims, which sleeps; so two cores can have any number of slots.
Trajectories are twice the slots.

Definitions, all of active learning:
- busy share: sum of the labels' `wall_s` / (slots × time from the first label's begin to the last
  one's end). A label's end is when its worker had it stored. Jobs that are not there yet count.
- label to loop: from a label's end on its worker to its event in the journal.
- label to training: from there to the launch of the round of training that has it.
- labels a minute; ideal: slots / median `wall_s`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from aimspax_core.campaign.actions import Train
from aimspax_core.campaign.events import LabelArrived, Launched
from aimspax_core.campaign.journal import entries
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.labels.store import LabelStore
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from tests.slurm.campaigns import Campaign, Jobs, site
from tests.slurm.machine import NotPossible, running

EXPLORING = (Phase.ACTIVE, Phase.DRAIN)


@dataclass
class Times:
    """Of each label of active learning, by key; seconds, of the clock."""

    arrived: dict[str, float] = field(default_factory=dict)
    trained: dict[str, float] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)


def times(run: RunDir) -> Times:
    """Read when labels were computed, came, and were trained on."""
    found, store = Times(), LabelStore(run.labels)
    state: CampaignState | None = None
    for entry in entries(run.journal):
        event, before = entry.event, state
        state = apply(before, event)
        exploring = before is not None and before.phase in EXPLORING
        if isinstance(event, LabelArrived) and exploring:
            stored = store.get(event.key)
            assert stored is not None
            found.arrived[event.key] = entry.time
            found.ended[event.key] = stored.label.provenance["finished"]
            found.begun[event.key] = found.ended[event.key] - event.wall_s
        if isinstance(event, Launched) and isinstance(event.action, Train) and state.round:
            for key in state.round.points:
                if key in found.arrived:
                    found.trained.setdefault(key, entry.time)
    return found


def show(found: Times, slots: int) -> None:
    """Print the figures."""
    took = np.array([found.ended[key] - found.begun[key] for key in found.ended])
    span = max(found.ended.values()) - min(found.begun.values())
    rate, ideal = 60 * len(took) / span, 60 * slots / statistics.median(took)
    print(f"{len(took)} labels on {slots} slots; median {np.median(took):.2f} s, span {span:.0f} s")
    print(f"{'busy share of the slots':<44}{took.sum() / slots / span:>10.1%}")
    print(f"{'labels a minute':<44}{rate:>10.1f}")
    print(f"{'of the ideal':<44}{rate / ideal:>10.1%}")
    to_loop = [found.arrived[key] - found.ended[key] for key in found.arrived]
    to_training = [found.trained[key] - found.ended[key] for key in found.trained]
    for name, waits in (("label to loop", to_loop), ("label to training", to_training)):
        print(f"{name + ', median (s)':<44}{statistics.median(waits):>10.2f}")
        print(f"{name + ', 95 % within (s)':<44}{np.percentile(waits, 95):>10.2f}")


def campaign(slots: int, seconds: float, labels: int, folder: Path) -> RunDir:
    """Run a campaign on a Slurm of its own."""
    os.environ["SLURM_TEST_CPUS"] = str(max(4, slots))
    with running(folder / "slurm") as slurm, site(slurm) as place:
        made = Campaign(place, folder / "bench", {"AIMS_STAND_IN_SLEEP": f"{seconds:g}"})
        jobs = Jobs(blocks=slots, time="02:00:00")
        made.write(jobs, trajectories=2 * slots, most=labels, points=3)
        project = made.directory / "aimsPAX.yaml"
        text = project.read_text().replace("max_MD_steps: 80", "max_MD_steps: 100000")
        project.write_text(text)
        made.begin()
        made.end(seconds=600 + 4 * labels * seconds / slots)
        if made.codes != [0]:
            raise SystemExit(made.outputs[-1])
        return made.place


def main() -> None:
    """Run, or read, a campaign."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--labels", type=int, default=60, help="size of the training set")
    parser.add_argument("--run", type=Path, help="a campaign that is there")
    asked = parser.parse_args()
    if asked.run is not None:
        show(times(RunDir.of(load(asked.run))), asked.slots)
        return
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as folder:
        try:
            run = campaign(asked.slots, asked.seconds, asked.labels, Path(folder))
        except NotPossible as reason:
            raise SystemExit(f"not measured: {reason}") from None
        show(times(run), asked.slots)


if __name__ == "__main__":
    main()
