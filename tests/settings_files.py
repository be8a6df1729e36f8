"""A run directory whose settings files are right until a test plants something in them."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from aimspax_core.errors import SettingsError
from aimspax_core.settings.load import load
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
        """Write both files; return what loading them complains about, without the heading."""
        with pytest.raises(SettingsError) as caught:
            self.load(overrides)
        return [line.strip() for line in str(caught.value).splitlines()[1:]]

    def mistake(self, file: str, section: str, key: str, text: str) -> str:
        """Plant one mistake; return `section.key: what is said`, if nothing else is said."""
        self.plant(file, section, key, text)
        (only,) = self.mistakes()
        place, _, told = only.partition("  ")
        assert place.partition(":")[0] == file
        return told


def _yaml(sections: dict[str, Any]) -> str:
    lines = []
    for name, content in sections.items():
        if isinstance(content, str):
            lines.append(f"{name}: {content}")
        else:
            lines += [f"{name}:", *(f"  {key}: {text}" for key, text in content.items())]
    return "\n".join(lines) + "\n"
