"""The snapshot of a campaign held against what its events add up to."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from aimspax_core.verification.exploring import Judgement, Uncertainties
from aimspax_core.verification.findings import Kind, Report
from aimspax_core.verification.journal_lines import unsealed
from aimspax_core.verification.ledger import Ledger
from aimspax_core.verification.members import Member


def read(path: Path, report: Report) -> tuple[int, dict[str, Any]] | None:
    """Return the number of events that a snapshot knows, and the state in it; None if none can."""
    try:
        text, holds = unsealed(path.read_bytes())
        if not holds:
            report.found(Kind.CHANGED, path, "its checksum is that of another content")
            return None
        content = json.loads(text)
        return int(content["seq"]), content["state"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        report.found(Kind.UNREADABLE, path, f"it is no snapshot ({why})")
        return None


def compare(path: Path, state: dict[str, Any], ledger: Ledger, report: Report) -> None:
    """Find what a snapshot says otherwise than the events up to it.

    Args:
        path: The snapshot.
        state: The state in it.
        ledger: What the events add up to, after the last that the snapshot knows.
        report: Takes the findings.
    """
    _counters(path, state, ledger, report)
    _points(path, state["points"], ledger, report)
    for kind in ("training", "validation"):
        if list(state[kind]) != getattr(ledger, kind):
            what = f"the {kind} points that exploring has found are not those of the events"
            report.found(Kind.SETS, path, what)
    # What is given up may have been the last of its step, which the next launch says was dealt.
    dealt = all(ledger.points[key].step is None for key in _given_up(state, ledger))
    for tag, member in ledger.members.items():
        if tag not in state["members"]:
            report.found(Kind.STATE, path, f"it does not know the member {tag}")
        else:
            if dealt:
                _own_sets(path, tag, state["members"][tag], member, report)
            _member(path, tag, state["members"][tag], member, report)
    _exploring(path, state, ledger, report)
    finished = state["phase"] == "finished"
    if finished != ledger.finished and not ledger.perhaps_reopened:
        ends = "" if ledger.finished else "not "
        what = f"the phase is {state['phase']}, but the last event is {ends}the end of a campaign"
        report.found(Kind.STATE, path, what)
    if finished and ledger.finished:
        for tag, member in ledger.members.items():
            told = state["members"].get(tag, {}).get("settled")  # earlier releases did not
            if told is not None and told != member.settled:
                what = f"the errors of {tag} as it was published are not those of the events"
                report.found(Kind.STATE, path, what)


def _counters(path: Path, state: dict[str, Any], ledger: Ledger, report: Report) -> None:
    given_up = sum(point.status == "given-up" for point in ledger.points.values())
    lost = len(_given_up(state, ledger))
    expected = {
        "labels": ledger.labels,
        "failed_labels": ledger.failed + given_up + lost,
        "refused": ledger.refused,
        "rounds": ledger.rounds,
        "segments": ledger.segments,
    }
    dropped = ledger.dropped_perhaps + ledger.dropped_before
    if ledger.rounds - dropped <= state["rounds"] <= ledger.rounds:
        del expected["rounds"]
    for name, count in expected.items():
        if state[name] != count:
            what = f"{name} is {state[name]}, but the events add up to {count}"
            report.found(Kind.COUNTER, path, what)
    told = state.get("candidates_refused", {})
    if told != ledger.passed_over:
        what = f"candidates were refused: {told}, but {ledger.passed_over} by the events"
        report.found(Kind.COUNTER, path, what)
    if state.get("ran_s", 0.0) != ledger.ran_s:
        what = f"ran_s is {state['ran_s']}, but the events say {ledger.ran_s}"
        report.found(Kind.COUNTER, path, what)
    for geometry, cost in enumerate(state.get("costliest", ())):
        if cost != ledger.costliest.get(geometry, 0.0):
            what = f"the costliest label of geometry {geometry} is not that of the events"
            report.found(Kind.COUNTER, path, what)
    if not math.isclose(state["core_hours"], ledger.core_hours, rel_tol=1e-9, abs_tol=1e-12):
        what = f"core_hours is {state['core_hours']}, but the events add up to {ledger.core_hours}"
        report.found(Kind.COUNTER, path, what)


def _given_up(state: dict[str, Any], ledger: Ledger) -> set[str]:
    """Return points that were lost too often: no event says so, but what is launched next."""
    return {
        key
        for key, point in state["points"].items()
        if point["status"] == "failed"
        and key in ledger.points
        and ledger.points[key].status == "requested"
    }


_AS = {"requested": ("requested",), "labelled": ("labelled",), "failed": ("failed", "given-up")}


def _points(path: Path, points: dict[str, Any], ledger: Ledger, report: Report) -> None:
    for key, point in points.items():
        known = ledger.points.get(key)
        if known is None:
            report.found(Kind.STATE, path, f"point {key[:8]} is in no event")
        # A label that was lost too often is given up without an event of its own.
        elif known.status not in _AS[point["status"]] and (
            (point["status"], known.status) != ("failed", "requested")
        ):
            what = f"point {key[:8]} is {point['status']}, but {known.status} by the events"
            report.found(Kind.STATE, path, what)
    for key, known in ledger.points.items():
        if known.asked and key not in points:
            report.found(Kind.STATE, path, f"point {key[:8]} of the events is missing")


def _own_sets(path: Path, tag: str, state: dict[str, Any], member: Member, report: Report) -> None:
    for kind in ("training", "validation"):
        if list(state[kind]) != getattr(member, kind):
            what = f"the initial {kind} set of {tag} is not that of the events"
            report.found(Kind.SETS, path, what)


def _member(path: Path, tag: str, state: dict[str, Any], member: Member, report: Report) -> None:
    if member.set_back:  # what it goes on from is not launched yet
        return
    if state["epochs"] != member.epochs:
        what = f"{tag} has {state['epochs']} epochs, but the events add up to {member.epochs}"
        report.found(Kind.COUNTER, path, what)
    for name in ("checkpoint", "errors"):
        if _said(state[name]) != _said(getattr(member, name)):
            report.found(Kind.STATE, path, f"{name} of {tag}: not that of its last event")


def _said(value: Any) -> Any:
    """Return a record without what is None: older releases know fewer kinds of errors."""
    if isinstance(value, dict):
        return {key: one for key, one in value.items() if one is not None}
    return value


def _exploring(path: Path, state: dict[str, Any], ledger: Ledger, report: Report) -> None:
    own = [ledger.seen_of[geometry] for geometry in sorted(ledger.seen_of)]
    told = [Uncertainties.of(window) for window in (state["window"], *state.get("windows", ()))]
    if len(told) != 1 + len(own):
        what = f"{len(told) - 1} geometries have a threshold of their own, by the events {len(own)}"
        report.found(Kind.STATE, path, what)
    for window, seen in zip(told, (ledger.seen, *own), strict=False):
        if (window.values, window.count) != (seen.values, seen.count):
            report.found(Kind.STATE, path, "the uncertainties seen are not those of the events")
        if window.frozen != seen.frozen:
            what = f"a threshold is frozen at {window.frozen}, by the events {seen.frozen}"
            report.found(Kind.STATE, path, what)
    judged, own_sums = Judgement.of(state.get("judgement")), ledger.judgement
    whole = judged.since_the_start and own_sums.since_the_start
    if judged.in_short != own_sums.in_short or (whole and judged != own_sums):
        what = "what the uncertainty is calibrated by is not that of the events"
        report.found(Kind.STATE, path, what)
    given_up = _given_up(state, ledger)
    for trajectory in state["trajectories"]:
        known = ledger.trajectories.get(trajectory["index"])
        if known is None:
            continue
        if known.waiting_for in given_up:
            known = replace(known)
            known.roll_back()
        for name in ("version", "step", "checkpoint", "origin", "begun_anew"):
            expected = getattr(known, name)
            if name in trajectory and trajectory[name] != expected:
                what = (
                    f"{name} of trajectory {trajectory['index']} is {trajectory[name]}, "
                    f"by the events {expected}"
                )
                report.found(Kind.STATE, path, what)
    for sampler in state["samplers"]:
        expected = ledger.samplers.get(sampler["geometry"], 0)
        if sampler["version"] != expected:
            what = f"the sampling MD of geometry {sampler['geometry']} is not that of the events"
            report.found(Kind.STATE, path, what)
