"""Which errors logs and tables show, and how: the one place that reads `MISC.error_table`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aimspax_core.campaign.final_sets import seen
from aimspax_core.campaign.members import Errors
from aimspax_core.campaign.state import CampaignState

DEFAULT_TABLE = "PerAtomMAE"

HELD_OUT = "held-out "
"""What the headings of errors on the held-out set begin with."""


@dataclass(frozen=True)
class Column:
    """One kind of error.

    Attributes:
        name: Its field in `Errors`, in eV and Å.
        title: What it is called, such as `force MAE`.
        unit: The unit it is shown in, as MACE's tables have it: a thousandth of that of `Errors`.
        digits: Decimals shown.
        key: Its name where only plain letters will do.
    """

    name: str
    title: str
    unit: str
    digits: int
    key: str

    @property
    def heading(self) -> str:
        """The head of a table's column."""
        return f"{self.title} ({self.unit})"

    def value(self, errors: Errors | None) -> float | None:
        """Return the error in `unit`; None if it was not measured."""
        found = None if errors is None else getattr(errors, self.name)
        return None if found is None else 1000 * float(found)

    def text(self, errors: Errors | None) -> str:
        """Return what a table shows; a dash if there is nothing."""
        value = self.value(errors)
        return "-" if value is None else f"{value:.{self.digits}f}"


def _force(kind: str) -> Column:
    return Column(f"{kind.lower()}_f", f"force {kind}", "meV/Å", 1, f"{kind.lower()}_f_meV_per_A")


def _energy(kind: str) -> Column:
    name = f"{kind.lower()}_e"
    return Column(f"{name}_per_atom", f"energy {kind}", "meV/atom", 2, f"{name}_meV_per_atom")


def _total_energy(kind: str) -> Column:
    return Column(f"{kind.lower()}_e", f"energy {kind}", "meV", 1, f"{kind.lower()}_e_meV")


def _stress(kind: str) -> Column:
    name = f"{kind.lower()}_stress"
    return Column(name, f"stress {kind}", "meV/Å³", 3, f"{name}_meV_per_A3")


def _dipole(kind: str) -> Column:
    name = f"{kind.lower()}_dipole"
    return Column(name, f"dipole {kind}", "me·Å", 2, f"{name}_me_A")


def _hirshfeld(kind: str) -> Column:
    name = f"{kind.lower()}_hirshfeld_ratios"
    return Column(name, f"Hirshfeld ratio {kind}", "10⁻³", 2, f"{name}_per_mille")


_MORE = (_stress, _dipole, _hirshfeld)
"""Columns of what is told where it was measured."""

_TABLES = {
    **{f"PerAtom{kind}": (_force(kind), _energy(kind)) for kind in ("MAE", "RMSE")},
    **{f"Total{kind}": (_force(kind), _total_energy(kind)) for kind in ("MAE", "RMSE")},
    **{
        f"PerAtom{kind}stressvirials": (_force(kind), _energy(kind), _stress(kind))
        for kind in ("MAE", "RMSE")
    },
}


def columns(table: str, found: Iterable[Errors | None] = ()) -> tuple[Column, ...]:
    """Return the columns of a table of errors, forces first.

    Args:
        table: `MISC.error_table`. The two tables of `stressvirials` always have a column for the
            stress, the others if it was measured, and so with dipoles and Hirshfeld ratios: MACE's
            names, but nothing that was trained on is hidden. MACE's relative force errors are not
            measured and have no column.
        found: What the table will show.
    """
    chosen, found = _TABLES[table], list(found)
    kind = "RMSE" if "RMSE" in table else "MAE"
    more = [column(kind) for column in _MORE]
    measured = [c for c in more if any(c.value(errors) is not None for errors in found)]
    return (*chosen, *(column for column in measured if column not in chosen))


def heading_of(key: str) -> str:
    """Return the head of a table's column by its key, such as those of `errors.csv`."""
    known = [column for shown in _TABLES.values() for column in shown]
    known += [column(kind) for kind in ("MAE", "RMSE") for column in _MORE]
    return next((column.heading for column in known if column.key == key), key)


def have_data(state: CampaignState) -> bool:
    """Return whether members have points or errors: before, a table of them says nothing."""
    return state.training_set_size > 0 or any(m.last_errors for m in state.members.values())


def error_rows(state: CampaignState, table: str) -> list[dict[str, str | int]]:
    """Return a row for each member: epochs, sizes of its sets, and its errors on validation.

    Args:
        state: The campaign; the errors are those of a member's model as it was published, or else
            the best of its convergence, or the last; beside those on the held-out set, where there
            is one, when it was assessed last.
        table: `MISC.error_table`.
    """
    errors = {tag: member.last_errors for tag, member in state.members.items()}
    held_out = columns(table, (m.assessed for m in state.members.values()))
    is_assessed = any(m.assessed for m in state.members.values())
    shown = columns(table, errors.values())
    rows: list[dict[str, str | int]] = []
    for member in state.members.values():
        sets = seen(state, member.tag)
        row: dict[str, str | int] = {
            "member": member.tag,
            "epochs": member.epochs + member.converge_epochs,
            "training": len(sets.training),
            "validation": len(sets.validation),
        }
        row |= {column.heading: column.text(errors[member.tag]) for column in shown}
        if is_assessed:
            row |= {f"{HELD_OUT}{c.heading}": c.text(member.assessed) for c in held_out}
        rows.append(row)
    return rows


def errors_text(table: str, found: Sequence[Errors]) -> str:
    """Return errors in words, each averaged over the members: `force MAE 12.3 meV/Å, ...`."""
    parts = []
    for column in columns(table, found):
        values = [value for errors in found if (value := column.value(errors)) is not None]
        if values:
            mean = sum(values) / len(values)
            parts.append(f"{column.title} {mean:.{column.digits}f} {column.unit}")
    return ", ".join(parts)
