"""A run directory whose settings files are right until a test plants something in them."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from aimspax_core.errors import SettingsError
from aimspax_core.settings.load import load
from aimspax_core.settings.reading.mistakes import Mistake, MistakeKind
from aimspax_core.settings.settings import Settings

PROJECT: dict[str, dict[str, str]] = {
    "REFERENCE": {"engine": "tblite"},
    "INITIAL_DATASET_GENERATION": {"n_points_per_sampling_step_idg": "5", "desired_acc": "0.1"},
    "ACTIVE_LEARNING": {"num_trajectories": "8", "desired_acc": "0.1"},
    "MD": {"stat_ensemble": "NVT"},
}
MODEL: dict[str, dict[str, str]] = {"GENERAL": {"name_exp": "test"}}


class SettingsFiles:
    """The two files, as YAML text by section and key."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.project: dict[str, Any] = deepcopy(PROJECT)
        self.model: dict[str, Any] = deepcopy(MODEL)
        (directory / "geometry.in").write_text("atom 0 0 0 H\n")

    def plant(self, file: str, section: str, key: str, text: str) -> None:
        """Write `key: text` into a section; `text` may be any YAML."""
        sections = self.project if file == "aimsPAX.yaml" else self.model
        sections.setdefault(section, {})[key] = text

    def write(self) -> None:
        for name, sections in (("aimsPAX.yaml", self.project), ("mace.yaml", self.model)):
            (self.directory / name).write_text(_yaml(sections))

    def load(self, overrides: dict[str, Any] | None = None) -> Settings:
        """Write both files and load them."""
        self.write()
        return load(self.directory, overrides)

    def mistakes(self, overrides: dict[str, Any] | None = None) -> list[str]:
        """Write both files; return the mistakes in them as `describe` has them."""
        return [describe(mistake) for mistake in self.found(overrides)]

    def found(self, overrides: dict[str, Any] | None = None) -> tuple[Mistake, ...]:
        """Write both files; return the mistakes in them."""
        with pytest.raises(SettingsError) as caught:
            self.load(overrides)
        return caught.value.mistakes

    def mistake(self, file: str, section: str, key: str, text: str) -> str:
        """Plant the only mistake; return `section.key: kind found -> nearest` of it."""
        self.plant(file, section, key, text)
        (only,) = self.mistakes()
        place, _, mistake = only.partition("  ")
        assert place.partition(":")[0] == file
        return mistake


def describe(mistake: Mistake) -> str:
    """Return `file:line  section.key: kind found -> nearest`: what tests compare.

    Of a key or value that is refused there is also the reason, which is that of a table.

    The wording, which may get better any time, is in `settings/reading/wordings.txt` alone.
    """
    place = f"{mistake.file}:{mistake.line}" if mistake.line else mistake.file
    parts = [f"{mistake.key}:"] if mistake.key else []
    parts += [str(mistake.kind), mistake.found] if mistake.found else [str(mistake.kind)]
    parts += ["->", mistake.nearest] if mistake.nearest else []
    parts += [f"({mistake.why})"] if mistake.kind is MistakeKind.REFUSED else []
    return f"{place}  {' '.join(parts)}"


def _yaml(sections: dict[str, Any]) -> str:
    lines = []
    for name, content in sections.items():
        if isinstance(content, str):
            lines.append(f"{name}: {content}")
        else:
            lines += [f"{name}:", *(f"  {key}: {text}" for key, text in content.items())]
    return "\n".join(lines) + "\n"
