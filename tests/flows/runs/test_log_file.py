"""The log file that outlives a full disk."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.runs.log_file import LogFile
from tests.disks import fill


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.Logger("under test")
    yield made
    for handler in made.handlers:
        handler.close()


def test_lines_that_find_no_room_are_written_when_there_is_some(
    logger: logging.Logger, small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = small_disk / "run.log"
    logger.addHandler(LogFile(path))
    logger.info("the first line")
    filler = fill(small_disk)
    lines = [f"line {number} {'x' * 500}" for number in range(20)]
    for line in lines:
        logger.info("%s", line)
        written = path.read_text()
        assert written.endswith("\n")  # whole lines only
    assert len(written.splitlines()) < 21
    assert capfd.readouterr().err == ""
    filler.unlink()
    logger.info("the last line")
    assert path.read_text().splitlines() == ["the first line", *lines, "the last line"]


def test_lines_that_wait_at_the_end_are_written_then(
    logger: logging.Logger, small_disk: Path
) -> None:
    filler = fill(small_disk)
    handler = LogFile(small_disk / "run.log")
    logger.addHandler(handler)
    logger.info("a line")
    filler.unlink()
    handler.close()
    assert (small_disk / "run.log").read_text() == "a line\n"


def test_a_line_that_cannot_be_formatted_is_told_and_ends_nothing(
    logger: logging.Logger, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logger.addHandler(LogFile(tmp_path / "run.log"))
    logger.info("%d labels", "many")
    assert "Logging error" in capfd.readouterr().err
    logger.info("%d labels", 3)
    assert (tmp_path / "run.log").read_text() == "3 labels\n"


def test_a_folder_that_was_removed_is_made_again(logger: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "logs" / "run.log"
    logger.addHandler(LogFile(path))
    logger.info("the first line")
    shutil.rmtree(path.parent)
    logger.info("the last line")
    assert path.read_text() == "the last line\n"


def test_a_file_that_cannot_be_written_does_not_keep_a_run_from_its_end(
    logger: logging.Logger, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").write_text("somebody's file")
    handler = LogFile(tmp_path / "logs" / "run.log")
    logger.addHandler(handler)
    logger.info("a line")
    assert "Logging error" in capfd.readouterr().err
    handler.close()
