"""Names that a chemist recognises on the dashboard."""

from __future__ import annotations

from pathlib import Path

from prefect.runtime import flow_run


def campaign_name() -> str:
    """Return the run directory's name, which is what its owner calls the campaign."""
    return Path(flow_run.parameters["directory"]).resolve().name
