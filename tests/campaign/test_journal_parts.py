"""Closed parts of a journal: no event is lost by compressing them, wherever a process is killed."""

from __future__ import annotations

import errno
import gzip
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from aimspax_core.campaign import journal as journals
from aimspax_core.campaign import journal_parts, journal_reading
from aimspax_core.campaign.journal import Journal, entries, load
from aimspax_core.campaign.journal_parts import parts
from aimspax_core.errors import CampaignError
from aimspax_core.run_directory import RunDir
from aimspax_core.verification.findings import Kind, Report
from aimspax_core.verification.journal_lines import events
from tests.campaign.test_journal import EVENTS, replayed, run_in, write

TOLD = EVENTS[:100]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return run_in(tmp_path)


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts as small as a test can fill."""
    monkeypatch.setattr(journals, "SNAPSHOT_EVERY", 7)
    monkeypatch.setattr(journals, "PART_EVENTS", 20)
    monkeypatch.setattr(journal_reading, "FEW", 7)


def spans(run: RunDir) -> list[tuple[int, int]]:
    return [(part.first, part.last) for part in parts(run.journal)]


def test_a_journal_that_has_grown_is_compressed_and_keeps_every_event(run: RunDir) -> None:
    state = write(run, TOLD)
    assert spans(run) == [(1, 21), (22, 42), (43, 63), (64, 84)]
    assert run.journal.read_bytes().count(b"\n") == 16
    assert [entry.event for entry in entries(run.journal)] == TOLD
    assert [entry.seq for entry in entries(run.journal)] == list(range(1, 101))
    assert load(run) == (100, state)
    run.snapshot.unlink()
    assert load(run) == (100, state)


def test_a_part_holds_the_lines_as_they_were(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals.time, "time", lambda: 1.5)
    write(run, TOLD)
    monkeypatch.setattr(journals, "PART_EVENTS", 10_000)
    plain = run_in(tmp_path / "plain")
    write(plain, TOLD)
    closed = b"".join(gzip.decompress(part.path.read_bytes()) for part in parts(run.journal))
    assert closed + run.journal.read_bytes() == plain.journal.read_bytes()


def test_loading_reads_the_snapshot_and_the_tail(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = write(run, TOLD)

    def forbidden(*_: object) -> Iterator[bytes]:
        raise AssertionError("a closed part was read")

    monkeypatch.setattr(gzip, "open", forbidden)
    assert load(run) == (100, state)


def test_verify_reads_all_parts(run: RunDir) -> None:
    write(run, TOLD)
    report = Report()
    assert [seq for seq, _ in events(run.journal, report)] == list(range(1, 101))
    assert not report.findings


STEPS = ["snapshot", "part", "part-named", "lines", "lines-named"]


@pytest.mark.parametrize("step", range(len(STEPS) * 2))
def test_a_kill_while_a_part_is_closed_costs_no_event(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Killed is before and after each renaming, of the snapshot, the part and the journal."""
    left = [step]

    def killed(self: Path, target: Path) -> Path:
        if left[0] <= 0:
            raise KeyboardInterrupt
        left[0] -= 1
        os.replace(self, target)  # noqa: PTH105
        if left[0] <= 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return target

    journal = Journal(run)
    journal.__enter__()
    journal.append(*TOLD[:6])
    monkeypatch.setattr(journals, "PART_EVENTS", 7)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        try:
            journal.append(*TOLD[6:10])
        except KeyboardInterrupt:
            assert step < 6
        else:
            assert step >= 6
    journal._opened.close()  # the lock of a process that is gone
    assert load(run) == (10, replayed(TOLD[:10]))
    assert [entry.event for entry in entries(run.journal)] == TOLD[:10]
    with Journal(run) as again:
        assert not again.notes
        for event in TOLD[10:60]:
            again.append(event)
    assert [entry.event for entry in entries(run.journal)] == TOLD[:60]
    run.snapshot.unlink()
    assert load(run) == (60, replayed(TOLD[:60]))
    ends = [0, *(last for _, last in spans(run))]
    assert spans(run) == [(a + 1, b) for a, b in pairwise(ends)]


