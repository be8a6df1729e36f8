"""Assess models by the held-out set: their errors on what nobody has trained on, nor chosen by."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from prefect import task

from aimspax_core.campaign.actions import Assess
from aimspax_core.campaign.events import Assessed
from aimspax_core.campaign.members import Errors
from aimspax_core.errors import CampaignError, DamagedError
from aimspax_core.labels.dataset import DataKeys
from aimspax_core.settings.settings import Settings


@dataclass(frozen=True)
class AssessRequest:
    """Which models to assess.

    Attributes:
        action: The action that this carries out.
        settings: The settings in force; `MISC.test_dataset` names the held-out set.
        elements: Atomic numbers that the models know.
        checkpoints: Each model's checkpoint, by tag.
    """

    action: Assess
    settings: Settings
    elements: tuple[int, ...]
    checkpoints: dict[str, Path]


@task(name="assess", task_run_name="assess-models-{request.action.number}")
def assess_models(request: AssessRequest) -> Assessed:
    """Measure the errors of models, with the weights that they are validated with.

    Raises:
        CampaignError: The held-out set, or a checkpoint, cannot be used: nothing else hangs on it.
    """
    began = time.perf_counter()
    from aimspax_core.model.assessing import Assessor
    from aimspax_core.model.worker_memory import worker_memory

    settings, model = request.settings, request.settings.model
    keys, memory = DataKeys.of(settings.misc), worker_memory()
    sets = {
        name: memory.held_out(file, keys, model, request.elements, settings.electrons_of_set(name))
        for name, file in settings.misc.test_files(settings.directory).items()
    }
    assessor = Assessor(model, sets)
    found: dict[str, dict[str, Errors]] = {name: {} for name in ("", *sets)}
    for tag, checkpoint in request.checkpoints.items():
        try:
            by_set = assessor.errors_of(checkpoint)
        except DamagedError as error:
            raise CampaignError(str(error)) from error
        for name, metrics in by_set.items():
            found[name][tag] = Errors.model_validate(asdict(metrics))
    return Assessed(
        action_id=request.action.id,
        number=request.action.number,
        errors=found.pop(""),
        by_geometry=found if len(sets) > 1 else {},
        task_seconds=time.perf_counter() - began,
    )
