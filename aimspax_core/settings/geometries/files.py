"""Geometry files in any format: what they say, and what of it is not kept."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ase.io
from ase import Atoms
from ase.io.formats import ioformats

from aimspax_core.errors import StructureError
from aimspax_core.settings.geometries.aims_reader import canonical_aims_lines, read_aims_geometry
from aimspax_core.settings.geometries.databases import read_database
from aimspax_core.settings.geometries.doubts import (
    REFUSED,
    handedness_note,
    occupancy_note,
    partly_occupied,
    unfit,
)
from aimspax_core.settings.geometries.formats import (
    AIMS,
    PDB,
    XYZ,
    content_of,
    format_of,
    head_of,
    is_marked,
    second_line,
)
from aimspax_core.settings.geometries.held_atoms import HeldAtoms
from aimspax_core.settings.geometries.left_out import complete, readable
from aimspax_core.settings.geometries.own_electrons import (
    NAMES,
    SAID_OF_ALL,
    electrons_in_comment,
    is_unsaid,
    own_electrons,
    unread_electrons,
)
from aimspax_core.settings.geometries.proteins import models_of
from aimspax_core.settings.geometries.reasons import reason_of
from aimspax_core.settings.geometries.shelx_files import read_shelx
from aimspax_core.settings.reading.text_files import text_of
from aimspax_core.structures import AIMS_LINES, decode, encode


@dataclass(frozen=True)
class Geometry:
    """A geometry file, read.

    Attributes:
        atoms: What makes the structure; without constraints.
        constraints: What holds atoms, as ASE has it, of whatever kind.
        notes: What was taken of it, and what means nothing here; a sentence each, with the file.
        parametric: The line where FHI-aims's parametric constraints begin, if it has some.
        later: Those of `charge` and `spin` that earlier releases did not read.
        refused: Why it is refused, if an earlier release has read the structure; empty: it is not.
        otherwise: What an earlier release has read of it where today's reads another structure, if
            the campaign was begun with it; None: it was not.
    """

    atoms: Atoms
    constraints: tuple[object, ...] = ()
    notes: tuple[str, ...] = ()
    parametric: int | None = None
    later: frozenset[str] = frozenset()
    refused: str = ""
    otherwise: Atoms | None = None

    @property
    def held(self) -> HeldAtoms:
        """Which atoms do not move, or in some directions only, as far as MD can hold them."""
        atoms: Atoms = self.atoms.copy()
        atoms.set_constraint(list(self.constraints))
        return HeldAtoms.of(atoms)

    @property
    def before(self) -> Atoms:
        """What releases that read less of a file took for the structure."""
        if self.otherwise is not None:
            return self.otherwise
        atoms: Atoms = self.atoms.copy()
        for name in (AIMS_LINES, *self.later):
            atoms.info.pop(name, None)
        return atoms


def read_geometries(files: Sequence[Path]) -> list[Atoms]:
    """Return the structures of geometry files; see `read_files`."""
    return [geometry.atoms for geometry in read_files(files)]


def read_files(files: Sequence[Path], names: Mapping[str, str] = NAMES) -> list[Geometry]:
    """Read geometry files.

    Args:
        files: In the format of FHI-aims, or in any that ASE reads (the last frame counts).
        names: What datasets call `charge` and `spin`.

    Raises:
        StructureError: Not readable, no atoms, or a non-finite coordinate; the text has a line for
            everything that is wrong.
    """
    found, wrong = [], []
    for file in files:
        try:
            found.append(read_file(file, names))
        except StructureError as error:
            wrong.append(str(error))
    if wrong:
        raise StructureError("\n".join(wrong))
    return found


def read_file(path: Path, names: Mapping[str, str] = NAMES) -> Geometry:
    """Read one geometry file, keeping only what makes a structure.

    Raises:
        StructureError: See `read_files`.
    """
    try:
        frames, notes, parametric = frames_of(path, slice(-2, None))
    except StructureError:  # of the one before the last, which is not taken, it does not matter
        frames, notes, parametric = frames_of(path, slice(-1, None))
        notes = (*notes, f"{path.name}: the last structure is taken; another cannot be read")
    if not frames:
        raise StructureError(f"{path}: the file holds no structures, {_taken_as(path)}")
    if len(frames) > 1:
        notes = (*notes, f"{path.name} holds several structures; the last one is taken")
    atoms = frames[-1]
    said = (handedness_note(atoms), occupancy_note(atoms), *unread_electrons(atoms.info, names))
    notes = (*notes, *(f"{path.name}: {note}" for note in filter(None, said)))
    later = {name for name, other in names.items() if other in atoms.info} - {*atoms.info}
    later.update(atoms.info.get(SAID_OF_ALL, ()))
    fit = _fit(atoms, path, names)
    return Geometry(fit, tuple(atoms.constraints), notes, parametric, frozenset(later))


def frames_of(path: Path, which: slice) -> tuple[list[Atoms], tuple[str, ...], int | None]:
    """Read frames of a file of structures, whatever its format.

    Args:
        path: The file; its name is a name, whatever signs it has.
        which: The frames that are wanted, by index.

    Returns:
        The frames, with all that their format says of them; notes; the line where FHI-aims's
        parametric constraints begin, if it has some.

    Raises:
        StructureError: It cannot be read; the text has a line for everything that is wrong.
    """
    if not path.exists():
        raise StructureError(f"{path}: no such file")
    kind, notes = format_of(path)
    if kind == AIMS:
        text, problem = content_of(path, "an FHI-aims geometry.in")
        if problem:
            raise StructureError(f"{path}: {problem}")
        geometry, mistakes = read_aims_geometry(text, path.name)
        if mistakes:
            lines = (str(replace(mistake, file=str(path))) for mistake in mistakes)
            raise StructureError("\n".join(lines))
        return [geometry.atoms][which], (*notes, *geometry.notes), geometry.parametric
    also: tuple[str, ...] = ()
    try:
        if kind == PDB:
            models, also = models_of(
                content_of(path, "")[0], lambda filled: _frames(path, kind, slice(None), filled)
            )
            frames = models[which]
        else:
            frames = _frames(path, kind, which, readable(kind, lambda: content_of(path, "")[0]))
        also = (*also, *complete(kind, frames, lambda: content_of(path, "")[0]))
    except StructureError as error:
        named = str(error).startswith(f"{path}:")
        raise StructureError(str(error) if named else f"{path}: {error}") from error
    if kind == XYZ and (note := electrons_in_comment(second_line(head_of(path)))):
        also = (*also, note)
    notes = (*notes, *(f"{path.name}: {note}" for note in also))
    if kind == "cif" and any(atoms.has("masses") for atoms in frames):
        notes = (*notes, f"{path.name}: isotopes are read as elements with masses of their own")
    return frames, notes, None


def _taken_as(path: Path) -> str:
    return f"as {ioformats[format_of(path)[0]].description}, which it is taken for"


def _frames(path: Path, kind: str, which: slice, text: str | None = None) -> list[Atoms]:
    """Read frames by ASE; `text` stands for what is in the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on columns that are not kept anyway
            # Of one structure ASE takes no other index; of DL_POLY's history none from the end.
            single = ioformats[kind].single or kind == "dlp-history"
            index = slice(None) if single else which
            text = text_of(path, "")[0] if is_marked(path, kind) else text
            source = path if text is None else io.StringIO(text)
            if kind in ("db", "json"):
                return read_database(path, kind, which)
            if kind == "res":
                return [read_shelx(content_of(path, "")[0])][which]
            found = ase.io.read(source, index=index, format=kind, do_not_split_by_at_sign=True)
    except StructureError:
        raise
    # ASE's readers raise whatever their parsing trips over; any of it means: not a geometry.
    except Exception as error:
        what = ioformats[kind].description
        reason = reason_of(kind, error, lambda: content_of(path, "")[0] if text is None else text)
        raise StructureError(f"{path}: cannot be read as a geometry ({what}): {reason}") from error
    frames = found if isinstance(found, list) else [found]
    return frames[which] if single else frames


