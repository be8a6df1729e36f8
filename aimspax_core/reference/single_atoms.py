"""Isolated atoms: their ground states, and how each engine is to be set up for one.

Ground states are NIST's, "Ground Levels and Ionization Energies for the Neutral Atoms", W. C.
Martin, A. Musgrove, S. Kotochigova, J. E. Sansonetti, doi:10.18434/T42P4C.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from ase.data import chemical_symbols

from aimspax_core.errors import SettingsError
from aimspax_core.safe_files import write_text
from aimspax_core.settings.aims_control.control import Control
from aimspax_core.settings.aims_control.keywords import PART_OF
from aimspax_core.settings.engines import AimsReference, EngineSettings, TbliteReference
from aimspax_core.settings.pyscf import PyscfReference

# 2S+1 and L, from hydrogen on. Of Pa, U and Np, whose levels are not of this coupling, it is the
# term of the 5f shell with one 6d electron, spins parallel.
_ROWS = (
    "2S 1S 2S 1S 2P 3P 4S 3P 2P 1S 2S 1S 2P 3P 4S 3P 2P 1S",
    "2S 1S 2D 3F 4F 7S 6S 5D 4F 3F 2S 1S 2P 3P 4S 3P 2P 1S",
    "2S 1S 2D 3F 6D 7S 6S 5F 4F 1S 2S 1S 2P 3P 4S 3P 2P 1S",
    "2S 1S 2D 1G 4I 5I 6H 7F 8S 9D 6H 5I 4I 3H 2F 1S",  # Cs to Yb
    "2D 3F 4F 5D 6S 5D 4F 3D 2S 1S 2P 3P 4S 3P 2P 1S",
    "2S 1S 2D 3F 4K 5L 6L 7F 8S 9D 6H 5I 4I 3H 2F 1S 2P",
)
_TERMS = tuple(" ".join(_ROWS).split())

_BOX = 12.0
"""Edge of the cell for an atom that must have one (Å)."""

_XTB_F_IN_CORE = range(58, 72)
"""GFN-xTB has three valence electrons for each of Ce to Lu, as for La: a doublet."""

_NAMES = (
    *("singlet", "doublet", "triplet", "quartet", "quintet", "sextet", "septet", "octet"),
    "nonet",
)

_OF_CELLS = (
    *("k_grid", "k_grid_density", "k_points_external", "k_offset", "symmetry_reduced_k_grid"),
    *("compute_analytical_stress", "compute_numerical_stress", "use_dipole_correction"),
)
_OF_SPIN = ("spin", "fixed_spin_moment", "default_initial_moment")


@dataclass(frozen=True)
class GroundState:
    """The state of a neutral atom in which an engine computes it.

    Attributes:
        number: Atomic number.
        multiplicity: 2S+1.
    """

    number: int
    multiplicity: int

    @property
    def symbol(self) -> str:
        """The chemical symbol."""
        return chemical_symbols[self.number]

    @property
    def name(self) -> str:
        """What a chemist calls the multiplicity."""
        return _NAMES[self.multiplicity - 1]

    def atoms(self, box: bool = False) -> Atoms:
        """Return the atom, neutral, with its spin in every way in which engines are told of it.

        Args:
            box: Put it into a periodic cell, for engines that know nothing else.
        """
        atoms = Atoms(numbers=[self.number], positions=[[0.0, 0.0, 0.0]])
        if box:
            atoms.set_cell([_BOX] * 3)
            atoms.set_pbc(True)
            atoms.center()
        atoms.info.update(charge=0.0, spin=float(self.multiplicity))
        if self.multiplicity > 1:
            atoms.set_initial_magnetic_moments([self.multiplicity - 1.0])
        return atoms


def ground_state(number: int, reference: EngineSettings) -> GroundState:
    """Return the ground state of a neutral atom, for a method.

    Args:
        number: Atomic number.
        reference: The engine; some have fewer electrons than the atom.

    Raises:
        SettingsError: The element is one that too little is known of.
    """
    if not 1 <= number <= len(_TERMS):
        raise SettingsError(
            f"no ground state of {chemical_symbols[number]} is known; allowed: H to "
            f"{chemical_symbols[len(_TERMS)]}"
        )
    if isinstance(reference, TbliteReference) and number in _XTB_F_IN_CORE:
        return GroundState(number, 2)
    return GroundState(number, int(_TERMS[number - 1][0]))


def in_vacuum(
    reference: EngineSettings, directory: Path, folder: Path, multiplicity: int
) -> EngineSettings:
    """Return an engine's settings for something small and neutral in vacuum.

    The method stays as it is; what belongs to cells goes, and the spin follows the multiplicity:
    a structure's `info["spin"]` says the rest.

    Args:
        reference: The engine.
        directory: The run directory.
        folder: Where a control file for FHI-aims is written.
        multiplicity: 2S+1; FHI-aims is to be spin-polarised where it is above 1.

    Raises:
        SettingsError: A control file cannot be read.
    """
    if isinstance(reference, PyscfReference):
        return reference.model_copy(update={"k_grid": None, "compute_stress": False})
    if not isinstance(reference, AimsReference):
        return reference
    assert not isinstance(reference.control, dict)
    control, wrong = Control.read(directory / reference.control)
    if wrong:
        raise SettingsError("\n".join(str(mistake) for mistake in wrong))
    for name in (*_OF_CELLS, *_OF_SPIN, "output", *PART_OF):
        control = control.without(name)
    polarised = multiplicity > 1
    control = control.with_("spin", "collinear" if polarised else "none")
    file = folder / f"control-{'open' if polarised else 'closed'}-shell.in"
    write_text(file, control.text())
    return reference.model_copy(update={"control": file, "compute_stress": False})


def needs_cell(reference: EngineSettings) -> bool:
    """Tell whether only a periodic cell gives an atom the energy that the others are told by.

    PySCF's pseudopotentials are those of its cells: without them an atom has its core electrons.
    """
    return isinstance(reference, PyscfReference) and reference.pseudo is not None
