"""Figures of a finished campaign; what draws them is imported while it converges."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
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
    assert imported == [
        "aimspax_core.report.calibration_figure",
        "aimspax_core.report.figures",
        "aimspax_core.report.document.writing",
    ]


SCRIPT = """
import sys, threading
from aimspax_core.campaign.state import CampaignState, Phase
from flows.loops.figures import Figures
from tests.campaign.test_rules import make_rules
before = "matplotlib.figure" in sys.modules
Figures(None).expect(CampaignState.begin(make_rules()).but(phase=Phase.CONVERGE))
[loading] = [thread for thread in threading.enumerate() if thread.name == "figures"]
loading.join()
print(before, "matplotlib.figure" in sys.modules, loading.daemon)
"""


def test_matplotlib_is_there_before_figures_are_drawn_and_no_run_waits_for_it_to_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True", "True"], done.stderr


def test_what_cannot_be_imported_is_not_told_before_it_is_needed(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(name: str) -> None:
        raise OSError(name)

    told: list[object] = []
    monkeypatch.setattr(figures, "import_module", broken)
    monkeypatch.setattr(threading, "excepthook", told.append)
    drawn = Figures(run)
    drawn.expect(CampaignState.begin(make_rules()).but(phase=Phase.CONVERGE))
    drawn.draw()  # which imports by itself
    assert (told, caplog.records) == ([], [])


def test_figures_are_drawn_also_of_a_campaign_that_did_not_converge_here(run: RunDir) -> None:
    run.report.unlink(missing_ok=True)
    Figures(run).draw()
    assert run.report.stat().st_size > 10_000
