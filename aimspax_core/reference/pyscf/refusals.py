"""What PySCF cannot do of what is asked, found before it is begun."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import numpy as np
from ase import Atoms

from aimspax_core.reference.electrons import own_or, refused
from aimspax_core.reference.pyscf.section import PyscfReference
from aimspax_core.reference.pyscf.terms import (
    INSTALL,
    built,
    correction,
    dispersion,
    error_text,
    is_dft,
    is_hybrid,
    is_non_local,
    of_element,
)
from aimspax_core.text import did_you_mean


def method_refused(settings: PyscfReference) -> str | None:
    """Find what keeps PySCF from a method, whatever the structure; it may not be installed.

    Returns:
        One sentence that begins with a key, or None.
    """
    if importlib.util.find_spec("pyscf") is None:
        return f"engine: PySCF is not installed; {INSTALL}"
    return functional_refused(settings) or _dispersion_refused(settings)


def structure_refused(settings: PyscfReference, atoms: Atoms, stress: bool) -> str | None:
    """Find what PySCF cannot do with a structure, by a functional that it can do.

    It takes milliseconds. Without it PySCF would label some structures by another method than the
    settings say: slabs as bulk, molecules without their k-grid, cells without density fitting.

    Args:
        settings: The section REFERENCE.
        atoms: The structure.
        stress: Whether its stress is needed.

    Returns:
        One sentence that begins with a key, or None.
    """
    if atoms.pbc.any() and not atoms.pbc.all():
        return "engine: PySCF labels molecules, and cells periodic in all three directions, only"
    if atoms.pbc.all() and np.linalg.matrix_rank(atoms.cell.array) < 3:
        return "engine: the structure is periodic, and its cell has no volume"
    return (
        (_cell_refused if atoms.pbc.all() else _molecule_refused)(settings, stress)
        or _names_refused(settings, atoms)
        or _electrons_refused(settings, atoms)
    )


def functional_refused(settings: PyscfReference) -> str | None:
    """Find what keeps PySCF from forces of a functional; one sentence that begins with its key."""
    if not is_dft(settings):
        return None
    from pyscf.dft import libxc
    from pyscf.scf.dispersion import parse_dft

    xc = settings.xc
    if xc.lower() == "wb97x-d4":
        return (
            f"xc: {xc} names one method in PySCF 2.14 and another from 2.16 on; wb97x-d3bj and "
            "wb97m-d4 are clear"
        )
    try:
        functional = parse_dft(xc)[0]
        libxc.parse_xc(functional)
    except NotImplementedError as error:
        return f"xc: {error_text(error)}"
    # What it cannot parse it complains of in many ways.
    except (KeyError, ValueError, IndexError) as error:
        known = {*libxc.XC_ALIAS, *libxc.XC_CODES}
        return f"xc: PySCF does not know {xc} ({error_text(error)}){did_you_mean(xc, known)}"
    if libxc.needs_laplacian(functional):
        return f"xc: PySCF has no forces for {xc}, which depends on the density's Laplacian"
    return None


def _dispersion_refused(settings: PyscfReference) -> str | None:
    wanted = dispersion(settings)
    if wanted is None:
        return None
    if importlib.util.find_spec("pyscf.dispersion") is None:
        return f"dispersion: it needs the package pyscf-dispersion; {INSTALL}"
    from pyscf import gto
    from pyscf.scf.dispersion import parse_dft

    xc, name = settings.xc, settings.dispersion
    if name != "none":
        if parse_dft(xc)[2] or is_non_local(settings):
            return f"dispersion: {xc} has dispersion of its own"
        if xc.lower() == "wb97x":
            return f"dispersion: the parameters are those of another method; write xc: {xc}-d3bj"
    try:
        correction(settings, gto.M(atom="He", verbose=0))
    except RuntimeError as error:
        return f"dispersion: {xc} has no parameters for {wanted[1]} ({error_text(error)})"
    return None


def _molecule_refused(settings: PyscfReference, stress: bool) -> str | None:
    for key in ("k_grid", "ke_cutoff", "pseudo"):
        if getattr(settings, key) is not None:
            return f"{key}: it is for periodic cells; this structure is not periodic"
    if stress:
        return "engine: stress is needed, but this structure is not periodic"
    return None


def _cell_refused(settings: PyscfReference, stress: bool) -> str | None:
    from pyscf.dft import libxc
    from pyscf.scf.dispersion import parse_dft

    xc = settings.xc
    if settings.density_fit:
        return "density_fit: PySCF has no forces of periodic cells with density fitting"
    if settings.pseudo is None:
        return "pseudo: periodic cells need one, such as gth-pbe; PySCF has no forces without"
    if is_dft(settings):
        functional, _, own = parse_dft(xc)
        if own:
            return f"xc: for periodic cells, write the dispersion of {xc} under dispersion"
        if is_non_local(settings) or libxc.xc_type(functional) == "MGGA":
            return f"xc: PySCF has forces of periodic cells for LDA, GGA and hybrids, not for {xc}"
    if stress and is_hybrid(settings):
        return f"xc: stress is needed, but PySCF has none for {xc}; it has for LDA and GGA"
    if stress and not settings.compute_stress:
        return "compute_stress: False, but stress is needed"
    return None


def _names_refused(settings: PyscfReference, atoms: Atoms) -> str | None:
    """Return what is wrong with the names of basis and pseudopotential, or None."""
    from pyscf.gto import basis
    from pyscf.pbc.gto import basis as pbc_basis
    from pyscf.pbc.gto import pseudo

    if settings.auxbasis is not None and not settings.density_fit:
        return "auxbasis: it is for density_fit: True"
    library = pbc_basis if atoms.pbc.all() else basis
    for symbol in sorted(set(atoms.get_chemical_symbols())):
        name = of_element(settings.basis, symbol)
        wrong = _name_refused("basis", name, symbol, library)
        if wrong is None and name.lower().startswith("gth") != bool(atoms.pbc.all()):
            wrong = f"basis: GTH bases, and only they, are for periodic cells; found {name}"
        if wrong is None and settings.pseudo is not None:
            wrong = _name_refused("pseudo", of_element(settings.pseudo, symbol), symbol, pseudo)
        if wrong is None and settings.auxbasis is not None:
            wrong = _name_refused("auxbasis", of_element(settings.auxbasis, symbol), symbol, basis)
        if wrong is not None:
            return wrong
    return None


def _name_refused(key: str, name: str, symbol: str, library: Any) -> str | None:
    if not name:
        return f"{key}: nothing for {symbol}"
    try:
        with warnings.catch_warnings(action="ignore"):  # it advises other packages
            library.load(name, symbol)
    # PySCF's word for an unknown name, and what its parsers of names trip over.
    except (RuntimeError, KeyError, ValueError) as error:
        hint = did_you_mean(name, library.ALIAS)
        return f"{key}: PySCF has no {name} for {symbol} ({error_text(error)}){hint}"
    return None


def _electrons_refused(settings: PyscfReference, atoms: Atoms) -> str | None:
    charge, spin = own_or(atoms, settings.charge, settings.spin)
    neutral = int(built(settings, atoms, 0, None).nelectron)
    cores = int(atoms.numbers.sum()) - neutral
    remark = " outside the pseudopotentials" if cores else ""
    found = refused(atoms, charge, spin, cores, remark)
    if found is None and neutral == charge:
        has_none = f"{atoms.get_chemical_formula()} has no electrons{remark}"
        return f"charge: {has_none} with charge {charge:g}"
    return None if found is None else f"{found.key}: {found.text}"
