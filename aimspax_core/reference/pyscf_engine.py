"""Hartree-Fock and density functionals through PySCF (doi:10.1063/5.0006074)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from aimspax_core.errors import LabelError, SettingsError
from aimspax_core.reference.base import Label
from aimspax_core.reference.driver import LabelCalculator
from aimspax_core.settings.mistakes import nearest
from aimspax_core.settings.pyscf import PyscfReference

_INSTALL = "pip install 'aimspax[pyscf]'"
_GAMMA = (1, 1, 1)


def why_not(settings: PyscfReference, atoms: Atoms, stress: bool) -> str | None:
    """Find what PySCF cannot do of what is asked, before anything is launched.

    Args:
        settings: The section REFERENCE.
        atoms: A structure that it will label, or one like it.
        stress: Whether its stress is needed.

    Returns:
        One sentence that begins with a key, or None if energy, forces and what else is needed
        can be had.
    """
    if importlib.util.find_spec("pyscf") is None:
        return f"engine: PySCF is not installed; {_INSTALL}"
    if atoms.pbc.any() and not atoms.pbc.all():
        return "engine: PySCF labels molecules, and cells periodic in all three directions, only"
    periodic = bool(atoms.pbc.all())
    return (
        _functional_refused(settings)
        or _dispersion_refused(settings)
        or (_cell_refused if periodic else _molecule_refused)(settings, stress)
        or _names_refused(settings, atoms)
        or _electrons_refused(settings, atoms)
    )


class PyscfEngine:
    """A reference that runs in this process, on PySCF's own defaults where nothing else is said.

    A structure's `info["charge"]` (e) and `info["spin"]` (multiplicity) count if they are there,
    else `charge` and `spin` of the settings. Every structure begins from the same guess (`minao`),
    so its answer does not depend on the structures before. PySCF's own constants convert lengths
    and energies, so that answers are to the last digit those of PySCF called by hand; they agree
    with ASE's to 1e-9.

    Forces of functionals have the response of the integration grid in them, which PySCF leaves out
    unless asked: without it forces of SCAN on the default grid can be wrong by eV/Å.

    Args:
        settings: The method.
        directory: The run directory; nothing is read from it or written to it.

    Raises:
        SettingsError: PySCF, or its dispersion package where it is needed, is not installed; or
            PySCF cannot do the functional.
    """

    def __init__(self, settings: PyscfReference, directory: Path) -> None:
        self._settings = settings
        self._versions = {"version": _version("pyscf")}
        wrong = _functional_refused(settings)
        if wrong is not None:
            raise SettingsError(wrong)
        if _dispersion(settings):
            self._versions["dispersion_version"] = _version("pyscf-dispersion")

    def identity(self) -> dict[str, Any]:
        """See `Reference.identity`; what a calculation may use or take changes no answer."""
        beside = {"threads", "max_memory", "max_cycle"}
        return self._settings.model_dump(mode="json", exclude=beside) | self._versions

    def calculator(self) -> Calculator:
        """See `Reference.calculator`."""
        return LabelCalculator(self)

    def label(self, atoms: Atoms) -> Label:
        """See `Reference.label`; cells have a stress if `compute_stress` and PySCF has it.

        Raises:
            LabelError: Transient if memory or scratch space failed; not transient if the SCF did
                not converge, also not to second order, or PySCF complains otherwise.
        """
        from pyscf import lib

        settings, began = self._settings, time.perf_counter()
        try:
            with lib.with_omp_threads(settings.threads):
                return self._label(atoms, began)
        except LabelError:
            raise
        # PySCF may raise anything, even what does not survive the way to another process: so it
        # must not go along as the cause or the context of ours.
        except Exception as error:
            text = f"PySCF failed on {atoms.get_chemical_formula()}: {_words(error)}"
            failure = LabelError(text, transient=isinstance(error, MemoryError | OSError))
        raise failure

    def _label(self, atoms: Atoms, began: float) -> Label:
        from pyscf.data import nist
        from pyscf.lib import param

        settings = self._settings
        mol = _built(settings, atoms, *_asked(settings, atoms))
        method = _Method(settings, mol)
        cycles, warnings = method.converge()
        energy, gradient, virial = float(method.scf.e_tot), method.gradient(), method.virial()
        correction = _correction(settings, mol)
        if correction is not None:
            energy += float(correction["energy"])
            gradient = gradient + correction["gradient"]
            virial = None if virial is None else virial + correction["virial"]
        hartree, bohr = nist.HARTREE2EV, param.BOHR
        return Label(
            energy=energy * hartree,
            forces=-gradient * (hartree / bohr),
            stress=None if virial is None else virial * (hartree / atoms.get_volume()),
            provenance={
                "engine": "pyscf",
                **self._versions,
                "method": f"{type(method.scf).__name__} {settings.xc}/{settings.basis}",
                "scf_cycles": cycles,
                "warnings": warnings,
                "cores": settings.threads,
                "wall_s": time.perf_counter() - began,
            },
        )


class _Method:
    """One SCF of one structure, and its derivatives (Hartree, Bohr).

    A cell's functionals without exchange are integrated by multigrid if Γ is the only k-point:
    elsewhere PySCF's multigrid has no gradients, and on a coarse grid those of the plain
    integration are not the slope of its energy.
    """

    def __init__(self, settings: PyscfReference, mol: Any) -> None:
        self._settings, self._mol = settings, mol
        self._k_grid = (settings.k_grid or _GAMMA) if _periodic(mol) else None
        self._multigrid = self._k_grid == _GAMMA and not _hybrid(settings)
        self.scf = self._made(by_k_points=self._k_grid is not None and not self._multigrid)
        if self._multigrid:
            self.scf = self.scf.multigrid_numint()

    def converge(self) -> tuple[int, list[str]]:
        """Run the SCF, from its last density with a second-order solver if it does not converge.

        Returns:
            The cycles that it took before the second-order solver, and warnings.
        """
        scf = self.scf
        scf.kernel()
        if scf.converged:
            return int(scf.cycles), []
        # PySCF's solver trips over multigrid with restricted orbitals, so it gets them twice.
        twice = self._multigrid and not self._unrestricted
        start = scf.to_uks().multigrid_numint() if twice else scf
        second = start.newton()
        second.kernel(start.mo_coeff, start.mo_occ)
        told = f"SCF did not converge: not in {scf.max_cycle} cycles"
        if not second.converged:
            raise LabelError(f"{told}, nor with a second-order solver from there")
        scf.e_tot, scf.converged = second.e_tot, True
        orbitals = second.mo_coeff, second.mo_occ, second.mo_energy
        if twice:
            orbitals = second.mo_coeff[0], sum(second.mo_occ), second.mo_energy[0]
        scf.mo_coeff, scf.mo_occ, scf.mo_energy = orbitals
        return int(scf.cycles), [f"{told}; the second-order solver did from there"]

    def gradient(self) -> NDArray[np.float64]:
        """Return the derivatives by positions, (N, 3)."""
        gradients = self.scf.nuc_grad_method()
        if self._k_grid is None and _is_dft(self._settings):
            gradients.grid_response = True
        return np.array(gradients.kernel(), float)

    def virial(self) -> NDArray[np.float64] | None:
        """Return the derivatives by strain, (3, 3), or None if they are not to be had."""
        settings = self._settings
        if self._k_grid is None or not settings.compute_stress or _hybrid(settings):
            return None
        scf = self._by_k_points() if self._multigrid else self.scf
        stress = np.array(scf.nuc_grad_method().get_stress(), float)
        return (stress + stress.T) / 2 * self._mol.vol

    def _by_k_points(self) -> Any:
        """Return the SCF at Γ as that of a k-grid, whose plain integration has a stress."""
        plain = self._made(by_k_points=True)
        spins = int(self._unrestricted)  # in PySCF's arrays, k-points come after spins
        for name in ("mo_coeff", "mo_occ", "mo_energy"):
            setattr(plain, name, np.expand_dims(getattr(self.scf, name), spins))
        plain.e_tot, plain.converged = self.scf.e_tot, True
        return plain

    def _made(self, by_k_points: bool) -> Any:
        settings, mol = self._settings, self._mol
        # RHF, UKS, KRKS, ...: PySCF's names say what they are.
        kind = f"{'U' if self._unrestricted else 'R'}{'KS' if _is_dft(settings) else 'HF'}"
        points = {"kpts": mol.make_kpts(self._k_grid)} if by_k_points else {}
        made = getattr(mol, f"K{kind}" if by_k_points else kind)(**points)
        if _is_dft(settings):
            made.xc = settings.xc
        if self._k_grid is None:
            if _is_dft(settings):
                made.grids.level = settings.grids_level
            if settings.density_fit:
                made = made.density_fit(auxbasis=settings.auxbasis)
        elif by_k_points and self._unrestricted:
            # PySCF's `spin` counts over all k-points together.
            made.nelec = tuple(int(n * np.prod(self._k_grid)) for n in mol.nelec)
        made.chkfile = None
        made.disp = False  # `_correction` adds it, also to cells
        made.conv_tol, made.conv_tol_grad = settings.conv_tol, settings.conv_tol_grad
        made.max_cycle = settings.max_cycle
        return made

    @property
    def _unrestricted(self) -> bool:
        return self._settings.unrestricted or self._mol.spin > 0


def _built(settings: PyscfReference, atoms: Atoms, charge: int, spin: int | None) -> Any:
    """Return PySCF's molecule or cell of a structure; of any fitting spin if that is None."""
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


