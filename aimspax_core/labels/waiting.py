"""Structures that wait for their labels, in files named by the label's key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ase import Atoms

from aimspax_core.errors import LabelError, LabelFailure
from aimspax_core.labels.store import label_key
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import write_text
from aimspax_core.structures import decode, digest, encode


def keep_structure(run: RunDir, atoms: Atoms, identity: dict[str, Any]) -> str:
    """Write a structure where the label task finds it; return the key of its label.

    Args:
        run: The run directory.
        atoms: The structure.
        identity: The reference's identity, part of the key.
    """
    key = label_key(atoms, identity)
    path = run.structure(key)
    content = encode(atoms)
    text = json.dumps({**content, "checksum": digest(content)}, allow_nan=False)
    if not path.exists() or path.read_bytes() != text.encode():
        write_text(path, text)
    return key


def waiting_structure(path: Path) -> Atoms:
    """Return a structure that `keep_structure` wrote.

    Raises:
        LabelError: Not transient: the file was cut off or changed after it was written.
        FileNotFoundError: It is not there, or is not seen yet.
    """
    try:
        content = json.loads(path.read_bytes())
        checksum = content.pop("checksum", None)  # release 0.1.0 wrote none
        if checksum is not None and checksum != digest(content):
            raise ValueError("it was changed after it was written")
        return decode(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabelError(
            f"its structure is damaged: {path} ({error})", kind=LabelFailure.STRUCTURE
        ) from None
