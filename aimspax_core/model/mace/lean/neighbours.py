"""Which atoms see each other: pairs, and the padded table of each atom's neighbours.

MACE's edges come in twos, from i to j and back, with the same length. So all that depends on the
length alone is computed once a pair, and harmonics of the way back differ by the sign (-1)^l.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Table(NamedTuple):
    """The neighbours of N atoms in D slots each; what is in an empty slot does not count.

    Attributes:
        senders: Of each pair, shape (P,).
        receivers: Of each pair, shape (P,).
        pair: The pair of a slot, shape (N, D); in an empty one any that is not NaN.
        neighbour: The atom of a slot, shape (N, D); in an empty one the atom itself.
        even: 1 in a slot, 0 in an empty one, shape (N, D, 1).
        odd: 1 where the atom is its pair's receiver, -1 where it is the sender, 0 in an empty
            slot, shape (N, D, 1).
    """

    senders: Tensor
    receivers: Tensor
    pair: Tensor
    neighbour: Tensor
    even: Tensor
    odd: Tensor


def half(edge_index: Tensor, unit_shifts: Tensor) -> Tensor:
    """Return one edge of each pair, as indices (P,).

    Args:
        edge_index: Senders and receivers, each edge with its way back, shape (2, E).
        unit_shifts: Cells that an edge crosses, shape (E, 3), whole numbers.
    """
    sender, receiver = edge_index
    # The sign of the first component that is not zero, for fewer than 500 cells.
    onward = unit_shifts @ unit_shifts.new_tensor([2.0**20, 2.0**10, 1.0]) > 0
    return torch.nonzero((sender < receiver) | ((sender == receiver) & onward)).view(-1)


def table(senders: Tensor, receivers: Tensor, vectors: Tensor, n_atoms: int) -> Table:
    """Deal pairs to slots; each atom has as many as the one with most neighbours.

    Args:
        senders: Shape (P,), P > 0.
        receivers: Shape (P,).
        vectors: Shape (P, 3), in Å.
        n_atoms: N.
    """
    device, n_pairs = senders.device, len(senders)
    order = torch.cat([receivers, senders]).argsort(stable=True)
    atom = torch.cat([receivers, senders])[order]
    counts = torch.bincount(atom, minlength=n_atoms)
    starts = counts.cumsum(0) - counts
    width = int(counts.max())
    slot = atom * width + torch.arange(2 * n_pairs, device=device) - starts[atom]
    sign = 1.0 - 2.0 * (order >= n_pairs).to(vectors.dtype)

    def dealt(values: Tensor, otherwise: Tensor) -> Tensor:
        filled = otherwise.repeat_interleave(width)
        return filled.index_copy_(0, slot, values).view(n_atoms, width)

    # Nothing times NaN is NaN, and atoms on top of each other must not spoil other structures of
    # the batch: empty slots hold the atom itself and a pair of its own, or else the longest pair.
    pairs, none = order % n_pairs, sign.new_zeros(n_atoms)
    own = pairs[starts.clamp(max=2 * n_pairs - 1)]
    own = torch.where(counts > 0, own, vectors.square().sum(dim=1).argmax())
    atoms = torch.arange(n_atoms, device=device)
    return Table(
        senders,
        receivers,
        pair=dealt(pairs, own),
        neighbour=dealt(torch.cat([senders, receivers])[order], atoms),
        even=dealt(torch.ones_like(sign), none).unsqueeze(-1),
        odd=dealt(sign, none).unsqueeze(-1),
    )


def no_table(like: Tensor, n_atoms: int) -> Table:
    """Return the empty slots of atoms that see nobody, beside one pair that does not count."""
    index = torch.zeros(n_atoms, 1, dtype=torch.long, device=like.device)
    empty = like.new_zeros(n_atoms, 1, 1)
    return Table(index[:1, 0], index[:1, 0], index, index, empty, empty)
