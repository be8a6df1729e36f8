"""Geometry files in any format: which one it is, what it says, and what of it is not kept."""

from __future__ import annotations

import codecs
import io
import re
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from lzma import LZMAError
from pathlib import Path

import ase.io
from ase import Atoms
from ase.io.formats import (
    UnknownFileTypeError,
    filetype,
    get_compression,
    ioformats,
    match_magic,
    open_with_compression,
)

from aimspax_core.errors import StructureError
from aimspax_core.settings.geometries.aims_reader import (
    canonical_aims_lines,
    is_aims_geometry,
    read_aims_geometry,
)
from aimspax_core.settings.geometries.doubts import (
    REFUSED,
    handedness_note,
    occupancy_note,
    partly_occupied,
    unfit,
)
from aimspax_core.settings.geometries.held_atoms import HeldAtoms
from aimspax_core.settings.geometries.left_out import SAID_OF_ALL, complete
from aimspax_core.settings.geometries.own_electrons import NAMES, is_unsaid, own_electrons
from aimspax_core.settings.geometries.proteins import models_of
from aimspax_core.settings.reading.text_files import text_of, text_of_bytes
from aimspax_core.structures import AIMS_LINES, decode, encode

_AIMS, _XYZ, _PDB = "aims", "extxyz", "proteindatabank"
_AIMS_NAME = re.compile(r"\.in(\.[\w+-]+)*$", re.IGNORECASE)
"""`geometry.in`, and what FHI-aims and FHI-vibes make of it: `geometry.in.next_step`."""

_PACKED_WRONGLY = (OSError, EOFError, LZMAError, zlib.error)

_NO_NUMBER = re.compile(r"(?:could not convert string to float|.*literal for int.*): (.*)")
"""What Python says of a word that is no number."""

_PYTHON = re.compile("StopIteration|broadcast|unpack|list index|not enough values|NoneType")
"""What Python and NumPy say of a file that ends too early."""

_PEEK = 4096
"""Bytes of a file by which its format is told."""


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
    """

    atoms: Atoms
    constraints: tuple[object, ...] = ()
    notes: tuple[str, ...] = ()
    parametric: int | None = None
    later: frozenset[str] = frozenset()
    refused: str = ""

    @property
    def held(self) -> HeldAtoms:
        """Which atoms do not move, or in some directions only, as far as MD can hold them."""
        atoms: Atoms = self.atoms.copy()
        atoms.set_constraint(list(self.constraints))
        return HeldAtoms.of(atoms)

    @property
    def before(self) -> Atoms:
        """What releases that read less of a file took for the structure."""
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
    for note in filter(None, (handedness_note(atoms), occupancy_note(atoms))):
        notes = (*notes, f"{path.name}: {note}")
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
    kind, notes = _format(path)
    if kind == _AIMS:
        text, problem = _text(path, "an FHI-aims geometry.in")
        if problem:
            raise StructureError(f"{path}: {problem}")
        geometry, mistakes = read_aims_geometry(text, path.name)
        if mistakes:
            lines = (str(replace(mistake, file=str(path))) for mistake in mistakes)
            raise StructureError("\n".join(lines))
        return [geometry.atoms][which], (*notes, *geometry.notes), geometry.parametric
    also: tuple[str, ...] = ()
    try:
        if kind == _PDB:
            models, also = models_of(
                _text(path, "")[0], lambda filled: _frames(path, kind, slice(None), filled)
            )
            frames = models[which]
        else:
            frames = _frames(path, kind, which)
        also = (*also, *complete(kind, frames, lambda: _text(path, "")[0]))
    except StructureError as error:
        named = str(error).startswith(f"{path}:")
        raise StructureError(str(error) if named else f"{path}: {error}") from error
    notes = (*notes, *(f"{path.name}: {note}" for note in also))
    if kind == "cif" and any(atoms.has("masses") for atoms in frames):
        notes = (*notes, f"{path.name}: isotopes are read as elements with masses of their own")
    return frames, notes, None


def _taken_as(path: Path) -> str:
    return f"as {ioformats[_format(path)[0]].description}, which it is taken for"


def _frames(path: Path, kind: str, which: slice, text: str | None = None) -> list[Atoms]:
    """Read frames by ASE; `text` stands for what is in the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on columns that are not kept anyway
            # Of one structure ASE takes no other index; of DL_POLY's history none from the end.
            single = ioformats[kind].single or kind == "dlp-history"
            index = slice(None) if single else which
            text = text_of(path, "")[0] if _is_marked(path, kind) else text
            source = path if text is None else io.StringIO(text)
            found = ase.io.read(source, index=index, format=kind, do_not_split_by_at_sign=True)
    # ASE's readers raise whatever their parsing trips over; any of it means: not a geometry.
    except Exception as error:
        what = ioformats[kind].description
        reason = _reason(error)
        raise StructureError(f"{path}: cannot be read as a geometry ({what}): {reason}") from error
    frames = found if isinstance(found, list) else [found]
    return frames[which] if single else frames


