"""Try a reference where labels are computed: are its forces the slopes of its energies?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from prefect import task

from aimspax_core.reference.registry import build_reference
from aimspax_core.reference.trial_label import Trial, hold_against_energies
from aimspax_core.settings.known_engines import EngineSettings
from aimspax_core.structures import decode


@dataclass(frozen=True)
class TrialRequest:
    """Which structure to compute, and how.

    Attributes:
        structure: The structure, encoded as JSON.
        reference: The engine.
        directory: The run directory; relative paths in the settings begin there.
        stress: Whether the stress is tried, too.
    """

    structure: str
    reference: EngineSettings
    directory: Path
    stress: bool


@task(name="trial")
def trial(request: TrialRequest) -> Trial:
    """Compute a small structure, and compare forces and stress with differences of energies.

    Raises:
        LabelError, EngineError: The reference does not compute it.
    """
    reference = build_reference(request.reference, request.directory)
    atoms = decode(json.loads(request.structure))
    return hold_against_energies(reference, atoms, request.stress)
