"""The label store: content-addressed and immutable, so that a label is paid for once."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from aimspax_core.errors import CampaignError
from aimspax_core.files import write_text
from aimspax_core.reference.base import Label
from aimspax_core.structures import decode, digest, encode, essence

log = logging.getLogger(__name__)


def require_labels(store: LabelStore, keys: Iterable[str]) -> None:
    """Make sure that labels which a campaign has counted are still there.

    Raises:
        CampaignError: Some are gone; the text says how many, and where the first one was.
    """
    gone = [store.path(key) for key in keys if not store.has(key)]
    if gone:
        raise CampaignError(
            f"{len(gone)} labels that this campaign has are gone from the label store, the first "
            f"is {gone[0]}; put them back, or begin anew with --fresh (labels that are there are "
            "not computed again)"
        )


def label_key(atoms: Atoms, identity: dict[str, Any]) -> str:
    """Return the key of a structure's label: a SHA-256 over all that changes the answer.

    Args:
        atoms: The structure (Å).
        identity: The reference's `identity()`.
    """
    return digest({"structure": essence(atoms), "reference": identity})


@dataclass(frozen=True)
class StoredLabel:
    """A label with its structure, as it lies in the store."""

    key: str
    atoms: Atoms
    label: Label


class LabelStore:
    """A folder of labels, one JSON file each, named by key.

    It may be shared by several campaigns: a file appears whole or not at all, and of two processes
    that compute the same label, either may write it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, key: str) -> Path:
        """Return where the label with this key lies, or would lie."""
        return self._folder / key[:2] / f"{key}.json"

    def has(self, key: str) -> bool:
        """Return whether the label is there."""
        return self.path(key).exists()

    def get(self, key: str) -> StoredLabel | None:
        """Return the label with this key, or None.

        A file that cannot be read is set aside under another name, and the label counts as absent:
        it is computed again rather than trusted.
        """
        path = self.path(key)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["key"] != key:
                raise ValueError("it holds the label of another key")
            atoms = decode(content["structure"])
            stress = content["stress"]
            label = Label(
                energy=float(content["energy"]),
                forces=np.asarray(content["forces"], dtype=float).reshape(len(atoms), 3),
                stress=None if stress is None else np.asarray(stress, dtype=float),
                provenance=content["provenance"],
            )
            return StoredLabel(key, atoms, label)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            damaged = path.with_suffix(".damaged")
            log.error("%s is damaged (%s); set aside as %s", path, error, damaged.name)
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                path.replace(damaged)
            return None

    def put(self, key: str, atoms: Atoms, label: Label) -> StoredLabel:
        """Store a label unless there is one; return the stored one, which is on the disk."""
        stored = self.get(key)
        if stored is not None:
            return stored
        content = {
            "key": key,
            "structure": encode(atoms),
            "energy": float(label.energy),
            "forces": np.asarray(label.forces).tolist(),
            "stress": None if label.stress is None else np.asarray(label.stress).tolist(),
            "provenance": label.provenance,
        }
        write_text(self.path(key), json.dumps(content, allow_nan=False))
        return StoredLabel(key, atoms, label)
