"""Figures of a finished campaign; what draws them is imported while it converges."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from flows.loops import figures
from flows.loops.figures import Figures
from tests.campaign.test_rules import make_rules

FINISHED = Path(__file__).parents[2] / "fixtures" / "0.1.0-8e65e71" / "finished"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """The run directory of a campaign that is finished."""
    shutil.copytree(FINISHED, tmp_path / "water")
    return RunDir.of(load(tmp_path / "water"))


def test_what_draws_is_imported_once_and_not_before_the_last_convergence(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported: list[str] = []
    monkeypatch.setattr(figures, "import_module", imported.append)
    state, drawn = CampaignState.begin(make_rules()), Figures(run)
    for phase in (Phase.INITIAL, Phase.ACTIVE, Phase.DRAIN):
        drawn.expect(state.but(phase=phase))
    assert not imported
    for _ in range(2):
        drawn.expect(state.but(phase=Phase.CONVERGE))
    drawn.draw()
    assert imported == ["aimspax_core.report.calibration_figure", "aimspax_core.report.figures"]


def test_figures_are_drawn_also_of_a_campaign_that_did_not_converge_here(run: RunDir) -> None:
    run.report.unlink(missing_ok=True)
    Figures(run).draw()
    assert run.report.stat().st_size > 10_000
