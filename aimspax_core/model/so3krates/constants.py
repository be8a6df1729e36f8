"""What follows from a training set: energies of free atoms and the average number of neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aimspax_core.errors import ModelError
from aimspax_core.model.so3krates.graphs import Graph
from aimspax_core.settings.families.so3krates import so3krates_architecture
from aimspax_core.settings.model import ModelSettings
from aimspax_core.structures import symbols_text


@dataclass(frozen=True)
class Constants:
    """The constants of a member that follow from its training set.

    Attributes:
        atomic_energies: Energy (eV) of an atom of each element, by atomic number.
        avg_num_neighbors: Mean number of neighbours within `r_max`.
    """

    atomic_energies: dict[int, float]
    avg_num_neighbors: float


def constants_of(
    data: Sequence[Graph],
    elements: Sequence[int],
    settings: ModelSettings,
    atomic_energies: dict[int, float] | None = None,
) -> Constants:
    """Return the constants that follow from a training set; see `family.ConstantsOf`.

    Raises:
        ModelError: No structure is labelled, a label is not finite, no two atoms are neighbours,
            or the user's atomic energies miss an element.
    """
    elements = sorted(int(z) for z in elements)
    labelled = [graph for graph in data if graph.energy is not None and graph.forces is not None]
    if not labelled:
        raise ModelError("no training structure is labelled with energy and forces")
    for index, graph in enumerate(labelled):
        parts = [graph.energy, graph.forces, graph.stress]
        if not all(np.isfinite(part).all() for part in parts if part is not None):
            raise ModelError(f"the label of training structure {index} is not finite")
    atoms = sum(len(graph.numbers) for graph in labelled)
    edges = sum(graph.near.index.shape[1] for graph in labelled)
    if edges == 0:
        r_max = so3krates_architecture(settings).r_max
        raise ModelError(f"no two atoms of the training set are closer than r_max ({r_max} Å)")
    known = settings.ARCHITECTURE.atomic_energies or atomic_energies
    return Constants(_energies(labelled, elements, known), edges / atoms)


def _energies(
    data: Sequence[Graph], elements: Sequence[int], known: dict[int, float] | None
) -> dict[int, float]:
    """Return the energies that are known, else those of a least-squares fit of smallest norm."""
    if known is not None:
        if missing := set(elements) - set(known):
            raise ModelError(
                f"ARCHITECTURE.atomic_energies has no energy of {symbols_text(missing)}"
            )
        return {z: float(known[z]) for z in elements}
    counts = np.array([[(graph.numbers == z).sum() for z in elements] for graph in data])
    energies = np.array([graph.energy for graph in data])
    found = np.linalg.lstsq(counts.astype(float), energies, rcond=None)[0]
    return dict(zip(elements, found.tolist(), strict=True))
