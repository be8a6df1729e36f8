"""What the section REFERENCE says, and a structure, in PySCF's own terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ase import Atoms

from aimspax_core.errors import LabelError
from aimspax_core.reference.electrons import own_or
from aimspax_core.reference.pyscf.section import PyscfReference

INSTALL = "pip install 'aimspax[pyscf]'"
"""How PySCF is installed."""


def built(settings: PyscfReference, atoms: Atoms, charge: int, spin: int | None) -> Any:
    """Return PySCF's molecule or cell of a structure.

    Args:
        settings: The method.
        atoms: The structure, periodic in no direction or in all three.
        charge: Its total charge (e).
        spin: Its multiplicity; None: any that fits.
    """
    from pyscf import gto
    from pyscf.pbc import gto as pbc

    symbols = atoms.get_chemical_symbols()
    common = {
        "atom": list(zip(symbols, atoms.positions.tolist(), strict=True)),
        "unit": "Angstrom",
        "basis": settings.basis,
        "charge": charge,
        "spin": None if spin is None else spin - 1,
        "max_memory": settings.max_memory,
        "verbose": 0,
    }
    if not atoms.pbc.any():
        return gto.M(**common, ecp=_cores(settings.basis, symbols))
    # PySCF wants a right-handed cell; that of the opposite vectors is the same crystal's.
    vectors = atoms.cell.array * np.sign(np.linalg.det(atoms.cell.array))
    return pbc.M(**common, a=vectors, pseudo=settings.pseudo, ke_cutoff=settings.ke_cutoff)


def charge_and_spin(settings: PyscfReference, atoms: Atoms) -> tuple[int, int]:
    """Return charge (e) and multiplicity of a structure.

    Raises:
        LabelError: They are no whole numbers, or the multiplicity is below 1.
    """
    charge, spin = own_or(atoms, settings.charge, settings.spin)
    if charge != int(charge) or spin != int(spin) or spin < 1:
        raise LabelError(f"charge {charge:g} or multiplicity {spin:g} is no number of electrons")
    return int(charge), int(spin)


def _cores(basis: str | Mapping[str, str], symbols: Iterable[str]) -> dict[str, str]:
    """Return the effective core potentials that belong to a basis, by element."""
    from pyscf.gto.basis import load_ecp
    from pyscf.lib.exceptions import BasisNotFoundError

    found = {}
    for symbol in set(symbols):
        name = of_element(basis, symbol)
        try:
            if name and load_ecp(name, symbol):
                found[symbol] = name
        except BasisNotFoundError:  # a basis without any
            continue
    return found


def correction(settings: PyscfReference, mol: Any) -> dict[str, Any] | None:
    """Return the dispersion's energy, gradient (N, 3) and virial (3, 3) in Hartree and Bohr."""
    wanted = dispersion(settings)
    if wanted is None:
        return None
    from pyscf.dispersion import dftd3, dftd4

    method, version, three_body = wanted
    if version == "d4":
        return dftd4.DFTD4Dispersion(mol, xc=method, atm=three_body).get_dispersion(grad=True)
    model = dftd3.DFTD3Dispersion(mol, xc=method, version=version, atm=three_body)
    return model.get_dispersion(grad=True)


def dispersion(settings: PyscfReference) -> tuple[str, str, bool] | None:
    """Return parameters, version, and whether with three-body terms, as PySCF understands them."""
    from pyscf.scf.dispersion import parse_disp

    named = None if settings.dispersion == "none" else settings.dispersion
    method, version, three_body = parse_disp(settings.xc, named)
    return (method, version, three_body) if version else None


def of_element(names: str | Mapping[str, str], symbol: str) -> str:
    """Return an element's own of names that may be given by element; empty if there is none."""
    return names if isinstance(names, str) else names.get(symbol, "")


def is_dft(settings: PyscfReference) -> bool:
    """Return whether the method is a functional; else it is Hartree-Fock."""
    return settings.xc.lower() != "hf"


def is_hybrid(settings: PyscfReference) -> bool:
    """Return whether a method has exact exchange."""
    from pyscf.dft import libxc

    return not is_dft(settings) or bool(libxc.is_hybrid_xc(settings.xc))


def is_non_local(settings: PyscfReference) -> bool:
    """Return whether a functional has non-local correlation (VV10)."""
    from pyscf.dft import libxc
    from pyscf.scf.dispersion import parse_dft

    functional, switch, _ = parse_dft(settings.xc)
    return switch is not False and bool(libxc.is_nlc(functional))


def error_text(error: Exception) -> str:
    """Return type and message of an error in one line."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = " ".join(str(message).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
