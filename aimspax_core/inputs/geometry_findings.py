"""What start geometries say that a campaign cannot do, or does in another way than they say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ase import Atoms
from ase.constraints import FixCom
from ase.neighborlist import neighbor_list

from aimspax_core.errors import StructureError
from aimspax_core.labels.gate import check_structure
from aimspax_core.sampling.dynamics import why_not
from aimspax_core.settings.geometries.files import Geometry
from aimspax_core.settings.geometries.folders import other_files
from aimspax_core.settings.geometries.held_atoms import HOLDING, not_holding
from aimspax_core.settings.geometries.orientation import Field, Sight, not_told
from aimspax_core.settings.settings import Settings
from aimspax_core.structures import AIMS_LINES
from aimspax_core.text import and_list, or_list

_LEVELS = "set_vacuum_level"
"""What a `geometry.in` says beside the structure without breaking its symmetry any further."""


_NEAR = 3.0
"""Within so much (Å) there is a neighbour in nearly everything."""


def cannot_be_moved(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    """Each geometry must be one that its ensemble can move."""
    by_index = isinstance(settings.project.MD, dict)
    for index, (file, atoms) in enumerate(zip(settings.geometry_files, geometries, strict=True)):
        why = why_not(atoms, settings.md(index), settings.held_atoms(index))
        if why is not None:
            hint = "" if by_index else " (MD may be given for each geometry, by index)"
            place = f"MD.{index}" if by_index else "MD"
            yield f"{settings.project_places.of(place)}: {file.name}: {why}{hint}"


def notes_of(settings: Settings, read: Sequence[Geometry]) -> Iterator[str]:
    """Yield what was taken of geometry files, and what of them does not hold here."""
    named = settings.misc.path_to_geometry
    folder = settings.directory / ("" if isinstance(named, dict) else named)
    others = [] if isinstance(named, dict) else other_files(folder)
    if others:
        names = and_list(file.name for file in others)
        yield f"{folder.name} holds files that are taken for no geometries by their names: {names}"
    for one in read:
        yield from one.notes
    yield from _entries_of_none(settings, len(read))
    if settings.al.uncertainty_of == "free_atoms" and not any((settings.held or {}).values()):
        yield (
            f"{settings.project_places.file}: ACTIVE_LEARNING.uncertainty_of is free_atoms; no "
            "geometry holds an atom, so that it is the same as all"
        )


def _entries_of_none(settings: Settings, geometries: int) -> Iterator[str]:
    """Yield which temperatures and pressures no trajectory of active learning takes."""
    if settings.project.ACTIVE_LEARNING is None:
        return
    by_index = isinstance(settings.project.MD, dict)
    for index in range(geometries):
        trajectories = len(range(index, max(settings.al.num_trajectories, geometries), geometries))
        for key, values in settings.md_section(index).several.items():
            if len(values) > trajectories:
                place = f"MD.{index}.{key}" if by_index else f"MD.{key}"
                yield (
                    f"{settings.project_places.of(place)} has {len(values)} entries, and "
                    f"trajectories of geometry {index} there are {trajectories}: those behind are "
                    "taken by none in active learning"
                )


def cannot_be_kept(settings: Settings, read: Sequence[Geometry]) -> Iterator[str]:
    """Yield what geometries say that no MD of a campaign can keep."""
    for index, (file, one) in enumerate(zip(settings.geometry_files, read, strict=True)):
        if one.parametric is not None:
            yield (
                f"{file}:{one.parametric}  parametric constraints cannot hold in MD; leave them "
                "out, or fix atoms by constrain_relaxation"
            )
        if unknown := not_holding(one.constraints):
            yield (
                f"{file}: found the constraint {and_list(unknown)}, which MD cannot hold here; "
                f"allowed: {or_list(HOLDING)}, or none"
            )
        md = settings.md(index)
        if any(isinstance(c, FixCom) for c in one.constraints) and not md.ensemble.holds_centre(md):
            yield (
                f"{file}: found the constraint FixCom, and MD leaves the centre of mass free; "
                "allowed: an ensemble that holds it (MD.fixcm: True), or a geometry without"
            )


def fields_refused(settings: Settings, read: Sequence[Geometry]) -> Iterator[str]:
    """Yield which geometries are in fields that no model can learn."""
    fields = [_field(one.atoms) for one in read]
    wanted = settings.reference.field_in_campaigns
    for index, (file, field) in enumerate(zip(settings.geometry_files, fields, strict=True)):
        why = _lost_in_field(settings, index, read[index].atoms) if field and wanted else ""
        if not field or (wanted and not why):
            continue
        cause = (
            "the models do not know of fields or point charges: a structure that turns would get "
            "other labels for what is the same to them"
        )
        fix = (
            "atoms fixed so that the models can tell how it stands in the field (docs/fhi-aims.md)"
        )
        also = fix if wanted else f"REFERENCE.external_field: True, and {fix}"
        yield (
            f"{file}: found '{field}'; {cause}{f', and {why}' if why else ''}; allowed: {also}, or "
            "a geometry without (`aimspax label` labels with them)"
        )
    if wanted and len({*fields}) > 1:
        yield (
            f"{settings.project_places.of('REFERENCE.external_field')}: the geometries are in "
            "different fields "
            f"({or_list(field or 'none' for field in dict.fromkeys(fields))}), which the models "
            "cannot tell apart; allowed: the same for all"
        )


def in_fields(settings: Settings, read: Sequence[Geometry]) -> Iterator[str]:
    """Yield what a campaign in a field takes for granted, as its start does not ensure it."""
    if not settings.reference.field_in_campaigns:
        return
    sight = _sight(settings)
    far = f" ({sight.steps} times {sight.cutoff:g} Å)" if sight is not None else ""
    for file, one in zip(settings.geometry_files, read, strict=True):
        if field := _field(one.atoms):
            yield (
                f"{file.name}: CAUTION, the models do not know of '{field}'. They are right only "
                f"as long as all atoms stay within what they see of fixed ones{far}, and on their "
                "side: what desorbs and turns, or comes to the other side, gets labels that "
                "contradict each other, and nothing watches for it"
            )


def _lost_in_field(settings: Settings, index: int, atoms: Atoms) -> str:
    """Return why models cannot tell how a geometry stands in its field; empty if they can."""
    sight, fixed = _sight(settings), settings.held_atoms(index).fixed
    if sight is None:
        return f"nobody knows how far models of {settings.model.family.name} see"
    return not_told(atoms, fixed, Field.of(_field(atoms)), sight)


def _sight(settings: Settings) -> Sight | None:
    """Return how far the models see; families may not say it."""
    cutoff = getattr(settings.model.ARCHITECTURE, "r_max", None)
    steps = getattr(settings.model.ARCHITECTURE, "num_interactions", 1)
    return None if cutoff is None else Sight(float(cutoff), int(steps))


def _field(atoms: Atoms) -> str:
    """Return the lines of fields and point charges of a structure; empty if there are none."""
    lines = str(atoms.info.get(AIMS_LINES, "")).split("; ")
    return "; ".join(line for line in lines if not line.startswith(_LEVELS))


def refused_by_gate(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    """Yield why the gate would not let start geometries to the reference."""
    for file, atoms in zip(settings.geometry_files, geometries, strict=True):
        try:
            check_structure(atoms, settings.gate)
        except StructureError as error:
            yield f"{file}: {error}"


def without_neighbours(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    """Yield geometries of which no model can learn: no two atoms are closer than the cutoff."""
    cutoff = getattr(settings.model.ARCHITECTURE, "r_max", None)  # families may have none
    if cutoff is None:
        return
    for file, atoms in zip(settings.geometry_files, geometries, strict=True):
        if len(atoms) > 1 and not _has_neighbours(atoms, float(cutoff)):
            yield (
                f"{file}: no two atoms are closer than ARCHITECTURE.r_max ({cutoff:g} Å), so that "
                "the models would learn nothing from it"
            )


def _has_neighbours(atoms: Atoms, cutoff: float) -> bool:
    """Say whether two atoms are closer than a cutoff (Å), whatever that is.

    Of a cell, all neighbours within a cutoff of 500 Å would be billions: the nearest are enough.
    """
    within = min(cutoff, _NEAR)
    while not len(neighbor_list("i", atoms, within)):
        if within >= cutoff:
            return False
        within = min(cutoff, 2 * within)
    return True


def lone_atoms(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    """Yield a note on start geometries of one atom in vacuum, which has no forces."""
    for file, atoms in zip(settings.geometry_files, geometries, strict=True):
        if len(atoms) == 1 and not atoms.pbc.any():
            yield f"{file.name} is one atom alone: it has no forces to learn from"
