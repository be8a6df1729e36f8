"""What `bench_selection` does around its campaigns, which are not run here."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("bench_selection")


@pytest.fixture
def commands(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have been run; the first is interrupted."""
    begun: list[list[str]] = []

    def measured(command: list[str], *_: Any, **__: Any) -> dict[str, float]:
        begun.append(command)
        if len(begun) == 1:
            raise KeyboardInterrupt
        return {"wall_s": 7.0, "cpu_s": 9.0}

    monkeypatch.setattr(bench, "measured", measured)
    return begun


def test_a_campaign_that_was_interrupted_goes_on_and_says_that_its_times_are_of_a_part(
    bench: ModuleType, commands: list[list[str]], tmp_path: Path
) -> None:
    changed = bench.changes("random", 1, 0.125)
    with pytest.raises(KeyboardInterrupt):
        bench.timed(tmp_path / "one", changed)
    part = bench.timed(tmp_path / "one", changed)
    assert (part["wall_s"], part["resumed"]) == (7.0, True)
    assert bench.timed(tmp_path / "one", changed) == part
    assert len(commands) == 2, "it is not run again"
    assert bench.timed(tmp_path / "other", changed)["resumed"] is False


def test_a_campaign_of_another_size_is_refused_begun_or_finished(
    bench: ModuleType, commands: list[list[str]], tmp_path: Path
) -> None:
    changed = bench.changes("uncertainty", 1, None)
    with pytest.raises(KeyboardInterrupt):
        bench.timed(tmp_path / "one", changed)
    bench.timed(tmp_path / "other", changed)
    for name in ("one", "other"):
        with pytest.raises(SystemExit, match=name):
            bench.timed(tmp_path / name, bench.QUICK | changed)
    (tmp_path / "other.json").write_text('{"wall_s": 7.0, "cpu_s": 9.0}')
    with pytest.raises(SystemExit, match="other"):
        bench.timed(tmp_path / "other", changed)
    assert len(commands) == 2


@pytest.mark.parametrize(
    ("gains", "half", "told"),
    [
        ((5, 10, 15), "± 12 %", False),  # 3.5 standard errors, where three seeds ask for 4.3
        ((7, 10, 13), "± 7 %", True),  # 5.8
        ((-2, 22), "± 152 %", False),
        ((0, 10, 10, 10, 20) * 4, "± 3 %", True),
    ],
)
def test_a_gain_is_told_where_its_confidence_interval_does_not_hold_zero(
    bench: ModuleType, gains: tuple[int, ...], half: str, told: bool
) -> None:
    text = bench.gain_text([(100 - gain, 100) for gain in gains])
    assert f"+10 {half}" in text
    assert ("nothing" not in text) is told
