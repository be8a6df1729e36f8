"""The command `aimspax status`, and what a run prints at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from aimspax_core.campaign.events import Resumed
from aimspax_core.campaign.journal import entries, holder
from aimspax_core.campaign.journal import load as load_journal
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import CampaignState, Phase, TrajectoryStatus
from aimspax_core.errors import AimspaxError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.inputs.parameters import in_force, origins
from aimspax_core.report.calibration_text import calibration_lines
from aimspax_core.report.error_tables import DEFAULT_TABLE, HELD_OUT, error_rows
from aimspax_core.report.failed_labels import by_reason
from aimspax_core.report.forecast import Learning, forecast_lines
from aimspax_core.report.geometry_table import geometry_rows
from aimspax_core.report.progress import limits_text, paused_text, progress, status_text
from aimspax_core.report.summary import spent_text
from aimspax_core.report.threshold_text import threshold_text
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from aimspax_core.settings.reading.which_files import settings_files
from aimspax_core.settings.settings import Settings
from aimspax_core.text import duration_text
from flows.commands.exit_codes import DONE, FAILED, console
from flows.runs.exits import STOPPED

_SIZES = ("member", "epochs", "training", "validation")
"""Columns of the members' table that are no errors."""


def status(directory: Path, overrides: Mapping[str, Any]) -> int:
    """Print how far a campaign is."""
    for block in Status(directory, overrides).blocks():
        console.print(block)
    return DONE


class Status:
    """How far a campaign is, to be asked once, or again and again while it goes on.

    Args:
        directory: The run directory.
        overrides: Values in place of the files'.

    Attributes:
        run: Where everything lies.
        state: The campaign when the status was asked for last; None: none has been started.
        fraction: How much of its phase was done then.
    """

    def __init__(self, directory: Path, overrides: Mapping[str, Any]) -> None:
        self._directory, self._overrides = directory, overrides
        self._settings = load(directory, *settings_files(directory, overrides))
        self.run = RunDir.of(self._settings)
        self.state: CampaignState | None = None
        self.fraction = 0.0
        self._learning, self._learnt_at = Learning(), (-1, -1)

    def blocks(self) -> list[Text | Table]:
        """Return what is printed of the campaign as it is now, the most important first.

        Raises:
            CampaignError: Too much of the journal is damaged, or a newer release has written it.
        """
        _, self.state = load_journal(self.run)
        if self.state is None:
            return [Text(f"{self.run.output}: no campaign has been started here")]
        lines = [*self._lines(self.state)]
        tables = status_tables(self.state, self._settings.model.MISC.error_table)
        return [*map(Text, lines), *tables]

    def _lines(self, state: CampaignState) -> Iterator[str]:
        who = holder(self.run)
        running = f"process {who.pid} on {who.host} runs it" if who else "nobody runs it"
        running += (
            "" if who is None or who.certain else ", unless it died: that cannot be seen here"
        )
        settings, _ = in_force(self._directory, self._overrides, self._settings, state)
        now = progress(state, settings.al.max_convergence_epochs)
        self.fraction = now.fraction or 0.0
        whose = "" if state.finished and who is None else f" ({running})"
        yield f"{now.title}: {now.reached}{whose}"
        if state.paused is not None:
            yield f"{paused_text(state.paused)}; `aimspax resume` lets it go on"
        yield from origins(state, self._directory, self._overrides)
        if state.stop_reason:
            yield f"reason: {state.stop_reason}"
        learning = self._learning_of(state)
        yield f"spent: {spent_text(state, learning.seconds)}"
        if state.window.count:
            yield threshold_text(state)
        yield from calibration_lines(state)
        yield from limits_text(state)
        if state.explored and state.phase in (Phase.ACTIVE, Phase.FINISHED):
            yield from forecast_lines(learning)

    def _learning_of(self, state: CampaignState) -> Learning:
        """Return what the forecast is made from, read anew once a round has ended."""
        at = state.rounds, state.assessments
        if at != self._learnt_at:
            self._learning, self._learnt_at = Learning.of(entries(self.run.journal)), at
        return self._learning


def report_outcome(outcome: Any, run_dir: RunDir, settings: Settings, seconds: float) -> int:
    """Print how a run ended; return the exit code."""
    _, state = load_journal(run_dir)
    if outcome.is_completed() and state is not None:
        took = duration_text(seconds)
        if state.phase is Phase.FINISHED:
            console.print(f"finished in {took}")
            return show_results(run_dir, state, settings)
        console.print(f"{state_text(state, settings)} ({took})", markup=False)
        return DONE
    return not_completed(outcome)


