"""Reads FHI-aims's `geometry.in` line by line, as FHI-aims does: what it does not know, it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian
from ase.data import atomic_numbers
from ase.io.aims import parse_geometry_lines

from aimspax_core.errors import StructureError
from aimspax_core.settings.geometries.keywords import KEYWORDS, SITES, About, Fate, GeometryKeyword
from aimspax_core.settings.reading.fortran import fortran_logical, fortran_number, fortran_words
from aimspax_core.settings.reading.mistakes import Mistake, MistakeKind, value_text
from aimspax_core.structures import AIMS_LINES
from aimspax_core.text import nearest_name

_MOST = 20
"""So many lines that are no known keywords are named one by one; with more, it is another file."""

_REMARKS = ("!", "//")
_GHOSTS = ("x", "emptium")
_HEAVY = {"d": "2.014", "t": "3.016"}


@dataclass(frozen=True)
class AimsGeometry:
    """What a `geometry.in` says.

    Attributes:
        atoms: The structure (Å), with initial moments and charges; with ASE's constraints for atoms
            that `constrain_relaxation` holds; with fields and point charges in `info` under
            `structures.AIMS_LINES`.
        notes: What means nothing here; one sentence each, beginning with the file and the line.
        parametric: The line where parametric constraints begin, if there are some.
    """

    atoms: Atoms
    notes: tuple[str, ...] = ()
    parametric: int | None = None


def read_aims_geometry(text: str, name: str = "geometry.in") -> tuple[AimsGeometry, list[Mistake]]:
    """Read the text of a `geometry.in`.

    Args:
        text: The content of the file.
        name: The file's name, for mistakes and notes.

    Returns:
        What could be read, and all that has to be mended before it can be used.
    """
    reader = _Reader(name)
    for line in _lines(text):
        reader.take(line)
        if reader.gave_up:
            break
    return reader.finish()


def is_aims_geometry(text: str) -> bool:
    """Say whether some line is one that only a `geometry.in` has: a site or a lattice vector."""
    for line in _lines(text):
        known = KEYWORDS.get(line.key.lower())
        if line.key.lower() in (*SITES, "lattice_vector") and known is not None:
            form = known.form
            if form is not None and form.fits(line.values[: len(form.kinds)]):
                return True
    return False


def canonical_aims_lines(lines: str) -> str:
    """Return what stands under `structures.AIMS_LINES`, the same for every spelling of it.

    Raises:
        StructureError: It is not what a `geometry.in` can say beside a structure.
    """
    site = "atom 0 0 0 H"
    geometry, wrong = read_aims_geometry("\n".join((site, *lines.split(";"))), AIMS_LINES)
    if wrong or len(geometry.atoms) != 1:
        why = wrong[0].text if wrong else "more than fields and point charges"
        raise StructureError(f"{AIMS_LINES}: found {value_text(lines)}: {why}")
    return str(geometry.atoms.info.get(AIMS_LINES, ""))


class _Line(NamedTuple):
    number: int
    key: str
    values: tuple[str, ...]
    remark: str
    text: str


def _lines(text: str) -> Iterator[_Line]:
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    for number, content in enumerate(text.split("\n"), 1):
        text = content.partition("#")[0].strip()
        words = fortran_words(text)
        end = next((i for i, word in enumerate(words) if i and word.startswith(_REMARKS)), None)
        if words:
            key, *values = words[:end]
            remark = "" if end is None else " ".join(words[end:])
            yield _Line(number, key, tuple(values), remark, text)


@dataclass
class _Site:
    """An atom, as far as it is read."""

    number: int
    place: tuple[float, ...]
    fractional: bool
    line: int
    said: dict[str, tuple[str, ...]] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)


class _Reader:
    def __init__(self, name: str) -> None:
        self._name = name
        self._mistakes: list[Mistake] = []
        self._notes: dict[str, list[int]] = {}
        self._sites: list[_Site] = []
        self._cell: list[tuple[float, ...]] = []
        self._said: dict[str, tuple[str, ...]] = {}
        self._passed_on: list[str] = []
        self._before = ""
        self._last: _Site | None = None
        self._parametric: int | None = None
        self._symmetry: list[str] = []
        self._odd, self._known, self._unlike = 0, 0, 0

    @property
    def gave_up(self) -> bool:
        """Whether this is no geometry.in at all."""
        return self._odd > _MOST

    def take(self, line: _Line) -> None:
        """Read one line."""
        low = line.key.lower()
        known = KEYWORDS.get(low)
        if known is None:
            self._odd += 1
            near = nearest_name(low, KEYWORDS)
            self._unlike += not near
            allowed = "" if near else "a keyword of geometry.in and its values, or # and a comment"
            found = "" if near else value_text(" ".join((line.key, *line.values)))
            kind = MistakeKind.UNKNOWN_KEY if near else MistakeKind.WRONG_LINE
            self._wrong(line, Mistake(kind, found, allowed=allowed, nearest=near))
            if near in SITES:
                self._last, self._before = None, near  # what follows speaks of no atom that is read
            return
        self._known += 1
        values = self._values(line, known)
        if known.fate is Fate.REFUSED:
            self._wrong(line, Mistake(MistakeKind.REFUSED, _text(line.values), known.why))
            if low in SITES:
                self._last, self._before = None, low
        elif known.form is not None and not known.form.fits(values):
            allowed = known.form.words
            wrong = Mistake(MistakeKind.WRONG_VALUE, _text(line.values), allowed=allowed)
            self._wrong(line, wrong)
            if low in SITES:
                self._last, self._before = None, low
        elif self._is_placed(line, known) and self._is_first(line, known, values):
            self._understood(line, low, known, values)

    def finish(self) -> tuple[AimsGeometry, list[Mistake]]:
        """Return the geometry, and what is wrong with it."""
        if self.gave_up:
            why = f"more than {_MOST} lines are no keywords of geometry.in; is it one?"
            self._mistakes.append(Mistake(MistakeKind.UNREADABLE, why=why, file=self._name))
        elif self._unlike > self._known and not (self._sites or self._cell):
            why = "hardly a line begins with a keyword of geometry.in; is it one?"
            self._mistakes = [Mistake(MistakeKind.UNREADABLE, why=why, file=self._name)]
        elif not self._sites and self._before not in SITES:
            why = "the geometry holds no atoms"
            self._mistakes.append(Mistake(MistakeKind.UNREADABLE, why=why, file=self._name))
        if len(self._cell) not in (0, 3):
            found = f"{len(self._cell)}"
            self._whole("lattice_vector", found, "three of them, or none for a molecule")
        if not self._cell and (frac := next((s for s in self._sites if s.fractional), None)):
            why = "fractional coordinates need three lattice vectors"
            self._mistakes.append(
                Mistake(MistakeKind.CONFLICT, why=why, file=self._name, line=frac.line)
            )
        atoms = Atoms() if self._mistakes else self._atoms()
        if self._mistakes:
            return AimsGeometry(Atoms()), self._mistakes
        return AimsGeometry(atoms, tuple(self._all_notes()), self._parametric), []

    def _values(self, line: _Line, known: GeometryKeyword) -> tuple[str, ...]:
        """Return a line's values without words behind them, which FHI-aims does not read."""
        left_out, values = line.remark, line.values
        form = known.form
        if form is not None and len(values) > len(form.kinds):
            values, rest = values[: len(form.kinds)], values[len(form.kinds) :]
            one_of_many = len(form.kinds) == 1 and form.fits(rest[:1])  # constrain_relaxation x y
            more = any(fortran_number(word) is not None for word in rest)
            whole = line.key.lower() in SITES and form.fits(values)  # a charge or mass behind it
            if (more and not whole) or one_of_many:
                return line.values
            left_out = " ".join((*rest, line.remark)).strip()
        if left_out:
            self._note(f"{value_text(left_out)} is left out; comments begin with #", line)
        return values

    def _is_placed(self, line: _Line, known: GeometryKeyword) -> bool:
        """Say whether there is what the keyword speaks of; if what is there is wrong, be quiet."""
        if known.about is About.FILE or self._before == "lattice_vector" == self._cell_of(known):
            return True
        if self._last is not None and self._before != "lattice_vector":
            return True
        if not self._before or self._before == "lattice_vector":
            why = "it belongs behind the atom that it speaks of"
            self._wrong(line, Mistake(MistakeKind.MISPLACED, why=why))
        return False

    @staticmethod
    def _cell_of(known: GeometryKeyword) -> str:
        return "lattice_vector" if known.about is About.EITHER else ""

    def _is_first(self, line: _Line, known: GeometryKeyword, values: tuple[str, ...]) -> bool:
        """Say whether a keyword that holds once is there for the first time."""
        if not known.once:
            return True
        low = line.key.lower()
        place = self._said if known.about is About.FILE or self._last is None else self._last.said
        if low not in place:
            place[low] = values
            return True
        same = _numbers(values) and _numbers(place[low]) == _numbers(values)
        if not same and _canonical(place[low]) != _canonical(values):
            found = f"{_text(values)} here and {_text(place[low])} before"
            self._wrong(line, Mistake(MistakeKind.TWICE, found, allowed="once"))
        return False

    def _understood(
        self, line: _Line, low: str, known: GeometryKeyword, values: tuple[str, ...]
    ) -> None:
        if low in ("atom", "atom_frac"):
            self._site(line, low, values)
        elif low == "lattice_vector":
            self._cell.append(_numbers(values))
            self._before = low
        elif known.fate is Fate.PASSED_ON:
            if low == "homogeneous_field" and not any(_numbers(values)):
                self._note(f"{low} is zero, and left out", line)
            else:
                self._passed_on.append(" ".join((low, *_canonical(values))))
        elif low == "constrain_relaxation":
            self._constrain(line, values[0].lower())
        elif known.fate is Fate.HELD:
            self._parametric = self._parametric or line.number
            self._symmetry.append(low + line.text[len(low) :])
        elif known.fate is Fate.NOTED:
            self._note(f"{low}: {known.why}", line)

    def _site(self, line: _Line, low: str, values: tuple[str, ...]) -> None:
        self._before, self._last = low, None
        element = _element(values[3])
        if element is None:
            self._wrong(line, _no_element(values[3]))
            return
        if element != values[3]:
            self._note(f"{values[3]} is read as {element}", line)
        number = atomic_numbers[element]
        self._last = _Site(number, _numbers(values[:3]), low == "atom_frac", line.number)
        self._sites.append(self._last)

    def _constrain(self, line: _Line, value: str) -> None:
        if fortran_logical(value) is False:
            return
        if self._before == "lattice_vector":
            self._note("constrain_relaxation of a lattice vector: it is for relaxations", line)
        elif self._last is not None:
            self._last.held += [value] if value in ("x", "y", "z") else ["x", "y", "z"]

    def _atoms(self) -> Atoms:
        cell = np.array(self._cell, dtype=float).reshape(-1, 3)
        periodic = bool(self._cell)
        positions = np.array([site.place for site in self._sites], dtype=float)
        numbers = [site.number for site in self._sites]
        atoms = Atoms(numbers, positions, cell=cell if periodic else None, pbc=[periodic] * 3)
        fractional = [site.fractional for site in self._sites]
        if any(fractional):
            atoms.positions[fractional] = atoms.cell.cartesian_positions(positions[fractional])
        for keyword, put in (
            ("initial_moment", atoms.set_initial_magnetic_moments),
            ("initial_charge", atoms.set_initial_charges),
        ):
            given = [_numbers(site.said.get(keyword, ("0",)))[0] for site in self._sites]
            if any(given):
                put(given)
        if self._passed_on:
            atoms.info[AIMS_LINES] = "; ".join(self._passed_on)
        if self._symmetry:
            self._symmetrise(atoms)
        atoms.set_constraint(list(_constraints(self._sites)))
        return atoms

    def _symmetrise(self, atoms: Atoms) -> None:
        """Put atoms where the parametric constraints have them, as FHI-aims begins."""
        sites = (" ".join(("atom", *map(repr, p), "H")) for p in atoms.positions.tolist())
        cell = (" ".join(("lattice_vector", *map(repr, v))) for v in atoms.cell.array.tolist())
        try:
            found = parse_geometry_lines([*cell, *sites, *self._symmetry])
        # Whatever ASE trips over, its reader takes these lines for no parametric constraints.
        except Exception as error:
            why = f"the parametric constraints cannot be read ({str(error) or 'incomplete'})"
            wrong = Mistake(MistakeKind.UNREADABLE, why=why, file=self._name, line=self._parametric)
            self._mistakes.append(wrong)
            return
        atoms.positions[:] = found.positions

    def _all_notes(self) -> Iterator[str]:
        for text, lines in self._notes.items():
            also = f" (and in {len(lines) - 1} more lines)" if len(lines) > 1 else ""
            yield f"{self._name}:{lines[0]}  {text}{also}"

    def _note(self, text: str, line: _Line) -> None:
        self._notes.setdefault(text, []).append(line.number)

    def _wrong(self, line: _Line, mistake: Mistake) -> None:
        key = "" if mistake.kind is MistakeKind.WRONG_LINE else line.key
        self._mistakes.append(replace(mistake, file=self._name, line=line.number, key=key))

    def _whole(self, key: str, found: str, allowed: str) -> None:
        self._mistakes.append(
            Mistake(MistakeKind.WRONG_VALUE, found, allowed=allowed, file=self._name, key=key)
        )


