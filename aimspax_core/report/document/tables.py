"""Tables of the page: rows with headings that a reader understands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aimspax_core.report.document import contents
from aimspax_core.report.error_tables import HELD_OUT, heading_of
from aimspax_core.report.summary import core_hours_text
from aimspax_core.text import duration_text

Row = dict[str, Any]


@dataclass(frozen=True)
class Headline:
    """The error (meV/Å) that a campaign is judged by: what it is, and how large."""

    name: str
    value: float


def headline(report: contents.Report) -> Headline | None:
    """Return the force MAE (meV/Å) of what is delivered, on the held-out set if there is one."""
    done = [one for one in report.members if one.state == "converged"]
    for field, on in (("held_out", "held-out set"), ("errors", "validation")):
        # What converges still is held against the held-out set as it was before.
        under_way = [m for m in report.members if m.state == "converging" and field == "errors"]
        groups = ((done, "converged"), (under_way, "converging"), (report.members, "mean"))
        for members, of in groups:
            found = [
                value
                for one in members
                for key, value in getattr(one, field).items()
                if key in ("mae_f_meV_per_A", "rmse_f_meV_per_A")
            ]
            if found:
                kind = "MAE" if any("mae_f_meV_per_A" in getattr(m, field) for m in members) else (
                    "RMSE"
                )  # fmt: skip
                return Headline(f"force {kind}, {on}, {of}", sum(found) / len(found))
    return None


def members(report: contents.Report) -> list[Row]:
    """Return a row for each member, with its errors in validation and on the held-out set."""
    keys = dict.fromkeys(key for one in report.members for key in one.errors)
    tests = dict.fromkeys(key for one in report.members for key in one.held_out)
    by = dict.fromkeys(
        (name, key)
        for one in report.members
        for name, errors in one.held_out_by_geometry.items()
        for key in errors
        if "_f_" in key
    )
    return [
        {
            "member": one.tag,
            "state": one.state,
            "epochs": one.epochs,
            "training + validation": f"{one.training} + {one.validation}",
            **{heading_of(key): _rounded(one.errors.get(key)) for key in keys},
            **{f"{HELD_OUT}{heading_of(k)}": _rounded(one.held_out.get(k)) for k in tests},
            **{
                f"{HELD_OUT}{heading_of(key)}, geometry {name}": _rounded(
                    one.held_out_by_geometry.get(name, {}).get(key)
                )
                for name, key in by
            },
        }
        for one in report.members
    ]


def elements(report: contents.Report) -> list[Row]:
    """Return a row for each element."""
    return [
        {
            "element": symbol,
            "atoms": one.atoms,
            "true error (eV/Å)": one.error_eV_per_A,
            "uncertainty (eV/Å)": one.spread_eV_per_A,
            "factor": one.factor,
        }
        for symbol, one in report.uncertainty.by_element.items()
    ]


def label(one: contents.Label) -> Row:
    """Return the row of a label."""
    return {
        "label": one.key[:8],
        "geometry": one.geometry,
        "from": one.origin,
        "why": one.why,
        "true error": one.error,
        "came after": "-" if one.hours is None else duration_text(3600 * one.hours),
        "took (s)": one.wall_s,
        "used for": one.reason or one.used_for or one.status,
    }


def trajectory(one: contents.Trajectory) -> Row:
    """Return the row of a trajectory."""
    return {
        "trajectory": one.index,
        "geometry": one.geometry,
        "at": one.conditions,
        "status": one.status,
        "MD (ps)": one.time_ps,
        "labels": one.labels,
        "set back": one.rollbacks,
        "begun anew": one.begun_anew,
    }


def pools(report: contents.Report) -> list[Row]:
    """Return a row for each kind of work of each pool, and one for what was left."""
    rows: list[Row] = []
    for pool in report.costs.pools:
        rows += [
            {
                "pool": pool.name,
                "work": one.kind,
                "tasks": one.tasks,
                "worker time": duration_text(3600 * one.hours),
            }
            for one in pool.work
        ]
        if pool.idle_share is not None:
            idle = f"{pool.idle_share:.0%} of {pool.workers} workers' time"
            rows.append({"pool": pool.name, "work": "idle", "tasks": "", "worker time": idle})
    return rows


def targets(reached: Sequence[contents.Target]) -> list[Row]:
    """Return a row for each error that was reached; of those of the first models the smallest."""
    first: dict[str, contents.Target] = {}
    for one in reached:
        if one.from_the_beginning:
            first[one.on] = min(one, first.get(one.on, one), key=lambda t: t.mae_f_meV_per_A)
    return [
        {
            "force MAE (meV/Å)": f"{one.mae_f_meV_per_A:g}",
            "": one.on,
            "labels": f"from the beginning (≤ {one.labels})" if one.from_the_beginning else (
                str(one.labels)
            ),
            "reference": core_hours_text(one.core_hours),
            "running": duration_text(3600 * one.hours),
        }
        for one in reached
        if not one.from_the_beginning or first[one.on] is one
    ]  # fmt: skip


def geometry(one: contents.Geometry) -> Row:
    """Return the row of a start geometry."""
    return {
        "geometry": one.index,
        "file": one.file,
        "formula": one.formula,
        "atoms": one.atoms,
        "periodic": one.periodic,
        "charge (e)": one.charge,
        "multiplicity": one.multiplicity,
        "dynamics": one.dynamics,
        "held": one.held or "-",
    }


def data(card: contents.DataCard) -> list[Row]:
    """Return what is told of the labelled structures."""
    found: dict[str, str] = {"labelled structures": str(card.structures)}
    if card.read < card.structures:
        found["of which this is told of"] = str(card.read)
    found["formulas"] = _counted(card.formulas)
    if card.energy_eV_per_atom is not None:
        least, mean, most = card.energy_eV_per_atom
        found["energy (eV/atom): least, mean, most"] = f"{least:.4f}, {mean:.4f}, {most:.4f}"
    if card.force_eV_per_A is not None:
        rms, high, most = card.force_eV_per_A
        found["force on an atom (eV/Å): root mean square, 99th percentile, most"] = (
            f"{rms:.2f}, {high:.2f}, {most:.2f}"
        )
    found["stress"] = "yes" if card.stress else "no"
    found["computed by"] = _counted(card.methods)
    if card.warnings:
        found["warnings"] = _counted(card.warnings)
    return [{"": name, "value": text} for name, text in found.items()]


def summary(one: contents.Summary) -> Row:
    """Return the row of a campaign among others."""
    return {
        "campaign": one.name,
        "phase": one.phase,
        "structures are labelled": one.selection,
        "labels": one.labels,
        "error (meV/Å)": None if one.error_meV_per_A is None else f"{one.error_meV_per_A:.1f}",
        "which is the": one.error_name,
        "reference": core_hours_text(one.core_hours),
        "running": duration_text(3600 * one.hours),
    }


def costs_to_targets(campaigns: Sequence[contents.Summary]) -> list[Row]:
    """Return a row for each error: what each campaign had spent when it reached it first.

    Those that all had reached from the beginning tell nothing, and are left out.
    """
    by_name = {one.name: {(t.on, t.mae_f_meV_per_A): t for t in one.targets} for one in campaigns}
    told = {
        at for found in by_name.values() for at, t in found.items() if not t.from_the_beginning
    } | {
        at
        for found in by_name.values()
        for at in found
        if any(at not in f for f in by_name.values())
    }
    return [
        {
            "force MAE (meV/Å)": f"{error:g} {on}",
            **{name: _cost(found.get((on, error))) for name, found in by_name.items()},
        }
        for on, error in sorted(told, key=lambda target: (target[0], -target[1]))
    ]


def _cost(then: contents.Target | None) -> str:
    if then is None:
        return "-"
    if then.from_the_beginning:
        return f"from the beginning (≤ {then.labels} labels)"
    return (
        f"{then.labels} labels, {core_hours_text(then.core_hours)}, "
        f"{duration_text(3600 * then.hours)}"
    )


def _rounded(value: float | None) -> str:
    """Return an error with about three digits."""
    if value is None:
        return "-"
    return f"{value:.{1 if value >= 10 else 2 if value >= 1 else 3}f}"


def _counted(found: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in found.items()) or "-"
