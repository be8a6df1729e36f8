"""`losses/`: a file a member, in the lines that MACE's own tools read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aimspax_core.campaign.events import ConvergenceAdvanced, LabelArrived, TrainingFinished
from aimspax_core.campaign.members import Errors
from aimspax_core.output.loss_logs import append_losses, losses_file
from aimspax_core.run_directory import RunDir

ERRORS = Errors(
    epoch=3, train_loss=0.5, valid_loss=0.7, mae_f=0.01, rmse_f=0.02, mae_e=0.3, rmse_e=0.4,
    mae_e_per_atom=0.03, rmse_e_per_atom=0.04, mae_stress=None, rmse_stress=None, lr=0.005,
    seconds=1.5,
)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path, *(tmp_path / name for name in ("data", "logs", "losses", "model", "c")))


def trained(tag: str, *errors: Errors) -> TrainingFinished:
    return TrainingFinished(action_id="a", tag=tag, checkpoint="c", epochs=1, errors=errors)


def converged(tag: str, *errors: Errors) -> ConvergenceAdvanced:
    return ConvergenceAdvanced(
        action_id="a", tag=tag, checkpoint="c", epochs=1, errors=errors, best=None, converged=True
    )


def lines_of(run: RunDir, tag: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in losses_file(run, tag).read_text().splitlines()]


def test_file_has_the_name_that_mace_and_the_original_give_it(run: RunDir) -> None:
    append_losses(run, trained("water-1", ERRORS))
    assert [path.name for path in run.losses.iterdir()] == ["water-1_train.txt"]


def test_an_epoch_is_one_line_of_training_and_one_of_validation(run: RunDir) -> None:
    append_losses(run, trained("a", ERRORS))
    assert lines_of(run, "a") == [
        {"loss": 0.5, "epoch": 3, "time": 1.5, "lr": 0.005, "mode": "opt", "stage": "training"},
        {
            "loss": 0.7, "mae_f": 0.01, "rmse_f": 0.02, "mae_e": 0.3, "rmse_e": 0.4,
            "mae_e_per_atom": 0.03, "rmse_e_per_atom": 0.04, "epoch": 3, "time": 1.5,
            "mode": "eval", "stage": "training",
        },
    ]  # fmt: skip


def test_stress_is_there_if_it_was_measured(run: RunDir) -> None:
    stress = ERRORS.model_copy(update={"mae_stress": 1e-3, "rmse_stress": 2e-3})
    append_losses(run, trained("a", stress))
    _, found = lines_of(run, "a")
    assert (found["mae_stress"], found["rmse_stress"]) == (1e-3, 2e-3)


def test_weights_that_a_convergence_begins_with_have_no_training_loss(run: RunDir) -> None:
    first = ERRORS.model_copy(update={"epoch": 0, "train_loss": None})
    append_losses(run, converged("a", first, ERRORS))
    assert [(line["mode"], line["epoch"]) for line in lines_of(run, "a")] == [
        ("eval", 0), ("opt", 3), ("eval", 3),
    ]  # fmt: skip
    assert {line["stage"] for line in lines_of(run, "a")} == {"convergence"}


def test_members_have_their_own_files_and_lines_are_appended(run: RunDir) -> None:
    append_losses(run, trained("a", ERRORS))
    append_losses(run, trained("b", ERRORS, ERRORS))
    append_losses(run, converged("a", ERRORS))
    assert (len(lines_of(run, "a")), len(lines_of(run, "b"))) == (4, 4)


def test_other_events_leave_no_trace(run: RunDir) -> None:
    append_losses(run, LabelArrived(key="k", wall_s=1.0))
    assert not run.losses.exists()


def test_mace_reads_the_file(run: RunDir) -> None:
    """`mace_plot_train` wants a name with MACE's own tag, but reads the lines as they are."""
    from mace.cli.plot_train import parse_training_results

    append_losses(run, trained("a", ERRORS, ERRORS.model_copy(update={"epoch": 4})))
    path = losses_file(run, "a").rename(run.losses / "a_run-1_train.txt")
    found = parse_training_results(str(path))
    assert [(line["mode"], line["epoch"]) for line in found] == [
        ("opt", 3), ("eval", 3), ("opt", 4), ("eval", 4),
    ]  # fmt: skip
    assert {line["name"] for line in found} == {"a"}