def _format(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the format of a file as ASE calls it, with a note if its name says another.

    Raises:
        StructureError: It is none that is known.
    """
    if path.is_dir():
        raise StructureError(f"{path}: found a folder; allowed: a file")
    try:
        head = _head(path)
    except OSError as error:
        raise StructureError(f"{path}: cannot be read: {error.strerror}") from error
    if not head.strip():
        raise StructureError(f"{path}: the file is empty")
    named = _by_name(path)
    if named == _AIMS:
        also = _by_suffix(path)
        shown = also or _by_content(head)
        if shown is None or _holds_aims(path):
            return _AIMS, ()
        if also is not None:
            return also, ()
        what = ioformats[shown].description
        return shown, (f"{path.name} is read as {what}, which its content is",)
    if named is not None and (named != _XYZ or _is_xyz(head) or _is_compressed(path)):
        return named, ()
    shown = _AIMS if _holds_aims(path) else _by_content(head)
    if shown is None and named == _XYZ:
        raise StructureError(
            f"{path}: cannot be read as a geometry (Extended XYZ file): its first line is not the "
            "number of atoms"
        )
    if shown is None and _is_compressed(path) and not _is_packed(path):
        raise StructureError(f"{path}: cannot be unpacked; its name says that it is compressed")
    if shown is None:
        raise StructureError(
            f"{path}: cannot be read as a geometry: neither its name nor its content tells the "
            "format; allowed: a name such as x.xyz, x.cif, POSCAR, geometry.in"
        )
    return shown, (f"{path.name} is read as {ioformats[shown].description}, by its content",)


def _by_suffix(path: Path) -> str | None:
    """Return the format that the name of a file says beside `.in`: `geometry.in.cif`."""
    try:
        kind = filetype(path.name, read=False)
    except UnknownFileTypeError:
        return None
    return kind if kind in ioformats and ioformats[kind].can_read and kind != _AIMS else None


def _by_name(path: Path) -> str | None:
    """Return the format that a file's name, or a sign at its beginning, says."""
    if _AIMS_NAME.search(get_compression(path.name)[0]):
        return _AIMS
    try:
        kind = filetype(str(path))
    except (UnknownFileTypeError, *_PACKED_WRONGLY):
        return None
    return kind if kind in ioformats and ioformats[kind].can_read else None


def _is_marked(path: Path, kind: str) -> bool:
    """Whether an XYZ file begins with a byte-order mark, which ASE takes for a part of a number."""
    if kind != _XYZ:
        return False
    with path.open("rb") as file:
        return file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8


def _is_compressed(path: Path) -> bool:
    """Whether ASE unpacks the file before it reads it."""
    return get_compression(path.name)[1] is not None


def _is_packed(path: Path) -> bool:
    try:
        with open_with_compression(str(path), "rb") as file:
            return bool(file.read(1))
    except _PACKED_WRONGLY:
        return False


def _by_content(head: bytes) -> str | None:
    if _is_xyz(head):
        return _XYZ
    try:
        return str(match_magic(head).name)
    except UnknownFileTypeError:
        return None


def _is_xyz(head: bytes) -> bool:
    first = head.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0]
    return first.strip().isdigit()


def _holds_aims(path: Path) -> bool:
    return is_aims_geometry(_text(path, "")[0])


def _text(path: Path, allowed: str) -> tuple[str, str]:
    """Return the content of a file, unpacked, and why there is none; see `text_of`."""
    if not _is_compressed(path):
        return text_of(path, allowed)
    try:
        with open_with_compression(str(path), "rb") as file:
            return text_of_bytes(file.read(), allowed)
    except _PACKED_WRONGLY as error:
        text, problem = text_of(path, allowed)  # ASE writes geometry.in.gz without packing it
        return text, problem and f"cannot be unpacked: {error}"


def _head(path: Path) -> bytes:
    """Return the beginning of a file, unpacked if it can be."""
    if _is_compressed(path):
        with suppress(*_PACKED_WRONGLY), open_with_compression(str(path), "rb") as packed:
            return bytes(packed.read(_PEEK))
    with path.open("rb") as file:
        return file.read(_PEEK)


def _reason(error: Exception) -> str:
    """Return why a reader has failed, in a user's words."""
    text = str(error.args[0] if error.args else error).strip()
    if "Could not determine chemical symbols" in text:
        return "it names no elements (VASP 4); write them in the line before the numbers of atoms"
    if isinstance(error, KeyError) and error.args:
        name = str(error.args[0])
        if name in ("D", "T"):
            return f"{name} is an isotope; write H, with its mass in a column masses"
        return f"{name!r} is no chemical element, or is missing"
    if (number := _NO_NUMBER.match(text)) is not None:
        word = number[1].strip("'").removesuffix("\\n")
        return f"{word!r} stands where a number should be" if word else "a number is missing"
    early = isinstance(error, StopIteration | IndexError | EOFError | TypeError) or not text
    if early or _PYTHON.search(text):
        return "it ends too early, or has another form"
    return text.splitlines()[0]


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
