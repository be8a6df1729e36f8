"""FHI-aims, run by the user's own launch line, each calculation in a folder of its own.

Inputs are the user's `control.in` with forces (and stress) asked for, the species defaults of the
elements that a structure has, and the structure.

Source: Blum et al., doi:10.1016/j.cpc.2009.06.022.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import atomic_numbers

from aimspax_core.errors import EngineError, LabelError, SettingsError
from aimspax_core.labels.label import Label
from aimspax_core.reference.aims.output import AimsFiles, AimsResult, read_result
from aimspax_core.reference.aims.process import ERRORS, OUTPUT, Ended, run
from aimspax_core.reference.aims.section import AimsReference
from aimspax_core.reference.as_calculator import LabelCalculator
from aimspax_core.reference.calculation_folder import calculation_folder
from aimspax_core.reference.electrons import own_or, refused
from aimspax_core.settings.aims_control.control import Control
from aimspax_core.structures import AIMS_LINES

CONTROL, GEOMETRY = "control.in", "geometry.in"

_K_POINTS = ("k_grid", "k_grid_density", "k_points_external")
_OF_CELLS = (*_K_POINTS, "k_offset")
_SPECIES_LINE = re.compile(r"^\s*species\s+(\S+)", re.MULTILINE)
_SPECIES = re.compile(r"\d+_([A-Z][a-z]?)_default")
_LAUNCHER_TAIL = 20_000
"""Characters of what the launcher printed that are looked at."""


def species_file(species_dir: Path, symbol: str) -> Path:
    """Return where FHI-aims's species defaults have an element: `14_Si_default`."""
    return species_dir / f"{atomic_numbers[symbol]:02d}_{symbol}_default"


def mistakes(settings: AimsReference, directory: Path, atoms: Atoms) -> Iterator[tuple[str, str]]:
    """Yield what keeps FHI-aims from labelling a structure, before anything is launched.

    Args:
        settings: With the one control file that holds for the structure.
        directory: The run directory; paths of the settings begin there.
        atoms: A start geometry.

    Yields:
        The key of REFERENCE, or `charge` or `spin` if the structure says it of itself, and a
        sentence on what is wrong with it.
    """
    folder = directory / settings.species_dir
    for symbol in dict.fromkeys(atoms.get_chemical_symbols()):
        file = species_file(folder, symbol)
        if not file.is_file():
            yield "species_dir", _no_species(folder, symbol)
        elif (found := _SPECIES_LINE.search(_text(file))) is None or found[1] != symbol:
            line = f"has `species {found[1]}`" if found else "has no line `species`"
            yield "species_dir", f"{file} {line}; it should have `species {symbol}`"
    if atoms.pbc.any() and not atoms.pbc.all():
        yield (
            "engine",
            "FHI-aims knows molecules, and cells that are periodic in all three directions; this "
            f"one is periodic in {int(atoms.pbc.sum())}",
        )
        return
    control, name = _control(settings, directory), Path(str(settings.control)).name
    grid = [name for name in _OF_CELLS if control.get(name) is not None]
    if atoms.pbc.all() and not any(name in grid for name in _K_POINTS):
        yield "control", f"a periodic structure needs k_grid, and {name} has none"
    if grid and not atoms.pbc.any():
        yield "control", f"{name} has {grid[0]}, which is not for molecules{_BY_INDEX}"
    moments = atoms.has("initial_magmoms") and bool(atoms.get_initial_magnetic_moments().any())
    if moments and _closed(_of_structure(control, atoms)):
        yield "control", f"initial magnetic moments need `spin collinear`, and {name} has it not"
    if (wrong := _electrons_refused(control, atoms)) is not None:
        yield wrong


def _electrons_refused(control: Control, atoms: Atoms) -> tuple[str, str] | None:
    """Return why a structure cannot have the charge, or the charge and multiplicity, that it says.

    Without a multiplicity of its own FHI-aims finds the moment, or has `fixed_spin_moment`. Levels
    of cells, and those of a fractional charge, are occupied in part.

    Returns:
        The key of what is wrong, `charge` or `spin` if the structure says it and else that of
        REFERENCE, and a sentence; None if nothing is.
    """
    charge, spin = own_or(atoms, control.number("charge"), 0.0)
    electrons = int(atoms.numbers.sum()) - charge
    if electrons <= 0:
        formula = atoms.get_chemical_formula()
        text = f"{formula} has {electrons:g} electrons with the charge {charge:g}"
        return ("charge" if "charge" in atoms.info else "control"), text
    whole = charge == round(charge) and not atoms.pbc.any()
    wrong = refused(atoms, charge, spin, whole=whole) if "spin" in atoms.info else None
    return None if wrong is None else (wrong.key, wrong.text)


