"""What becomes of several trainings in one task when some of them fail."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest

from aimspax_core.campaign.actions import Train
from aimspax_core.campaign.events import TrainingFinished
from aimspax_core.errors import DivergedError
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.settings import Settings
from tasks import train_several as module
from tasks.train import TrainRequest
from tasks.train_several import Several, TrainSeveralRequest, train_several


class NeedsTwo(Exception):
    """Can be pickled, but plain Python cannot load it again: `args` has one text, not two."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


def unpicklable() -> Exception:
    class Local(Exception):
        pass

    return Local("no kernel image")


def outcomes(
    settings: Settings, run: RunDir, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> tuple[TrainingFinished | Exception, ...]:
    """What a task brings back whose second member of three raises an error."""

    def fn(request: TrainRequest) -> TrainingFinished:
        action = request.action
        if action.tag == "b":
            raise error
        return TrainingFinished(
            action_id=action.id, tag=action.tag, checkpoint=action.checkpoint, epochs=1, errors=()
        )

    monkeypatch.setattr(module, "train", SimpleNamespace(fn=fn))
    requests = tuple(
        TrainRequest(
            Train(tag=tag, stage="active", round=7, start=None, checkpoint="c", epochs=1),
            run, settings, 1, (1, 8), Path("unread"), 1.0,
        )
        for tag in "abc"
    )  # fmt: skip
    asked = TrainSeveralRequest(requests, 7)
    assert asked.name == "3-members-round-7"
    found: Several = pickle.loads(pickle.dumps(train_several.fn(asked)))
    return found.outcomes


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (DivergedError("NaN"), DivergedError, "NaN"),
        (OSError(28, "No space left on device"), OSError, "No space left"),
        (RuntimeError("CUDA error"), RuntimeError, "CUDA error"),
        (NeedsTwo("layer", "shape"), Exception, "NeedsTwo: layer: shape"),
        (unpicklable(), RuntimeError, "Local: no kernel image"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else "",
)
def test_whatever_one_training_raises_the_others_are_kept(
    settings: Settings,
    run: RunDir,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kind: type[Exception],
    words: str,
) -> None:
    first, second, third = outcomes(settings, run, monkeypatch, error)
    assert isinstance(first, TrainingFinished) and isinstance(third, TrainingFinished)
    assert (first.tag, third.tag) == ("a", "c")
    assert isinstance(second, kind)
    assert words in f"{type(second).__name__}: {second}"


def test_a_task_that_is_stopped_tells_of_no_member(
    settings: Settings, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        outcomes(settings, run, monkeypatch, KeyboardInterrupt())  # type: ignore[arg-type]
