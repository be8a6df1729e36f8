"""A checkpoint that was changed is never taken for what was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from aimspax_core.errors import DamagedError, NewerReleaseError
from aimspax_core.model.checkpoint import FORMAT, read_checkpoint, write_checkpoint
from aimspax_core.model.intact import intact_bytes


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "train-5-1.pt"
    weights = torch.arange(300, dtype=torch.float64)
    write_checkpoint({"weights": weights, "counters": {"epoch": 5}, "tag": "a"}, path)
    return path


def changed(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0x11]) + content[place + 1 :]


def places(content: bytes, count: int) -> list[int]:
    """Places all over a file, those of its last tables among them."""
    drawn = np.random.default_rng(1).choice(len(content), count, replace=False)
    return [*drawn.tolist(), *range(len(content) - 150, len(content))]


def test_no_byte_of_a_checkpoint_changes_unnoticed(checkpoint: Path) -> None:
    content = checkpoint.read_bytes()
    for place in places(content, 400):
        checkpoint.write_bytes(changed(content, place))
        with pytest.raises(DamagedError):
            intact_bytes(checkpoint)


def test_no_changed_byte_of_an_old_checkpoint_changes_what_is_read(checkpoint: Path) -> None:
    """Release 0.1.0: bytes that mean nothing (dates, padding) may change unnoticed."""
    wanted = read_checkpoint(checkpoint)
    torch.save(wanted, checkpoint)
    content, noticed = checkpoint.read_bytes(), 0
    for place in places(content, 600):
        checkpoint.write_bytes(changed(content, place))
        try:
            found = read_checkpoint(checkpoint)
        except DamagedError:
            noticed += 1
        else:
            assert torch.equal(found["weights"], wanted["weights"])
            assert {**found, "weights": 0} == {**wanted, "weights": 0}
    assert noticed > 300


def test_a_checkpoint_that_was_cut_off_is_damaged(checkpoint: Path) -> None:
    content = checkpoint.read_bytes()
    for length in (0, 1, len(content) // 2, len(content) - 1):
        checkpoint.write_bytes(content[:length])
        with pytest.raises(DamagedError) as caught:
            intact_bytes(checkpoint)
        assert caught.value.file == str(checkpoint)


def test_a_checkpoint_that_is_gone_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(DamagedError):
        intact_bytes(tmp_path / "train-5-1.pt")


def test_a_file_that_cannot_be_read_now_is_not_called_damaged(tmp_path: Path) -> None:
    """A disk or network may be back in a moment: nothing is given up for it."""
    (tmp_path / "train-5-1.pt").mkdir()
    with pytest.raises(OSError):
        intact_bytes(tmp_path / "train-5-1.pt")


def test_a_checkpoint_of_a_newer_release_is_refused_with_its_name_and_is_not_damaged(
    checkpoint: Path,
) -> None:
    write_checkpoint({"format": FORMAT + 1, "aimspax": "9.8.7"}, checkpoint)
    with pytest.raises(NewerReleaseError) as caught:
        read_checkpoint(checkpoint)
    assert caught.value.version == "9.8.7"
