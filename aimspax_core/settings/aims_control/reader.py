"""Reads the lines of a `control.in`, with everything that labelling cannot do with them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import NamedTuple

from aimspax_core.settings.aims_control.keywords import (
    BY_FIRST_WORD,
    DOUBTFUL,
    ELSEWHERE,
    FORMS,
    FUNCTIONALS,
    GENERAL,
    NOT_BASIS,
    ONCE,
    REFUSED,
    REFUSED_BEGINNINGS,
    REFUSED_DFPT,
    SPECIES,
    XC_FORMS,
    canonical_value,
)
from aimspax_core.settings.reading.fortran import (
    fortran_logical,
    fortran_number,
    fortran_words,
)
from aimspax_core.settings.reading.mistakes import Mistake, MistakeKind, value_text
from aimspax_core.text import nearest_name

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*", re.ASCII)
_REMARK = ("!", "//")
_MOST = 20
"""So many lines that are no known keywords are named one by one; with more, it is another file."""


@dataclass(frozen=True)
class Keyword:
    """One keyword of a control file.

    Attributes:
        name: As FHI-aims spells it; as written if it is not known.
        values: As written, without comments and without commas between numbers.
        line: Its line, from 1; 0 if it was added by us.
    """

    name: str
    values: tuple[str, ...]
    line: int


def read_keywords(
    text: str, name: str
) -> tuple[tuple[Keyword, ...], tuple[str, ...], tuple[str, ...], list[Mistake]]:
    """Return keywords, species that are left out, notes and mistakes of a control file's text."""
    reader = _Reader(name)
    lines = [*_lines(text)]
    for line, following in zip_longest(lines, lines[1:]):
        reader.take(line, following)
        if reader.gave_up:
            break
    reader.finish()
    return tuple(reader.keywords), tuple(reader.species), reader.all_notes(), reader.mistakes


class _Line(NamedTuple):
    number: int
    key: str
    values: tuple[str, ...]
    remark: str


def _lines(text: str) -> Iterable[_Line]:
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    for number, content in enumerate(text.split("\n"), 1):
        tokens = fortran_words(content.partition("#")[0])
        remark = next((i for i, t in enumerate(tokens) if i and t.startswith(_REMARK)), len(tokens))
        if tokens:
            key, *values = tokens[:remark]
            yield _Line(number, key, tuple(values), " ".join(tokens[remark:]))


