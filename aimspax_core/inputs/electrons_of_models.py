"""Charge and multiplicity that the reference's settings give, and models do not learn of."""

from __future__ import annotations

from collections.abc import Iterator

from ase import Atoms

from aimspax_core.inputs.foundation_findings import drivers
from aimspax_core.reference.registry import kind_of
from aimspax_core.settings.families.known_families import row_of_foundation
from aimspax_core.settings.settings import Settings

_NEUTRAL = {"charge": 0.0, "spin": 1.0}


def electrons_untold(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    """Yield a note if models that read charge and spin take structures for neutral singlets.

    They read what a structure says of itself, and the reference labels it with what REFERENCE says
    where it says nothing.
    """
    readers = [*dict.fromkeys(_readers(settings))]
    if not readers:
        return
    untold: dict[str, list[str]] = {}
    for index, (file, atoms) in enumerate(zip(settings.geometry_files, geometries, strict=True)):
        engine = settings.reference.of_geometry(index)
        given = kind_of(engine).electrons(engine, settings.directory)
        other = {
            key: value
            for key, value in given.items()
            if key not in atoms.info and value != _NEUTRAL[key]
        }
        if other:
            text = " ".join(f"{key}={value:g}" for key, value in other.items())
            untold.setdefault(text, []).append(file.name)
    for text, names in untold.items():
        yield (
            f"{settings.project_places.of('REFERENCE')}: labels of {', '.join(names)} are with "
            f"{text}, which is not in the file: {' and '.join(readers)} will take the structure "
            f"for neutral and a singlet; usual: {text} in the file (extended XYZ)"
        )


def _readers(settings: Settings) -> Iterator[str]:
    """Yield what reads charge and spin of structures."""
    if settings.model.family.reads_electrons:
        yield f"members ({settings.model.family.name})"
    for driver in drivers(settings):
        if row_of_foundation(driver.kind).reads_electrons:
            yield f"the foundation model {driver.kind}"
