"""What a run was started with, and what may not change when it is taken up again."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from typing import Any

from ase import Atoms

from aimspax_core.errors import SettingsError
from aimspax_core.files import write_text
from aimspax_core.rundir import RunDir
from aimspax_core.settings.load import Settings
from aimspax_core.settings.mistakes import shown
from aimspax_core.structures import digest, encode

PACKAGES = (
    *("aimspax", "ase", "distributed", "mace-torch", "numpy", "prefect", "prefect-dask"),
    *("tblite", "torch"),
)


def record(run: RunDir, settings: Settings, geometries: list[Atoms]) -> tuple[str, ...]:
    """Write `aimspax/settings.json`; return what has changed since the run was started, in words.

    Raises:
        SettingsError: Something has changed that decides what the labels or the models are.
    """
    changes = changed(run, settings, geometries)
    now = _described(settings, geometries)
    write_text(run.settings, json.dumps(now, indent=1, sort_keys=True) + "\n")
    return changes


def changed(run: RunDir, settings: Settings, geometries: list[Atoms]) -> tuple[str, ...]:
    """Return what has changed since the run was started, in words; nothing if it was not started.

    Raises:
        SettingsError: Something has changed that decides what the labels or the models are.
    """
    if not run.settings.exists():
        return ()
    before = json.loads(run.settings.read_text(encoding="utf-8"))
    now = _described(settings, geometries)
    refused = _differences(before["frozen"], now["frozen"])
    if refused:
        raise SettingsError(
            f"{run.output}: the campaign was started with other settings, which cannot change on "
            "the way:\n"
            + "\n".join(f"  {line}" for line in refused)
            + "\nRestore them, or begin anew with --fresh."
        )
    return tuple(_differences(before["free"], now["free"]))


def _described(settings: Settings, geometries: list[Atoms]) -> dict[str, Any]:
    project = settings.project.model_dump(mode="json")
    model = settings.model.model_dump(mode="json")
    reference = project.pop("REFERENCE")
    if "device" in reference:
        project["REFERENCE"] = {"device": reference.pop("device")}
    frozen = {
        "REFERENCE": reference,
        "geometry": {
            str(index): f"{atoms.get_chemical_formula()} {digest(encode(atoms))[:16]}"
            for index, atoms in enumerate(geometries)
        },
        "INITIAL_DATASET_GENERATION.ensemble_size": project["INITIAL_DATASET_GENERATION"].pop(
            "ensemble_size"
        ),
        "MD.MD_seed": project["MD"].pop("MD_seed"),
        "ARCHITECTURE": model.pop("ARCHITECTURE"),
        "GENERAL.name_exp": model["GENERAL"].pop("name_exp"),
        "GENERAL.seed": model["GENERAL"].pop("seed"),
        "GENERAL.default_dtype": model["GENERAL"].pop("default_dtype"),
        "TRAINING.ema": model["TRAINING"].pop("ema"),
        "TRAINING.optimizer": model["TRAINING"].pop("optimizer"),
    }
    return {
        "frozen": _flat(frozen),
        "free": _flat({"aimsPAX.yaml": project, "mace.yaml": model}),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """Turn nested keys into dotted ones, and infinity, which JSON does not have, into a text."""
    if not isinstance(content, dict) or not content:
        return {prefix: "inf" if content == math.inf else content}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [
        f"{key}: was {_told(before, key)}, is {_told(now, key)}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def _told(settings: dict[str, Any], key: str) -> str:
    return shown(settings[key]) if key in settings else "not there"
