"""How the members of a round are dealt to the workers that train them.

A member's epochs come one after another, but may be cut: training goes on the same wherever it
goes on. So `n` members that take equally long need not take `ceil(n / workers)` turns: McNaughton's
wrap-around rule ends them all after the longest member's time, or after the time of all of them
divided by the workers, whichever is longer (R. McNaughton, Management Science 6, 1 (1959)).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median_low


@dataclass(frozen=True)
class Least:
    """What tasks of training should not be shorter than, in seconds or in epochs.

    Attributes:
        task: A task: what surrounds one takes a tenth of a second or two.
        piece: A part of a member's training that is cut off to spare a turn.
    """

    task: float
    piece: float


BESIDE_MD = Least(task=1.0, piece=0.5)
"""Where MD has the workers that training leaves (s)."""

ALONE = Least(task=0.3, piece=0.3)
"""Where workers have nothing else to do (s): then it is enough that a round ends sooner."""

PACE_MEMORY = 9
"""How many trainings are remembered; how long the next ones take follows from them."""


@dataclass(frozen=True)
class Piece:
    """Some epochs of one member.

    Attributes:
        tag: The member.
        epochs: Epochs that it trains before it comes back; None: all that are left.
    """

    tag: str
    epochs: int | None = None


Task = tuple[Piece, ...]
"""What one task trains, one after another."""


def epoch_seconds(paces: tuple[float, ...], structures: int) -> float | None:
    """Return how long an epoch takes (s), or None if nothing was trained yet.

    Args:
        paces: Seconds an epoch and training structure, of the last trainings.
        structures: Size of the training set.
    """
    return median_low(paces) * structures if paces else None


def dealt(
    left: Mapping[str, int], epoch_s: float | None, workers: int, least_s: Least = BESIDE_MD
) -> list[Task]:
    """Return the tasks with which a round begins, in the order in which they should begin.

    Where a member is cut, only its first part is among them; the rest follows once that is done.

    Args:
        left: The epochs that each member has still to train, by tag.
        epoch_s: How long an epoch takes (s); None: nobody knows, so each has a task of its own.
        workers: How many tasks can run at once.
        least_s: What tasks should not be shorter than (s).
    """
    alone: list[Task] = [(Piece(tag),) for tag in left]
    if epoch_s is None or len(left) < 2:
        return alone
    least = Least(least_s.task / epoch_s, least_s.piece / epoch_s)
    places = min(workers, len(left), max(1, math.floor(sum(left.values()) / least.task)))
    if places == 1:
        return [tuple(Piece(tag) for tag in left)] if _short(left, least) else alone
    return _wrapped(left, least, places) or _whole(left, least, places)


def _short(left: Mapping[str, int], least: Least) -> bool:
    """Return whether tasks of one member each would be too short."""
    return min(left.values()) < least.task


def _wrapped(left: Mapping[str, int], least: Least, places: int) -> list[Task]:
    """Deal by the wrap-around rule; nothing if that spares no turn, or cuts too finely.

    All epochs stand in a row, of which each place takes a stretch. Where a member reaches from one
    place into the next, that place begins with its first epochs, and the one before ends with its
    last ones.
    """
    span = max(*left.values(), math.ceil(sum(left.values()) / places))
    if span >= max(sum(load.values()) for load in _loads(left, places)):
        return []
    whole: list[list[str]] = [[] for _ in range(places)]
    firsts: list[Piece] = []
    begin = 0
    for tag, epochs in left.items():
        place, room = begin // span, span - begin % span
        if epochs <= room:
            whole[place].append(tag)
        elif min(room, epochs - room) < least.piece:
            return []
        else:
            firsts.append(Piece(tag, epochs - room))
        begin += epochs
    joined = [task for tags in whole for task in _joined(tags, left, least)]
    return [(piece,) for piece in firsts] + joined


def _whole(left: Mapping[str, int], least: Least, places: int) -> list[Task]:
    """Deal whole members, each to the place that has least."""
    return [task for tags in _loads(left, places) for task in _joined(tags, left, least)]


def _loads(left: Mapping[str, int], places: int) -> list[dict[str, int]]:
    """Return the members that each place has, those that take longest dealt first."""
    loads: list[dict[str, int]] = [{} for _ in range(places)]
    for tag in sorted(left, key=lambda tag: -left[tag]):
        min(loads, key=lambda load: sum(load.values()))[tag] = left[tag]
    return loads


def _joined(tags: Iterable[str], left: Mapping[str, int], least: Least) -> list[Task]:
    """Join the members of a place to tasks that are not too short."""
    tasks: list[list[Piece]] = []
    length = 0
    for tag in tags:
        if tasks and length < least.task:
            tasks[-1].append(Piece(tag))
        else:
            tasks.append([Piece(tag)])
            length = 0
        length += left[tag]
    if len(tasks) > 1 and length < least.task:
        last = tasks.pop()
        tasks[-1] += last
    return [tuple(task) for task in tasks]
