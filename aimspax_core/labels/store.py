"""The label store: content-addressed; labels stay, so that each is paid for once."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from aimspax_core.errors import CampaignError, NewerReleaseError
from aimspax_core.labels.label import BESIDE, Label
from aimspax_core.locks import held
from aimspax_core.safe_files import write_text
from aimspax_core.storage import Patience, naming, patiently, require_room
from aimspax_core.storage import text as text_of
from aimspax_core.structures import decode, digest, encode, essence
from aimspax_core.versions import release

FORMAT = 2
"""Of a label's file; goes up when a reader must know more. Files of release 0.1.0 do not say it."""

PATIENCE_S = 10.0
"""How long (s) a start tries to read labels that the device does not give, all together."""

log = logging.getLogger("aimspax.labels")


def gone_labels(
    store: LabelStore, keys: Iterable[str], structure: Callable[[str], Path]
) -> list[str]:
    """Return which labels that a campaign has counted must be computed again.

    Args:
        store: Where they should be.
        keys: Of all labels that are counted.
        structure: Returns the file of a label's structure.

    Raises:
        CampaignError: The structures of some labels are gone, too (those of given datasets have no
            files); the text says how many, and where the first label was.
    """
    patience = Patience(PATIENCE_S)
    gone = [key for key in keys if store.get_or_set_aside(key, patience) is None]
    lost = [store.path(key) for key in gone if not structure(key).exists()]
    if lost:
        raise CampaignError(
            f"{len(lost)} labels that this campaign has are gone from the label store, the first "
            f"is {lost[0]}; put them back, or begin anew with --fresh (labels that are there are "
            "not computed again)"
        )
    return gone


def label_key(atoms: Atoms, identity: dict[str, Any]) -> str:
    """Return the key of a structure's label: a SHA-256 over all that changes the answer.

    Args:
        atoms: The structure (Å).
        identity: The reference's `identity()`; see `concerning`.
    """
    return digest({"structure": essence(atoms), "reference": concerning(atoms, identity)})


