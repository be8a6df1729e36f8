"""One look at a run directory: the journal first, then all files that it says something about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aimspax_core import locks
from aimspax_core.errors import CampaignError
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.settings import Settings
from aimspax_core.verification import (
    dataset_files,
    label_files,
    leftovers,
    model_errors,
    snapshot,
    state_files,
)
from aimspax_core.verification.findings import Finding, Kind, Report
from aimspax_core.verification.journal_lines import Event, events, events_after
from aimspax_core.verification.ledger import Ledger

LOOKS = 4
"""A campaign that runs is looked at so often at most: what is not found again was in the making."""


def verify(settings: Settings, models: bool = True) -> Report:
    """Look for all that is wrong in a run directory.

    Nothing is changed. A campaign that runs meanwhile changes its files between two looks: what
    counts is what every look finds.

    Args:
        settings: The settings of the run directory.
        models: Whether models are loaded and evaluated, which takes torch, and the longest.

    Raises:
        CampaignError: No campaign has been started there.
        OSError: A file or folder may not be read.
    """
    run = RunDir.of(settings)
    report = _look(settings, run, models)
    for _ in range(LOOKS - 1):
        if not report.findings or not _runs(run):
            break
        again = _look(settings, run, models)
        again.findings = [found for found in again.findings if found in report.findings]
        report = again
    return report


def _runs(run: RunDir) -> bool:
    return locks.holder(run.lock) is not None


def _look(settings: Settings, run: RunDir, models: bool) -> Report:
    report = Report()
    running = _runs(run)
    ledger = _journal(run, report)
    if ledger is None:
        return report
    labels = label_files.Labels(run, report)
    label_files.check(run, ledger, labels, report)
    dataset_files.check_sets(run.journal, ledger, report)
    dataset_files.check_round_files(run, ledger, report)
    dataset_files.check_published(run, ledger, labels, settings.misc, report)
    state_files.check_md_states(run, ledger, report)
    model_errors.check_exist(run, ledger, report)
    if models:
        model_errors.check(run, ledger, labels, _model_settings(settings, ledger), report)
    if running:
        report.notes.append("a process runs this campaign: what is in flight is no finding")
    else:
        leftovers.check(run, ledger.finished, report)
    return report


def _model_settings(settings: Settings, ledger: Ledger) -> ModelSettings:
    """Return the settings of models; fine-tuned ones have the ARCHITECTURE that is recorded."""
    recorded = ledger.rules.get("architecture", {})
    architecture = settings.model.ARCHITECTURE.model_copy(update=recorded)
    return settings.model.model_copy(update={"ARCHITECTURE": architecture})


def _journal(run: RunDir, report: Report) -> Ledger | None:
    """Add the journal up, and hold the snapshot against it; None if neither can be gone by."""
    if not run.journal.is_file():
        raise CampaignError(f"{run.output}: no campaign has been started here")
    known = snapshot.read(run.snapshot, report)
    before = len(report.findings)
    seq, ledger = _added_up(run, known, report)
    broken = ledger is None or _broken(run, report.findings[before:])
    ahead = known is not None and known[0] > seq
    if known is not None and ahead and not broken:
        what = f"it knows {known[0]} events, but the journal has only {seq}"
        report.found(Kind.STATE, run.snapshot, what)
    if not broken and not ahead:
        return ledger
    return None if known is None else _from_snapshot(run, *known, report)


def _broken(run: RunDir, findings: list[Finding]) -> bool:
    kinds = {finding.kind for finding in findings if finding.file == run.journal}
    return bool(kinds & {Kind.UNREADABLE, Kind.SEQUENCE, Kind.CHANGED})


def _added_up(
    run: RunDir, known: tuple[int, dict[str, Any]] | None, report: Report
) -> tuple[int, Ledger | None]:
    """Add events up, as far as they can be read; return the last one, and None if one cannot."""
    seq, ledger = 0, Ledger()
    ledger.complain = lambda kind, what: report.found(kind, run.journal, f"event {seq}: {what}")
    for seq, event in events(run.journal, report):
        if not _taken(ledger, event):
            return seq, None
        if known is not None and seq == known[0]:
            _compare(run.snapshot, known[1], ledger, report)
    return seq, ledger


def _from_snapshot(run: RunDir, seq: int, state: dict[str, Any], report: Report) -> Ledger | None:
    """Take the snapshot's word for what a damaged journal cannot tell, and go on from there."""
    ledger = Ledger()
    try:
        ledger.restore(state)
    except (KeyError, TypeError, AttributeError):  # which is a finding already
        return None
    report.notes.append(f"files are held against the snapshot, which knows {seq} events")
    ledger.complain = lambda kind, what: report.found(kind, run.journal, f"event {seq}: {what}")
    for number, event in events_after(run.journal, seq):
        seq = number
        if not _taken(ledger, event):
            return None
    return ledger


def _taken(ledger: Ledger, event: Event) -> bool:
    """Add an event; return whether it has all that its kind has."""
    try:
        ledger.take(event)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"it lacks what a {event['kind']!r} has ({type(error).__name__}: {error})"
        ledger.complain(Kind.EVENT, what)
        return False
    return True


def _compare(path: Path, state: dict[str, Any], ledger: Ledger, report: Report) -> None:
    try:
        snapshot.compare(path, state, ledger, report)
    except (KeyError, TypeError, AttributeError) as error:
        what = f"it lacks what a snapshot has ({type(error).__name__}: {error})"
        report.found(Kind.UNREADABLE, path, what)