def _asked(settings: PyscfReference, atoms: Atoms) -> tuple[int, int]:
    """Return charge and multiplicity of a structure."""
    charge = float(atoms.info.get("charge", settings.charge))
    spin = float(atoms.info.get("spin", settings.spin))
    if charge != int(charge) or spin != int(spin) or spin < 1:
        raise LabelError(f"charge {charge:g} or multiplicity {spin:g} is no number of electrons")
    return int(charge), int(spin)


def _cores(basis: str | Mapping[str, str], symbols: Iterable[str]) -> dict[str, str]:
    """Return the effective core potentials that belong to a basis, by element."""
    from pyscf.gto.basis import load_ecp
    from pyscf.lib.exceptions import BasisNotFoundError

    found = {}
    for symbol in set(symbols):
        name = _of(basis, symbol)
        try:
            if name and load_ecp(name, symbol):
                found[symbol] = name
        except BasisNotFoundError:  # a basis without any
            continue
    return found


def _correction(settings: PyscfReference, mol: Any) -> dict[str, Any] | None:
    """Return the dispersion's energy, gradient (N, 3) and virial (3, 3) in Hartree and Bohr."""
    wanted = _dispersion(settings)
    if wanted is None:
        return None
    from pyscf.dispersion import dftd3, dftd4

    method, version, three_body = wanted
    if version == "d4":
        return dftd4.DFTD4Dispersion(mol, xc=method, atm=three_body).get_dispersion(grad=True)
    model = dftd3.DFTD3Dispersion(mol, xc=method, version=version, atm=three_body)
    return model.get_dispersion(grad=True)