def not_completed(outcome: Any) -> int:
    """Print why a flow did not complete; return the exit code.

    Raises:
        AimspaxError: The flow failed with this error; the command line prints it.
    """
    error = outcome.result(raise_on_failure=False)
    if isinstance(error, AimspaxError):
        raise error
    console.print(f"{outcome.name}: {outcome.message}", style="red", markup=False)
    return STOPPED if outcome.is_cancelled() else FAILED


def show_results(run_dir: RunDir, state: CampaignState, settings: Settings) -> int:
    """Print that a campaign is finished, and the files of its results; return the exit code."""
    console.print(f"This campaign is finished: {state.stop_reason}", markup=False)
    console.print(state_text(state, settings), markup=False)
    files = sorted(run_dir.results.glob("*"))
    if not files:
        console.print(f"nothing is left of its results in {run_dir.results}", markup=False)
        return DONE
    table = Table("file", "kB", title=f"Results in {run_dir.results}")
    for path in files:
        folder = path.is_dir()
        inside = [file for file in path.rglob("*") if file.is_file()] if folder else [path]
        size = sum(file.stat().st_size for file in inside)
        table.add_row(f"{path.name}/" if folder else path.name, _kilobytes(size))
    console.print(table)
    return DONE


def _kilobytes(size: int) -> str:
    return f"{size / 1024:.0f}" if size >= 10 * 1024 else f"{size / 1024:.1f}"


def state_text(state: CampaignState, settings: Settings) -> str:
    """Describe how far a campaign is, in a line."""
    now = progress(state, settings.al.max_convergence_epochs)
    return f"{now.title}: {now.reached}"


def asks_more(state: CampaignState, inputs: Inputs) -> bool:
    """Return whether a finished campaign would go on by the stopping rules of today's settings."""
    return apply(state, Resumed(rules=inputs.rules)).phase is not Phase.FINISHED


def status_tables(state: CampaignState, error_table: str = DEFAULT_TABLE) -> list[Table]:
    """Return tables of the members, the geometries, failed labels, and what trajectories are doing.

    Args:
        state: The campaign.
        error_table: Which errors to show: `MISC.error_table`.
    """
    tables = _member_tables(error_rows(state, error_table))
    if geometries := geometry_rows(state):
        tables.append(_table(geometries, "Geometries"))
    if state.failed_labels:
        found = [{"points without a label": reason, "count": n} for reason, n in by_reason(state)]
        tables.append(_table(found, "Failed labels"))
    counts = dict.fromkeys(TrajectoryStatus, 0)
    for trajectory in state.trajectories:
        if trajectory.over or not state.finished:  # those that went on to the end do nothing now
            counts[trajectory.status] += 1
    doing = [{"trajectories": status_text(one), "count": n} for one, n in counts.items() if n]
    return [*tables, _table(doing, "Trajectories")] if doing else tables


def _member_tables(rows: Sequence[Mapping[str, str | int]]) -> list[Table]:
    """Return the members' sizes and validation errors, and in a table beside it held-out errors."""
    own, held_out = [], []
    for row in rows:
        errors = {head: text for head, text in row.items() if head not in _SIZES}
        sets = f"{row['training']} + {row['validation']}"
        first = {"member": row["member"], "epochs": row["epochs"], "training + validation": sets}
        apart = {h.removeprefix(HELD_OUT): t for h, t in errors.items() if h.startswith(HELD_OUT)}
        own.append(first | {h: t for h, t in errors.items() if not h.startswith(HELD_OUT)})
        held_out.append({"member": row["member"], **apart} if apart else {})
    tables = [_table(own, "Members, in validation")]
    return [*tables, _table(held_out, "On the held-out set")] if any(held_out) else tables


def _table(rows: Sequence[Mapping[str, object]], title: str) -> Table:
    """Return a table that breaks lines where the terminal is narrow, and leaves nothing out."""
    table = Table(title=title)
    widths = {heading: max(map(len, heading.split())) for heading in rows[0]}
    whole_words = sum(widths.values()) + 3 * len(widths) + 1 <= console.width  # with the frame
    for heading, width in widths.items():
        table.add_column(
            heading,
            overflow="fold",
            no_wrap=heading == "member",
            min_width=width if whole_words else None,
        )
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    return table
