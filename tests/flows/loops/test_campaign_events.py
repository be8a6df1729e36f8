"""What a campaign's loop does with the events of one task."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from aimspax_core.campaign.actions import Train
from aimspax_core.campaign.events import Event, Launched, Started, TrainingFinished
from aimspax_core.campaign.journal import Journal
from aimspax_core.campaign.members import Errors
from aimspax_core.campaign.rules import next_actions
from aimspax_core.campaign.state import CampaignState
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from flows.loops.campaign import Campaign
from tests.campaign.test_rules import make_rules
from tests.campaign.virtual import VirtualShell, World
from tests.flows.loops.test_executor import PROJECT


def finished(action: Train) -> TrainingFinished:
    errors = Errors(
        epoch=1, train_loss=1.0, valid_loss=1.0, mae_f=0.1, rmse_f=0.1, mae_e=0.1, rmse_e=0.1,
        mae_e_per_atom=0.1, rmse_e_per_atom=0.1, mae_stress=None, rmse_stress=None, lr=0.01,
        seconds=1.0,
    )  # fmt: skip
    return TrainingFinished(
        action_id=action.id, tag=action.tag, checkpoint=action.checkpoint, epochs=action.epochs,
        errors=(errors,),
    )  # fmt: skip


def test_a_round_that_one_task_has_trained_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "aimsPAX.yaml").write_text(PROJECT)
    (tmp_path / "mace.yaml").write_text("GENERAL: {name_exp: water}\n")
    ase.io.write(tmp_path / "water.xyz", molecule("H2O"))
    settings = load(tmp_path)
    run = RunDir.of(settings)
    rules = make_rules()
    with Journal(run) as journal:
        journal.append(Started(rules=rules))

        def watch(state: CampaignState, event: Event) -> None:
            journal.append(event)

        shell = VirtualShell(rules, World(), np.random.default_rng(1), watch)
        while shell.state.round is None:
            shell.advance()
        actions = [a for a in next_actions(journal.state) if isinstance(a, Train)]
        journal.append(*(Launched(action=action) for action in actions))
        inputs: Any = SimpleNamespace(run=run, settings=settings)
        executor: Any = SimpleNamespace(next_events=lambda _: tuple(map(finished, actions)))
        caplog.set_level(logging.INFO, "aimspax")
        Campaign(inputs, journal, "all")._record_next(executor, 0.0)
        assert journal.state.rounds == 1
    told = [message for message in caplog.messages if message.startswith("round 1 ")]
    assert len(told) == 1
