"""What Prefect, Dask and the executor add to a task: labels of H2, which cost next to nothing.

Run as a script: `python tests/benchmarks/bench_orchestration.py [--labels 60] [--repeats 3]`.

In each repeat, in turns, on a reference pool of one worker:

- `Executor`: a third of the labels through its `launch` and `next_events`, as a campaign does
- `Dask alone`: as many other labels through the same pool's Dask client, without Prefect

A line's `time an event` is (wall time from the first launch to the last event - what the labels
themselves took) / number of labels. What the executor takes more than Dask alone is Prefect's share
(and the little that the executor does itself). `launch` and `next_events` are the time that the
campaign's loop spends in them, waiting for completions not included; `round trip` is one label
launched into an empty pool, until its event is there. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms

from flows import server

if TYPE_CHECKING:
    from aimspax_core.campaign.state import CampaignState
    from flows.loops.executor import Executor

EXAMPLE = Path(__file__).parents[2] / "examples" / "aspirin"
SMALL = {"CLUSTER.max_workers": 1, "CLUSTER.ml.max_workers": 1}
TIMEOUT_S = 60.0


def structures(executor: Executor) -> Iterator[str]:
    """Write H2 at ever other bond lengths, and give the keys of the labels."""
    from aimspax_core.labels.waiting import keep_structure
    from aimspax_core.reference.registry import build_reference

    identity = build_reference(executor.settings.reference, executor.settings.directory).identity()
    for number in count():
        bond = 0.65 + 1e-4 * number
        yield keep_structure(executor.run, Atoms("H2", [(0, 0, 0), (0, 0, bond)]), identity)


def through_executor(executor: Executor, state: CampaignState, keys: list[str]) -> dict[str, float]:
    """Label as a campaign's loop does; return seconds: wall, own, launch, next_event."""
    from aimspax_core.campaign.actions import Label
    from aimspax_core.campaign.events import LabelArrived
    from aimspax_core.campaign.state import Point

    state = state.but(points={key: Point(key=key, geometry=0) for key in keys})
    spent = {"wall": 0.0, "own": 0.0, "launch": 0.0, "next_events": 0.0}
    began = time.perf_counter()
    for key in keys:
        executor.launch(Label(key=key), state)
    spent["launch"] = time.perf_counter() - began
    for _ in keys:
        while executor._done.empty():
            time.sleep(0.001)
        asked = time.perf_counter()
        (event,) = executor.next_events(TIMEOUT_S)
        spent["next_events"] += time.perf_counter() - asked
        assert isinstance(event, LabelArrived), event
        spent["own"] += event.wall_s
    spent["wall"] = time.perf_counter() - began
    return spent


def through_dask(executor: Executor, state: CampaignState, keys: list[str]) -> dict[str, float]:
    """Label on the same worker without Prefect; return seconds: wall, own."""
    from aimspax_core.campaign.actions import Label
    from aimspax_core.campaign.state import Point

    state = state.but(points={key: Point(key=key, geometry=0) for key in keys})
    client: Any = executor.pools.reference.runner.client
    began = time.perf_counter()
    requests = [executor._requests.label(Label(key=key), state) for key in keys]
    futures = [client.submit(_plain, request) for request in requests]
    own = sum(future.result().wall_s for future in futures)
    return {"wall": time.perf_counter() - began, "own": own}


def _plain(request: Any) -> Any:
    from tasks.label import label

    return label.fn(request)


def measure(folder: Path, labels: int, repeats: int) -> dict[str, list[dict[str, float]]]:
    """Run everything inside one flow run, as a campaign does."""
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.logging.handlers import APILogHandler

    from aimspax_core.campaign.recorded_rules import Rules
    from aimspax_core.campaign.state import CampaignState
    from aimspax_core.inputs.campaign_inputs import Inputs
    from flows.loops.executor import Executor
    from flows.pools.open import pools

    inputs = Inputs.read(folder, SMALL)
    settings = inputs.settings
    state = CampaignState.begin(Rules.of(settings, ("a", "b"), 1))
    found: dict[str, list[dict[str, float]]] = {"Executor": [], "Dask alone": [], "round trip": []}

    @flow(name="bench-orchestration")
    def bench() -> None:
        with get_client(sync_client=True) as client, pools(settings) as workers:
            executor = Executor(inputs, workers, client)
            keys = structures(executor)
            some = max(1, labels // repeats)
            through_executor(
                executor, state, [next(keys) for _ in range(3)]
            )  # imports on the worker
            through_dask(executor, state, [next(keys) for _ in range(3)])
            for _ in range(repeats):
                found["Executor"].append(
                    through_executor(executor, state, [next(keys) for _ in range(some)])
                )
                found["Dask alone"].append(
                    through_dask(executor, state, [next(keys) for _ in range(some)])
                )
                alone = [through_executor(executor, state, [next(keys)]) for _ in range(5)]
                found["round trip"].extend(alone)

    bench()
    APILogHandler().flush()  # while there is a server that takes them
    return found


def table(found: dict[str, list[dict[str, float]]], labels: int, repeats: int) -> None:
    """Print it, in ms a label; medians over the repeats."""
    some = max(1, labels // repeats)

    def per_label(way: str, name: str, number: int = some) -> float:
        values = [run[name] - (run["own"] if name == "wall" else 0.0) for run in found[way]]
        return 1000 * statistics.median(values) / number

    executor, dask = per_label("Executor", "wall"), per_label("Dask alone", "wall")
    own = per_label("Executor", "own")
    print(f"{repeats} x {some} labels of H2 (own time {own:.1f} ms), 1 worker, ms a label; ")
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'time an event':<44}{executor:>8.1f}")
    print(f"{'  of it Dask and the label store':<44}{dask:>8.1f}{dask / executor:>8.0%}")
    print(f"{'  of it Prefect and ours':<44}{executor - dask:>8.1f}{1 - dask / executor:>8.0%}")
    print(f"{'in launch (the loop)':<44}{per_label('Executor', 'launch'):>8.1f}")
    print(f"{'in next_events (the loop)':<44}{per_label('Executor', 'next_event'):>8.1f}")
    print(f"{'round trip into an empty pool':<44}{per_label('round trip', 'wall', 1):>8.1f}")


def main() -> None:
    """Start a server of our own, measure, and stop it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--labels", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("distributed").setLevel(logging.ERROR)
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PREFECT_HOME"] = str(Path(folder) / "prefect")
        os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
        os.environ["PREFECT_SERVER_API_PORT"] = "0"
        server.ensure()
        try:
            run = Path(folder) / "run"
            shutil.copytree(EXAMPLE, run)
            found = measure(run, options.labels, options.repeats)
        finally:
            server.stop()
    table(found, options.labels, options.repeats)


if __name__ == "__main__":
    main()
