"""The command `aimspax init`: a run directory to begin with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from aimspax_core.settings.known_engines import EngineName
from aimspax_core.settings.model import ModelChoice
from flows.commands.exit_codes import DONE, console


def init(
    directory: Annotated[Path, Parameter(help="The run directory to make.")],
    *,
    geometry: Annotated[
        list[Path],
        Parameter(
            help="Start geometry, in any format that ASE reads; a folder of them; or several.",
            consume_multiple=True,
            negative=(),
        ),
    ],
    name: Annotated[
        str | None, Parameter(help="Name of the experiment; none: the directory's.")
    ] = None,
    reference: Annotated[
        EngineName,
        Parameter(help="What labels the structures."),
    ] = "tblite",
    model: Annotated[
        ModelChoice | None,
        Parameter(help="Kind of model; none: the one of --pretrained, or else mace."),
    ] = None,
    pretrained: Annotated[
        str | None,
        Parameter(help="Model that members begin from: a file, so3lr, or a size of MACE-MP."),
    ] = None,
    quick: Annotated[
        bool,
        Parameter(
            help="For a first result in minutes; the file says which keys to turn then.",
            negative=(),
        ),
    ] = False,
) -> int:
    """Write a run directory: both settings files, every key explained, and the geometry."""
    from aimspax_core.settings.derived.template import write_inputs

    for path in write_inputs(directory, geometry, name, reference, model, pretrained, quick):
        console.print(f"written: {path}", markup=False)
    console.print(f"next: aimspax check {shlex.quote(str(directory))}", markup=False)
    return DONE
