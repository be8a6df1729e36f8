"""Mistakes and notes on an engine's settings and the structures that it will label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ase import Atoms

from aimspax_core.reference.interface import Finding, Use
from aimspax_core.reference.registry import kind_of
from aimspax_core.settings.known_engines import EngineSettings
from aimspax_core.settings.reading.mistakes import value_text
from aimspax_core.settings.reading.places import Places
from aimspax_core.structures import AIMS_LINES


@dataclass(frozen=True)
class Found:
    """A finding, and the structure that it is about.

    Attributes:
        finding: What was found.
        structure: The structure's name; empty if the finding is about the engine alone.
    """

    finding: Finding
    structure: str = ""

    def line(self, places: Places, section: str) -> str:
        """Return it as a line of a message, beginning with file, line, section and key."""
        about = f"{self.structure}: " if self.structure else ""
        return f"{places.of(f'{section}.{self.finding.key}')}: {about}{self.finding.text}"


def findings(structures: Iterable[tuple[EngineSettings, str, Atoms]], use: Use) -> Iterator[Found]:
    """Ask each engine about itself once, and about each of its structures if it is usable.

    Args:
        structures: Settings of the engine, which may differ from structure to structure; the
            structure's name; the structure.
        use: How the engine will be used; `stress` if stress of periodic structures is needed.
    """
    usable: dict[str, bool] = {}
    reported: set[Finding] = set()
    for section, name, atoms in structures:
        kind, text = kind_of(section), repr(section)
        if text not in usable:
            found = list(kind.check(section, use))
            usable[text] = all(finding.note for finding in found)
            yield from (Found(finding) for finding in found if finding not in reported)
            reported.update(found)
        if usable[text]:
            if AIMS_LINES in atoms.info and not kind.takes_aims_lines:
                yield Found(_no_fields(kind.name, atoms), name)
            yield from (Found(one, name) for one in _unheeded(section, kind.name, atoms))
            own = replace(use, stress=use.stress and bool(atoms.pbc.all()))
            for finding in kind.check_structure(section, own, atoms):
                yield Found(finding, name)


def _no_fields(engine: str, atoms: Atoms) -> Finding:
    lines = value_text(atoms.info[AIMS_LINES])
    text = f"found {lines}; {engine} takes no fields or point charges (FHI-aims does)"
    return Finding("engine", text)


def _unheeded(section: EngineSettings, engine: str, atoms: Atoms) -> Iterator[Finding]:
    """Yield a note on a structure's own charge or multiplicity where the engine may pass over it.

    A charge of 0 and a singlet are what an engine takes that asks for neither.
    """
    said = {"charge": atoms.info.get("charge", 0), "spin": atoms.info.get("spin", 1)}
    own = {key: value for key, value in said.items() if value != {"charge": 0, "spin": 1}[key]}
    if not own or section.heeds_spin:
        return
    what = " and ".join(f"{key} {value:g}" for key, value in own.items())
    if section.heeds_spin is None:
        text = f"it says {what}: the calculator finds that in `atoms.info`; make sure it reads it"
    else:
        text = f"it says {what}: {engine} does not know of it"
    yield Finding("engine", text, note=True)