def notes(settings: AimsReference, directory: Path, atoms: Atoms) -> Iterator[tuple[str, str]]:
    """Yield what FHI-aims would compute without a word though it may not be meant."""
    control, name = _control(settings, directory), Path(str(settings.control)).name
    charge, _ = own_or(atoms, control.number("charge"), 0.0)
    electrons = int(atoms.numbers.sum()) - charge
    open_shell = not atoms.pbc.any() and electrons == round(electrons) and electrons % 2 != 0
    if open_shell and "spin" not in atoms.info and _closed(control):
        formula = atoms.get_chemical_formula()
        yield (
            "control",
            f"{formula} has {electrons:g} electrons with the charge {charge:g}, an odd number, and "
            f"{name} has no `spin collinear`: its levels would be half occupied",
        )
    default = control.get("default_initial_moment")
    unsaid = atoms.get_initial_magnetic_moments() == 0
    odd = control.number("default_initial_moment", 1.0) != 0  # `hund` is no number
    if default and odd and 0 < unsaid.sum() < len(atoms):
        yield (
            "control",
            f"{unsaid.sum()} of {len(atoms)} atoms have no initial moment, or 0: FHI-aims begins "
            f"with `default_initial_moment {default[0]}` of {name} there",
        )


_BY_INDEX = " (there may be a file for each geometry, by index: {0: control.in, 1: bulk.in})"


def _no_species(folder: Path, symbol: str) -> str:
    name = species_file(folder, symbol).name
    there = [found[1] for path in sorted(folder.iterdir()) if (found := _SPECIES.match(path.name))]
    if not there:
        nested = next(iter(sorted(folder.glob(f"*/{name}")) or folder.glob(f"*/*/{name}")), None)
        hint = f"; did you mean {nested.parent}?" if nested else ""
        return f"{folder} holds no species defaults, such as {name}{hint}"
    return f"no species defaults of {symbol}: {folder} has no {name}; it has {', '.join(there)}"


def _control(settings: AimsReference, directory: Path) -> Control:
    assert not isinstance(settings.control, dict)
    control, wrong = Control.read(directory / settings.control)
    if wrong:
        raise SettingsError("\n".join(str(mistake) for mistake in wrong))
    return control


class AimsEngine:
    """A reference that is FHI-aims.

    A structure's `info["charge"]` (e) and `info["spin"]` (multiplicity) hold instead of `charge`
    and `fixed_spin_moment` of control.in if they are there; initial moments and charges of its
    atoms are written into geometry.in, and so is what stands under `structures.AIMS_LINES`.

    Args:
        settings: With the one control file that holds for the structures.
        directory: The run directory; paths of the settings begin there.

    Raises:
        SettingsError: The control file, or a species file, cannot be read.
    """

    def __init__(self, settings: AimsReference, directory: Path) -> None:
        self._settings = settings
        self._species_dir = directory / settings.species_dir
        self._calc_dir = directory / settings.calc_dir
        self._control = _control(settings, directory)
        self._species  # noqa: B018 - what holds is what was there when the run began

    def identity(self) -> dict[str, object]:
        """See `Reference.identity`; of `species`, a label's key takes those of its elements."""
        settings = self._settings
        identity: dict[str, object] = {
            "engine": "aims",
            "version": settings.version,
            "energy": settings.energy,
            "control": self._control.canonical(),
            "species": {
                symbol: hashlib.sha256(text.encode()).hexdigest()
                for symbol, text in self._species.items()
            },
        }
        return {**identity, "stress": True} if settings.compute_stress else identity

    @cached_property
    def _species(self) -> dict[str, str]:
        """Every element's species defaults, by symbol: read once, so that a key stands for them."""
        try:
            return {
                found[1]: _text(path)
                for path in sorted(self._species_dir.iterdir())
                if (found := _SPECIES.fullmatch(path.name)) and path.is_file()
            }
        except OSError as error:
            raise SettingsError(f"{self._species_dir} cannot be read: {error}") from error

    def calculator(self) -> Calculator:
        """See `Reference.calculator`; each of its steps is a calculation like a label's."""
        return LabelCalculator(self)

    def label(self, atoms: Atoms) -> Label:
        """See `Reference.label`.

        Raises:
            LabelError: There are no such electrons, or the SCF did not converge (not transient);
                or the launcher, the node, memory or time failed (transient).
            EngineError: FHI-aims refuses its input.
        """
        if (wrong := _electrons_refused(self._control, atoms)) is not None:
            raise LabelError(wrong[1])
        try:
            with calculation_folder(self._calc_dir, atoms, self._settings.clean_dirs) as folder:
                self._write(folder, atoms)
                ended = run(self._settings.launch_str, folder, self._settings.timeout)
                result = _result(folder, ended)
        except OSError as error:
            raise LabelError(f"FHI-aims: {error}", transient=True) from error
        return self._labelled(result, ended)

    def _labelled(self, result: AimsResult, ended: Ended) -> Label:
        settings = self._settings
        free = settings.energy == "free"
        seconds = ended.seconds
        return Label(
            energy=result.free_energy if free else result.energy,
            forces=result.forces,
            stress=result.stress,
            structure=result.atoms,
            dipole=result.dipole,
            hirshfeld_ratios=result.hirshfeld_ratios,
            provenance={
                "engine": "aims",
                "version": result.version,
                "free_energy": result.free_energy,
                "total_energy": result.energy,
                "wall_s": seconds,
                "cores": result.tasks or 1,
                "warnings": list(result.warnings),
            },
        )

    def _write(self, folder: Path, atoms: Atoms) -> None:
        """Write both inputs."""
        control, bare = self._for(atoms), atoms.copy()
        if _closed(control):
            bare.set_initial_magnetic_moments(None)
        lines = (*_geometry(bare), *_beside(atoms))
        (folder / GEOMETRY).write_text("\n".join((*lines, "")), encoding="utf-8")
        symbols = dict.fromkeys(atoms.get_chemical_symbols())
        missing = [symbol for symbol in symbols if symbol not in self._species]
        if missing:
            raise LabelError(_no_species(self._species_dir, missing[0]))
        parts = [control.text()]
        parts += [self._species[symbol] for symbol in symbols]
        (folder / CONTROL).write_text("\n".join(parts), encoding="utf-8")

    def _for(self, atoms: Atoms) -> Control:
        """Return the keywords for one structure."""
        control = self._control.with_("compute_forces", ".true.")
        wanted = self._settings.compute_stress and atoms.pbc.all()
        if wanted and not control.flag("compute_numerical_stress"):
            control = control.with_("compute_analytical_stress", ".true.")
        return _of_structure(control, atoms)


