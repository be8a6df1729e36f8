"""Batches of many sizes in one: what a compiled network, which has fixed sizes, is given.

What is added has no part in the network: atoms without neighbours, empty slots, and pairs of
length zero in the radial basis, which nobody's slot that counts points to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, log2
from typing import Any, NamedTuple

import torch
from torch.nn.functional import pad

from aimspax_core.model.mace.lean.derivatives import Derived, Inputs
from aimspax_core.model.mace.lean.neighbours import Table

_STEPS = 8
"""Sizes in an octave: more waste less, but are exceeded more often."""

_HEADROOM = 1.05
"""For structures that are still to come."""

_LEAST = 0.4
"""The part of a form's work that a batch must have: smaller ones are as fast without."""


class Size(NamedTuple):
    """How large a batch is.

    Attributes:
        atoms: N.
        pairs: P, with one more in a padded batch that does not count.
        slots: D of each atom.
    """

    atoms: int
    pairs: int
    slots: int

    @property
    def work(self) -> int:
        """What the time of a step is about proportional to."""
        return self.atoms * self.slots

    def holds(self, other: Size) -> bool:
        """Return whether a batch of the other size can be padded to this."""
        return all(mine >= its for mine, its in zip(self, other, strict=True))

    def suits(self, other: Size) -> bool:
        """Return whether a batch of the other size is padded to this, and is not much smaller."""
        return self.holds(other) and other.work >= _LEAST * self.work


def size_of(inputs: Inputs) -> Size:
    """Return the least size that a batch can be padded to."""
    atoms, slots = inputs.neighbours.pair.shape
    return Size(atoms, len(inputs.harmonics) + 1, slots)


def largest(graphs: Sequence[Any], batch: int) -> Size:
    """Return a size that holds each batch of so many of MACE's graphs."""
    slots = (int(torch.bincount(graph.edge_index[1]).max()) for graph in graphs if _pairs(graph))
    return Size(
        batch * max(len(graph.positions) for graph in graphs),
        batch * max(map(_pairs, graphs)) + 1,
        max(slots, default=1),
    )


def together(graphs: Sequence[Any]) -> Size:
    """Return the size of a batch of MACE's graphs, without reading it; see `size_of`."""
    return Size(
        sum(len(graph.positions) for graph in graphs),
        max(1, sum(map(_pairs, graphs))) + 1,
        largest(graphs, 1).slots,
    )


def suited(
    graphs: Sequence[Any], batch: int, suits: Callable[[Size], bool]
) -> Sequence[Any] | None:
    """Return a batch of so many of MACE's graphs that suits, of the largest; none if none does."""
    ranked = sorted(graphs, key=lambda graph: (len(graph.positions), _pairs(graph)), reverse=True)
    batches = (ranked[first : first + batch] for first in range(len(ranked) - batch + 1))
    return next((one for one in batches if suits(together(one))), None)


def roomy(size: Size, alike: bool) -> Size:
    """Return a size that is worth compiling: with room for what is to come, one of few.

    Args:
        size: Of the largest batch now.
        alike: All structures have the same number of atoms, as those to come will.
    """
    atoms = size.atoms if alike else _up(size.atoms)
    return Size(atoms, _up(ceil(_HEADROOM * size.pairs)), 2 * (size.slots // 2 + 1))


def padded(inputs: Inputs, size: Size) -> Inputs:
    """Return the same batch in a size that holds it."""
    n_atoms, n_slots = inputs.neighbours.pair.shape
    pairs, atoms = size.pairs - len(inputs.harmonics), size.atoms - n_atoms
    table, slots = inputs.neighbours, size.slots - n_slots
    rows, place = (0, 0, 0, pairs), (0, slots, 0, atoms)
    # An empty slot points to the atom itself, and to a pair that never is NaN: the last one.
    neighbour = torch.arange(size.atoms, device=inputs.kinds.device).unsqueeze(1)
    neighbour = neighbour.repeat(1, size.slots)
    neighbour[:n_atoms, :n_slots] = table.neighbour
    return Inputs(
        pad(inputs.harmonics, rows),
        pad(inputs.radial, rows),
        pad(inputs.radial_slope, rows),
        Table(
            senders=pad(table.senders, (0, pairs)),
            receivers=pad(table.receivers, (0, pairs)),
            pair=pad(table.pair, place, value=size.pairs - 1),
            neighbour=neighbour,
            even=pad(table.even, (0, 0, *place)),
            odd=pad(table.odd, (0, 0, *place)),
        ),
        pad(inputs.kinds, (0, atoms)),
    )


def cut(found: Derived, inputs: Inputs) -> Derived:
    """Return of a padded batch's results those of the batch."""
    pairs = len(inputs.harmonics)
    return Derived(
        found.atoms[:, : len(inputs.kinds)],
        found.by_harmonics[:, :pairs],
        found.by_length[:, :pairs],
    )


def _pairs(graph: Any) -> int:
    return int(graph.edge_index.shape[1]) // 2


def _up(count: int) -> int:
    """Round up to one of `_STEPS` sizes in an octave."""
    step = 2 ** max(0, int(log2(count)) - int(log2(_STEPS)))
    return ceil(count / step) * step
