"""`aimspax status --watch`: in terminals, narrow and dumb ones too, and in pipes."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest
from ase.build import molecule
from rich.console import Console

from aimspax_core.campaign.events import Paused, Started
from aimspax_core.campaign.journal import Journal
from aimspax_core.inputs.campaign_inputs import Inputs
from flows.commands.watch import GONE, watch
from tests.flows.commands.test_run import FINISHED
from tests.flows.loops.test_executor import PROJECT

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PATIENCE_S = 90.0


class Enough(BaseException):
    """The test has seen what it wanted to see."""


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    (tmp_path / "aimsPAX.yaml").write_text(PROJECT)
    (tmp_path / "mace.yaml").write_text("GENERAL: {name_exp: water}\n")
    ase.io.write(tmp_path / "water.xyz", molecule("H2O"))
    inputs = Inputs.read(tmp_path)
    with Journal(inputs.run) as journal:
        journal.append(Started(rules=inputs.rules))
    return tmp_path


def pause(directory: Path) -> None:
    with Journal(Inputs.read(directory).run) as journal:
        journal.append(Paused(time=time.time(), by="a person"))


def watched(directory: Path, steps: list[Callable[[], object]], terminal: Console) -> str:
    """What is printed, while something is done at each look; then it is interrupted."""
    left = iter(steps)

    def sleep(_: float) -> None:
        step = next(left, None)
        if step is None:
            raise Enough
        step()

    with pytest.raises(Enough):
        watch(directory, {}, terminal, sleep)
    assert isinstance(terminal.file, io.StringIO)
    return terminal.file.getvalue()


def nothing() -> None: ...


def test_in_a_pipe_a_block_follows_only_if_something_has_changed(begun: Path) -> None:
    terminal = Console(file=io.StringIO(), width=40)
    out = watched(begun, [nothing, nothing, lambda: pause(begun), nothing, nothing], terminal)
    assert out.count("initial dataset") == 2, "at the beginning, and once it is paused"
    assert out.count("paused since") == 1
    assert not _ESCAPE.search(out)


def test_a_pipe_has_the_lines_whole(begun: Path) -> None:
    pause(begun)
    out = watched(begun, [], Console(file=io.StringIO(), width=20))
    (line,) = [line for line in out.splitlines() if line.startswith("paused since")]
    assert line.endswith("lets it go on")


def test_a_dumb_terminal_is_written_to_like_a_pipe(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal = Console(file=io.StringIO(), width=80, force_terminal=True)
    out = watched(begun, [lambda: pause(begun)], terminal)
    assert not _ESCAPE.search(out)
    assert "paused since" in out


def test_a_terminal_that_wants_no_colour_gets_none(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    out = watched(begun, [nothing], Console(file=io.StringIO(), width=80, force_terminal=True))
    assert "initial dataset" in out
    assert not re.search(r"\x1b\[(?:\d;)*(?:3|4|9|10)\d", out)


def test_it_ends_by_itself_once_the_campaign_is_over(tmp_path: Path) -> None:
    shutil.copytree(FINISHED, tmp_path / "water")
    terminal = Console(file=io.StringIO(), width=80)
    assert watch(tmp_path / "water", {}, terminal, lambda _: pytest.fail("it waits")) == 0
    assert isinstance(terminal.file, io.StringIO)
    assert "finished" in terminal.file.getvalue()


def test_it_ends_once_whoever_ran_the_campaign_is_gone(begun: Path) -> None:
    held = contextlib.ExitStack()
    steps = iter([nothing, lambda: held.enter_context(Journal(Inputs.read(begun).run)), held.close])
    terminal = Console(file=io.StringIO(), width=80)
    assert watch(begun, {}, terminal, lambda _: next(steps)()) == 0
    assert isinstance(terminal.file, io.StringIO)
    assert terminal.file.getvalue().count(GONE) == 1


def test_a_campaign_that_has_not_begun_is_waited_for(begun: Path) -> None:
    (begun / "aimspax").rename(begun / "elsewhere")
    come = lambda: (begun / "elsewhere").rename(begun / "aimspax")  # noqa: E731
    out = watched(begun, [nothing, come, nothing], Console(file=io.StringIO(), width=80))
    assert out.count("no campaign has been started") == 1
    assert "initial dataset" in out


@pytest.mark.slow
def test_a_narrow_terminal_is_renewed_in_place_and_left_whole_by_ctrl_c(begun: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 44, 0, 0))
    code = "from flows.commands.app import main; main()"
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", code, "status", "--watch", str(begun)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env=environment | {"TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(theirs)
    try:
        out = read_until(ours, "", "initial dataset")
        pause(begun)
        out = read_until(ours, out, "paused since")
        assert "\x1b[1A" in out, "the cursor went up, to write over it"
        process.send_signal(signal.SIGINT)
        out = read_until(ours, out, "stopped")
        assert process.wait(_PATIENCE_S) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert out.rindex("\x1b[?25h") > out.rindex("\x1b[?25l"), "the cursor is there again"
    shown = _ESCAPE.sub("", out).replace("\r", "\n").splitlines()
    assert max(map(len, shown)) <= 44


def read_until(terminal: int, out: str, word: str) -> str:
    """What a terminal has shown, once a word is in it, without regard to line breaks."""
    end = time.monotonic() + _PATIENCE_S
    while word not in " ".join(_ESCAPE.sub("", out).split()):
        assert time.monotonic() < end, out
        if select.select([terminal], [], [], 0.5)[0]:
            out += os.read(terminal, 65536).decode()
    return out
