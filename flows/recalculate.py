"""Label a whole dataset again with the reference; each structure is computed once.

This is the original's `aims-PAX-recalc`. Unlike there, the output is in the order of the dataset,
its labels have the names of the settings (`MISC.energy_key`, …), and a run that was stopped goes on
when it is started again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from aimspax_core.campaign.leftovers import remove_leftovers
from aimspax_core.errors import HeldError
from aimspax_core.inputs.relabel_inputs import RelabelInputs, RelabelRequest
from aimspax_core.labels.relabelling import Property, failed_file
from aimspax_core.locks import Holder, held, holder
from aimspax_core.run_directory import RunDir
from aimspax_core.structures import digest
from flows.loops.begin_anew import Look, insist
from flows.loops.relabel import Relabelling, folders_of
from flows.loops.room import StoppedWaitingError, look_for_room
from flows.loops.stop import Stop, StopRequested, stop_signals
from flows.page.events import DirectoryEvents
from flows.runs.api_watch import api_watch
from flows.runs.best_effort import best_effort
from flows.runs.failures import plain_failures
from flows.runs.handed_over import handed_over
from flows.runs.log_files import relabel_logs
from flows.runs.names import run_directory
from flows.runs.one_at_a_time import naming_the_holder
from flows.runs.previous_attempt import note_attempt
from flows.runs.restarts import begun_often, count_restart, refuse_uncounted

log = logging.getLogger("aimspax")


def dataset_name() -> str:
    """Return the name of the flow run: that of the dataset's file."""
    return Path(str(flow_run.parameters["file"]).strip()).name


@flow(name="label", flow_run_name=dataset_name)
@plain_failures
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
        output: File for the labelled frames (extended XYZ); failed ones are listed next to it.
        start: The first frame, from 0.
        end: The frame after the last one.
        properties: Which parts of a label are written: energy, forces, stress.
        geometry: By which geometry's settings, where those of the reference are by index.
        save_interval: Labels from one writing of the output to the next.
        control: Control file of FHI-aims in place of that of the settings.
        species_dir: Folder of species defaults in place of that of the settings.
        overrides: Values that replace those of the files.

    Raises:
        SettingsError, StructureError: There are mistakes in the run directory, or in the dataset.
        EngineError: The engine refuses its input.
        HeldError: Another process labels for the same output.
        StalledError: It was started again by itself too often without progress.
    """
    request = RelabelRequest(
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
    with stop_signals() as stopped, get_client(sync_client=True) as client:
        label = partial(_label, run_directory(directory), request, overrides, client, stopped)
        return insist(label, client, stopped)


def _label(
    directory: Path,
    request: RelabelRequest,
    overrides: dict[str, Any] | None,
    client: SyncPrefectClient,
    stopped: Stop,
    writes: Callable[[Look], None],
) -> State[Any]:
    """Label a dataset, and say how to look for the room that it needs."""
    inputs = handed_over(RelabelInputs) or _read(directory, request, overrides)
    writes(partial(look_for_room, folders_of(inputs)))
    with contextlib.ExitStack() as stack:
        api_watch().waits = inputs.settings.misc.without_server == "wait"
        stack.enter_context(_alone(inputs, client))
        stack.enter_context(relabel_logs(inputs.run, inputs.settings))
        with best_effort("removing what killed processes have left"):
            remove_leftovers(inputs.run)
        events = DirectoryEvents(inputs.run)
        relabelling = Relabelling(inputs, events)
        with events.telling_stalls():
            restarts = _noted(inputs.run, inputs.output, "restarts")
            count_restart(restarts, relabelling.mark, inputs.settings.misc.restarts)
        stopped.counted_in = restarts
        if relabelling.waiting:
            with contextlib.suppress(StopRequested, StoppedWaitingError):
                relabelling.drive(client, stopped)
        return _end(relabelling, inputs, stopped)


def _read(
    directory: Path, request: RelabelRequest, overrides: dict[str, Any] | None
) -> RelabelInputs:
    """Read all that is needed, unless that has been the end of too many attempts at this run."""
    if begun_often():
        run, output = RelabelInputs.place(directory, request, overrides)
        with DirectoryEvents(run).telling_stalls():
            refuse_uncounted(*(_noted(run, output, what) for what in ("flow-run", "restarts")))
    return RelabelInputs.read(directory, request, overrides)


def _end(relabelling: Relabelling, inputs: RelabelInputs, stopped: Stop) -> State[Any]:
    """Write the output; return the state of the flow run, which says how the labelling went."""
    relabelling.save()
    summary = relabelling.summary()
    log.info("%s", summary)
    if relabelling.broken:
        return Failed(message=f"{relabelling.broken}; {summary}; mend it, and start again to go on")
    if stopped.reason:
        return stopped.state(f"{stopped.reason}; {summary}; start again to go on")
    if not summary.labelled:
        frame, reason = relabelling.found.failed[0]
        first = f"frame {frame.index}: {reason} (all of them: {failed_file(inputs.output)})"
        return Failed(message=f"not one frame could be labelled; {first}")
    return Completed(message=str(summary), data=summary)


@contextlib.contextmanager
def _alone(inputs: RelabelInputs, client: SyncPrefectClient) -> Iterator[None]:
    """Keep other processes from writing the same output; a campaign may run in the directory.

    Raises:
        HeldError: Another process writes it.
    """
    lock, attempts = (_noted(inputs.run, inputs.output, what) for what in ("lock", "flow-run"))
    lock.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with naming_the_holder(client, attempts):
            if stack.enter_context(held(lock)) is None:
                raise HeldError(
                    f"{inputs.output} is being written by another process: "
                    f"{holder(lock) or Holder()}"
                )
        note_attempt(attempts)
        yield


def _noted(run: RunDir, output: Path, what: str) -> Path:
    """Return the file where something is noted about whoever writes an output."""
    name = digest({"output": str(output.resolve())})[:16]
    return run.state / "labelling" / f"{name}.{what}"
