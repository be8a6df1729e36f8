"""Energies that are solved for as models are published: those of training that was cut short.

A round that a stopping rule cuts short, and a convergence that diverges to its end, solve for none
after their last epochs. It is done here, and checkpoints stay as they are: training that goes on
from them is that of a campaign that was not cut.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from aimspax_core.campaign.members import Errors
from aimspax_core.errors import AimspaxError
from aimspax_core.labels.dataset import DataKeys
from aimspax_core.labels.store import LabelStore
from aimspax_core.output.results import Holdings, Late
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.settings import Settings

log = logging.getLogger(f"aimspax.{__name__}")


def settle(run: RunDir, settings: Settings, members: Sequence[Holdings]) -> tuple[Holdings, ...]:
    """Return what members have, with energies that were solved for where training left that out.

    Raises:
        DamagedError: A checkpoint, or a label, is not as it was written.
        ModelError: A checkpoint does not fit the settings.
    """
    return tuple(_settled(run, settings, member) for member in members)


def _settled(run: RunDir, settings: Settings, held: Holdings) -> Holdings:
    from aimspax_core.model.checkpoint import read_checkpoint

    late: dict[Path, Late] = {}
    for path in dict.fromkeys((held.checkpoint, held.published)):
        if read_checkpoint(path).get("settled", True):
            continue  # or of a release that did not tell
        late[path], offsets = _solved(run, settings, held, path)
        if path == held.published:
            held = _published_so(settings, held, late[path], offsets)
    return replace(held, late=late)


def _solved(
    run: RunDir, settings: Settings, held: Holdings, checkpoint: Path
) -> tuple[Late, dict[str, float]]:
    from aimspax_core.model.energies import settle_energies
    from aimspax_core.model.member import Member
    from aimspax_core.model.worker_memory import worker_memory

    member, store = Member.load(checkpoint, settings.model), LabelStore(run.labels)
    keys = [*held.training, *held.validation]
    graphs = worker_memory().graphs(store, keys, settings.model, tuple(member.elements))
    training, validation = graphs[: len(held.training)], graphs[len(held.training) :]
    last = member.best_metrics or member.errors_on(validation)
    found = settle_energies(member, training, validation, last)
    errors = Errors.model_validate(asdict(found.metrics))
    return Late(member.constants, tuple(member.elements), errors), found.offsets


def _published_so(
    settings: Settings, held: Holdings, late: Late, offsets: dict[str, float]
) -> Holdings:
    """Return what a member has whose model is published so: errors are those of that model."""
    held = replace(held, errors=late.errors, offsets=offsets)
    if held.assessed is None:
        return held
    try:
        found = _assessed(settings, held.published, late)
    except (AimspaxError, OSError) as error:  # nothing else hangs on it
        log.warning("%s is not assessed by the held-out set: %s", held.tag, error)
        return replace(held, assessed=None, assessed_by={})
    total = found.pop("")
    return replace(held, assessed=total, assessed_by=found)


def _assessed(settings: Settings, checkpoint: Path, late: Late) -> dict[str, Errors]:
    from aimspax_core.model.assessing import Assessor
    from aimspax_core.model.worker_memory import worker_memory

    model, keys, memory = settings.model, DataKeys.of(settings.misc), worker_memory()
    files = settings.misc.test_files(settings.directory)
    sets: dict[str, Any] = {
        name: memory.held_out(file, keys, model, late.elements, settings.electrons_of_set(name))
        for name, file in files.items()
    }
    found = Assessor(model, sets).errors_of(checkpoint, late.constants)
    return {name: Errors.model_validate(asdict(metrics)) for name, metrics in found.items()}
