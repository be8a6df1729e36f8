"""The journal: durable, torn or damaged, with and without its snapshot, and held by one process."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aimspax_core.campaign import journal as journals
from aimspax_core.campaign import journal_reading
from aimspax_core.campaign.events import Event, ExplorationAsked, Resumed, Started
from aimspax_core.campaign.journal import Entry, Journal, entries, holder, load
from aimspax_core.campaign.journal_lines import line_of, sealed
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import SCHEMA_VERSION, CampaignState
from aimspax_core.errors import CampaignError, NewerReleaseError
from aimspax_core.run_directory import RunDir
from tests.campaign.virtual import VirtualShell, World
from tests.disks import fill

RULES = Rules(
    tags=("a", "b"), geometries=1, seed=1, points_per_step=3, initial_epochs=5,
    initial_accuracy=0.45, max_initial_epochs=math.inf, max_initial_set_size=math.inf,
    initial_valid_ratio=0.2, converge_initial=True, num_trajectories=3, epochs_per_round=2,
    valid_ratio=0.1, desired_acc=0.0, max_train_set_size=20, freeze_threshold_dataset=15,
    c_x=0.0, max_md_steps=math.inf, converge_al=True, converge_best=True, max_segments=2,
)  # fmt: skip


def run_in(folder: Path) -> RunDir:
    return RunDir(folder, *(folder / name for name in ("data", "logs", "losses", "model", "chk")))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return run_in(tmp_path)


def campaign_events() -> list[Event]:
    """A whole virtual campaign, with failures, losses and a restart under other rules."""
    found: list[Event] = [Started(rules=RULES)]
    world = World(label_fails=0.2, task_lost=0.1, explodes=0.1)
    shell = VirtualShell(RULES, world, np.random.default_rng(1), lambda _, e: found.append(e))
    with pytest.raises(RuntimeError, match="no end"):
        shell.run(max_events=60)
    shell.restart(RULES.model_copy(update={"max_train_set_size": 30.0}))
    shell.run()
    return found


EVENTS = campaign_events()


def write(run: RunDir, events: list[Event]) -> CampaignState:
    with Journal(run) as journal:
        for event in events:
            journal.append(event)
        return journal.state


# ---- the log --------------------------------------------------------------------------------


def test_an_event_is_on_disk_before_it_counts(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(run) as journal:
        journal.append(Started(rules=RULES))
        seen = []

        def fsync(handle: int) -> None:
            seen.append((journal.seq, run.journal.read_bytes().count(b"\n")))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            journal.append(ExplorationAsked())
        assert seen == [(1, 2)]
        assert journal.seq == 2


def test_events_that_the_disk_refuses_do_not_count_and_can_be_tried_again(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(run) as journal:
        before = journal.append(Started(rules=RULES))

        def full(handle: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match=rf"No space left on device: '{run.journal}'"):
                journal.append(*EVENTS[1:3])
        assert (journal.seq, journal.state) == (1, before)
        assert load(run) == (1, before)
        state = journal.append(*EVENTS[1:3])
    assert load(run) == (3, state)


def test_a_journal_on_a_full_disk_goes_on_once_there_is_room(small_disk: Path) -> None:
    run = run_in(small_disk)
    with Journal(run) as journal:
        first = journal.append(Started(rules=RULES))
        filler = fill(small_disk)
        refused = None
        for _ in range(200):  # the last block of its file has some room left
            before = run.journal.read_bytes()
            state = journal.state
            try:
                journal.append(ExplorationAsked())
            except OSError as error:
                refused = error
                break
        assert refused is not None
        assert (refused.errno, refused.filename) == (errno.ENOSPC, str(run.journal))
        assert run.journal.read_bytes() == before
        assert journal.state is state
        assert first.rules == state.rules
        filler.unlink()
        journal.append(ExplorationAsked())
        assert [entry.seq for entry in entries(run.journal)] == [*range(1, journal.seq + 1)]
    assert load(run)[0] == journal.seq


def test_a_snapshot_that_finds_no_room_loses_nothing(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_in(small_disk)
    caplog.set_level(logging.WARNING)
    with Journal(run) as journal:
        state = journal.append(Started(rules=RULES))
        filler = fill(small_disk)
    assert str(run.snapshot) in caplog.text
    assert not run.snapshot.exists()
    filler.unlink()
    assert load(run) == (1, state)


def test_an_event_that_the_rules_refuse_is_not_written(run: RunDir) -> None:
    with Journal(run) as journal:
        journal.append(Started(rules=RULES))
        with pytest.raises(ValueError, match="starts once"):
            journal.append(Started(rules=RULES))
    assert len(list(entries(run.journal))) == 1


def test_events_recorded_together_wait_for_the_disk_once(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(run) as journal:
        journal.append(Started(rules=RULES))
        waits = []
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", waits.append)
            journal.append(*EVENTS[1:20])
        assert len(waits) == 1
        assert journal.seq == 20


def test_events_recorded_together_are_those_recorded_one_by_one(tmp_path: Path) -> None:
    one_by_one = write(run_in(tmp_path / "a"), EVENTS)
    with Journal(run_in(tmp_path / "b")) as journal:
        together = journal.append(*EVENTS)
    assert together == one_by_one
    assert [e.event for e in entries(run_in(tmp_path / "b").journal)] == EVENTS
    assert load(run_in(tmp_path / "b")) == (len(EVENTS), one_by_one)


def test_none_of_the_events_recorded_together_counts_if_one_is_refused(run: RunDir) -> None:
    with Journal(run) as journal:
        before = journal.append(Started(rules=RULES))
        with pytest.raises(ValueError, match="starts once"):
            journal.append(ExplorationAsked(), Started(rules=RULES))
        assert (journal.seq, journal.state) == (1, before)
    assert len(list(entries(run.journal))) == 1


def test_no_events_change_nothing(run: RunDir) -> None:
    with Journal(run) as journal:
        state = journal.append(Started(rules=RULES))
        assert journal.append() is state
    assert len(list(entries(run.journal))) == 1


def test_events_come_back_as_they_were_with_number_and_time(run: RunDir) -> None:
    write(run, EVENTS)
    found = list(entries(run.journal))
    assert [entry.event for entry in found] == EVENTS
    assert [entry.seq for entry in found] == list(range(1, len(EVENTS) + 1))
    assert [entry.time for entry in found] == sorted(entry.time for entry in found)


def test_an_empty_folder_holds_no_campaign(run: RunDir) -> None:
    assert load(run) == (0, None)
    with Journal(run) as journal:
        assert not journal.begun
        with pytest.raises(CampaignError, match="no campaign has been started"):
            journal.state
    assert not run.snapshot.exists()


@pytest.mark.parametrize("torn", [b'{"seq":11,"ti', b"\0\0\0\0", b'{"seq":11}'])
def test_a_torn_last_line_is_left_out_and_cut(run: RunDir, torn: bytes) -> None:
    state = write(run, EVENTS[:10])
    run.snapshot.unlink()
    with run.journal.open("ab") as file:
        file.write(torn)
    assert load(run) == (10, state)
    with Journal(run) as journal:
        assert (journal.seq, journal.state) == (10, state)
        journal.append(EVENTS[10])
    assert [entry.event for entry in entries(run.journal)] == EVENTS[:11]


def test_a_journal_of_one_torn_line_is_an_empty_one(run: RunDir) -> None:
    run.state.mkdir(parents=True)
    run.journal.write_bytes(b'{"seq":1')
    with Journal(run) as journal:
        assert not journal.begun
        journal.append(EVENTS[0])
    assert [entry.event for entry in entries(run.journal)] == EVENTS[:1]


def damage(run: RunDir, number: int, new: bytes) -> None:
    """Put something else in the place of a line."""
    lines = run.journal.read_bytes().splitlines(keepends=True)
    lines[number - 1] = new
    run.journal.write_bytes(b"".join(lines))


def digit_changed(run: RunDir, number: int) -> bytes:
    """A line in which one digit of the event is another."""
    line = run.journal.read_bytes().splitlines(keepends=True)[number - 1]
    place = line.index(b'"time":') + len(b'"time":') + 3
    return line[:place] + (b"1" if line[place : place + 1] != b"1" else b"2") + line[place + 1 :]


BAD = [
    b"garbage\n", b"[1]\n", b'{"seq":5,"time":0.0}\n', b"\0" * 100 + b"\n", b"\n",
    b'{"seq":5,"time":0,"event":{"kind":"rain"}}\n', b"", b'{"seq":99,"time":0,"event":{}}\n',
]  # fmt: skip
"""What may be in the place of a line; nothing: the line is missing."""


@pytest.mark.parametrize("new", BAD)
def test_lines_behind_damage_are_cut_off_and_kept_beside(run: RunDir, new: bytes) -> None:
    write(run, EVENTS[:10])
    run.snapshot.unlink()
    damage(run, 5, new)
    before = run.journal.read_bytes()
    with Journal(run) as journal:
        assert (journal.seq, journal.state) == (4, replayed(EVENTS[:4]))
        assert f"{run.journal}:5: " in journal.notes[0]
        journal.append(EVENTS[4])
    assert load(run) == (5, replayed(EVENTS[:5]))
    (cut,) = run.state.glob("journal-cut-at-4-*.jsonl")
    assert before.endswith(cut.read_bytes())
    with Journal(run) as journal:
        assert not journal.notes, "it is told once"


def test_a_digit_that_changed_is_noticed(run: RunDir) -> None:
    write(run, EVENTS[:10])
    run.snapshot.unlink()
    damage(run, 5, digit_changed(run, 5))
    assert load(run) == (4, replayed(EVENTS[:4]))
    with pytest.raises(CampaignError, match=r"journal\.jsonl:5: damaged"):
        list(entries(run.journal))


def test_too_many_lines_behind_damage_are_for_a_person_to_decide(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_reading, "FEW", 5)
    write(run, EVENTS[:10])
    run.snapshot.unlink()
    damage(run, 5, b"garbage\n")
    for _ in range(2):
        with pytest.raises(CampaignError, match=r"journal\.jsonl:5: .*--fresh"):
            load(run)
        with pytest.raises(CampaignError, match="--fresh"), Journal(run):
            pass
    assert holder(run) is None


def test_a_damaged_beginning_is_no_new_campaign(run: RunDir) -> None:
    write(run, EVENTS[:3])
    run.snapshot.unlink()
    damage(run, 1, b"garbage\n")
    with pytest.raises(CampaignError, match=r"journal\.jsonl:1: .*--fresh"):
        load(run)


@pytest.mark.parametrize("new", BAD)
def test_damage_that_the_snapshot_covers_costs_nothing(run: RunDir, new: bytes) -> None:
    state = write(run, EVENTS[:10])
    damage(run, 5, new)
    with Journal(run) as journal:
        assert journal.state == state
        assert f"{run.journal}:5: " in journal.notes[-1]
        state = journal.append(EVENTS[10])
    assert [e.seq for e in entries(run.journal)] == [1, 2, 3, 4, 11, 12]
    run.snapshot.unlink()
    assert load(run) == (12, state), "the journal does not need the snapshot any more"
    with Journal(run) as journal:
        assert not journal.notes, "it is told once"


def test_a_campaign_is_told_again_from_before_the_damage_to_behind_it(run: RunDir) -> None:
    write(run, EVENTS[:40])
    damage(run, 5, digit_changed(run, 5))
    with Journal(run) as journal:
        for event in EVENTS[40:]:
            journal.append(event)
        state = journal.state
    told = None
    for entry in entries(run.journal):
        told = apply(told, entry.event)
    assert told == state


def test_a_journal_that_was_cut_is_gone_on_with_from_the_snapshot(run: RunDir) -> None:
    state = write(run, EVENTS[:10])
    lines = run.journal.read_bytes().splitlines(keepends=True)
    run.journal.write_bytes(b"".join(lines[:8]))
    assert load(run) == (10, state)
    with Journal(run) as journal:
        assert (journal.seq, journal.state) == (11, state)
        assert "ends with event 8" in journal.notes[0]
        journal.append(EVENTS[10])
    run.snapshot.unlink()
    assert load(run) == (12, replayed(EVENTS[:11]))


def test_a_journal_that_is_gone_is_begun_again_from_the_snapshot(run: RunDir) -> None:
    state = write(run, EVENTS[:10])
    run.journal.unlink()
    with Journal(run) as journal:
        assert journal.state == state
        state = journal.append(EVENTS[10])
    run.snapshot.unlink()
    assert load(run) == (12, state)


def test_a_journal_cut_at_any_byte_is_a_prefix_of_the_truth(run: RunDir) -> None:
    write(run, EVENTS[:4])
    run.snapshot.unlink()
    whole = run.journal.read_bytes()
    truth = [None, *(replayed(EVENTS[:n]) for n in range(1, 5))]
    for size in range(len(whole) + 1):
        run.journal.write_bytes(whole[:size])
        events = whole[:size].count(b"\n")
        assert load(run) == (events, truth[events])


def test_a_journal_cut_at_any_byte_is_gone_on_with(run: RunDir) -> None:
    write(run, EVENTS[:3])
    run.snapshot.unlink()
    whole = run.journal.read_bytes()
    for size in range(whole.index(b"\n") + 1, len(whole), 7):
        run.snapshot.unlink(missing_ok=True)
        run.journal.write_bytes(whole[:size])
        events = whole[:size].count(b"\n")
        with Journal(run) as journal:
            assert bool(journal.notes) == (not whole[:size].endswith(b"\n"))
            journal.append(EVENTS[events])
        assert [entry.event for entry in entries(run.journal)] == EVENTS[: events + 1]


def test_a_byte_that_changed_anywhere_is_noticed_or_changes_nothing(run: RunDir) -> None:
    """A changed end of a line makes one line of two, so that one more event is lost."""
    write(run, EVENTS[:3])
    run.snapshot.unlink()
    whole = run.journal.read_bytes()
    first = whole.index(b"\n") + 1
    truth = [replayed(EVENTS[:n]) for n in range(1, 4)]
    for place in range(first, len(whole)):
        changed = bytes([whole[place] ^ 1])
        run.journal.write_bytes(whole[:place] + changed + whole[place + 1 :])
        events, state = load(run)
        assert state == truth[events - 1]


def test_lines_without_a_checksum_are_those_of_an_earlier_release(run: RunDir) -> None:
    state = write(run, EVENTS[:10])
    lines = [json.loads(line) for line in run.journal.read_text().splitlines()]
    for line in lines:
        del line["sum"]
    run.journal.write_text("".join(f"{compact(line)}\n" for line in lines))
    run.snapshot.unlink()
    assert load(run) == (10, state)
    with Journal(run) as journal:
        journal.append(EVENTS[10])
    assert [entry.event for entry in entries(run.journal)] == EVENTS[:11]


def compact(content: object) -> str:
    """JSON as releases write it."""
    return json.dumps(content, separators=(",", ":"))


# ---- releases -------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["event", "field", "schema"])
def test_what_a_newer_release_wrote_is_refused_with_its_name(run: RunDir, what: str) -> None:
    write(run, EVENTS[:3])
    event = {"kind": "resumed", "rules": json.loads(RULES.model_dump_json()), "aimspax": "9.8.7"}
    if what == "event":
        event["kind"] = "rained"
    elif what == "field":
        event["weather"] = "rain"
    else:
        event["schema_version"] = SCHEMA_VERSION + 1
    with run.journal.open("ab") as file:
        file.write(sealed(compact({"seq": 4, "time": 0.0, "event": event})) + b"\n")
    with pytest.raises(NewerReleaseError) as caught:
        load(run)
    assert caught.value.version == "9.8.7"
    with pytest.raises(NewerReleaseError), Journal(run):
        pass


def test_an_event_of_a_newer_release_is_refused_with_the_name_that_it_began_with(
    run: RunDir,
) -> None:
    write(run, EVENTS[:3])
    resumed = Resumed(rules=RULES, aimspax="9.8.7")
    with run.journal.open("ab") as file:
        file.write(line_of(Entry(seq=4, time=0.0, event=resumed)))
        file.write(sealed(compact({"seq": 5, "time": 0.0, "event": {"kind": "rained"}})) + b"\n")
    with pytest.raises(NewerReleaseError) as caught:
        load(run)
    assert caught.value.version == "9.8.7"


def test_a_snapshot_of_a_newer_release_is_refused_with_its_name(run: RunDir) -> None:
    write(run, EVENTS[:3])
    snapshot = json.loads(run.snapshot.read_text())
    del snapshot["sum"]
    snapshot["aimspax"] = "9.8.7"
    snapshot["state"]["schema_version"] = SCHEMA_VERSION + 1
    run.snapshot.write_bytes(sealed(compact(snapshot)))
    with pytest.raises(NewerReleaseError) as caught:
        load(run)
    assert caught.value.version == "9.8.7"


# ---- the snapshot ---------------------------------------------------------------------------


def replayed(events: list[Event]) -> CampaignState:
    state = None
    for event in events:
        state = apply(state, event)
    assert state is not None
    return state


@pytest.mark.parametrize("every", [1, 7, 10_000])
def test_snapshot_and_rest_give_what_all_events_give(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    """The rules hold infinities, which JSON does not know."""
    monkeypatch.setattr(journals, "SNAPSHOT_EVERY", every)
    with Journal(run) as journal:
        for number, event in enumerate(EVENTS, start=1):
            journal.append(event)
            if number % 40 == 0:
                assert load(run) == (number, replayed(EVENTS[:number]))
    state = replayed(EVENTS)
    assert state.rules.max_md_steps == math.inf
    assert load(run) == (len(EVENTS), state)
    run.snapshot.unlink()
    assert load(run) == (len(EVENTS), state)


def test_a_snapshot_is_written_however_many_events_come_together(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "SNAPSHOT_EVERY", 7)
    with Journal(run) as journal:
        journal.append(*EVENTS[:10])
        assert json.loads(run.snapshot.read_text(encoding="utf-8"))["seq"] == 10
        journal.append(*EVENTS[10:13])
        assert json.loads(run.snapshot.read_text(encoding="utf-8"))["seq"] == 10


def _forbidden(*_: object) -> None:
    raise AssertionError("an event was replayed")


def test_a_snapshot_spares_the_events_before_it(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = write(run, EVENTS[:50])

    monkeypatch.setattr(journal_reading, "apply", _forbidden)
    assert load(run) == (50, state)


def test_a_snapshot_is_not_older_however_often_a_process_dies(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "SNAPSHOT_EVERY", 7)
    for number in range(0, 20, 5):
        with monkeypatch.context() as patch, Journal(run) as journal:
            journal.append(*EVENTS[number : number + 5])
            patch.setattr(Journal, "_snapshot", lambda self: None)  # it is killed
        covered = json.loads(run.snapshot.read_text())["seq"] if run.snapshot.exists() else 0
        assert load(run)[0] - covered < 7


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"seq": 3, "state": {"old": 1}}', b"\xff"])
def test_a_damaged_snapshot_is_left_out_with_a_note(run: RunDir, content: bytes) -> None:
    state = write(run, EVENTS[:50])
    run.snapshot.write_bytes(content)
    assert load(run) == (50, state)
    with Journal(run) as journal:
        assert journal.state == state
        (note,) = journal.notes
        assert str(run.snapshot) in note
    with Journal(run) as journal:
        assert not journal.notes, "there is a new one"


def test_a_digit_of_the_snapshot_that_changed_is_noticed(run: RunDir) -> None:
    state = write(run, EVENTS[:50])
    content = run.snapshot.read_bytes()
    changed = content.replace(f'"labels":{state.labels}'.encode(), b'"labels":77')
    assert changed != content
    run.snapshot.write_bytes(changed)
    assert load(run) == (50, state)


def test_a_snapshot_of_an_older_release_is_left_out(run: RunDir) -> None:
    state = write(run, EVENTS[:50])
    snapshot = json.loads(run.snapshot.read_text(encoding="utf-8"))
    del snapshot["sum"]
    snapshot["state"]["schema_version"] -= 1
    snapshot["state"]["labels"] = 10_000
    run.snapshot.write_text(compact(snapshot), encoding="utf-8")
    assert load(run) == (50, state)
    with Journal(run) as journal:
        assert "another release" in journal.notes[0]


def test_a_snapshot_without_a_checksum_is_that_of_an_earlier_release(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = write(run, EVENTS[:50])
    snapshot = json.loads(run.snapshot.read_text(encoding="utf-8"))
    del snapshot["sum"], snapshot["aimspax"]
    run.snapshot.write_text(compact(snapshot), encoding="utf-8")
    monkeypatch.setattr(journal_reading, "apply", _forbidden)
    assert load(run) == (50, state)


def test_a_snapshot_that_was_being_written_changes_nothing(run: RunDir) -> None:
    state = write(run, EVENTS[:10])
    (run.state / ".snapshot.json.0badcafe.json").write_text('{"seq":', encoding="utf-8")
    assert load(run) == (10, state)


def test_a_run_directory_may_be_moved(run: RunDir, tmp_path: Path) -> None:
    state = write(run, EVENTS)
    there = run_in(tmp_path / "elsewhere" / "deep")
    shutil.copytree(run.state, there.state)
    assert str(tmp_path) not in there.journal.read_text(encoding="utf-8")
    with Journal(there) as journal:
        assert journal.state == state
        journal.append(Resumed(rules=RULES))


# ---- one process at a time ------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from aimspax_core.campaign.journal import Journal
from aimspax_core.run_directory import RunDir
folder = Path(sys.argv[1])
with Journal(RunDir(*[folder] * 6)):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(run: RunDir) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the campaign."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.output)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_told_by_whom(
    run: RunDir, other: subprocess.Popen[str]
) -> None:
    who = holder(run)
    assert who is not None
    assert (who.pid, who.host) == (other.pid, os.uname().nodename)
    expected = f"run by process {other.pid} on {who.host}, since {who.since}"
    with pytest.raises(CampaignError, match=expected), Journal(run):
        pass
    other.communicate("")
    assert holder(run) is None
    with Journal(run) as journal:
        journal.append(EVENTS[0])


def test_a_killed_process_holds_nothing(run: RunDir, other: subprocess.Popen[str]) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert str(other.pid) in run.lock.read_text(encoding="utf-8"), "it had no time to say goodbye"
    assert holder(run) is None
    with Journal(run) as journal:
        journal.append(EVENTS[0])
        who = holder(run)
        assert who is not None
        assert who.pid == os.getpid()


def test_who_looks_at_a_campaign_does_not_keep_it_from_running(run: RunDir) -> None:
    """`holder` has the lock for a moment; a start at that moment tries again."""
    import threading

    run.state.mkdir(parents=True)
    run.lock.touch()
    with run.lock.open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        threading.Timer(0.05, fcntl.flock, (look, fcntl.LOCK_UN)).start()
        with Journal(run) as journal:
            assert not journal.begun


def test_a_run_can_be_read_while_it_writes(run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    with Journal(run) as journal:
        for event in EVENTS[:10]:
            state = journal.append(event)
        with run.journal.open("ab") as file, caplog.at_level(logging.WARNING):
            file.write(b'{"seq":11,')  # what a reader may see of the next event
            file.flush()
            assert load(run) == (10, state)
    assert not caplog.records


def test_the_lock_is_free_after_an_error(run: RunDir) -> None:
    with pytest.raises(KeyError), Journal(run) as journal:
        journal.append(EVENTS[0])
        raise KeyError
    assert holder(run) is None
    assert load(run)[0] == 1


def test_a_campaign_runs_on_a_file_system_without_locks(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with Journal(run) as journal:
        journal.append(EVENTS[0])
        who = holder(run)
        assert who is not None
        assert who.pid == os.getpid()
        with pytest.raises(CampaignError, match=str(os.getpid())), Journal(run):
            pass
    assert holder(run) is None
    assert load(run)[0] == 1
