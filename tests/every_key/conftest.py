"""The run directory that every key is tried in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import molecule

from aimspax_core.model.mace import foundation
from aimspax_core.model.worker_memory import worker_memory
from tests.every_key.base import MODEL, PROJECT, Asked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run directory of one water molecule."""
    (tmp_path / "aimsPAX.yaml").write_text(PROJECT, encoding="utf-8")
    (tmp_path / "mace.yaml").write_text(MODEL, encoding="utf-8")
    ase.io.write(tmp_path / "geometry.in", molecule("H2O"))
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What MACE's own function is asked for."""
    found: list[Any] = []

    def mace_mp(**given: Any) -> Any:
        found.append(given)
        raise Asked

    monkeypatch.setattr(foundation, "mace_mp", mace_mp)
    monkeypatch.setattr(foundation, "load_model", lambda path: None)
    monkeypatch.setattr(foundation, "foundation_file", lambda name: Path(name))
    monkeypatch.setattr(foundation.importlib.util, "find_spec", lambda name: object())
    worker_memory().clear()
    return found
