"""When to say again how far something is: soon after there is news, ever more rarely without."""

from __future__ import annotations

_MOST_S = 600.0


class NowAndThen:
    """Decides when a line on the progress is due.

    Args:
        now: The time as the work begins (s).
        least_s: From what was said to the next line, if there is news (s). Without news each pause
            is twice the one before, up to ten minutes.
    """

    def __init__(self, now: float, least_s: float) -> None:
        self._said, self._least_s, self._pause_s = now, least_s, least_s
        self._mark: object = None

    def due(self, now: float, mark: object) -> bool:
        """Return whether to say it now; if so, it counts as said.

        Args:
            now: The time (s).
            mark: What has been reached; another one than was said last is news.
        """
        news = mark != self._mark
        if now - self._said < (self._least_s if news else self._pause_s):
            return False
        self._pause_s = min(2 * (self._least_s if news else self._pause_s), _MOST_S)
        self._said, self._mark = now, mark
        return True

    def heard(self, now: float) -> None:
        """Note that something else was said, which is news as well."""
        self._said, self._pause_s = now, self._least_s
