"""Structures that a campaign knows, as one member sees them: what is new is held against them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from aimspax_core.errors import LabelError
from aimspax_core.labels.store import LabelStore
from aimspax_core.labels.waiting import waiting_structure
from aimspax_core.model.family import family_of
from aimspax_core.model.trained import trained_model
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.model import ModelSettings
from aimspax_core.uncertainty.nearness import Place, fingerprint, places

log = logging.getLogger(f"aimspax.{__name__}")

Formula = tuple[int, ...]
"""The atomic numbers of a structure, sorted."""


class KnownStructures:
    """Fingerprints of structures by one checkpoint; each is computed once.

    Args:
        checkpoint: Of the member.
        settings: The member's.

    Raises:
        DamagedError, ModelError: See `trained_model`.
    """

    def __init__(self, checkpoint: Path, settings: ModelSettings) -> None:
        self._invariants = family_of(settings).invariants
        self._model = trained_model(checkpoint, settings).to(settings.MISC.device)
        self._kept: dict[str, tuple[Formula, NDArray[np.float64]]] = {}

    def places(
        self, structures: Mapping[int, Atoms], run: RunDir, known: Sequence[str]
    ) -> dict[int, Place]:
        """Return where structures are among the known ones of their composition.

        Args:
            structures: By any number.
            run: Where the known ones are.
            known: Their keys, labelled or not. One whose file is damaged or gone is left out.

        Returns:
            By number; without those of whose composition too few are known.
        """
        if self._invariants is None:
            return {}
        self._read(run, [key for key in known if key not in self._kept])
        kept = [self._kept[key] for key in known if key in self._kept]
        found: dict[int, Place] = {}
        for number, atoms in structures.items():
            formula, own = self._seen(atoms)
            alike = [print_ for of, print_ in kept if of == formula]
            (place,) = places([own], np.array(alike))
            if place is not None:
                found[number] = place
        return found

    def _read(self, run: RunDir, keys: Sequence[str]) -> None:
        """Keep what there is of structures; files that are not seen yet are looked for again."""
        store = LabelStore(run.labels)
        for key in keys:
            try:
                stored = store.get(key)
                atoms = waiting_structure(run.structure(key)) if stored is None else stored.atoms
            except (LabelError, FileNotFoundError) as error:
                log.warning("%s is left out of the structures that are known: %s", key, error)
                continue
            self._kept[key] = self._seen(atoms)

    def _seen(self, atoms: Atoms) -> tuple[Formula, NDArray[np.float64]]:
        assert self._invariants is not None
        (features,) = self._invariants(self._model, [atoms])
        formula = tuple(int(number) for number in sorted(atoms.numbers))
        return formula, fingerprint(features, atoms.numbers)
