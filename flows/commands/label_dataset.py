"""`aimspax label`, the original's `aims-PAX-recalc`: a whole dataset labelled again.

Prefect is imported late: the address of its API must be known first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from aimspax_core.inputs.relabel_inputs import RelabelInputs, RelabelRequest
from aimspax_core.labels.relabelling import Property, Summary, failed_file
from flows.commands.ends import nothing_to_end
from flows.commands.exit_codes import DONE, INCOMPLETE, console
from flows.commands.run import server_for, show_dashboard
from flows.commands.status import not_completed


@Parameter(name="*")
@dataclass(frozen=True)
class RelabelOptions:
    """Options besides dataset and directory; all spellings of the original are accepted."""

    output: Annotated[
        Path | None,
        Parameter(help="File to write; none: NAME_labelled.xyz in the run's output."),
    ] = None
    start: Annotated[
        int,
        Parameter(name=("--start", "--start-idx", "--start_idx"), help="First frame, from 0."),
    ] = 0
    end: Annotated[
        int | None,
        Parameter(
            name=("--end", "--end-idx", "--end_idx"), help="Frame after the last; none: all."
        ),
    ] = None
    properties: Annotated[
        tuple[Property, ...],
        Parameter(
            help="What to write; none: energy and forces, and stress if the models train on it.",
            consume_multiple=True,
            negative=(),
            show_default=False,
        ),
    ] = ()
    geometry: Annotated[
        int,
        Parameter(help="By which geometry's control file, where those are given by index."),
    ] = 0
    save_interval: Annotated[
        int,
        Parameter(
            name=("--save-interval", "--save_interval"),
            help="Labels from one writing of the output to the next.",
        ),
    ] = 10
    control: Annotated[
        Path | None, Parameter(help="Control file of FHI-aims; none: that of the settings.")
    ] = None
    species_dir: Annotated[
        Path | None,
        Parameter(
            name=("--species-dir", "--species_dir", "--basis-dir", "--basis_dir"),
            help="Folder of FHI-aims's species defaults; none: that of the settings.",
        ),
    ] = None


DEFAULT_OPTIONS = RelabelOptions()


def label_dataset(
    file: Path, options: RelabelOptions, directory: Path, overrides: Mapping[str, Any] | None = None
) -> int:
    """Label a dataset again, once it and the run directory have no mistakes.

    Args:
        file: The dataset; like all names of files, its path begins in the working directory.
        options: Which frames and properties, and where the labels go.
        directory: The run directory.
        overrides: Values that replace those of its settings files.

    Returns:
        The exit code: `INCOMPLETE` if frames failed for reasons of their own.
    """
    wanted: dict[str, Any] = {
        name: value.expanduser().absolute() if isinstance(value, Path) else value
        for name, value in {**asdict(options), "file": file}.items()
    }
    inputs = RelabelInputs.read(directory, RelabelRequest(**wanted), overrides)
    for note in inputs.settings.notes:
        console.print(f"note: {note}", style="yellow", markup=False)
    show_dashboard(server_for(inputs.settings))
    with nothing_to_end():  # these take seconds to import
        from flows.commands.console import following
        from flows.recalculate import recalculate
        from flows.runs.handed_over import hand_over
        from flows.runs.outcome import outcome_of

    with following(console, max_convergence_epochs=0), hand_over(inputs):
        outcome = outcome_of(
            recalculate, inputs.settings.directory, overrides=dict(overrides or {}), **wanted
        )
    return _report(outcome, inputs)


def _report(outcome: Any, inputs: RelabelInputs) -> int:
    """Print how the labelling ended; return the exit code."""
    if outcome.is_completed():
        summary: Summary = outcome.result()
        console.print(_table(summary))
        if summary.failed:
            console.print(f"failed: {failed_file(summary.output)}", markup=False)
        console.print(f"written: {summary.output}", markup=False)
        return INCOMPLETE if summary.failed else DONE
    return not_completed(outcome)


def _table(summary: Summary) -> Table:
    rows = {
        "frames": str(summary.frames),
        "labelled": str(summary.labelled),
        "of these from the label store": str(summary.stored),
        "failed": str(summary.failed),
        "seconds": f"{summary.seconds:.0f}",
        "labels computed a minute": f"{summary.per_minute:.0f}",
    }
    if summary.difference is not None:
        off = summary.difference
        rows[f"energy: mean |new − old| ({off.frames} frames), meV/atom"] = (
            f"{1000 * off.energy_per_atom:.2f}"
        )
        if off.forces is not None:
            rows["forces: mean |new − old|, meV/Å"] = f"{1000 * off.forces:.2f}"
    table = Table("", "", show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    return table
