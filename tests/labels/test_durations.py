"""What labels took says what the next one takes."""

from __future__ import annotations

import importlib.metadata
import platform

import pytest

from aimspax_core.labels.durations import UNKNOWN, WHOLE_JOB, Durations
from aimspax_core.labels.tries import Tries
from aimspax_core.versions import versions


def _of(*seconds: float) -> Durations:
    durations = Durations()
    for each in seconds:
        durations.note(0, each)
    return durations


def test_of_what_was_never_labelled_nothing_is_known():
    assert _of(3.0).of(1) is None


def test_one_label_says_what_the_next_one_takes():
    assert _of(3.0).of(0) == 3.0


def test_nearly_all_labels_take_no_longer_than_is_said():
    said = _of(*range(1, 101)).of(0)
    assert said is not None
    assert sum(seconds <= said for seconds in range(1, 101)) == 95


def test_one_label_that_hung_does_not_decide():
    said = _of(*[10.0] * 50, 1e6).of(0)
    assert said == 10.0


def test_a_solid_says_nothing_of_a_molecule():
    durations = _of(1.0)
    durations.note(1, 1000.0)
    assert (durations.of(0), durations.of(1)) == (1.0, 1000.0)


def test_labels_of_long_ago_are_forgotten():
    assert _of(*[1000.0] * 500, *[2.0] * 101).of(0) == 2.0


def test_versions_are_those_that_are_installed():
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == importlib.metadata.version("torch")


@pytest.mark.parametrize("name", ["aimspax", "distributed", "prefect", "mace-torch", "numpy"])
def test_versions_name_what_decides(name):
    assert name in versions()


def test_a_label_that_outlasted_a_job_is_given_a_whole_one():
    assert _of(3.0).of(0, Tries(out_of_time=1)) == WHOLE_JOB
    assert _of().of(0, Tries(out_of_time=1)) == WHOLE_JOB


def test_other_losses_say_nothing_of_how_long_a_label_takes():
    assert _of(3.0).of(0, Tries(died=2, interrupted=5)) == 3.0
    assert _of().of(0, Tries(died=2)) is UNKNOWN


@pytest.mark.parametrize(
    ("known", "ran_s", "told_s", "unusual"),
    [
        ((10.0, 40.0), 119.0, 0.0, False),
        ((10.0, 40.0), 120.0, 0.0, True),
        ((10.0, 40.0), 239.0, 120.0, False),
        ((10.0, 40.0), 240.0, 120.0, True),
        ((1.0,), 59.0, 0.0, False),
        ((1.0,), 60.0, 0.0, True),
        ((), 3599.0, 0.0, False),
        ((), 3600.0, 0.0, True),
        ((), 7199.0, 3600.0, False),
    ],
)
def test_a_label_is_unusual_that_runs_three_times_as_long_as_any_other(
    known: tuple[float, ...], ran_s: float, told_s: float, unusual: bool
) -> None:
    found = _of(*known).unusual(0, ran_s, told_s)
    assert (found is not None) == unusual
    if found is not None:
        assert found.longest_s == max(known, default=None)


def test_a_label_is_compared_with_others_of_its_geometry() -> None:
    durations = _of(10.0)
    durations.note(1, 1000.0)
    assert durations.unusual(0, 100.0) is not None
    assert durations.unusual(1, 100.0) is None
