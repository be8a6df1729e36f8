"""What people ask of a campaign that another process runs: small files, written in one go.

    aimspax/requests/TIME-XXXX.json      a request; it is removed when it has been taken
    aimspax/requests/TIME-XXXX.refused   why it was refused; whoever asked removes it

A campaign that nobody runs takes what is left there when it is started next.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from aimspax_core.campaign.record import Record
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import write_text


class SetRequest(Record):
    """Change settings: values as YAML texts, by their keys with dots."""

    kind: Literal["set"] = "set"
    values: dict[str, str]
    time: float = Field(description="Seconds since 1970.")
    by: str


class PauseRequest(Record):
    """Begin nothing new."""

    kind: Literal["pause"] = "pause"
    time: float = Field(description="Seconds since 1970.")
    by: str


class ResumeRequest(Record):
    """Go on."""

    kind: Literal["resume"] = "resume"
    time: float = Field(description="Seconds since 1970.")
    by: str


Request = Annotated[SetRequest | PauseRequest | ResumeRequest, Field(discriminator="kind")]

_REQUEST: TypeAdapter[Request] = TypeAdapter(Request)


def ask(run: RunDir, request: Request) -> Path:
    """Leave a request for the process that runs the campaign; return its file."""
    name = f"{round(request.time * 1e6):020d}-{secrets.token_hex(4)}.json"
    write_text(run.requests / name, request.model_dump_json())
    return run.requests / name


def waiting(run: RunDir) -> list[Path]:
    """Return the files of the requests that have not been taken, the oldest first."""
    return sorted(run.requests.glob("[0-9]*.json"))


def read(file: Path) -> Request | None:
    """Return a request; None if it was withdrawn.

    Raises:
        ValueError: The file holds no request.
    """
    try:
        return _REQUEST.validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ValueError(f"{file}: not a request that this version knows") from error


def settle(file: Path, refused: str = "") -> None:
    """Note that a request was taken, or why it was refused."""
    if refused:
        write_text(file.with_suffix(".refused"), refused)
    file.unlink(missing_ok=True)


def refusal(file: Path) -> str:
    """Return why a request was refused, and forget it; empty if it was taken."""
    answer = file.with_suffix(".refused")
    try:
        why = answer.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    answer.unlink(missing_ok=True)
    return why