class _Reader:
    def __init__(self, name: str) -> None:
        self.keywords: list[Keyword] = []
        self.species: list[str] = []
        self.mistakes: list[Mistake] = []
        self._name = name
        self._notes: list[tuple[int, str]] = []
        self._once: dict[str, Keyword] = {}
        self._in_species = False
        self._first_species = 0
        self._lost: dict[str, tuple[int, list[str]]] = {}
        self._odd = 0
        self._xc = False

    def take(self, line: _Line, following: _Line | None) -> None:
        """Read one line; which one follows decides where an unknown keyword belongs."""
        low = line.key.lower()
        if low == "species":
            self._open_species(line)
        elif low in SPECIES:
            self._species_line(line, low)
        elif self._in_species and _numbers(line):
            pass  # a term of the contracted Gaussian before it
        elif self._is_keyword(line):
            if low not in GENERAL and self._in_species and _continues(low, following):
                self._note(line, f"unknown keyword {line.key} is left out with its species block")
            else:
                self._in_species = False
                self._general(line, low)

    def finish(self) -> None:
        """Say what can only be said at the end."""
        if self.species:
            names = ", ".join(dict.fromkeys(self.species))
            blocks = "block is" if len(self.species) == 1 else "blocks are"
            text = f"the species {blocks} left out ({names}): the basis comes from species_dir"
            self._notes.append((self._first_species, text))
        for species, (line, keys) in self._lost.items():
            text = f"so is what changes the answer for {species}: {', '.join(dict.fromkeys(keys))}"
            self._notes.append((line, f"{text}; write it into the species file in species_dir"))
        if self.gave_up:
            text = f"more than {_MOST} lines are no keywords that are known; is it a control.in?"
            self._mistake(None, "", Mistake(MistakeKind.UNREADABLE, why=text))
        elif not self._xc:
            why = "FHI-aims needs a functional, as in `xc pbe`"
            self._mistake(None, "xc", Mistake(MistakeKind.MISSING, why=why))

    @property
    def gave_up(self) -> bool:
        """Whether this is no control file at all."""
        return self._odd > _MOST

    def all_notes(self) -> tuple[str, ...]:
        """Return the notes by line."""
        return tuple(f"line {n}: {text}" for n, text in sorted(self._notes, key=lambda n: n[0]))

    def _open_species(self, line: _Line) -> None:
        self._first_species = self._first_species or line.number
        self._in_species = True
        self.species.append(line.values[0] if line.values else "without a name")

    def _species_line(self, line: _Line, low: str) -> None:
        if not self._in_species:
            where = "after another keyword" if self.species else "outside of one"
            why = "it belongs in a species block, which comes from species_dir"
            self._mistake(line.number, line.key, Mistake(MistakeKind.MISPLACED, where, why))
        elif low in NOT_BASIS or (low == "include_min_basis" and _off(line.values)):
            _, keys = self._lost.setdefault(self.species[-1], (line.number, []))
            keys.append(line.key)

    def _is_keyword(self, line: _Line) -> bool:
        """Say whether the line begins with what may be a keyword; if not, say why."""
        low = line.key.lower()
        if "=" in line.key or (line.values and line.values[0].startswith("=")):
            parts = " ".join((line.key, *line.values)).replace("=", " ", 1).split()
            self._stray(line, f"{value_text(' '.join(parts))}, without =")
        elif low in ELSEWHERE:
            self._odd += 1
            misplaced = Mistake(MistakeKind.MISPLACED, why=ELSEWHERE[low])
            self._mistake(line.number, line.key, misplaced)
        elif not _NAME.fullmatch(line.key) or _prose(line):
            self._stray(line, "a keyword and its values, or # and a comment")
        else:
            return True
        return False

    def _general(self, line: _Line, low: str) -> None:
        if low == "xc":
            self._xc = True
        if line.remark:
            self._note(line, f"{value_text(line.remark)} is left out; comments begin with #")
        if low not in GENERAL:
            self._odd += 1
            close = _misspelt(low, [*GENERAL, *SPECIES])
            if close:
                known = GENERAL.get(close, close)
                unknown = Mistake(MistakeKind.UNKNOWN_KEY, nearest=known)
                self._mistake(line.number, line.key, unknown)
                return
            if not low.startswith(tuple(REFUSED_BEGINNINGS)):
                self._note(line, f"unknown keyword {line.key} is passed on to FHI-aims")
        if self._refused(line, low) or self._dropped(line, low):
            return
        if low in DOUBTFUL and not _off(line.values):
            self._note(line, f"{line.key}: {DOUBTFUL[low]}")
        keyword = Keyword(GENERAL.get(low, line.key), self._values(line, low), line.number)
        wrong = self._wrong(keyword, low)
        if wrong is not None:
            self._mistake(line.number, keyword.name, wrong)
        elif low not in ONCE or self._first(keyword, low):
            self.keywords.append(keyword)

    def _values(self, line: _Line, low: str) -> tuple[str, ...]:
        """Return a line's values without words behind them, which FHI-aims does not read."""
        forms = BY_FIRST_WORD.get(low, {})
        form = FORMS.get(low) or forms.get(line.values[0].lower() if line.values else "")
        if form is None or form.fits(line.values):
            return line.values
        for count in range(len(form.kinds), max(form.least, 1) - 1, -1):
            values, rest = line.values[:count], line.values[count:]
            numbers = [word for word in rest if fortran_number(word) is not None]
            if form.fits(values) and rest and not numbers:
                left_out = value_text(" ".join(rest))
                self._note(line, f"{left_out} is left out; comments begin with #")
                return values
        return line.values

    def _refused(self, line: _Line, low: str) -> bool:
        why = REFUSED.get(low) or next(
            (why for start, why in REFUSED_BEGINNINGS.items() if low.startswith(start)), None
        )
        if low == "dfpt" and line.values[:1]:
            kind = line.values[0].lower()
            why = REFUSED_DFPT if kind.startswith(("vibration", "phonon")) else None
        if why is None:
            return False
        if _off(line.values):
            self._note(line, f"{line.key} {line.values[0]} is left out: it is so anyway")
        else:
            name = GENERAL.get(low, line.key)
            refused = Mistake(MistakeKind.REFUSED, _values_text(line.values), why)
            self._mistake(line.number, name, refused)
        return True

    def _dropped(self, line: _Line, low: str) -> bool:
        if low not in ("compute_forces", "compute_analytical_stress") or not _off(line.values):
            return False
        self._note(line, f"{line.key} {line.values[0]} is left out: aimspax asks for what it needs")
        return True

    def _wrong(self, keyword: Keyword, low: str) -> Mistake | None:
        """Return what is wrong with the values of a keyword; None if nothing is."""
        values = keyword.values
        first = values[0].lower() if values else ""
        forms = BY_FIRST_WORD.get(low, {})
        if forms and first not in forms:
            return _wrong_values(values, ", ".join(forms), nearest_name(first, forms))
        form = FORMS.get(low) or forms.get(first)
        if low == "xc":
            if not first or fortran_number(first) is not None:
                return _wrong_values(values, "a functional, as in `xc pbe`")
            form = XC_FORMS.get(first)
            if form is None and first not in FUNCTIONALS:
                close = _misspelt(first, FUNCTIONALS)
                if close:
                    return _wrong_values(values, nearest=close)
                text = f"unknown functional {_values_text(values)} is passed on"
                self._notes.append((keyword.line, text))
        if form is None or form.fits(values):
            return None
        return _wrong_values(values, form.words)

    def _first(self, keyword: Keyword, low: str) -> bool:
        """Say whether a keyword that holds once is there for the first time."""
        earlier = self._once.setdefault(low, keyword)
        if earlier is keyword:
            return True
        there = [[canonical_value(v) for v in k.values] for k in (earlier, keyword)]
        if there[0] == there[1]:
            text = f"{keyword.name} is there twice with the same value, first in line"
            self._notes.append((keyword.line, f"{text} {earlier.line}"))
        else:
            values = [_values_text(k.values) for k in (earlier, keyword)]
            found = f"{values[1]} here and {values[0]} in line {earlier.line}"
            twice = Mistake(MistakeKind.TWICE, found, allowed="once")
            self._mistake(keyword.line, keyword.name, twice)
        return False

    def _note(self, line: _Line, text: str) -> None:
        self._notes.append((line.number, text))

    def _mistake(self, line: int | None, key: str, mistake: Mistake) -> None:
        self.mistakes.append(replace(mistake, file=self._name, line=line, key=key))

    def _stray(self, line: _Line, allowed: str) -> None:
        """Keep a line that is no keyword as a mistake."""
        self._odd += 1
        found = value_text(" ".join((line.key, *line.values)))
        self._mistake(line.number, "", Mistake(MistakeKind.WRONG_LINE, found, allowed=allowed))


