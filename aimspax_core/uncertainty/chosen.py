"""What a campaign meant by uncertainty, kept beside its models: `results/uncertainty.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from aimspax_core.errors import ModelError
from aimspax_core.safe_files import write_text
from aimspax_core.uncertainty.judged_atoms import UncertaintyOf
from aimspax_core.uncertainty.measures import MEASURES, UncertaintyType

FILE = "uncertainty.json"


@dataclass(frozen=True)
class Chosen:
    """The measure of uncertainty, and of which atoms it was.

    Attributes:
        measure: `ACTIVE_LEARNING.uncertainty_type`.
        of: `ACTIVE_LEARNING.uncertainty_of`.
    """

    measure: UncertaintyType = MEASURES[0].name
    of: UncertaintyOf = "all"

    def write(self, folder: Path) -> None:
        """Keep it in a folder of models."""
        content = {"uncertainty_type": self.measure, "uncertainty_of": self.of}
        write_text(folder / FILE, json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Chosen:
        """Return what a folder of models has; the defaults where an earlier release wrote it.

        Raises:
            ModelError: The file is none of ours, or was damaged.
        """
        path = folder / FILE
        try:
            content = json.loads(path.read_bytes())
            found = cls(content["uncertainty_type"], content["uncertainty_of"])
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path} does not say what the uncertainty was ({error!r})") from None
        names = [one.name for one in MEASURES]
        if found.measure not in names or found.of not in get_args(UncertaintyOf):
            raise ModelError(
                f"{path}: found {found.measure!r} of {found.of!r}; allowed: one of "
                f"{', '.join(names)}, of {' or '.join(get_args(UncertaintyOf))}"
            )
        return found