def concerning(atoms: Atoms, identity: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a reference's identity that a structure depends on.

    Of its `species`, only those of the structure's elements count.
    """
    if "species" not in identity:
        return identity
    symbols = {*atoms.get_chemical_symbols()}
    own = {name: value for name, value in identity["species"].items() if name in symbols}
    return {**identity, "species": own}


@dataclass(frozen=True)
class StoredLabel:
    """A label of the store, with its structure."""

    key: str
    atoms: Atoms
    label: Label


class LabelStore:
    """A folder of labels, one JSON file each, named by key.

    Several campaigns may share a store at the same time: a file appears whole or not at all, and
    only the process that holds the `claim` on a key computes its label.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, key: str) -> Path:
        """Return the file of the label with this key, which need not be there."""
        return self._folder / key[:2] / f"{key}.json"

    def has(self, key: str) -> bool:
        """Return whether the label is there."""
        return self.path(key).exists()

    def get(self, key: str) -> StoredLabel | None:
        """Return the label with this key, or None.

        A damaged file is renamed, and its label counts as absent, so that it is computed again.
        Damaged is a file that cannot be read, that was changed after it was written, or that holds
        the label of another structure.

        Raises:
            NewerReleaseError: A newer release has written it in a way that is not known here.
            OSError: It cannot be read now, whatever it holds; the error names the file.
        """
        path = self.path(key)
        try:
            with naming(path):
                text = path.read_text(encoding="utf-8")
            content = json.loads(text, parse_constant=_refuse)
            atoms = _verified(content, key)
            stress = content["stress"]
            beside = {k: np.asarray(content[k], dtype=float) for k in BESIDE if k in content}
            label = Label(
                energy=float(content["energy"]),
                forces=np.asarray(content["forces"], dtype=float).reshape(len(atoms), 3),
                stress=None if stress is None else np.asarray(stress, dtype=float),
                provenance=content["provenance"],
                dipole=beside.get("dipole"),
                hirshfeld_ratios=beside.get("hirshfeld_ratios"),
            )
            return StoredLabel(key, atoms, label)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._set_aside(path, str(error))
            return None

    def get_or_set_aside(self, key: str, patience: float | Patience = 0.0) -> StoredLabel | None:
        """Return the label with this key, or None, also if the device does not give its file.

        Such a file is damaged if its folder can be written to; else the device, or the way to it,
        is what fails.

        Args:
            key: Its key.
            patience: How long (s) to try to read it; or one that is shared with others.

        Raises:
            NewerReleaseError: See `get`.
            OSError: The device fails.
        """
        path = self.path(key)
        try:
            return patiently(partial(self.get, key), patience, f"reading {path.name}")
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            require_room(path.parent)
            self._set_aside(path, text_of(error))
            return None

    @staticmethod
    def _set_aside(path: Path, why: str) -> None:
        damaged = path.with_suffix(".damaged")
        log.error("%s is damaged (%s); set aside as %s", path, why, damaged.name)
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            path.replace(damaged)

    def put(
        self, key: str, atoms: Atoms, label: Label, identity: dict[str, Any] | None = None
    ) -> StoredLabel:
        """Store a label unless there is one; return the stored one, which is on the disk.

        One that is there makes room for a label with something of `label.BESIDE` that it lacks;
        what only the former has of it stays.

        Args:
            key: Its key.
            atoms: The structure.
            label: Its label.
            identity: The reference's `identity()`; with it, a reader of the file can check that
                the key stands for this structure and this reference.
        """
        stored = self.get(key)
        if stored is not None:
            if not _adds(label, stored.label):
                return stored
            label = _together(label, stored.label)
        content = {
            "format": FORMAT,
            "aimspax": release(),
            "key": key,
            "structure": encode(atoms),
            "energy": float(label.energy),
            "forces": np.asarray(label.forces).tolist(),
            "stress": None if label.stress is None else np.asarray(label.stress).tolist(),
            "provenance": label.provenance,
        }
        beside = {name: getattr(label, name) for name in BESIDE}
        content |= {k: np.asarray(v).tolist() for k, v in beside.items() if v is not None}
        if identity is not None:
            content["reference"] = concerning(atoms, identity)
        # The checksum is of what a reader gets: JSON changes some numbers and containers.
        content = json.loads(json.dumps(content, allow_nan=False))
        text = json.dumps({**content, "checksum": digest(content)}, allow_nan=False)
        self._doubt(key).unlink(missing_ok=True)  # it was of a label that is here no more
        write_text(self.path(key), text)
        return StoredLabel(key, atoms, label)

    def doubt(self, key: str, reason: str) -> None:
        """Note beside a label why it is not to be trusted, for all that share the store.

        The label stays, so that it is not computed twice.
        """
        write_text(self._doubt(key), json.dumps({"key": key, "reason": reason}))

    def doubted(self, key: str) -> str:
        """Return why a label that is there is not to be trusted; else nothing."""
        try:
            text = self._doubt(key).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        try:
            reason = str(json.loads(text)["reason"])
        except (ValueError, KeyError, TypeError):
            reason = "an earlier campaign had its doubts"
        return f"{reason}; {self.advice(key, self._doubt(key))}"

    def advice(self, key: str, doubt: Path | None = None) -> str:
        """Return what to do about a label that is in the store and cannot be used.

        Args:
            key: Its key.
            doubt: The file that says why it is not to be trusted, if there is one.
        """
        anew = f", or {doubt.name} beside it to have it judged again" if doubt else ""
        return (
            "this label is from the label store, where the same reference wrote it: remove "
            f"{self.path(key)} to have it computed again{anew}"
        )

    def _doubt(self, key: str) -> Path:
        return self.path(key).with_suffix(".doubtful")

    def take_over(self, key: str, other: LabelStore) -> StoredLabel | None:
        """Move a label here from another store; None if that has none.

        Raises:
            OSError: It cannot be written here; then the other store keeps it.
        """
        found = other.get(key)
        own = None if found is None else self.get(key)
        if found is not None and (own is None or _adds(found.label, own.label)):
            write_text(self.path(key), other.path(key).read_text(encoding="utf-8"))
        if found is not None:
            other.path(key).unlink(missing_ok=True)
        return found

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[None]:
        """Hold the right to compute a label; wait while another process does.

        A claim ends with the process that holds it, however that ends; see `aimspax_core.locks`.
        """
        path = self.path(key).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            with naming(path):
                stack.enter_context(held(path, math.inf))
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # what the block has done counts
                    path.unlink(missing_ok=True)


def _adds(label: Label, to: Label) -> bool:
    """Whether a label has something of `BESIDE` that another one of its key lacks."""
    return any(getattr(label, k) is not None and getattr(to, k) is None for k in BESIDE)


def _together(label: Label, former: Label) -> Label:
    """Return a label with what only a former one has of `BESIDE`."""
    lacking = [name for name in BESIDE if getattr(label, name) is None]
    return replace(label, **{name: getattr(former, name) for name in lacking})


def _refuse(constant: str) -> float:
    raise ValueError(f"it holds {constant}")


def _verified(content: dict[str, Any], key: str) -> Atoms:
    """Return the structure of a label's file, if the file is as it was written.

    Raises:
        ValueError: It is not. In files of earlier releases less can be checked.
        NewerReleaseError: It is, and a newer release has written it.
    """
    if content["key"] != key:
        raise ValueError("it holds the label of another key")
    checksum = content.pop("checksum", None)
    if checksum is not None and checksum != digest(content):
        raise ValueError("it was changed after it was written")
    if content.get("format", 1) > FORMAT:
        raise NewerReleaseError.of(f"label {key}", content.get("aimspax", ""))
    atoms = decode(content["structure"])
    if "reference" in content and label_key(atoms, content["reference"]) != key:
        raise ValueError("it holds the label of another structure")
    return atoms
