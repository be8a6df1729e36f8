"""Charge and multiplicity of a structure: whose word holds, and whether there are such electrons.

What a structure says of itself (`info["charge"]` in e, `info["spin"]` as 2S+1) holds before the
settings of its engine, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator

from ase import Atoms

from aimspax_core.reference.interface import Finding

_HALF = 0.5


def own_or(atoms: Atoms, charge: float, spin: float) -> tuple[float, float]:
    """Return charge (e) and multiplicity of a structure: its own, else those of the settings."""
    return float(atoms.info.get("charge", charge)), float(atoms.info.get("spin", spin))


def refused(
    atoms: Atoms,
    charge: float,
    spin: float,
    cores: int = 0,
    remark: str = "",
    whole: bool = True,
) -> Finding | None:
    """Return why a structure cannot have a charge and a multiplicity; None if it can.

    Args:
        atoms: The structure.
        charge: Its total charge (e).
        spin: Its multiplicity, 2S+1.
        cores: Electrons that the method does not count.
        remark: What to say of the number of electrons that it does count.
        whole: Whether each level has a whole number of electrons; if not (a metal), the charge may
            be a fraction, and the multiplicity any that there are enough electrons for.
    """
    formula = atoms.get_chemical_formula()
    if whole and charge != round(charge):
        return Finding("charge", f"the total charge is {charge:g}; allowed: a whole number")
    if spin != round(spin) or spin < 1:
        return Finding("spin", f"the multiplicity is {spin:g}; allowed: 1, 2, 3, …")
    electrons = int(atoms.numbers.sum()) - cores - charge
    if electrons < 0:
        return Finding("charge", f"{formula} has no {charge:g} electrons to lose")
    if spin > electrons + 1:
        has = f"{formula} has {electrons:g} electrons{remark}"
        return Finding("spin", f"the multiplicity is {spin:g}; {has}")
    if whole and (electrons + round(spin)) % 2 == 0:
        allowed = "2, 4, …" if electrons % 2 else "1, 3, …"
        return Finding(
            "spin",
            f"the multiplicity is {spin:g}, but with charge {charge:g} {formula} has "
            f"{electrons:g} electrons{remark}; allowed: {allowed}",
        )
    return None


def beside(atoms: Atoms, charge: float, spin: float, engine: str) -> Iterator[Finding]:
    """Yield notes where charges and moments of atoms say another state than the engine is given."""
    if atoms.has("initial_charges"):
        total = float(atoms.get_initial_charges().sum())
        if abs(total - charge) > _HALF:
            text = f"the initial charges add up to {total:g}; {engine} is given the charge "
            yield Finding("charge", f"{text}{charge:g}", note=True)
    moments = atoms.get_initial_magnetic_moments() if atoms.has("initial_magmoms") else None
    if moments is not None and moments.ndim == 1 and moments.any():
        total = abs(float(moments.sum()))
        if abs(total + 1 - spin) > _HALF:
            text = f"the initial moments add up to {total:g}; {engine} is given the multiplicity "
            yield Finding("spin", f"{text}{spin:g}", note=True)
