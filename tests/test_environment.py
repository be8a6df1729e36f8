"""Variables of the environment that are others for a while."""

from __future__ import annotations

import os

import pytest

from aimspax_core.environment import changed_environment


def test_variables_are_as_before_whatever_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIMSPAX_KNOWN", "before")
    monkeypatch.delenv("AIMSPAX_NEW", raising=False)
    inside = {"AIMSPAX_KNOWN": "inside", "AIMSPAX_NEW": "inside"}
    with pytest.raises(ZeroDivisionError), changed_environment(inside):
        assert inside.items() <= os.environ.items()
        1 / 0
    assert os.environ["AIMSPAX_KNOWN"] == "before"
    assert "AIMSPAX_NEW" not in os.environ
