"""A few labels outside of a campaign: through Prefect, the reference pool and the label store."""

from __future__ import annotations

import json
import queue
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ase import Atoms
from prefect import flow
from prefect.tasks import Task

from aimspax_core.campaign.leftovers import folder_prefix
from aimspax_core.errors import AimspaxError, CampaignError, LabelError
from aimspax_core.labels.store import label_key
from aimspax_core.labels.tries import ONCE, Fate, Retry, Tries, after
from aimspax_core.reference.registry import make_reference
from aimspax_core.reference.trial_label import Trial
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import write_text
from aimspax_core.settings.engines import Gate
from aimspax_core.settings.known_engines import EngineSettings
from aimspax_core.settings.settings import Settings
from aimspax_core.structures import encode
from flows.pools.open import reference_pool
from flows.pools.pool import Pool
from flows.pools.ticket import Ticket
from flows.pools.workers import WorkerLostError
from tasks.label import LabelRecord, LabelRequest, label
from tasks.trial import TrialRequest, trial

LOOK_S = 1.0
"""From one look at whether the pool can have workers to the next."""


@dataclass(frozen=True)
class Wanted:
    """A structure to label, by an engine, under a gate."""

    atoms: Atoms
    reference: EngineSettings
    gate: Gate
    stress: bool = False


LabelOutcome = LabelRecord | AimspaxError


def label_all(
    title: str, wanted: Sequence[Wanted], run: RunDir, settings: Settings
) -> list[LabelOutcome]:
    """Label structures; those whose labels are in the store are not paid for again.

    Args:
        title: Name of the flow run.
        wanted: Structures and engines.
        run: Where the label store is.
        settings: Where labels are computed.

    Returns:
        For each its record, or why it has none.

    Raises:
        SettingsError, ModelError: An engine cannot be made.
    """
    run.state.mkdir(parents=True, exist_ok=True)
    # A folder that workers see. Not the campaign's own folder: the campaign may be running.
    with tempfile.TemporaryDirectory(dir=run.state, prefix=folder_prefix("labels")) as folder:
        requests = [_request(one, run, settings.directory, Path(folder)) for one in wanted]
        return labels(title, requests, run.prefect_results, _few(settings, len(requests)))


@flow(name="labels", flow_run_name="{title}", validate_parameters=False)
def labels(
    title: str, requests: list[LabelRequest], results: Path, settings: Settings
) -> list[LabelOutcome]:
    """Submit labels to the reference pool, and wait for all of them."""
    # Prefect's cached result of a label does not show that the label can be computed now.
    task = label.with_options(result_storage=results, refresh_cache=True)
    with reference_pool(settings) as pool:
        return [_outcome(ticket) for ticket in run_all(pool, task, requests)]


@flow(name="trial", flow_run_name="{title}", validate_parameters=False)
def trial_on_worker(title: str, request: TrialRequest, settings: Settings) -> Trial:
    """Have a small calculation done where labels are computed.

    Raises:
        LabelError, EngineError: There is no answer.
    """
    with reference_pool(_few(settings, 1)) as pool:
        (ticket,) = run_all(pool, trial, [request])
        result: Trial = ticket.result()
        return result


def run_all(pool: Pool, task: Task[Any, Any], requests: Sequence[Any]) -> list[Ticket]:
    """Run tasks on a pool; one that was interrupted is tried again.

    Returns:
        Their tickets, in order, once all tasks are over.

    Raises:
        CampaignError: The pool cannot have workers.
    """
    back: queue.Queue[Ticket] = queue.Queue()
    order = {pool.submit(task, request, back.put): n for n, request in enumerate(requests)}
    done: dict[int, Ticket] = {}
    tries: defaultdict[int, Tries] = defaultdict(Tries)
    while len(done) < len(requests):
        try:
            ticket = back.get(timeout=LOOK_S)
        except queue.Empty:
            if pool.trouble:
                raise CampaignError(pool.trouble) from None
            continue
        number = order[ticket]
        fate = _lost(ticket)
        if fate is not None:
            tries[number] = tries[number].lost(fate)
            if isinstance(after(tries[number], fate, ONCE), Retry):
                plainly = fate is Fate.SERVER
                order[pool.submit(task, ticket.request, back.put, plainly=plainly)] = number
                continue
        done[number] = ticket
    return [done[number] for number in range(len(requests))]


def _lost(ticket: Ticket) -> Fate | None:
    """Return how a task was lost with its worker; None if it ended by itself."""
    error = ticket.exception()
    return error.fate if isinstance(error, WorkerLostError) else None


def _request(wanted: Wanted, run: RunDir, directory: Path, folder: Path) -> LabelRequest:
    identity = make_reference(wanted.reference, directory).identity()
    key = label_key(wanted.atoms, identity)
    structure = folder / f"{key}.json"
    write_text(structure, json.dumps(encode(wanted.atoms)))
    return LabelRequest.of(
        key, run, wanted.reference, wanted.gate, directory, wanted.stress, structure
    )


def _few(settings: Settings, labels: int) -> Settings:
    """Return the settings with no more workers than there are labels."""
    less = settings.cluster.with_labels_at_once(labels)
    return replace(settings, project=settings.project.model_copy(update={"CLUSTER": less}))


def _outcome(ticket: Ticket) -> LabelOutcome:
    try:
        record: LabelRecord = ticket.result()
    except WorkerLostError as error:
        return LabelError(str(error), transient=True)
    except AimspaxError as error:
        return error
    # Whatever else a task raises is an outcome like the others; the log has its traceback.
    except Exception as error:
        return LabelError(f"{type(error).__name__}: {error}", transient=True)
    return record
