"""Lengths of time, lists of names, and the nearest name, as sentences have them."""

from __future__ import annotations

import pytest

from aimspax_core.text import and_list, did_you_mean, duration_text, nearest_name, or_list


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (0.3456, "0.35 s"),
        (9.96, "10 s"),
        (90, "90 s"),
        (119, "119 s"),
        (120, "2 min"),
        (1000, "17 min"),
        (3600, "1 h"),
        (5400, "90 min"),
        (7200, "2 h"),
        (9000, "2.5 h"),
        (86400, "24 h"),
        (3.6e6, "1000 h"),
    ],
)
def test_a_length_of_time_has_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_list_has_its_word_before_the_last_name() -> None:
    assert or_list(["a"]) == "a"
    assert or_list(["a", "b", 3]) == "a, b or 3"
    assert and_list(name for name in ("a", "b")) == "a and b"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("TBLIT", "tblite"), ("pysfc", "PySCF"), ("orca", None), (3, None)],
)
def test_the_nearest_name_is_told_as_it_is_known(name: object, nearest: str | None) -> None:
    known = ["tblite", "PySCF", "aims"]
    assert nearest_name(name, known) == nearest
    assert did_you_mean(name, known) == (f"; did you mean {nearest}?" if nearest else "")