def _fit(atoms: Atoms, path: Path, names: Mapping[str, str]) -> Atoms:
    """Return what makes a structure of what was read; errors name the file."""
    try:
        return structure_of(atoms, names)
    except StructureError as error:
        text = "\n".join(f"{path}: {line}" for line in str(error).splitlines())
        raise StructureError(text) from error


def structure_of(atoms: Atoms, names: Mapping[str, str] = NAMES) -> Atoms:
    """Return what makes a structure of what a file says.

    Args:
        atoms: With all that the file says.
        names: What datasets call `charge` and `spin`.

    Raises:
        StructureError: It is not clear (see `doubts`), or something that should be a number, or a
            line of `geometry.in`, is none; a line for each.
    """
    doubts = (partly_occupied(atoms), atoms.info.get(REFUSED))
    wrong = [*unfit(atoms), *filter(None, doubts)]
    if wrong:
        raise StructureError("\n".join(wrong))
    bare = atoms.copy()
    for name in (name for name in names if is_unsaid(bare.info.get(name))):
        bare.info.pop(name, None)
    bare.info.update(own_electrons(bare.info, names))
    if AIMS_LINES in bare.info:
        lines = canonical_aims_lines(str(bare.info.pop(AIMS_LINES)))
        bare.info.update({AIMS_LINES: lines} if lines else {})
    try:
        return decode(encode(bare))
    except (TypeError, ValueError) as error:
        raise StructureError(f"moments, charges or masses of atoms: {error}") from error
