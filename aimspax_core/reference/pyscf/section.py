"""REFERENCE with `engine: pyscf`: its keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from aimspax_core.settings.engines import EngineSection
from aimspax_core.settings.usual import Usual
from aimspax_core.settings.values import AnyCase, Count, Natural, Positive, Whole

ByElement = Annotated[
    str | dict[str, str],
    Field(json_schema_extra={"allowed": "a name that PySCF knows, or one for each element"}),
]
"""One name for all elements, or a name by chemical symbol."""


_DISPERSION: dict[str, tuple[str, ...]] = {
    "none": (),
    "d3zero": ("grimme2010",),
    "d3bj": ("grimme2010", "grimme2011"),
    "d4": ("caldeweyher2019",),
}
"""What is to be cited for a dispersion correction."""


_CALLED = {"d3zero": "D3(0)", "d3bj": "D3(BJ)", "d4": "D4"}
"""How the dispersion corrections are called."""


def _names(of: str | dict[str, str]) -> str:
    if isinstance(of, str):
        return of
    return ", ".join(f"{name} of {symbol}" for symbol, name in of.items())


class PyscfReference(EngineSection):
    """REFERENCE with `engine: pyscf`: molecules, and cells periodic in all three directions.

    Periodic cells need a GTH basis (`basis: gth-dzvp-molopt-sr`) and its `pseudo` (`gth-pbe`).
    """

    slow: ClassVar[bool] = True
    cell_keys: ClassVar[tuple[str, ...]] = ("pseudo", "k_grid", "ke_cutoff", "compute_stress")
    free: ClassVar[tuple[str, ...]] = ("threads", "max_memory", "max_cycle")
    usual: ClassVar[Mapping[str, Usual]] = {
        "ke_cutoff": Usual(20, 2000, " Hartree", "usual are 50 to 500 Hartree (1 is 27.2 eV)"),
        "conv_tol": Usual(1e-14, 1e-6, " Hartree", "usual are 1e-8 to 1e-11 Hartree"),
        "max_memory": Usual(100, 1e7, " MB", "usual are 1000 to 100000 MB (1 GB is 1000)"),
    }

    engine: Literal["pyscf"] = Field(description="The engine.")
    xc: str = Field(
        "pbe",
        min_length=1,
        description="Functional, by any name that PySCF knows (pbe, b3lyp, wb97m-v); `hf` is "
        "Hartree-Fock.",
    )
    basis: ByElement = Field(
        "def2-svp",
        description="Basis set. The effective core potentials that belong to it are used where it "
        "has some.",
    )
    pseudo: ByElement | None = Field(
        None, description="Pseudopotential of a periodic cell (gth-pbe, gth-pade, ...)."
    )
    dispersion: Annotated[Literal["none", "d3bj", "d3zero", "d4"], AnyCase()] = Field(
        "none", description="Dispersion correction; needs the package pyscf-dispersion."
    )
    charge: Whole = Field(0, description="Total charge (e).")
    spin: Count = Field(1, description="Spin multiplicity, 2S+1; of a cell, each cell's.")
    unrestricted: bool = Field(
        False,
        description="Orbitals of their own for each spin also where `spin` is 1; above they "
        "always have.",
    )
    density_fit: bool = Field(
        False, description="Density fitting for molecules: faster; changes energies by about meV."
    )
    auxbasis: ByElement | None = Field(
        None, description="Basis of the density fitting. Default: PySCF's choice for `basis`."
    )
    grids_level: Annotated[Natural, Field(le=9)] = Field(
        3, description="Integration grid of molecules, from 0 (coarse) to 9."
    )
    k_grid: tuple[Count, Count, Count] | None = Field(
        None,
        description="Points of a periodic cell's k-grid, centred at Γ. Default: Γ alone.",
        json_schema_extra={"allowed": "three whole numbers of at least 1: [4, 4, 4]"},
    )
    ke_cutoff: Positive | None = Field(
        None,
        description="Kinetic-energy cutoff of a periodic cell's grid (Hartree). Default: what "
        "PySCF finds the basis to need.",
    )
    compute_stress: bool = Field(
        True, description="Stress of periodic cells, where PySCF has it: not for hybrids."
    )
    conv_tol: Positive = Field(1e-9, description="Convergence of the SCF's energy (Hartree).")
    conv_tol_grad: Positive | None = Field(
        None,
        description="Convergence of the SCF's orbital gradient (Hartree). Default: the square root "
        "of `conv_tol`.",
    )
    max_cycle: Count = Field(
        50,
        description="SCF cycles before a second-order solver tries, which has as many again.",
    )
    threads: Count = Field(1, description="Threads of a calculation.")
    max_memory: Positive = Field(4000, description="Memory that a calculation may use (MB).")

    @classmethod
    def example(cls, charge: int, spin: int, periodic: bool) -> dict[str, Any]:
        """See `EngineSection.example`."""
        molecules = {"engine": "pyscf", "xc": "pbe", "basis": "def2-svp"}
        cells = {"basis": "gth-dzvp-molopt-sr", "pseudo": "gth-pbe", "k_grid": [2, 2, 2]}
        return {**molecules, "charge": charge, "spin": spin, **(cells if periodic else {})}

    @property
    def cites(self) -> tuple[str, ...]:
        """The program, and the dispersion."""
        return "sun2018", "sun2020", *_DISPERSION[self.dispersion]

    @property
    def method_text(self) -> str:
        """See `EngineSection.method_text`."""
        return f"{self.xc} {self.basis}"

    def told(self, directory: Path) -> str:
        """See `EngineSection.told`."""
        parts = [f"{self.xc} in the basis {_names(self.basis)}"]
        if self.pseudo is not None:
            parts.append(f"pseudopotentials {_names(self.pseudo)}")
        if self.k_grid is not None:
            parts.append(f"a k-grid of {'×'.join(map(str, self.k_grid))} points")
        if self.ke_cutoff is not None:
            parts.append(f"a cutoff of {self.ke_cutoff:g} Hartree")
        if self.dispersion != "none":
            parts.append(f"{_CALLED[self.dispersion]} dispersion")
        if self.unrestricted or self.spin > 1:
            parts.append("unrestricted orbitals")
        if self.density_fit:
            own = "" if self.auxbasis is None else f" by {_names(self.auxbasis)}"
            parts.append(f"density fitting{own}")
        return f"PySCF ({', '.join(parts)})"

    @property
    def atoms_in_cell(self) -> bool | None:
        """See `EngineSection.atoms_in_cell`.

        Pseudopotentials are those of cells: without them an atom has its core electrons.
        """
        return self.pseudo is not None