@pytest.mark.parametrize("trouble", ["full", "garbled"])
def test_a_part_that_cannot_be_written_leaves_the_journal_as_it_is(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    def compress(content: bytes, mtime: float) -> bytes:
        if trouble == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        return content[:10]

    with monkeypatch.context() as patch:
        patch.setattr(journal_parts.gzip, "compress", compress)
        write(run, TOLD)
    assert not spans(run)
    assert "not compressed" in caplog.text
    assert [entry.event for entry in entries(run.journal)] == TOLD
    write(run, EVENTS[100:110])
    assert spans(run) == [(1, 107)]
    assert [entry.event for entry in entries(run.journal)] == EVENTS[:110]


def fails_to_empty(patch: pytest.MonkeyPatch) -> None:
    """The disk is full when the journal's file is to be replaced; a part was still written."""

    def keep(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(journal_parts, "_keep", keep)


def test_a_part_whose_lines_could_not_leave_the_journal_is_written_once(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(run) as journal:
        with monkeypatch.context() as patch:
            fails_to_empty(patch)
            for event in TOLD[:40]:
                journal.append(event)
        assert spans(run) == [(1, 21)]
        assert run.journal.read_bytes().count(b"\n") == 40
        for event in TOLD[40:70]:
            journal.append(event)
        assert spans(run) == [(1, 21), (22, 49), (50, 70)]
    assert run.journal.read_bytes() == b""
    assert [entry.event for entry in entries(run.journal)] == TOLD[:70]
    assert load(run) == (70, replayed(TOLD[:70]))


def test_lines_that_are_in_two_parts_count_once(run: RunDir) -> None:
    """Such parts a process may have left whose disk was full."""
    write(run, TOLD)
    first, second = [part.path for part in parts(run.journal)[:2]]
    both = gzip.decompress(first.read_bytes()) + gzip.decompress(second.read_bytes())
    second.rename(second.with_name("000000001-000000042.jsonl.gz")).write_bytes(gzip.compress(both))
    report = Report()
    assert [seq for seq, _ in events(run.journal, report)] == list(range(1, 101))
    assert not report.findings
    assert not report.notes
    assert [entry.event for entry in entries(run.journal)] == TOLD


@pytest.mark.parametrize("where", ["part", "journal"])
def test_a_line_that_is_there_twice_is_found(run: RunDir, where: str) -> None:
    write(run, TOLD)
    path = parts(run.journal)[0].path if where == "part" else run.journal
    content = gzip.decompress(path.read_bytes()) if where == "part" else path.read_bytes()
    lines = content.splitlines(keepends=True)
    content = b"".join([*lines[:3], lines[1], *lines[3:]])
    path.write_bytes(gzip.compress(content) if where == "part" else content)
    report = Report()
    list(events(run.journal, report))
    assert [found.kind for found in report.findings] == [Kind.SEQUENCE]


def test_a_reader_misses_nothing_while_a_part_is_closed(run: RunDir) -> None:
    with Journal(run) as journal:
        journal.append(*TOLD[:18])
        lines = journal_parts.lines(run.journal)
        found = [next(lines)]  # it has the file open
        journal.append(*TOLD[18:25])
        assert spans(run)
        found += lines
    assert [line.seq for line in found] == list(range(1, 26))


def test_a_damaged_part_that_a_snapshot_covers_stops_no_run(run: RunDir) -> None:
    state = write(run, TOLD)
    part = parts(run.journal)[1].path
    content = part.read_bytes()
    part.write_bytes(content[:100] + b"x" + content[101:])
    with Journal(run) as journal:
        assert journal.state == state
        journal.append(EVENTS[100])
    with pytest.raises(CampaignError, match=part.name):
        list(entries(run.journal))
    run.snapshot.unlink()
    with pytest.raises(CampaignError, match=rf"{part.name}:\d+: .*--fresh"):
        load(run)
