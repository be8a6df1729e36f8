"""Text files of the user's, in whatever encoding their editor has written them."""

from __future__ import annotations

import codecs
from pathlib import Path

_BLANKS = "\t\n\r\f\v"
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def text_of(path: Path, allowed: str) -> tuple[str, str]:
    """Return the content of a file, and why there is none.

    Args:
        path: The file.
        allowed: What it should be, in the user's words.
    """
    try:
        content = path.read_bytes()
    except IsADirectoryError:
        return "", "found a folder; allowed: a file"
    except FileNotFoundError:
        return "", f"not found in {path.parent}"
    except OSError as error:
        return "", f"cannot be read: {error.strerror}"
    return text_of_bytes(content, allowed)


def text_of_bytes(content: bytes, allowed: str) -> tuple[str, str]:
    """Return the text that a file's content is, and why it is none; see `text_of`."""
    try:
        text = content.decode("utf-16" if content.startswith(_WIDE) else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # what older editors wrote, in comments
    if any(ord(c) < ord(" ") and c not in _BLANKS for c in text):
        return "", f"not a text file; allowed: {allowed}"
    if not text.strip():
        return "", "the file is empty"
    return text, ""
