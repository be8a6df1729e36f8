"""The Python of pages on what a campaign leaves runs, with a campaign that has finished."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, Block, blocks_of

FINISHED = ROOT / "tests" / "fixtures" / "0.1.0-8e65e71" / "finished"
PYTHON = [
    block for block in blocks_of(ROOT / "docs" / "tutorials" / "using.md")
    if block.language == "python"
]  # fmt: skip


@pytest.fixture
def beside_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working directory with an exported run directory DIR; torch's default is put back."""
    import torch

    from aimspax_core.evaluation.export import export
    from aimspax_core.evaluation.finished import Finished
    from aimspax_core.inputs.campaign_inputs import Inputs

    shutil.copytree(FINISHED, tmp_path / "DIR")
    results = tmp_path / "DIR" / "results"
    shutil.copyfile(results / "water-511.model", results / "water-472.model")
    found = Inputs.of_campaign(tmp_path / "DIR")
    assert found.state is not None
    campaign = Finished(found.run, found.settings, found.state, found.geometries)
    list(export(campaign, tmp_path / "DIR" / "export", ()))
    monkeypatch.chdir(tmp_path)
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


@pytest.mark.torch
@pytest.mark.usefixtures("beside_a_run")
@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_the_block_runs(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block.text, block.place, "exec"), {})
    assert capsys.readouterr().out.strip() or Path("data.lmp").read_text()


@pytest.mark.torch
@pytest.mark.usefixtures("beside_a_run")
def test_the_picture_of_an_analysis_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir("DIR")
    (block,) = (one for one in blocks_of(ROOT / "docs" / "analysis.md") if one.language == "python")
    exec(compile(block.text, block.place, "exec"), {})
    assert Path("error_against_uncertainty.png").stat().st_size > 1000
