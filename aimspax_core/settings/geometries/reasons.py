"""Why a geometry file cannot be read, in a user's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from aimspax_core.settings.geometries.cif_files import unreadable_site

_NO_NUMBER = re.compile(r"(?:could not convert string to float|.*literal for int.*): (.*)")
"""What Python says of a word that is no number."""

_NO_SYMBOL = re.compile(r"Symbol ('\w+') not (?:found )?in chemical symbols")

_MISSING = re.compile(r"'(\w+)' is not in list")

_PYTHON = re.compile("StopIteration|broadcast|unpack|list index|not enough values|NoneType")
"""What Python and NumPy say of a file that ends too early."""


def _no_xsf(text: str) -> str | None:
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if re.match(r"#|(CRYSTAL|SLAB|POLYMER|MOLECULE|ATOMS|ANIMSTEPS|DIM-GROUP|PRIMVEC)\b", first):
        return None
    return f"its first line is none of an XSF file ('{first}')"


_KNOWN: Mapping[str, Callable[[str], str | None]] = {"cif": unreadable_site, "xsf": _no_xsf}
"""What is wrong with files of some formats, if it is that."""


def reason_of(kind: str, error: Exception, text: Callable[[], str]) -> str:
    """Return why a reader of ASE has failed.

    Args:
        kind: The format as ASE calls it.
        error: What the reader has raised.
        text: Reads the content of the file.
    """
    known = _KNOWN.get(kind)
    return (known(text()) if known else None) or _of_error(error)


def _of_error(error: Exception) -> str:
    text = str(error.args[0] if error.args else error).strip()
    if "Could not determine chemical symbols" in text:
        return "it names no elements (VASP 4); write them in the line before the numbers of atoms"
    if (missing := _MISSING.fullmatch(text)) is not None:
        return f"it has no {missing[1]}"
    if (symbol := _NO_SYMBOL.match(text)) is not None:
        return f"{symbol[1]} is no chemical element"
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
