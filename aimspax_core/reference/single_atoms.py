"""Isolated atoms and their ground states.

Ground states are NIST's, "Ground Levels and Ionization Energies for the Neutral Atoms", W. C.
Martin, A. Musgrove, S. Kotochigova, J. E. Sansonetti, doi:10.18434/T42P4C.
"""

from __future__ import annotations

from dataclasses import dataclass

from ase import Atoms
from ase.data import chemical_symbols

from aimspax_core.errors import SettingsError
from aimspax_core.reference.registry import kind_of
from aimspax_core.settings.known_engines import EngineSettings

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

_NAMES = (
    *("singlet", "doublet", "triplet", "quartet", "quintet", "sextet", "septet", "octet"),
    "nonet",
)


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
        """Return the neutral atom, with its spin as `info["spin"]` and as a magnetic moment.

        Args:
            box: Put it into a periodic cell, for engines that need one.
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
        SettingsError: The ground state is not known.
    """
    if not 1 <= number <= len(_TERMS):
        raise SettingsError(
            f"no ground state of {chemical_symbols[number]} is known; allowed: H to "
            f"{chemical_symbols[len(_TERMS)]}"
        )
    multiplicity = kind_of(reference).atom_multiplicity(number)
    return GroundState(number, multiplicity or int(_TERMS[number - 1][0]))
