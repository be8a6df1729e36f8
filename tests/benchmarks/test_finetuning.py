"""What `bench_finetuning` does around its campaigns, which are not run here."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aimspax_core.settings.load import load

CURVE = [(5, 400.0), (10, 100.0), (20, 120.0), (30, 25.0)]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("bench_finetuning")


def outcome(curve: list[tuple[int, float]]) -> Any:
    one = importlib.import_module("bench_selection").Outcome
    return one(curve[-1][0], 0.5, curve, 50.0, 1.0, 1.0, 1.0, False)


@pytest.mark.parametrize(
    ("error", "labels"),
    [(500, 5), (400, 5), (200, 7.5), (100, 10), (50, 25.6), (25, 30)],
)
def test_labels_to_an_error_are_where_the_curve_is_first_there(
    bench: ModuleType, error: float, labels: float
) -> None:
    assert bench.labels_to(CURVE, error) == pytest.approx(labels, abs=0.05)
    assert math.isnan(bench.labels_to(CURVE, 24.9))


def test_errors_that_some_seeds_do_not_reach_are_told_with_how_many_do(bench: ModuleType) -> None:
    assert bench.labels_text([math.nan, math.nan]) == "not reached"
    assert bench.labels_text([10.0, math.nan, 20.0]).startswith("15.0 ± 7.1 (2 of 3)")
    assert "of" not in bench.labels_text([10.0, 20.0])


def test_fewer_labels_are_counted_from_what_comes_without_training(bench: ModuleType) -> None:
    """SO3LR as it comes stands before the curve; each seed is held against its own twin."""
    way, nothing = bench.WAYS["naive"], bench.WAYS["nothing"]
    some = [outcome([(10, 100.0)]), outcome([(10, 50.0)])]
    twins = [outcome([(10, 400.0), (40, 100.0)]), outcome([(10, 400.0), (40, 200.0)])]
    lines = list(bench.curves(way, some, 200.0))
    assert [line[0] for line in lines] == [(0, 200.0)] * 2
    assert next(iter(bench.curves(nothing, twins, 200.0)))[0] == (10, 400.0)
    text = bench.fewer_text(some, lines, twins)
    assert text.startswith("+88 ±")  # 75 % and 100 %
    assert "1 of 2 not there" in bench.fewer_text(some, lines, [twins[0], outcome([(10, 20.0)])])


@pytest.mark.parametrize("quick", [True, False])
def test_what_all_campaigns_are_begun_with_can_be_read(
    bench: ModuleType, quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "held_out", lambda _: bench.EXAMPLE / "held_out.xyz")
    for molecule in bench.MOLECULES:
        for name, way in bench.WAYS.items():
            directory = tmp_path / f"{molecule}-{name}"
            bench.inputs(molecule, way, directory)
            size = bench.QUICK if quick else bench.SIZE
            found = load(directory, bench.changes(way, 1, size))
            assert found.model.TRAINING.perform_finetuning is way.tunes
            assert found.idg.sampling_engine is not None
