"""The table of model families; `model_choice` chooses one."""

from __future__ import annotations

from aimspax_core.settings.families.mace import MACE
from aimspax_core.settings.families.row import FamilyRow
from aimspax_core.settings.families.so3krates import SO3KRATES, SO3LR

FAMILIES: tuple[FamilyRow, ...] = (
    # The first is the one of settings that choose none.
    MACE,
    SO3KRATES,
    SO3LR,
)


def row_of(name: str) -> FamilyRow:
    """Return the row of the family that `model_choice` names."""
    return next(row for row in FAMILIES if row.name == name)


def row_of_foundation(name: str) -> FamilyRow:
    """Return the row of the family that loads a kind of foundation model."""
    return next(row for row in FAMILIES if name in row.foundations)
