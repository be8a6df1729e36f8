"""Structures that wait for their labels, in files named by the label's key."""

from __future__ import annotations

import json
from typing import Any

from ase import Atoms

from aimspax_core.labels.store import label_key
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import write_text
from aimspax_core.structures import encode


def keep_structure(run: RunDir, atoms: Atoms, identity: dict[str, Any]) -> str:
    """Write a structure where the label task finds it; return the key of its label.

    Args:
        run: The run directory.
        atoms: The structure.
        identity: The reference's identity, part of the key.
    """
    key = label_key(atoms, identity)
    path = run.structure(key)
    if not path.exists():
        write_text(path, json.dumps(encode(atoms), allow_nan=False))
    return key
