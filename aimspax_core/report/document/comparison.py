"""Campaigns held against each other: what differs, what each has reached, what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aimspax_core.report.document import contents
from aimspax_core.report.document.setup import MANDATORY
from aimspax_core.report.document.tables import headline


def names_of(directories: Sequence[Path]) -> list[str]:
    """Return a name for each run directory: as short as tells them apart."""
    paths = [path.resolve() for path in directories]
    depth = 1
    while depth < max(len(path.parts) for path in paths):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            return names
        depth += 1
    return [str(path) for path in paths]


def comparison(reports: Mapping[str, contents.Report]) -> contents.Comparison:
    """Return what there is to say of several campaigns.

    Args:
        reports: At least one, by the name that tells each from the others.
    """
    first = next(iter(reports.values()))
    return contents.Comparison(
        written=first.written,
        aimspax=first.aimspax,
        campaigns=[_summary(name, one) for name, one in reports.items()],
        differing=differing(reports),
    )


def differing(reports: Mapping[str, contents.Report]) -> dict[str, dict[str, str]]:
    """Return what is not the same in all: settings, then versions, by key and campaign.

    A campaign that does not name a setting has its default.
    """
    defaults = {one.key: one.default for r in reports.values() for one in r.setup.changed}
    settings = {
        name: {key: _unnamed(default) for key, default in defaults.items()}
        | {one.key: one.value for one in report.setup.changed}
        for name, report in reports.items()
    }
    packages = dict.fromkeys(key for r in reports.values() for key in r.setup.versions)
    versions = {
        name: {f"version of {key}": report.setup.versions.get(key, "-") for key in packages}
        for name, report in reports.items()
    }
    found: dict[str, dict[str, str]] = {}
    for values in (settings, versions):
        for key in next(iter(values.values())):
            by_name = {name: values[name][key] for name in reports}
            if len(set(by_name.values())) > 1:
                found[key] = by_name
    return found


def _unnamed(default: str) -> str:
    return "-" if default == MANDATORY else default


def _summary(name: str, report: contents.Report) -> contents.Summary:
    told = headline(report)
    return contents.Summary(
        name=name,
        experiment=report.name,
        phase=report.phase,
        selection=report.uncertainty.selection,
        labels=report.counts.labels,
        core_hours=report.costs.core_hours,
        hours=report.costs.hours,
        error_name=None if told is None else told.name,
        error_meV_per_A=None if told is None else told.value,
        rounds=report.learning.rounds,
        targets=report.costs.targets,
    )
