"""What the report of a campaign takes, by the number of its events.

Run as a script: `python tests/benchmarks/bench_report.py [--events 1000 10000]`.

Campaigns run in the virtual shell, and their labels, of 21 atoms, are written to the store, so that
the report reads what that of a real one does; there are no frames of trajectories. Printed are the
CPU time of this process (s) for the journal's replay, for the contents (with the label files), and
for the page, and the sizes of both files. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ase.build import molecule

sys.path.insert(0, str(Path(__file__).parents[2]))

from aimspax_core.campaign.events import Event, Started
from aimspax_core.campaign.journal import Journal, entries
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.state import CampaignState
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.labels.store import LabelStore
from aimspax_core.report.document.charts import figures
from aimspax_core.report.document.gather import report
from aimspax_core.report.document.page import page
from aimspax_core.report.document.source import Source
from aimspax_core.report.document.story import Story
from aimspax_core.run_directory import RunDir
from aimspax_core.structures import encode
from tests.campaign.virtual import VirtualShell, World

OLD = Path(__file__).parents[1] / "fixtures" / "0.1.0-8e65e71" / "finished"


class EnoughError(Exception):
    """So many events are there as were asked for."""


def played(run: RunDir, events: int) -> CampaignState:
    """Write the journal of a virtual campaign, up to a number of events."""
    rules = Rules(
        tags=("a-1", "a-2", "a-3"), geometries=1, seed=1, points_per_step=5, initial_epochs=5,
        initial_accuracy=0.4, max_initial_epochs=math.inf, max_initial_set_size=20,
        initial_valid_ratio=0.2, converge_initial=False, num_trajectories=16, epochs_per_round=2,
        valid_ratio=0.2, desired_acc=0.0, max_train_set_size=1e9, max_md_steps=math.inf, c_x=0.0,
        freeze_threshold_dataset=math.inf, converge_al=True, converge_best=True, max_segments=2,
    )  # fmt: skip
    with Journal(run) as journal:
        journal.append(Started(rules=rules))

        def watch(state: CampaignState, event: Event) -> None:
            journal.append(event)
            if journal.seq >= events:
                raise EnoughError

        with contextlib.suppress(EnoughError):
            VirtualShell(rules, World(), np.random.default_rng(0), watch).run()
        return journal.state


def fill(run: RunDir, state: CampaignState) -> None:
    """Write a label file for each label."""
    atoms, rng, store = molecule("C60")[:21], np.random.default_rng(0), LabelStore(run.labels)
    for key in state.labelled:
        path = store.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "key": key, "structure": encode(atoms), "energy": -1000.0 + float(rng.normal()),
            "forces": rng.normal(size=(21, 3)).tolist(), "stress": None,
            "provenance": {"engine": "virtual", "host": "here"},
        }  # fmt: skip
        path.write_text(json.dumps(content))


def measure(folder: Path, events: int) -> None:
    """Print what the report of a campaign of so many events takes."""
    for name in ("aimsPAX.yaml", "mace.yaml", "geometry.xyz"):
        shutil.copy(OLD / name, folder / name)
    inputs = Inputs.read(folder)
    state = played(inputs.run, events)
    fill(inputs.run, state)
    times = [time.process_time()]
    story = Story.of(entries(inputs.run.journal))
    times.append(time.process_time())
    source = Source(inputs.run, inputs.settings, inputs.geometries, inputs.seeds, story, state)
    found = report(source)
    text = found.model_dump_json(indent=1)
    times.append(time.process_time())
    html = page(found, figures(found, story))
    times.append(time.process_time())
    replay, contents, drawn = np.diff(times)
    print(
        f"{events:7d} events, {state.labels:5d} labels: replay {replay:5.2f}, "
        f"contents {contents:5.2f}, page {drawn:5.2f}, in all {times[-1] - times[0]:5.2f} s; "
        f"report.html {len(html) / 1e6:.1f} MB, report.json {len(text) / 1e6:.1f} MB"
    )


def main() -> None:
    """Measure for each number of events."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, nargs="+", default=[1000, 10_000])
    for events in parser.parse_args().events:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), events)


if __name__ == "__main__":
    main()
