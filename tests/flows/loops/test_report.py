"""The report that a campaign writes beside its work: seldom, without waiting, never failing it."""

from __future__ import annotations

import logging
import math
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aimspax_core.errors import CampaignError
from aimspax_core.inputs.campaign_inputs import Inputs
from flows.loops import report
from flows.loops.report import Reports, written

FINISHED = Path(__file__).parents[2] / "fixtures" / "0.1.0-8e65e71" / "finished"


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    """A campaign that is finished."""
    shutil.copytree(FINISHED, tmp_path / "water")
    return Inputs.of_campaign(tmp_path / "water")


def test_report_is_renewed_after_a_round_and_not_before_it_is_time(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []

    def note(found: Inputs) -> None:
        assert found.state is not None
        done.append(found.state.rounds)

    monkeypatch.setattr(report, "written", note)
    state, reports = inputs.state, Reports()
    assert state is not None

    def renew(rounds: int) -> None:
        reports.renew(inputs, state.but(rounds=rounds))
        for thread in threading.enumerate():
            if thread.name == "report":
                thread.join()

    renew(1)
    assert not done
    monkeypatch.setattr(report, "LEAST_S", 0.0)
    monkeypatch.setattr(report, "SHARE", math.inf)  # however long a thread takes to begin
    for rounds in (1, 1, 2):
        renew(rounds)
    assert done == [1, 2]
    monkeypatch.setattr(report, "LEAST_S", 60.0)
    renew(3)
    assert done == [1, 2]


@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), CampaignError("damaged"), PermissionError(13, "no", "x.html")]
)
def test_campaign_does_not_fail_with_its_report(
    inputs: Inputs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    def fail(found: Inputs) -> None:
        raise error

    monkeypatch.setattr(report, "written", fail)
    assert inputs.state is not None
    with caplog.at_level(logging.WARNING, logger="aimspax"):
        Reports().finish(inputs, inputs.state)
    assert "no report" in caplog.text


def test_finished_campaign_has_its_models_card_in_the_report(inputs: Inputs) -> None:
    shutil.copy(next(inputs.run.results.glob("*.model")), inputs.run.results / "water-472.model")
    page, *_ = written(inputs)
    assert page == inputs.run.report_files[0]
    assert "no foundation model is part of these models" in page.read_text(encoding="utf-8")


def test_report_needs_neither_torch_nor_matplotlib_nor_prefect(inputs: Inputs) -> None:
    script = (
        "import sys; from pathlib import Path; from flows.loops.report import written; "
        "from aimspax_core.inputs.campaign_inputs import Inputs; "
        f"written(Inputs.of_campaign(Path({str(inputs.settings.directory)!r}))); "
        "sys.exit(str({'torch', 'matplotlib', 'prefect'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == "set()"
