"""What a campaign meant by uncertainty lies beside its models."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimspax_core.errors import ModelError
from aimspax_core.uncertainty.chosen import FILE, Chosen


def test_what_was_chosen_is_read_again(tmp_path: Path) -> None:
    chosen = Chosen("mean_atomic_sd", "free_atoms")
    chosen.write(tmp_path)
    assert Chosen.read(tmp_path) == chosen


def test_results_of_an_earlier_release_have_the_default(tmp_path: Path) -> None:
    assert Chosen.read(tmp_path) == Chosen("max_atomic_sd", "all")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "{}",
        "[]",
        '{"uncertainty_type": "?", "uncertainty_of": "all"}',
        '{"uncertainty_type": "max_atomic_sd", "uncertainty_of": ["all"]}',
    ],
)
def test_what_does_not_say_it_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"uncertainty\.json"):
        Chosen.read(tmp_path)
