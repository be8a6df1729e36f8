"""Structures as the page draws them in three dimensions: balls, sticks and the cell's edges."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from ase.data.colors import jmol_colors
from numpy.typing import NDArray

from aimspax_core.report.document import contents

BALL = 0.45
"""Radius of a ball, as a fraction of the covalent radius."""

BOND = 1.2
"""Atoms are bonded if they are nearer than so many times the sum of their covalent radii."""


def scenes(structures: Sequence[contents.Structure]) -> list[dict[str, Any]]:
    """Return what the page's script draws of each structure; lengths in Å."""
    return [_scene(one) for one in structures]


def _scene(one: contents.Structure) -> dict[str, Any]:
    places = np.array(one.positions, dtype=float).reshape(-1, 3)
    numbers = np.array([atomic_numbers[symbol] for symbol in one.symbols])
    return {
        "title": one.title,
        "symbols": one.symbols,
        "positions": places.round(3).tolist(),
        "radii": (BALL * covalent_radii[numbers]).round(3).tolist(),
        "colours": [_colour(z) for z in numbers],
        "bonds": bonds(places, covalent_radii[numbers]).tolist(),
        "edges": [] if one.cell is None else _edges(np.array(one.cell)),
    }


def _colour(number: int) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in jmol_colors[number])


def bonds(places: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.int_]:
    """Return pairs of bonded atoms, (M, 2): those within the structure, not across its cell.

    Args:
        places: (N, 3), in Å.
        radii: Covalent radii, (N,), in Å.
    """
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    near = distances < BOND * (radii[:, None] + radii[None])
    return np.argwhere(np.triu(near, k=1))


def _edges(cell: NDArray[np.float64]) -> list[list[list[float]]]:
    """Return the twelve edges of a cell, each from corner to corner."""
    found = []
    for axis in range(3):
        for others in product((0, 1), repeat=2):
            corner = np.insert(np.array(others, dtype=float), axis, 0.0)
            begin = corner @ cell
            found.append([begin.round(3).tolist(), (begin + cell[axis]).round(3).tolist()])
    return found