def _dispersion(settings: PyscfReference) -> tuple[str, str, bool] | None:
    """Return parameters, version, and whether with three-body terms, as PySCF understands them."""
    from pyscf.scf.dispersion import parse_disp

    named = None if settings.dispersion == "none" else settings.dispersion
    method, version, three_body = parse_disp(settings.xc, named)
    return (method, version, three_body) if version else None


def _functional_refused(settings: PyscfReference) -> str | None:
    if not _is_dft(settings):
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
        return f"xc: {_words(error)}"
    # What it cannot parse it complains of in many ways.
    except (KeyError, ValueError, IndexError) as error:
        known = {*libxc.XC_ALIAS, *libxc.XC_CODES}
        return f"xc: PySCF does not know {xc} ({_words(error)}){nearest(xc, known)}"
    if libxc.needs_laplacian(functional):
        return f"xc: PySCF has no forces for {xc}, which depends on the density's Laplacian"
    return None


def _dispersion_refused(settings: PyscfReference) -> str | None:
    wanted = _dispersion(settings)
    if wanted is None:
        return None
    if importlib.util.find_spec("pyscf.dispersion") is None:
        return f"dispersion: it needs the package pyscf-dispersion; {_INSTALL}"
    from pyscf import gto
    from pyscf.scf.dispersion import parse_dft

    xc, name = settings.xc, settings.dispersion
    if name != "none":
        if parse_dft(xc)[2] or _non_local(settings):
            return f"dispersion: {xc} has dispersion of its own"
        if xc.lower() == "wb97x":
            return f"dispersion: the parameters are those of another method; write xc: {xc}-d3bj"
    try:
        _correction(settings, gto.M(atom="He", verbose=0))
    except RuntimeError as error:
        return f"dispersion: {xc} has no parameters for {wanted[1]} ({_words(error)})"
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
    if _is_dft(settings):
        functional, _, dispersion = parse_dft(xc)
        if dispersion:
            return f"xc: for periodic cells, write the dispersion of {xc} under dispersion"
        if _non_local(settings) or libxc.xc_type(functional) == "MGGA":
            return f"xc: PySCF has forces of periodic cells for LDA, GGA and hybrids, not for {xc}"
    if stress and _hybrid(settings):
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
        name = _of(settings.basis, symbol)
        wrong = _name_refused("basis", name, symbol, library)
        if wrong is None and name.lower().startswith("gth") != bool(atoms.pbc.all()):
            wrong = f"basis: GTH bases, and only they, are for periodic cells; found {name}"
        if wrong is None and settings.pseudo is not None:
            wrong = _name_refused("pseudo", _of(settings.pseudo, symbol), symbol, pseudo)
        if wrong is None and settings.auxbasis is not None:
            wrong = _name_refused("auxbasis", _of(settings.auxbasis, symbol), symbol, basis)
        if wrong is not None:
            return wrong
    return None


