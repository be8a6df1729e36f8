"""A pool without workers: a task is over at once, with the outcome that the test has chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class FakeTicket:
    """A task that is over."""

    task: Any
    request: Any
    outcome: Any
    avoid: frozenset[str]
    seconds: Callable[[], float | None]
    plainly: bool = False
    future: None = None
    address: str = "tcp://worker"

    def result(self) -> Any:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def exception(self) -> BaseException | None:
        return self.outcome if isinstance(self.outcome, BaseException) else None


@dataclass
class FakePool:
    """Gives each task the next outcome, or what `answer` returns for its request."""

    outcomes: list[Any] = field(default_factory=list)
    answer: Callable[[Any], Any] | None = None
    tickets: list[FakeTicket] = field(default_factory=list)
    trouble: str = ""
    capacity: int = 1
    name: str = "reference"
    dashboard: str = ""

    def submit(
        self,
        task: Any,
        request: Any,
        done: Callable[[Any], None],
        avoid: Iterable[str] = (),
        seconds: Callable[[], float | None] = lambda: None,
        plainly: bool = False,
    ) -> FakeTicket:
        if self.answer is not None:
            outcome = self.answer(request)
        else:
            outcome = self.outcomes.pop(0) if self.outcomes else None
        ticket = FakeTicket(task, request, outcome, frozenset(avoid), seconds, plainly)
        self.tickets.append(ticket)
        done(ticket)
        return ticket

    def hold(self) -> list[FakeTicket]:
        return []
