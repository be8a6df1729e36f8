"""Write models and datasets where the user looks for them, in the original's layout."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from prefect import task

from aimspax_core.campaign.events import Published
from aimspax_core.campaign.final_sets import Unseen
from aimspax_core.campaign.members import Errors
from aimspax_core.labels.store import LabelStore
from aimspax_core.output.results import Holdings, publish_final, publish_initial
from aimspax_core.output.settling import settle
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.settings import Settings

log = logging.getLogger(f"aimspax.{__name__}")


@dataclass(frozen=True)
class PublishRequest:
    """What to write.

    Attributes:
        what: `initial` or `final`.
        run: The run directory.
        settings: The settings in force.
        holdings: Each member's checkpoints and sets.
        adopted: The campaign began from models in `model/`, which are not to be replaced.
        unseen: Labels that no model was trained on.
    """

    what: Literal["initial", "final"]
    run: RunDir
    settings: Settings
    holdings: tuple[Holdings, ...]
    adopted: bool = False
    unseen: Unseen = field(default_factory=Unseen)


@task(name="publish", task_run_name="publish-{request.what}")
def publish(request: PublishRequest) -> Published:
    """Write models and datasets; they are on disk when this returns."""
    began = time.perf_counter()
    run, settings = request.run, request.settings
    members = settle(run, settings, request.holdings)
    renewed = {m.tag: m for m in members if m.published in m.late and m.assessed is not None}
    last: tuple[str, ...] = ()
    if request.what == "initial":
        publish_initial(run, settings, members)
    else:
        last = publish_final(run, settings, members, request.adopted)
        _calibrate(request)
    return Published(
        what=request.what,
        last_ensemble=last,
        settled=_late([(one, one.published) for one in members]),
        last_settled=_late([(one, one.checkpoint) for one in members if one.tag in last]),
        assessed={tag: one.assessed for tag, one in renewed.items() if one.assessed is not None},
        assessed_by={tag: one.assessed_by for tag, one in renewed.items() if one.assessed_by},
        task_seconds=time.perf_counter() - began,
    )


def _late(models: list[tuple[Holdings, Path]]) -> dict[str, Errors]:
    """Return the errors of models whose energies were solved for only now, by tag."""
    return {one.tag: one.late[path].errors for one, path in models if path in one.late}


def _calibrate(request: PublishRequest) -> None:
    """Calibrate what was published; it is there and whole without, so a failure is told only."""
    from aimspax_core.evaluation.delivering import calibrate_results, forget_calibration
    from aimspax_core.evaluation.unseen import judges

    run, settings = request.run, request.settings
    misc, batch = settings.model.MISC, settings.model.TRAINING.valid_batch_size
    try:
        forget_calibration(run.results)
        found = judges(settings, LabelStore(run.labels), request.unseen)
        points, sources = found.points, found.sources
        calibrate_results(run.results, points, misc.device, misc.kernel, batch, sources)
    except Exception as error:  # of the device, its memory, or a family's code: of any kind
        why = str(error) or type(error).__name__
        log.warning(
            "the models are in %s, but what errors to expect of them is not known (there is no "
            "calibration.json): %s",
            run.results,
            why,
        )
