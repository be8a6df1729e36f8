"""Hartree-Fock and density functionals through PySCF (doi:10.1063/5.0006074)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from aimspax_core.errors import LabelError, LabelFailure, SettingsError
from aimspax_core.labels.label import Label
from aimspax_core.reference.as_calculator import LabelCalculator
from aimspax_core.reference.pyscf.refusals import functional_refused, structure_refused
from aimspax_core.reference.pyscf.section import PyscfReference
from aimspax_core.reference.pyscf.terms import (
    INSTALL,
    built,
    charge_and_spin,
    correction,
    dispersion,
    error_text,
    is_dft,
    is_hybrid,
)
from aimspax_core.versions import version_of

_GAMMA = (1, 1, 1)


class PyscfEngine:
    """A reference that runs in this process, with PySCF's defaults for what has no key.

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
        wrong = functional_refused(settings)
        if wrong is not None:
            raise SettingsError(wrong)
        if dispersion(settings):
            self._versions["dispersion_version"] = _version("pyscf-dispersion")

    def identity(self) -> dict[str, Any]:
        """See `Reference.identity`; threads, memory and the limit of cycles change no answer."""
        beside = {"threads", "max_memory", "max_cycle"}
        return self._settings.model_dump(mode="json", exclude=beside) | self._versions

    def calculator(self) -> Calculator:
        """See `Reference.calculator`."""
        return LabelCalculator(self)

    def label(self, atoms: Atoms) -> Label:
        """See `Reference.label`; cells have a stress if `compute_stress` and PySCF has it.

        Raises:
            LabelError: Transient if memory or scratch space failed; not transient if PySCF cannot
                do what is asked with this structure, the SCF did not converge, also not to second
                order, or PySCF complains otherwise.
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
            text = f"PySCF failed on {atoms.get_chemical_formula()}: {error_text(error)}"
            failure = LabelError(text, transient=isinstance(error, MemoryError | OSError))
        raise failure

    def _label(self, atoms: Atoms, began: float) -> Label:
        from pyscf.data import nist
        from pyscf.lib import param

        settings = self._settings
        refused = structure_refused(settings, atoms, stress=False)
        if refused is not None:
            raise LabelError(f"{atoms.get_chemical_formula()}: REFERENCE.{refused}")
        mol = built(settings, atoms, *charge_and_spin(settings, atoms))
        method = _Method(settings, mol)
        cycles, warnings = method.converge()
        energy, gradient, virial = float(method.scf.e_tot), method.gradient(), method.virial()
        beside = correction(settings, mol)
        if beside is not None:
            energy += float(beside["energy"])
            gradient = gradient + beside["gradient"]
            virial = None if virial is None else virial + beside["virial"]
        hartree, bohr = nist.HARTREE2EV, param.BOHR
        return Label(
            dipole=method.dipole(),
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
        self._multigrid = self._k_grid == _GAMMA and not is_hybrid(settings)
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
        slow = f"SCF did not converge: not in {scf.max_cycle} cycles"
        if not second.converged:
            raise LabelError(
                f"{slow}, nor with a second-order solver from there", kind=LabelFailure.SCF
            )
        scf.e_tot, scf.converged = second.e_tot, True
        orbitals = second.mo_coeff, second.mo_occ, second.mo_energy
        if twice:
            orbitals = second.mo_coeff[0], sum(second.mo_occ), second.mo_energy[0]
        scf.mo_coeff, scf.mo_occ, scf.mo_energy = orbitals
        return int(scf.cycles), [f"{slow}; the second-order solver did from there"]

    def gradient(self) -> NDArray[np.float64]:
        """Return the derivatives by positions, (N, 3)."""
        gradients = self.scf.nuc_grad_method()
        if self._k_grid is None and is_dft(self._settings):
            gradients.grid_response = True
        return np.array(gradients.kernel(), float)

    def dipole(self) -> NDArray[np.float64] | None:
        """Return a molecule's dipole moment about the origin of its coordinates, (3,), in e·Å."""
        if self._k_grid is not None:
            return None
        from pyscf.lib import param

        return np.array(self.scf.dip_moment(unit="AU", verbose=0), float) * param.BOHR

    def virial(self) -> NDArray[np.float64] | None:
        """Return the derivatives by strain, (3, 3), or None if they are not to be had."""
        settings = self._settings
        if self._k_grid is None or not settings.compute_stress or is_hybrid(settings):
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
        kind = f"{'U' if self._unrestricted else 'R'}{'KS' if is_dft(settings) else 'HF'}"
        points = {"kpts": mol.make_kpts(self._k_grid)} if by_k_points else {}
        made = getattr(mol, f"K{kind}" if by_k_points else kind)(**points)
        if is_dft(settings):
            made.xc = settings.xc
        if self._k_grid is None:
            if is_dft(settings):
                made.grids.level = settings.grids_level
            if settings.density_fit:
                made = made.density_fit(auxbasis=settings.auxbasis)
        elif by_k_points and self._unrestricted:
            # PySCF's `spin` counts over all k-points together.
            made.nelec = tuple(int(n * np.prod(self._k_grid)) for n in mol.nelec)
        made.chkfile = None
        made.disp = False  # `correction` adds it, also to cells
        made.conv_tol, made.conv_tol_grad = settings.conv_tol, settings.conv_tol_grad
        made.max_cycle = settings.max_cycle
        return made

    @property
    def _unrestricted(self) -> bool:
        return self._settings.unrestricted or self._mol.spin > 0


def _periodic(mol: Any) -> bool:
    from pyscf.pbc.gto import Cell

    return isinstance(mol, Cell)


def _version(package: str) -> str:
    found = version_of(package)
    if found is None:
        raise SettingsError(f"engine: {package} is not installed; {INSTALL}")
    return found
