"""The command `aimspax report`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from aimspax_core.errors import CampaignError
from flows.commands.app import app
from flows.commands.exit_codes import DONE

FINISHED = Path(__file__).parents[2] / "fixtures" / "0.1.0-8e65e71" / "finished"


def test_report_of_a_campaign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(FINISHED, tmp_path / "run")
    told = app(["report", str(tmp_path / "run")], result_action="return_value")
    assert told == DONE
    written = [Path(line) for line in capsys.readouterr().out.split()]
    assert [path.name for path in written] == ["report.html", "report.json", "report.bib"]
    assert json.loads(written[1].read_text())["directory"] == "run"
    told = app(
        ["report", str(tmp_path / "run"), "--save", str(tmp_path / "there")],
        result_action="return_value",
    )
    assert told == DONE
    assert (tmp_path / "there" / "report.html").is_file()


def test_several_campaigns_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        shutil.copytree(FINISHED, tmp_path / name)
    record = tmp_path / "b" / "aimspax" / "settings.json"
    record.unlink()  # else it says what was in force
    text = (tmp_path / "b" / "aimsPAX.yaml").read_text().replace("max_force: 12", "max_force: 13")
    (tmp_path / "b" / "aimsPAX.yaml").write_text(text)
    asked = ["report", str(tmp_path / "a"), str(tmp_path / "b"), "--save", str(tmp_path)]
    assert app(asked, result_action="return_value") == DONE
    written = [Path(line) for line in capsys.readouterr().out.split()]
    assert [path.name for path in written] == ["comparison.html", "comparison.json"]
    found = json.loads(written[1].read_text())
    assert found["differing"]["GATE.max_force"] == {"a": "12", "b": "13"}
    assert [one["name"] for one in found["campaigns"]] == ["a", "b"]
    assert not (tmp_path / "a" / "report.html").exists()


def test_report_is_of_the_settings_that_the_campaign_was_run_with(tmp_path: Path) -> None:
    shutil.copytree(FINISHED, tmp_path / "run")
    text = (tmp_path / "run" / "aimsPAX.yaml").read_text().replace("c_x: -0.5", "c_x: -0.25")
    (tmp_path / "run" / "aimsPAX.yaml").write_text(text)
    assert app(["report", str(tmp_path / "run")], result_action="return_value") == DONE
    changed = json.loads((tmp_path / "run" / "report.json").read_text())["setup"]["changed"]
    assert [one["value"] for one in changed if one["key"] == "ACTIVE_LEARNING.c_x"] == ["-0.5"]


def test_where_there_is_no_campaign_there_is_no_report(tmp_path: Path) -> None:
    for name in ("aimsPAX.yaml", "mace.yaml", "geometry.xyz"):
        shutil.copy(FINISHED / name, tmp_path / name)
    with pytest.raises(CampaignError):
        app(["report", str(tmp_path)], result_action="return_value")
    assert not (tmp_path / "report.html").exists()
