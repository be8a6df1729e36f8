"""The run directory that a flow is given, and the name of its run in Prefect."""

from __future__ import annotations

from pathlib import Path

from prefect.runtime import deployment, flow_run

from aimspax_core.errors import SettingsError


def campaign_name() -> str:
    """Return the run directory's name, which is what its owner calls the campaign."""
    return _written(flow_run.parameters["directory"]).resolve().name


def run_directory(directory: Path) -> Path:
    """Return the run directory as an absolute path; `~` is the home of whoever runs the flow.

    Raises:
        SettingsError: A deployment was given a relative path; nobody can know where that begins.
    """
    path = _written(directory)
    if not path.is_absolute() and deployment.id is not None:
        raise SettingsError(
            f"directory: found {str(directory)!r}; a deployment runs wherever its worker was "
            "started; allowed: an absolute path, such as /home/me/runs/aspirin"
        )
    return path.resolve()


def _written(directory: Path | str) -> Path:
    """Return a path as it was typed into a form, which may have added the end of a line."""
    return Path(str(directory).strip()).expanduser()
