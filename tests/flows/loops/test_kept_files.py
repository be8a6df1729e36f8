"""What follows from events beside a campaign's state: what its page tells of them."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
from ase.build import molecule

from aimspax_core.campaign.events import ExplorationAsked, Started, TimePassed
from aimspax_core.campaign.journal import Journal
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.inputs.campaign_inputs import Inputs
from flows.loops.kept_files import KeptFiles
from tests.flows.loops.test_executor import PROJECT


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    (tmp_path / "aimsPAX.yaml").write_text(PROJECT)
    (tmp_path / "mace.yaml").write_text("GENERAL: {name_exp: water}\n")
    ase.io.write(tmp_path / "water.xyz", molecule("H2O"))
    return Inputs.read(tmp_path)


def test_the_page_knows_what_was_before_this_process(inputs: Inputs) -> None:
    with Journal(inputs.run) as journal:
        state = journal.append(Started(rules=inputs.rules), TimePassed(seconds=5.0))
    kept = KeptFiles(inputs, lambda write: write())
    kept.take_up(state)
    assert (kept.story.events, kept.story.starts) == (2, 1)


def test_what_changed_with_events_that_came_together_is_told_once(inputs: Inputs) -> None:
    kept = KeptFiles(inputs, lambda write: write())
    before = CampaignState.begin(inputs.rules)
    after = before.but(phase=Phase.ACTIVE)
    for event in (ExplorationAsked(), TimePassed(seconds=5.0)):
        for listener in kept.listeners:
            listener(before, event, after)
    assert kept.story.events == 2
    assert [phase for phase, _ in kept.story.phases] == [Phase.ACTIVE]
