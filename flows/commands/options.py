"""Options that several commands have besides the directory, and how they reach a flow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from aimspax_core.errors import SettingsError
from aimspax_core.settings.reading.which_files import MODEL, PROJECT

Directory = Annotated[Path, Parameter(help="The run directory.")]
Host = Annotated[
    str | None,
    Parameter(help="Name or address at which Slurm jobs reach it; it then wants a password."),
]
Password = Annotated[
    Literal["auto", "always", "never"] | None,
    Parameter(
        help="Whether it asks for one: `auto` if others can log in to this machine. Not given: "
        "what AIMSPAX_MISC__SERVER_PASSWORD says, or `auto`."
    ),
]
Fresh = Annotated[
    bool,
    Parameter(
        help="Begin anew; an earlier campaign is moved aside.", negative=(), show_default=False
    ),
]


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """Values and files in place of the usual ones; all spellings of the original are accepted."""

    assignments: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set",
            help="SECTION.key=value, in place of what the files say; may be repeated.",
            negative=(),
            show_default=False,
        ),
    ] = ()
    project: Annotated[
        Path | None,
        Parameter(
            name=("--aimsPAX-settings", "--aimsPAX_settings"),
            help="File in place of aimsPAX.yaml, from the working directory.",
        ),
    ] = None
    model: Annotated[
        Path | None,
        Parameter(
            name=("--model-settings", "--model_settings", "--mace-settings", "--mace_settings"),
            help="File in place of mace.yaml (or model.yaml), from the working directory.",
        ),
    ] = None

    @property
    def overrides(self) -> dict[str, Any]:
        """The options as the overrides of a flow.

        Raises:
            SettingsError: An assignment is not `SECTION.key=value`.
        """
        found = dict(_assigned(text) for text in self.assignments)
        for name, file in ((PROJECT, self.project), (MODEL, self.model)):
            if file is not None:
                found[name] = str(file.expanduser().absolute())
        return found


NONE = Options()


def _assigned(assignment: str) -> tuple[str, Any]:
    """Return key and value of `SECTION.key=value`; the value is read as YAML."""
    key, equals, text = assignment.partition("=")
    if not equals or "." not in key:
        raise SettingsError(f"--set {assignment!r}: allowed: SECTION.key=value")
    try:
        return key, YAML(typ="safe").load(text)
    except YAMLError as error:
        raise SettingsError(f"--set {assignment!r}: not a YAML value") from error
