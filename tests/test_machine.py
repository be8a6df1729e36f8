"""The GPUs of a machine whose driver does not answer."""

from __future__ import annotations

import os

import pytest

from aimspax_core import machine


@pytest.mark.parametrize("script", ["#!/bin/sh\nexec sleep 20\n", "#!/no/such/shell\n"])
def test_a_driver_that_does_not_answer_has_no_gpus(monkeypatch, tmp_path, script):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine, "PATIENCE_S", 0.1)
    program = tmp_path / "nvidia-smi"
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert machine.visible_gpus() == ()