def _values_text(values: tuple[str, ...]) -> str:
    return value_text(" ".join(values) or None)


def _wrong_values(
    values: tuple[str, ...], allowed: str = "", nearest: str | None = None
) -> Mistake:
    found = _values_text(values)
    return Mistake(MistakeKind.WRONG_VALUE, found, allowed=allowed, nearest=nearest)


def _off(values: tuple[str, ...]) -> bool:
    """Say whether a keyword asks for nothing."""
    return bool(values) and (values[0].lower() == "none" or fortran_logical(values[0]) is False)


def _numbers(line: _Line) -> bool:
    return all(fortran_number(token) is not None for token in (line.key, *line.values))


def _continues(low: str, following: _Line | None) -> bool:
    """Say whether an unknown keyword is one of the species block around it."""
    if _misspelt(low, SPECIES):
        return True
    return following is not None and following.key.lower() in SPECIES


def _prose(line: _Line) -> bool:
    """Say whether a line is a sentence: words alone, the first of them no known keyword."""
    low = line.key.lower()
    words = all(re.fullmatch(r"[^\W\d_]+[.,:;!?]?", v) for v in line.values)
    return low not in GENERAL and "_" not in low and len(line.values) >= 2 and words


def _misspelt(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that a wrong one surely means; None if it may be a name of its own."""
    if len(name) < 4:
        return None
    letters = re.sub(r"\d", "", name)  # with other digits it is another version
    return nearest_name(name, (k for k in known if re.sub(r"\d", "", k) != letters), least=0.82)
