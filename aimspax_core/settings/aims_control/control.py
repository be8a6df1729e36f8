"""FHI-aims's `control.in`: what the user wrote, to be changed and written again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from aimspax_core.settings.aims_control.keywords import (
    GENERAL,
    NO_ANSWER,
    PART_OF,
    canonical_value,
)
from aimspax_core.settings.aims_control.reader import Keyword, read_keywords
from aimspax_core.settings.reading.fortran import fortran_logical, fortran_number
from aimspax_core.settings.reading.mistakes import Mistake, MistakeKind
from aimspax_core.settings.reading.text_files import text_of

__all__ = ["Control", "Keyword"]

_CASE_MATTERS = ("restart", "plumed", "python_hook", "user_path", "xml_file", "vdw_pair_ignore")


@dataclass(frozen=True)
class Control:
    """A `control.in` without its species blocks.

    Attributes:
        keywords: In the order of the file.
        species: The names of the species blocks that were in the file and are left out.
        notes: What the user should know; one sentence each, beginning with `line N: `.
    """

    keywords: tuple[Keyword, ...]
    species: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, name: str = "control.in") -> tuple[Control, list[Mistake]]:
        """Read a control file.

        Args:
            text: Its content.
            name: Its name, for mistakes.

        Returns:
            What could be read of it, and what has to be mended before it can be used.
        """
        keywords, species, notes, mistakes = read_keywords(text, name)
        return cls(keywords, species, notes), mistakes

    @classmethod
    def read(cls, path: Path) -> tuple[Control, list[Mistake]]:
        """Read a control file from disk; one that cannot be read is one mistake."""
        text, problem = text_of(path, "an FHI-aims control.in")
        if problem:
            return cls(()), [Mistake(MistakeKind.UNREADABLE, why=problem, file=path.name)]
        return cls.parse(text, path.name)

    def get(self, name: str) -> tuple[str, ...] | None:
        """Return the values of a keyword, in any case; of the last one if there are several."""
        same = (k.values for k in reversed(self.keywords) if k.name.lower() == name.lower())
        return next(same, None)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a logical keyword; one without a logical value is on because it is there."""
        values = self.get(name)
        if values is None:
            return default
        return not values or fortran_logical(values[0]) is not False

    def number(self, name: str, default: float = 0.0) -> float:
        """Return the first value of a keyword; the default if there is none that is a number."""
        values = self.get(name)
        number = fortran_number(values[0]) if values else None
        return default if number is None else number

    def with_(self, name: str, *values: str) -> Control:
        """Return this with one keyword of a name, in the place of the first one, or at the end."""
        added = Keyword(GENERAL.get(name.lower(), name), values, 0)
        place = [k.name.lower() for k in self.keywords]
        if name.lower() not in place:
            return replace(self, keywords=(*self.keywords, added))
        first = place.index(name.lower())
        rest = (k for k in self.keywords[first:] if k.name.lower() != name.lower())
        return replace(self, keywords=(*self.keywords[:first], added, *rest))

    def without(self, name: str) -> Control:
        """Return this without the keywords of a name."""
        kept = tuple(k for k in self.keywords if k.name.lower() != name.lower())
        return replace(self, keywords=kept)

    def text(self) -> str:
        """Return the content of a control file; species blocks are to be added after it."""
        lines = (f"{k.name:<35} {' '.join(k.values)}".rstrip() for k in self.keywords)
        return "".join(f"{line}\n" for line in lines)

    def canonical(self) -> list[list[str]]:
        """Return what changes the answer, the same for every spelling of it.

        Returns:
            Keywords in lower case, each with its values, by name; an `output` is one with the
            lines that belong to it. Left out is what `control_keywords.NO_ANSWER` has.
        """
        blocks: list[list[str]] = []
        for keyword in self.keywords:
            name = keyword.name.lower()
            if name in NO_ANSWER:
                continue
            line = [name, *_canonical_values(name, keyword.values)]
            if name in PART_OF and blocks and blocks[-1][0] == "output":
                blocks[-1] += line
            else:
                blocks.append(line)
        # Among keywords of one name the order may matter, but not among outputs.
        return sorted(blocks, key=lambda b: b if b[0] == "output" else b[:1])


def _canonical_values(name: str, values: tuple[str, ...]) -> list[str]:
    if name.startswith(_CASE_MATTERS) or name not in GENERAL:
        return [v if fortran_number(v) is None else canonical_value(v) for v in values]
    return [canonical_value(v) for v in values]
