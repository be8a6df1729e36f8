"""Label a whole dataset again: each structure through the pool of references, paid for once.

The original's `aims-PAX-recalc`. Unlike there, what comes out is in the order of the dataset, under
the names of the settings (`MISC.energy_key`, …), and a run that was stopped goes on by itself.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from aimspax_core.errors import CampaignError
from aimspax_core.inputs.relabel_inputs import LabelAsked, LabelInputs
from aimspax_core.labels.relabelling import Property, failed_file
from aimspax_core.locks import Holder, held, holder
from aimspax_core.structures import digest
from flows.loops.relabel import Relabelling
from flows.loops.stop import Stop, stop_signals
from flows.mistakes import told_plainly
from flows.runs.handed_over import handed_over
from flows.runs.log_files import api_logs, quiet_dask
from flows.runs.names import run_directory

log = logging.getLogger("aimspax")


def dataset_name() -> str:
    """Return the name of the dataset's file, which is what the flow run is called."""
    return Path(str(flow_run.parameters["file"]).strip()).name


@flow(name="label", flow_run_name=dataset_name)
@told_plainly
def recalculate(
    directory: Path,
    file: Path,
    output: Path | None = None,
    start: int = 0,
    end: int | None = None,
    properties: tuple[Property, ...] = (),
    geometry: int = 0,
    save_interval: int = 10,
    control: Path | None = None,
    species_dir: Path | None = None,
    overrides: dict[str, Any] | None = None,
) -> State[Any]:
    """Label every frame of a dataset with the reference, through its pool of workers.

    A label that is in the run's label store is not computed again, so a run that was stopped goes
    on when it is started again.

    Args:
        directory: The run directory, with `aimsPAX.yaml`; `mace.yaml` is not needed.
        file: The dataset, in any format that ASE reads.
        output: Where the labelled frames go, as extended XYZ; those that failed are listed beside.
        start: The first frame, from 0.
        end: The frame after the last one.
        properties: What is written of a label: energy, forces, stress.
        geometry: By which geometry's settings, where those of the reference are by index.
        save_interval: Labels from one writing of the output to the next.
        control: Control file of FHI-aims in place of that of the settings.
        species_dir: Folder of species defaults in place of that of the settings.
        overrides: Values that replace those of the files.

    Raises:
        SettingsError, StructureError: There are mistakes in the run directory, or in the dataset.
        EngineError: The engine refuses its input.
        CampaignError: Another process labels for the same output.
    """
    asked = LabelAsked(
        file=file,
        output=output,
        start=start,
        end=end,
        properties=properties,
        geometry=geometry,
        save_interval=save_interval,
        control=control,
        species_dir=species_dir,
    )
    inputs = handed_over(LabelInputs) or LabelInputs.read(
        run_directory(directory), asked, overrides
    )
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(get_client(sync_client=True))
        stack.enter_context(_alone(inputs))
        stack.enter_context(_logs(inputs))
        relabelling = Relabelling(inputs)
        stopped = stack.enter_context(stop_signals(client))
        if relabelling.waiting:
            relabelling.drive(client, stopped)
        return _end(relabelling, inputs, stopped)


def _end(relabelling: Relabelling, inputs: LabelInputs, stopped: Stop) -> State[Any]:
    """Write the output; return the state of the flow run, which says how the labelling went."""
    relabelling.save()
    summary = relabelling.summary()
    log.info("%s", summary)
    if relabelling.broken:
        return Failed(message=f"{relabelling.broken}; {summary}; mend it, and start again to go on")
    if stopped.reason:
        return Cancelled(message=f"{stopped.reason}; {summary}; start again to go on")
    if not summary.labelled:
        frame, reason = relabelling.found.failed[0]
        first = f"frame {frame.index}: {reason} (all of them: {failed_file(inputs.output)})"
        return Failed(message=f"not one frame could be labelled; {first}")
    return Completed(message=str(summary), data=summary)


@contextlib.contextmanager
def _alone(inputs: LabelInputs) -> Iterator[None]:
    """Let nobody else label for the same output; a campaign in the directory is no obstacle.

    Raises:
        CampaignError: Somebody does.
    """
    folder = inputs.run.state / "labelling"
    folder.mkdir(parents=True, exist_ok=True)
    name = digest({"output": str(inputs.output.resolve())})[:16]
    lock = folder / f"{name}.lock"
    with held(lock) as file:
        if file is None:
            raise CampaignError(
                f"{inputs.output} is being written by another process: {holder(lock) or Holder()}"
            )
        yield


@contextlib.contextmanager
def _logs(inputs: LabelInputs) -> Iterator[None]:
    """Send what the logger `aimspax` says to `logs/recalculate.log` and to Prefect."""
    quiet_dask()
    inputs.run.logs.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(inputs.run.logs / "recalculate.log", encoding="utf-8")
    form = "%(asctime)s %(levelname)-7s %(message)s"
    file.setFormatter(logging.Formatter(form, "%Y-%m-%d %H:%M:%S"))
    logger, handlers = logging.getLogger("aimspax"), (file, api_logs())
    before = logger.level
    logger.setLevel(inputs.settings.model.MISC.log_level)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(before)
