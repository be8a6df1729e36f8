"""Claims about the reasons that are given for points without a label."""

from __future__ import annotations

from itertools import repeat

from aimspax_core.campaign.events import LabelFailed, Sampled, Started
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import CampaignState
from aimspax_core.errors import LabelFailure
from aimspax_core.report.failed_labels import by_reason, rows
from tests.report.test_narrative import RULES


def failed(*reasons: str, kinds: tuple[LabelFailure, ...] = ()) -> CampaignState:
    state = apply(None, Started(rules=RULES))
    keys = tuple(f"{n:064d}" for n in range(len(reasons) + 1))
    state = apply(state, Sampled(action_id="sample:1:0", geometry=0, version=1, found=keys))
    for key, reason, kind in zip(keys, reasons, kinds or repeat(LabelFailure.OTHER), strict=False):
        state = apply(state, LabelFailed(key=key, reason=reason, failure=kind))
    return state


def test_reasons_that_differ_in_numbers_and_folders_are_one() -> None:
    state = failed(
        "SCF did not converge (/a/calc/H2O-1)",
        "a force of 99.1 eV/Å",
        "SCF did not converge (/a/calc/H2O-2)",
        "a force of 73.0 eV/Å",
        "SCF did not converge (/b)",
    )
    assert by_reason(state) == [("SCF did not converge", 3), ("a force of 99.1 eV/Å", 2)]


def test_failures_of_a_kind_count_together_however_they_are_worded() -> None:
    scf, force = LabelFailure.SCF, LabelFailure.FORCE
    state = failed(
        "SCF did not converge: in 100 cycles (/a/calc/H2O-1)",
        "a force of 99.1 eV/Å",
        "no SCF; this label is from the label store: remove /a/labels/01.json",
        "the reference did not find a density",
        kinds=(scf, force, scf, scf),
    )
    assert by_reason(state) == [
        ("SCF did not converge: in 100 cycles", 3), ("a force of 99.1 eV/Å", 1)
    ]  # fmt: skip


def test_rows_tell_the_last_points_with_their_whole_reason() -> None:
    state = failed(*(f"reason {n} (/a/calc/{n})" for n in range(30)))
    told = rows(state)
    assert len(told) == 20
    assert told[0]["reason"] == "reason 29 (/a/calc/29)"
    assert told[0]["from"] == "sampling step 1"


def test_without_failures_there_is_nothing_to_tell() -> None:
    assert (rows(failed()), by_reason(failed())) == ([], [])
