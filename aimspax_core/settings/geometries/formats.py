"""Which format a geometry file has, by its name and its content."""

from __future__ import annotations

import codecs
import re
import zlib
from contextlib import suppress
from lzma import LZMAError
from pathlib import Path

from ase.io.formats import (
    UnknownFileTypeError,
    filetype,
    get_compression,
    ioformats,
    match_magic,
    open_with_compression,
)

from aimspax_core.errors import StructureError
from aimspax_core.settings.geometries.aims_reader import is_aims_geometry
from aimspax_core.settings.reading.text_files import text_of, text_of_bytes

AIMS, XYZ, PDB, LAMMPS = "aims", "extxyz", "proteindatabank", "lammps-data"
"""Formats as ASE calls them."""

_AIMS_NAME = re.compile(r"\.in(\.[\w+-]+)*$", re.IGNORECASE)
"""`geometry.in`, and what FHI-aims and FHI-vibes make of it: `geometry.in.next_step`."""

_SUFFIXES = {".ent": PDB, ".mcif": "cif"}
"""Other suffixes of formats than ASE knows."""

_ABINIT_OUTPUT = re.compile(rb"\.Version\s+\S+\s+of ABINIT")
"""What ABINIT's output begins with, which repeats the input that ASE knows it by."""

_PACKED_WRONGLY = (OSError, EOFError, LZMAError, zlib.error)

_PEEK = 4096
"""Bytes of a file by which its format is told."""


def format_of(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the format of a file as ASE calls it, with a note if its name says another.

    Raises:
        StructureError: It is none that is known.
    """
    if path.is_dir():
        raise StructureError(f"{path}: found a folder; allowed: a file")
    try:
        head = head_of(path)
    except OSError as error:
        raise StructureError(f"{path}: cannot be read: {error.strerror}") from error
    if not head.strip():
        raise StructureError(f"{path}: the file is empty")
    named = _by_name(path)
    if named == AIMS:
        also = _by_suffix(path)
        shown = also or _by_content(head)
        if shown is None or _holds_aims(path):
            return AIMS, ()
        if also is not None:
            return also, ()
        what = ioformats[shown].description
        return shown, (f"{path.name} is read as {what}, which its content is",)
    if named == "runnerdata" and _is_lammps(head):  # both are called x.data
        named = LAMMPS
    if named is not None and (named != XYZ or _is_xyz(head) or is_compressed(path)):
        return named, ()
    shown = AIMS if _holds_aims(path) else _by_content(head)
    if shown is None and named == XYZ:
        raise StructureError(
            f"{path}: cannot be read as a geometry (Extended XYZ file): its first line is not the "
            "number of atoms"
        )
    if shown is None and is_compressed(path) and not _is_packed(path):
        raise StructureError(f"{path}: cannot be unpacked; its name says that it is compressed")
    if shown is None:
        raise StructureError(
            f"{path}: cannot be read as a geometry: neither its name nor its content is that of a "
            "format that is read; allowed: a name such as x.xyz, x.cif, POSCAR, geometry.in"
        )
    return shown, (f"{path.name} is read as {ioformats[shown].description}, by its content",)


def _by_suffix(path: Path) -> str | None:
    """Return the format that the name of a file says beside `.in`: `geometry.in.cif`."""
    try:
        kind = filetype(path.name, read=False)
    except UnknownFileTypeError:
        return None
    return kind if kind in ioformats and ioformats[kind].can_read and kind != AIMS else None


def _by_name(path: Path) -> str | None:
    """Return the format that a file's name, or a sign at its beginning, says."""
    plain = get_compression(path.name)[0]
    if _AIMS_NAME.search(plain):
        return AIMS
    for suffix, also in _SUFFIXES.items():
        if plain.lower().endswith(suffix):
            return also
    try:
        kind = filetype(str(path))
    except (UnknownFileTypeError, *_PACKED_WRONGLY):
        return None
    if kind == "abinit-in" and _ABINIT_OUTPUT.search(head_of(path)):
        return "abinit-out"
    return kind if kind in ioformats and ioformats[kind].can_read else None


def is_marked(path: Path, kind: str) -> bool:
    """Whether an XYZ file begins with a byte-order mark, which ASE takes for a part of a number."""
    if kind != XYZ:
        return False
    with path.open("rb") as file:
        return file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8


def is_compressed(path: Path) -> bool:
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
        return XYZ
    if _is_lammps(head):
        return LAMMPS
    try:
        return str(match_magic(head).name)
    except UnknownFileTypeError:
        return None


def _is_xyz(head: bytes) -> bool:
    first = head.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0]
    return first.strip().isdigit()


def second_line(head: bytes) -> str:
    """Return the second line of a file's beginning: the comment of an XYZ file."""
    return b"".join(head.splitlines()[1:2]).decode(errors="replace")


def _is_lammps(head: bytes) -> bool:
    """Whether a file, whose name may be anything, begins as LAMMPS's data files do."""
    return b"xlo xhi" in head and re.search(rb"^\s*\d+\s+atoms\b", head, re.MULTILINE) is not None


def _holds_aims(path: Path) -> bool:
    return is_aims_geometry(content_of(path, "")[0])


def content_of(path: Path, allowed: str) -> tuple[str, str]:
    """Return the content of a file, unpacked, and why there is none; see `text_of`."""
    if not is_compressed(path):
        return text_of(path, allowed)
    try:
        with open_with_compression(str(path), "rb") as file:
            return text_of_bytes(file.read(), allowed)
    except _PACKED_WRONGLY as error:
        text, problem = text_of(path, allowed)  # ASE writes geometry.in.gz without packing it
        return text, problem and f"cannot be unpacked: {error}"


def head_of(path: Path) -> bytes:
    """Return the beginning of a file, unpacked if it can be."""
    if is_compressed(path):
        with suppress(*_PACKED_WRONGLY), open_with_compression(str(path), "rb") as packed:
            return bytes(packed.read(_PEEK))
    with path.open("rb") as file:
        return file.read(_PEEK)
