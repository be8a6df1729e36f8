"""Start geometries, of which a campaign may have been begun with less than the files say today."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ase import Atoms

from aimspax_core.campaign.state import CampaignState
from aimspax_core.errors import StructureError
from aimspax_core.inputs.provenance import begun_holding, begun_with
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.geometries.earlier import Earlier, read_as_before
from aimspax_core.settings.geometries.files import Geometry, read_file
from aimspax_core.settings.geometries.held_atoms import HeldAtoms, held_text, not_holding
from aimspax_core.settings.settings import Settings
from aimspax_core.structures import encode
from aimspax_core.text import and_list


def start_geometries(
    settings: Settings, run: RunDir, state: CampaignState | None
) -> list[Geometry]:
    """Read the start geometries.

    A file of which an earlier release has read what the campaign was begun with, and which is
    refused today or read as another structure, is read so.

    Args:
        settings: The settings in force.
        run: Where everything lies.
        state: The campaign that goes on; None if there is none.

    Raises:
        StructureError: Files cannot be read; the text has a line for everything that is wrong.
    """
    found, wrong = [], []
    for index, file in enumerate(settings.geometry_files):
        try:
            one = read_file(file, settings.misc.electron_names)
            found.append(one if state is None else _as_begun(run, state, index, file, one))
        except StructureError as error:
            before = None if state is None else read_as_before(file)
            if state is None or before is None or not _begun_with(run, state, index, before):
                wrong.append(str(error))
                continue
            found.append(Geometry(before, refused=str(error).splitlines()[0]))
    if wrong:
        raise StructureError("\n".join(wrong))
    return found


def _begun_with(run: RunDir, state: CampaignState, index: int, atoms: Atoms) -> bool:
    told = (state.rules.electrons or {}).get(index)
    return begun_with(run, index, atoms, told)


def _as_begun(run: RunDir, state: CampaignState, index: int, file: Path, one: Geometry) -> Geometry:
    """Return a geometry with what the campaign was begun with, if ASE alone reads that of it."""
    if _begun_with(run, state, index, one.atoms) or _begun_with(run, state, index, one.before):
        return one
    before = read_as_before(file)
    if before is None or not _begun_with(run, state, index, before):
        return one
    return replace(one, otherwise=before)


def begun_without(
    run: RunDir, read: Sequence[Geometry], state: CampaignState | None
) -> dict[int, Earlier]:
    """Return how those geometries were read that a campaign was not begun with as read today."""
    found: dict[int, Earlier] = {}
    if state is None:
        return found
    for index, one in enumerate(read):
        if one.refused or one.otherwise is not None:
            found[index] = Earlier.BY_ASE
        elif (
            encode(one.before) != encode(one.atoms)
            and _begun_with(run, state, index, one.before)
            and not _begun_with(run, state, index, one.atoms)
        ):
            found[index] = Earlier.LESS
    return found


def held_in_campaign(
    run: RunDir, read: Sequence[Geometry], state: CampaignState | None
) -> dict[int, HeldAtoms]:
    """Return which atoms of each geometry, by index, do not move in the campaign.

    One that goes on holds what it was begun to hold; where that is not known, and in one that
    begins, it is what the files say.
    """
    begun = None if state is None else begun_holding(run)
    if begun is not None:
        return begun
    return {index: one.held for index, one in enumerate(read)}


def held_otherwise(settings: Settings, read: Sequence[Geometry]) -> Iterator[str]:
    """Say which geometries hold today what the campaign was not begun to hold, or hold it no more.

    Args:
        settings: The settings in force, of a campaign that goes on.
        read: The start geometries.
    """
    for index, (file, one) in enumerate(zip(settings.geometry_files, read, strict=True)):
        begun, today = settings.held_atoms(index), one.held
        if begun != today:
            yield (
                f"{file.name}: the campaign was begun with {held_text(begun)} in MD, and goes on "
                f"so; the file says {held_text(today)}, and --fresh begins one with that"
            )
        if unknown := not_holding(one.constraints):
            yield (
                f"{file.name}: the campaign goes on without {and_list(unknown)}, as it was begun; "
                "--fresh would refuse it"
            )


def begun_otherwise(settings: Settings, read: Sequence[Geometry]) -> Iterator[str]:
    """Say of which geometries the campaign was begun with less than they say."""
    for index in sorted(settings.begun_without):
        name = settings.geometry_files[index].name
        if read[index].refused:
            yield (
                f"{name}: the campaign was begun with what an earlier release has read of it, and "
                f"goes on so; --fresh would refuse it: {read[index].refused}"
            )
            continue
        if (before := read[index].otherwise) is not None:
            yield (
                f"{name}: the campaign was begun with {_text(before)}, as an earlier release has "
                f"read it, and goes on so; today it is read as {_text(read[index].atoms)}, and "
                "--fresh begins one with that"
            )
            continue
        now, less = encode(read[index].atoms), encode(read[index].before)
        lost = and_list(key for key in now if now[key] != less.get(key))
        yield (
            f"{name}: the campaign was begun without what the file says of {lost}, and goes on so; "
            "--fresh begins one with it"
        )


def _text(atoms: Atoms) -> str:
    """Say what tells two readings of one file apart."""
    periodic = "a crystal" if atoms.pbc.all() else "a slab" if atoms.pbc.any() else "a molecule"
    return f"{atoms.get_chemical_formula()}, {periodic}"
