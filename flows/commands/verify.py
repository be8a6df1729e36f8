"""The command `aimspax verify`: whether all is well in a run directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aimspax_core.errors import CampaignError
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from aimspax_core.settings.reading.which_files import settings_files
from aimspax_core.storage import text
from aimspax_core.verification.verify import verify as look
from flows.commands.exit_codes import DONE, FAILED, console


def verify(
    directory: Path, overrides: Mapping[str, Any], as_json: bool = False, models: bool = True
) -> int:
    """Print what is wrong in a run directory, a line a finding; return the exit code.

    Args:
        directory: The run directory.
        overrides: Values that replace those of its settings files.
        as_json: Print one JSON object instead.
        models: Whether models are loaded and evaluated.

    Raises:
        SettingsError: The settings of the directory cannot be used.
        CampaignError: No campaign has been started there, or a file may not be read.
    """
    settings = load(directory, *settings_files(directory, overrides))
    output = RunDir.of(settings).output
    try:
        report = look(settings, models)
    except OSError as error:
        raise CampaignError(text(error)) from error
    if as_json:
        print(json.dumps(report.as_json(output), indent=2, ensure_ascii=False))
        return FAILED if report.findings else DONE
    for finding in report.findings:
        console.print(finding.line(output), markup=False)
    for note in report.notes:
        console.print(f"note: {note}", markup=False)
    read = ", ".join(f"{count} {what}" for what, count in report.looked_at.items())
    count = len(report.findings)
    found = f"{count} finding{'s' * (count != 1)}" if count else "all is well"
    console.print(f"{found} ({read})", markup=False)
    return FAILED if report.findings else DONE