def _name_refused(key: str, name: str, symbol: str, library: Any) -> str | None:
    if not name:
        return f"{key}: nothing for {symbol}"
    try:
        library.load(name, symbol)
    # PySCF's word for an unknown name, and what its parsers of names trip over.
    except (RuntimeError, KeyError, ValueError) as error:
        hint = nearest(name, library.ALIAS)
        return f"{key}: PySCF has no {name} for {symbol} ({_words(error)}){hint}"
    return None


def _electrons_refused(settings: PyscfReference, atoms: Atoms) -> str | None:
    try:
        charge, spin = _asked(settings, atoms)
    except LabelError as error:
        return f"spin: {error}"
    electrons = int(_built(settings, atoms, 0, None).nelectron) - charge
    if electrons < max(1, spin - 1) or (electrons - spin) % 2 == 0:
        return f"spin: multiplicity {spin} does not fit {electrons} electrons (charge {charge})"
    return None


def _of(names: str | Mapping[str, str], symbol: str) -> str:
    return names if isinstance(names, str) else names.get(symbol, "")


def _is_dft(settings: PyscfReference) -> bool:
    return settings.xc.lower() != "hf"


def _hybrid(settings: PyscfReference) -> bool:
    from pyscf.dft import libxc

    return not _is_dft(settings) or bool(libxc.is_hybrid_xc(settings.xc))


def _non_local(settings: PyscfReference) -> bool:
    """Tell whether a functional has non-local correlation (VV10)."""
    from pyscf.dft import libxc
    from pyscf.scf.dispersion import parse_dft

    functional, switch, _ = parse_dft(settings.xc)
    return switch is not False and bool(libxc.is_nlc(functional))


def _periodic(mol: Any) -> bool:
    from pyscf.pbc.gto import Cell

    return isinstance(mol, Cell)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise SettingsError(f"engine: {package} is not installed; {_INSTALL}") from None


def _words(error: Exception) -> str:
    """Return what an error says, in one line."""
    said = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = " ".join(str(said).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
