"""How well the uncertainty tells the true error: what is said of it, and drawn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aimspax_core.campaign.events import Event, Started
from aimspax_core.campaign.journal import Journal, entries
from aimspax_core.campaign.judged import energy_factor
from aimspax_core.campaign.state import CampaignState
from aimspax_core.report.calibration_figure import calibration_figure
from aimspax_core.report.calibration_text import calibration_lines
from aimspax_core.report.judgements import judgements
from aimspax_core.run_directory import RunDir
from aimspax_core.uncertainty.calibration import LEAST
from tests.campaign.virtual import VirtualShell, World
from tests.report.test_figures import RULES, run_dir


def played(folder: Path, factor: float, geometries: int = 1) -> tuple[RunDir, CampaignState]:
    run = run_dir(folder)
    rules = RULES.but(geometries=geometries, desired_acc=0.0)
    with Journal(run) as journal:
        journal.append(Started(rules=rules))
        world = World(spreads=(0.1, 0.3)[:geometries], factor=factor)
        events: list[Event] = []
        shell = VirtualShell(rules, world, np.random.default_rng(0), lambda _, e: events.append(e))
        shell.run()
        for event in events:
            journal.append(event)
        return run, journal.state


def test_every_point_is_drawn_with_the_factor_that_was_in_force(tmp_path: Path) -> None:
    run, state = played(tmp_path, 1.5)
    found = judgements(entries(run.journal))
    assert len(found.points) == len(found.factors) == state.judgement.points > 10
    calibration = state.judgement.calibration()
    assert calibration is not None
    assert found.factors[-1][1] == calibration.factor == pytest.approx(1.5, rel=0.1)
    assert calibration_figure(run, run.calibration)
    with Image.open(run.calibration) as picture:
        assert picture.format == "PNG" and picture.width >= 900


def test_energies_are_held_against_what_the_same_ensemble_said(tmp_path: Path) -> None:
    run, _ = played(tmp_path, 1.5)
    found = judgements(entries(run.journal))
    pairs = list(zip(found.ensembles, found.points, strict=True))
    counts = Counter(found.ensembles)
    assert len(counts) > 3 and max(counts.values()) > 1
    assert {len(ensemble) for ensemble in counts} == {len(RULES.tags)}
    assert energy_factor(pairs) == pytest.approx(1.0, rel=0.4)


def test_nothing_is_drawn_or_said_where_nothing_was_kept(tmp_path: Path) -> None:
    run, state = played(tmp_path, 0.0)
    assert not calibration_figure(run, run.calibration)
    assert not run.calibration.exists()
    assert calibration_lines(state) == []


def test_several_geometries_are_told_one_by_one(tmp_path: Path) -> None:
    _, state = played(tmp_path, 1.5, geometries=2)
    overall, each = calibration_lines(state)
    assert f"by {state.judgement.points} labels" in overall
    assert ", 1: 1." in each


def test_how_many_labels_it_takes_is_told_where_they_decide_something(tmp_path: Path) -> None:
    _, state = played(tmp_path, 1.5)
    few = state.but(judgement=state.judgement.but(recent=state.judgement.recent[: LEAST - 1]))
    counts = f"from {LEAST} on"
    assert counts not in calibration_lines(few)[0]
    rules = few.rules.but(threshold="calibrated", force_error=0.3)
    assert counts in calibration_lines(few.but(rules=rules))[0]
    assert counts not in calibration_lines(few.but(rules=rules.but(random_share=0.5)))[0]
