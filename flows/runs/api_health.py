"""Whether the Prefect API counts as away: the rule, without clock and network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

_PATIENCE = 2
"""So many looks in a row without an answer mean away: a machine may be busy for a moment."""


class Answer(StrEnum):
    """What came of one look at the API."""

    FINE = "fine"
    REFUSED = "refused"  # nobody listens there
    UNKNOWN = "unknown"  # it answers, but does not know the run: its database is another one
    SILENT = "silent"  # no answer in time, or an error: of its database, of a proxy


@dataclass(frozen=True)
class Found:
    """What one look at the API found.

    Attributes:
        answer: The kind of answer.
        why: What was wrong with it, for people.
        state: Type of the flow run's state there, such as `CANCELLING`.
        state_name: Name of that state, such as `Suspended`.
    """

    answer: Answer
    why: str = ""
    state: str = ""
    state_name: str = ""


@dataclass(frozen=True)
class ApiHealth:
    """What is known of the API.

    Attributes:
        away: Whether nothing should be asked of it.
        lost: Whether it does not know the run any more, and never will.
        why: Why it is away.
        silent: Looks in a row that found it silent.
        refused: Looks in a row that found nobody listening.
    """

    away: bool = False
    why: str = ""
    silent: int = 0
    refused: int = 0
    lost: bool = False

    def after(self, found: Found) -> ApiHealth:
        """Return what is known after one more look."""
        match found.answer:
            case Answer.FINE:
                return ApiHealth()
            case Answer.SILENT:
                away = self.away or self.silent + 1 >= _PATIENCE
                return ApiHealth(away, found.why if away else "", silent=self.silent + 1)
            case Answer.REFUSED:
                return ApiHealth(True, found.why, refused=self.refused + 1)
            case Answer.UNKNOWN:
                return ApiHealth(True, found.why, lost=True)

    def doubted(self) -> ApiHealth:
        """Return what is known after a call that failed: the next look decides."""
        return self if self.away else replace(self, silent=max(self.silent, _PATIENCE - 1))
