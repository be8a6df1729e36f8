"""What is deployed: profiles in the words of Prefect's own `prefect.yaml`, and automations.

Nothing here imports Prefect, which takes seconds.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from aimspax_core.errors import SettingsError

_HERE = Path(__file__).parent

AUTOMATIONS = _HERE / "automations.yaml"
"""The file of the automations that every profile has."""

TAG = "aimspax"
"""Runs of our deployments have this tag, and automations that `deploy` made."""


class ProfileName(StrEnum):
    """Where the flows of a deployment find their workers."""

    LOCAL = "local"
    SLURM = "slurm"

    @property
    def file(self) -> Path:
        """The profile's file."""
        return _HERE / f"{self.value}.yaml"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(_Part):
    """When a deployment is run by itself; the slug is the schedule's name."""

    slug: str
    cron: str
    timezone: str = "UTC"
    active: bool = False
    parameters: dict[str, Any] = Field(default_factory=dict)


class WorkPool(_Part):
    """The pool whose workers run a deployment, and what they are told about it."""

    name: str
    job_variables: dict[str, Any] = Field(default_factory=dict)


class DeploymentPlan(_Part):
    """One flow that can be run from the web page.

    Attributes:
        entrypoint: Module and name of the flow.
    """

    name: str
    entrypoint: str
    description: str
    work_pool: WorkPool
    tags: tuple[str, ...]
    schedules: tuple[Schedule, ...] = ()


class Profile(_Part):
    """All deployments of a profile."""

    name: str
    pull: tuple[()]
    definitions: dict[str, Any]
    deployments: tuple[DeploymentPlan, ...]

    @property
    def pools(self) -> list[str]:
        """The work pools that the deployments need."""
        return list(dict.fromkeys(plan.work_pool.name for plan in self.deployments))


class AutomationPlan(BaseModel):
    """An automation in Prefect's words, where actions may name a `deployment` (flow/name)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    trigger: dict[str, Any]
    actions: tuple[dict[str, Any], ...]
    description: str = ""
    enabled: bool = True
    tags: tuple[str, ...] = ()


class _Automations(_Part):
    definitions: dict[str, Any] = {}
    automations: tuple[AutomationPlan, ...]
    former: tuple[str, ...] = ()


M = TypeVar("M", bound=BaseModel)


def read_profile(name: ProfileName) -> Profile:
    """Read a profile.

    Raises:
        SettingsError: Its file was edited, and has a mistake.
    """
    return _read(name.file, Profile)


def read_automations(file: Path = AUTOMATIONS) -> tuple[AutomationPlan, ...]:
    """Read automations from a file.

    Raises:
        SettingsError: The file is not there, or has a mistake.
    """
    return _read(file, _Automations).automations


def former_automations() -> tuple[str, ...]:
    """Return the names of automations that earlier versions made and this one does not."""
    return _read(AUTOMATIONS, _Automations).former


def _read(file: Path, kind: type[M]) -> M:
    try:
        return kind.model_validate(YAML(typ="safe").load(file))
    except FileNotFoundError as error:
        raise SettingsError(f"{file}: there is no such file") from error
    except YAMLError as error:
        raise SettingsError(f"{file}: this is not YAML: {error}") from error
    except ValidationError as error:
        raise SettingsError(mistakes_text(file, error)) from error


def mistakes_text(file: Path | str, error: ValidationError) -> str:
    """Say what is wrong in a file, one line a mistake: its place, the reason, what was found."""
    lines = []
    for mistake in error.errors():
        place = ".".join(str(part) for part in mistake["loc"]) or "the file"
        found = "" if mistake["type"] == "missing" else f" (found: {mistake['input']!r:.80})"
        lines.append(f"{file}: {place}: {mistake['msg']}{found}")
    return "\n".join(lines)
