"""What models are trained on beside energy, forces and stress: labels must be able to have it."""

from __future__ import annotations

from collections.abc import Iterator

from ase import Atoms

from aimspax_core.reference.registry import kind_of
from aimspax_core.settings.model import WEIGHTS
from aimspax_core.settings.settings import Settings

_NEEDS = {
    "dipole": (
        "a dipole",
        "tblite, pyscf, aims with `output dipole` and calculators of ASE that compute it",
    ),
    "hirshfeld_ratios": ("Hirshfeld ratios", "aims with `output hirshfeld`"),
}
"""What labels need, and which engines give it."""


def labels_without(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    """Yield what models are to be trained on and labels will not have.

    Args:
        settings: The settings in force.
        geometries: The start geometries.
    """
    for quantity in settings.model.beside:
        key = f"TRAINING.{WEIGHTS[quantity]}"
        weight = getattr(settings.model.TRAINING, WEIGHTS[quantity])
        place = f"{settings.model_places.of(key)}: found {weight:g}"
        needing = [
            index
            for index, atoms in enumerate(geometries)
            if quantity != "dipole" or not atoms.pbc.any()
        ]
        if not needing:
            yield f"{place}; there is no molecule, and what is periodic has no dipole; allowed: 0"
        reasons = dict.fromkeys(_reason(settings, quantity, index) for index in needing)
        for why in filter(None, reasons):
            needed, who = _NEEDS[quantity]
            yield f"{place}, so labels need {needed}, but {why}; that is had from {who}; allowed: 0"


def _reason(settings: Settings, quantity: str, geometry: int) -> str:
    """Return why labels of a geometry have it not; nothing if they have."""
    engine = settings.reference_of(geometry)
    why = kind_of(engine).lacks(engine, settings.directory, quantity)
    return f"REFERENCE.engine is {engine.engine}: {why}" if why else ""