def _of_structure(control: Control, atoms: Atoms) -> Control:
    """Return the keywords with the charge and multiplicity that a structure says of itself."""
    if "charge" in atoms.info:
        control = control.with_("charge", repr(float(atoms.info["charge"])))
    if "spin" in atoms.info:
        unpaired = round(float(atoms.info["spin"])) - 1
        if (unpaired or not _closed(control)) and not _has_moment(control, unpaired):
            control = control.with_("spin", "collinear")
            control = control.with_("fixed_spin_moment", f"{unpaired:.1f}")
    return control


def _has_moment(control: Control, unpaired: int) -> bool:
    """Say whether control.in itself asks for so many unpaired electrons, of either spin."""
    given = control.get("fixed_spin_moment") is not None and not _closed(control)
    return given and abs(control.number("fixed_spin_moment")) == unpaired


def _closed(control: Control) -> bool:
    """Say whether there is one channel of spin alone."""
    return (control.get("spin") or ("none",))[0].lower() != "collinear"


def _geometry(atoms: Atoms) -> Iterator[str]:
    """Yield the lines of geometry.in for a structure, numbers to the last bit."""
    if atoms.pbc.any():
        yield from (" ".join(("lattice_vector", *map(repr, v))) for v in atoms.cell.tolist())
    charges, moments = atoms.get_initial_charges(), atoms.get_initial_magnetic_moments()
    for atom, charge, moment in zip(atoms, charges.tolist(), moments.tolist(), strict=True):
        yield " ".join(("atom", *map(repr, atom.position.tolist()), atom.symbol))
        if moment:
            yield f"    initial_moment {moment!r}"
        if charge:
            yield f"    initial_charge {charge!r}"


def _beside(atoms: Atoms) -> list[str]:
    """Return the lines of geometry.in for fields and point charges."""
    return [line.strip() for line in str(atoms.info.get(AIMS_LINES, "")).split(";") if line.strip()]


def _result(folder: Path, ended: Ended) -> AimsResult:
    """Read what a calculation came to; errors say where its files are."""
    try:
        return read_result(_printed(folder, ended))
    except LabelError as error:
        raise LabelError(f"{error} ({folder})", error.transient, kind=error.kind) from error
    except EngineError as error:
        raise EngineError(f"{error} ({folder})") from error


def _printed(folder: Path, ended: Ended) -> AimsFiles:
    """Return FHI-aims's output, from whichever file it went to, and the launcher's output."""
    launcher = "".join(_text(folder / name)[-_LAUNCHER_TAIL:] for name in (OUTPUT, ERRORS))
    own = {CONTROL, GEOMETRY, ERRORS}
    files = [path for path in folder.iterdir() if path.is_file() and path.name not in own]
    for path in sorted(files, key=lambda path: path.stat().st_mtime, reverse=True):
        text = _text(path)
        if "Invoking FHI-aims" in text:
            return AimsFiles(text, launcher, ended.code)
    return AimsFiles("", launcher, ended.code)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace") if path.exists() else ""
