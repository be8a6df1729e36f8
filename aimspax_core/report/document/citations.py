"""What can be cited: `references.toml`, as BibTeX and as it reads in a list."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

_NAMED = 3
"""Authors that a list names; of more the first, with `et al.`"""

_ORDER = ("author", "title", "journal", "booktitle", "volume", "pages", "year", "doi", "url")


@dataclass(frozen=True)
class Citation:
    """Something to cite.

    Attributes:
        key: In BibTeX.
        kind: Of entry, as BibTeX calls it.
        fields: Author (a list), title, journal and so on.
    """

    key: str
    kind: str
    fields: dict[str, Any]

    @property
    def url(self) -> str | None:
        """Where it can be read."""
        if doi := self.fields.get("doi"):
            return f"https://doi.org/{doi}"
        if eprint := self.fields.get("eprint"):
            return f"https://arxiv.org/abs/{eprint}"
        return self.fields.get("url")

    @property
    def text(self) -> str:
        """How it reads in a list, without the address."""
        known = self.fields
        parts = [_authors(known["author"]), known["title"]]
        place = str(known.get("journal") or known.get("booktitle") or "")
        if place and "volume" in known:
            place += f" {known['volume']}"
        if place and "pages" in known:
            place += f", {known['pages'].replace('--', '–')}"
        if not place and "eprint" in known:
            place = f"arXiv:{known['eprint']}"
        year = f"({known['year']})" if "year" in known else ""
        parts.append(" ".join(filter(None, (place, year))))
        return ", ".join(filter(None, parts)) + "."

    @property
    def bibtex(self) -> str:
        """Its entry."""
        known = {name: self.fields[name] for name in _ORDER if name in self.fields}
        known["author"] = " and ".join(self.fields["author"])
        known["title"] = "{" + str(self.fields["title"]) + "}"  # keeps its capitals
        if "eprint" in self.fields:
            known |= {"eprint": self.fields["eprint"], "archiveprefix": "arXiv"}
        if self.kind == "misc" and "url" in known:
            known |= {"howpublished": "\\url{" + known.pop("url") + "}"}
        lines = (f"  {name} = {{{value}}}" for name, value in known.items())
        return f"@{self.kind}{{{self.key},\n" + ",\n".join(lines) + "\n}\n"


@cache
def citations() -> dict[str, Citation]:
    """Return all that is known, by key."""
    text = (files("aimspax_core.report.document") / "references.toml").read_text(encoding="utf-8")
    found = tomllib.loads(text)
    return {key: Citation(key, fields.pop("kind"), fields) for key, fields in found.items()}


def bibtex(keys: Iterable[str]) -> str:
    """Return the entries of some keys."""
    known = citations()
    return "\n".join(known[key].bibtex for key in keys)


def _authors(names: list[str]) -> str:
    """Return names as `A. Last, B. Last and C. Last`; of many the first."""
    shown = [_short(name) for name in names if name != "others"]
    if len(shown) > _NAMED or "others" in names:
        return f"{shown[0]} et al."
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _short(name: str) -> str:
    last, _, first = name.strip("{}").partition(", ")
    if not first or name.startswith("{"):
        return name.strip("{}")
    initials = ("-".join(f"{one[0]}." for one in part.split("-") if one) for part in first.split())
    return f"{' '.join(initials)} {last}"
