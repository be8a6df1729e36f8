"""Train one member: some epochs of a round, or a stretch of its convergence."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task

from aimspax_core.campaign.actions import Converge, Train
from aimspax_core.campaign.events import ConvergenceAdvanced, TrainingFinished
from aimspax_core.campaign.members import Errors
from aimspax_core.campaign.rounds import exploded
from aimspax_core.errors import DamagedError, DivergedError
from aimspax_core.labels.dataset import DataKeys
from aimspax_core.labels.store import LabelStore
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.settings import Settings

if TYPE_CHECKING:
    from aimspax_core.model.family import Graph
    from aimspax_core.model.learner import Metrics
    from aimspax_core.model.member import Member
    from aimspax_core.model.worker_memory import WorkerMemory


@dataclass(frozen=True)
class TrainRequest:
    """Which member to train, on what.

    Attributes:
        action: The action that this carries out.
        run: The run directory.
        settings: The settings in force.
        seed: The member's own seed.
        elements: Atomic numbers that the models know.
        dataset: File that says which labels belong to which member's sets.
        time_budget_s: No further step is begun after this time.
        last_mae: The member's force MAE (eV/Å) when the round began; None: unknown.
        ahead_s: Seconds of training that the campaign can still need.
    """

    action: Train | Converge
    run: RunDir
    settings: Settings
    seed: int
    elements: tuple[int, ...]
    dataset: Path
    time_budget_s: float
    last_mae: float | None = None
    ahead_s: float = 0.0


@task(name="train", task_run_name="train-{request.action.tag}-round-{request.action.round}")
def train(request: TrainRequest) -> TrainingFinished:
    """Train a member within its round; its checkpoint is on disk when this returns.

    Raises:
        DamagedError: The checkpoint that it begins from is, or the file of datasets.
        DivergedError: The training diverged; nothing was written.
    """
    began = time.perf_counter()
    # Models take seconds to import, which the flow's process and the label workers need not spend.
    from aimspax_core.model.energies import renew, settle_energies
    from aimspax_core.model.schedule import Budget, Stage
    from aimspax_core.model.worker_memory import worker_memory

    action, settings = request.action, request.settings
    assert isinstance(action, Train)
    memory = worker_memory()
    data = _data(request, memory)
    if action.start is None:
        member = _begun(request, data)
    else:
        member = memory.take_member(_checkpoint(request, action.start), settings.model)
    if member.stage.value != action.stage:
        member.enter(Stage(action.stage))
    renew(member, data.constants, data.name)
    energies = _atomic_energies(request, member)
    member.try_again(action.again)
    initial = action.stage == "initial"
    idg, al = settings.idg, settings.al
    step = idg.intermediate_epochs_idg if initial else al.intermediate_epochs_al
    form = member.learner.settle(data.training, request.ahead_s)
    before = member.epoch
    found = member.train(
        data.training,
        data.validation,
        epochs=action.epochs,
        valid_skip=idg.valid_skip if initial else al.valid_skip,
        scheduler=initial and idg.scheduler_initial,
        patience=None if initial else al.epochs_per_worker,
        budget=Budget(request.time_budget_s, step, epochs=action.at_most),
    )
    if found and exploded(found[-1].mae_f, request.last_mae):
        _require_better(request, member, found[-1].mae_f, data)
    offsets: dict[str, float] = {}
    if found and member.epoch - before == action.epochs:  # else the round goes on
        settled = settle_energies(member, data.constants, data.validation, found[-1])
        found[-1], offsets = settled.metrics, settled.offsets
    memory.keep_member(_checkpoint(request, action.checkpoint), member)
    return TrainingFinished(
        action_id=action.id,
        tag=action.tag,
        checkpoint=action.checkpoint,
        epochs=member.epoch - before,
        errors=tuple(_errors(m) for m in found),
        offsets=offsets,
        atomic_energies=energies,
        task_seconds=time.perf_counter() - began,
        compiled=form.compiled,
        compile_notes=form.notes,
    )


@task(name="converge", task_run_name="converge-{request.action.tag}")
def converge(request: TrainRequest) -> ConvergenceAdvanced:
    """Train a member towards convergence; its checkpoint is on disk when this returns.

    Raises:
        DamagedError: The checkpoint that it begins from is, or the file of datasets.
        DivergedError: The training diverged; nothing was written.
    """
    began = time.perf_counter()
    from aimspax_core.model.energies import renew, settle_energies
    from aimspax_core.model.schedule import Budget, Stage
    from aimspax_core.model.worker_memory import worker_memory

    action, settings = request.action, request.settings
    assert isinstance(action, Converge)
    memory = worker_memory()
    data = _data(request, memory)
    if action.start is None:
        member = _begun(request, data)
    else:
        member = memory.take_member(_checkpoint(request, action.start), settings.model)
    if action.first:
        member.enter(Stage.CONVERGE)
        renew(member, data.constants, data.name)
    energies = _atomic_energies(request, member)
    member.try_again(action.again)
    phase = settings.idg if action.stage == "initial" else settings.al
    form = member.learner.settle(data.training, request.ahead_s)
    before = member.epoch
    found, finished = member.converge(
        data.training,
        data.validation,
        max_epochs=phase.max_convergence_epochs,
        patience=phase.convergence_patience,
        margin=phase.margin,
        valid_skip=phase.valid_skip,
        budget=Budget(request.time_budget_s),
    )
    offsets: dict[str, float] = {}
    if finished and member.best_metrics is not None:
        offsets = settle_energies(
            member, data.constants, data.validation, member.best_metrics
        ).offsets
    memory.keep_member(_checkpoint(request, action.checkpoint), member)
    return ConvergenceAdvanced(
        action_id=action.id,
        tag=action.tag,
        checkpoint=action.checkpoint,
        epochs=member.epoch - before,
        errors=tuple(_errors(m) for m in found),
        task_seconds=time.perf_counter() - began,
        compiled=form.compiled,
        compile_notes=form.notes,
        best=None if member.best_metrics is None else _errors(member.best_metrics),
        converged=finished,
        offsets=offsets,
        atomic_energies=energies,
    )


def _begun(request: TrainRequest, data: _Data) -> Member:
    """Return the member as it begins.

    Raises:
        ModelError: The model that it is to begin from cannot be used.
    """
    from aimspax_core.model.fine_tuning import begin_member

    settings, tag = request.settings, request.action.tag
    model, directory = settings.model, settings.directory
    return begin_member(model, request.elements, tag, request.seed, data.constants, directory)


def _atomic_energies(request: TrainRequest, member: Member) -> dict[int, float]:
    """Return the energies that a member which is fine-tuned begins with; of others nothing."""
    began = request.action.start is None and member.keeps_scaling
    return dict(member.constants.atomic_energies) if began else {}


def _require_better(request: TrainRequest, member: Member, mae: float, data: _Data) -> None:
    """Refuse a training that has made a member many times worse.

    New points alone may make errors larger: the weights that the training began with are validated
    on the same set.

    Raises:
        DivergedError: These were so much better.
    """
    from aimspax_core.model.member import Member

    assert isinstance(request.action, Train)
    assert request.last_mae is not None
    if request.action.start is not None:
        before = Member.load(_checkpoint(request, request.action.start), member.settings)
        if not exploded(mae, before.errors_on(data.validation).mae_f):
            return
    raise DivergedError(
        f"{member.tag}, epoch {member.epoch} of stage {member.stage}: diverged, the force MAE is "
        f"{1000 * mae:.1f} meV/Å, {mae / request.last_mae:.0f} times that of the last round"
    )


@dataclass(frozen=True)
class _Data:
    """A member's graphs: what it trains on, what it is validated on, its whole training set.

    `name` tells that set from all others. What it is trained on has replayed data, too, if it is
    trained on any.
    """

    training: list[Graph]
    validation: list[Graph]
    constants: list[Graph]
    name: str


def _data(request: TrainRequest, memory: WorkerMemory) -> _Data:
    try:
        sets = json.loads(request.dataset.read_text(encoding="utf-8"))[request.action.tag]
        sets = {name: [str(key) for key in keys] for name, keys in sets.items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError.of(request.dataset, f"not a readable dataset ({error!r})") from error
    store = LabelStore(request.run.labels)
    sets.setdefault("constants", sets["training"])
    model, elements = request.settings.model, request.elements
    # In one call, so that the graphs of one set do not drive those of another out of the memory.
    wanted = list(dict.fromkeys(key for keys in sets.values() for key in keys))
    graphs = dict(zip(wanted, memory.graphs(store, wanted, model, elements), strict=True))
    name = hashlib.sha256(" ".join(sets["constants"]).encode()).hexdigest()
    data = _Data(**{n: [graphs[key] for key in keys] for n, keys in sets.items()}, name=name)
    return replace(data, training=[*data.training, *_replayed(request, memory)])


def _replayed(request: TrainRequest, memory: WorkerMemory) -> list[Graph]:
    """Return what the member is trained on beside its labels."""
    settings, training = request.settings, request.settings.model.TRAINING
    if not training.replays:
        return []
    assert training.pt_train_file is not None
    file, keys = settings.directory / training.pt_train_file, DataKeys.of(settings.misc)
    return memory.replayed(file, keys, settings.model, request.elements, request.seed)


def _checkpoint(request: TrainRequest, name: str) -> Path:
    return request.run.checkpoint(request.action.tag, name)


def _errors(metrics: Metrics) -> Errors:
    return Errors.model_validate(asdict(metrics))