def _numbers(values: Sequence[str]) -> tuple[float, ...]:
    return tuple(number for v in values if (number := fortran_number(v)) is not None)


def _canonical(values: Sequence[str]) -> list[str]:
    """Return one spelling for all spellings of numbers; whole ones stay whole."""
    return [
        v.lower() if (number := fortran_number(v)) is None
        else str(int(v)) if v.lstrip("+-").isdecimal() else repr(number + 0.0)
        for v in values
    ]  # fmt: skip


def _text(values: Sequence[str]) -> str:
    return value_text(" ".join(values) or None)


def _element(name: str) -> str | None:
    """Return the symbol of an element, however it is capitalised; None if it is none."""
    if name in atomic_numbers and name != "X":
        return name
    spelt = name.capitalize()
    return spelt if spelt in atomic_numbers and spelt != "X" and name.isalpha() else None


def _no_element(name: str) -> Mistake:
    low = name.lower()
    if low in _HEAVY:
        why = f"an isotope; write H, or a format with masses ({_HEAVY[low]}) for its dynamics"
    elif low in _GHOSTS:
        why = "a site without a nucleus; aimspax knows atoms only"
    else:
        why = "the basis comes from species_dir, by element"
    return Mistake(MistakeKind.WRONG_VALUE, f"'{name}'", why, "the symbol of a chemical element")


def _constraints(sites: Sequence[_Site]) -> Iterator[FixAtoms | FixCartesian]:
    """Yield what holds atoms: those that cannot move, and those held in some directions."""
    axes = {i: sorted({"xyz".index(axis) for axis in site.held}) for i, site in enumerate(sites)}
    if fixed := [i for i, held in axes.items() if len(held) == 3]:
        yield FixAtoms(indices=fixed)
    for i, held in axes.items():
        if 0 < len(held) < 3:
            yield FixCartesian(i, [axis in held for axis in range(3)])
