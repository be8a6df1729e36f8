"""Values that were made once and are kept while they are in use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Values that were made once; those used last are kept, as far as their sizes allow.

    Args:
        most: What the sizes of all values together may be.
    """

    def __init__(self, most: float) -> None:
        self._most, self._total = most, 0.0
        self._kept: OrderedDict[Key, tuple[Value, float]] = OrderedDict()

    def get(self, keys: Sequence[Key], make: Callable[[Key], tuple[Value, float]]) -> list[Value]:
        """Return the values of keys; those that are not here are made, with their sizes.

        What is asked for at once stays, whatever its size: the caller holds it anyhow.
        """
        for key in keys:
            if key not in self._kept:
                self._add(key, *make(key))
            self._kept.move_to_end(key)
        found = [self._kept[key][0] for key in keys]
        self._drop(at_least=len(set(keys)))
        return found

    def put(self, key: Key, value: Value) -> None:
        """Keep a value of size 1."""
        self.take(key)
        self._add(key, value, 1.0)
        self._drop(at_least=1)

    def take(self, key: Key) -> Value | None:
        """Return a value that is then not here any more; none if it was not."""
        value, size = self._kept.pop(key, (None, 0.0))
        self._total -= size
        return value

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._total = 0.0

    def _add(self, key: Key, value: Value, size: float) -> None:
        self._kept[key] = value, size
        self._total += size

    def _drop(self, at_least: int) -> None:
        """Forget what was not used for longest, but keep so many."""
        while self._total > self._most and len(self._kept) > at_least:
            _, (_, freed) = self._kept.popitem(last=False)
            self._total -= freed
