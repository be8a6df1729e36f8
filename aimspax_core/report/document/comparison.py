"""Campaigns held against each other: what differs, what each has reached, what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aimspax_core.report.document import contents
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


def comparison(
    reports: Mapping[str, contents.Report], settings: Mapping[str, Mapping[str, str]]
) -> contents.Comparison:
    """Return what there is to say of several campaigns.

    Args:
        reports: At least one, by the name that tells each from the others.
        settings: All that each was run with, as `setup.resolved` returns them, by the same names.
    """
    first = next(iter(reports.values()))
    return contents.Comparison(
        written=first.written,
        aimspax=first.aimspax,
        campaigns=[_summary(name, one) for name, one in reports.items()],
        differing=differing(reports, settings),
    )


def differing(
    reports: Mapping[str, contents.Report], settings: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    """Return what is not the same in all: settings, then versions, by key and campaign.

    A key that only some have, such as one of their engine, is told if one of these names it.

    Args:
        reports: See `comparison`.
        settings: Likewise.
    """
    named = {one.key for report in reports.values() for one in report.setup.changed}
    keys = dict.fromkeys(key for values in settings.values() for key in values)
    told = [key for key in keys if key in named or all(key in s for s in settings.values())]
    packages = dict.fromkeys(key for r in reports.values() for key in r.setup.versions)
    rows = {key: {name: settings[name].get(key, "-") for name in reports} for key in told}
    for package in packages:
        rows[f"version of {package}"] = {
            name: report.setup.versions.get(package, "-") for name, report in reports.items()
        }
    return {key: by_name for key, by_name in rows.items() if len(set(by_name.values())) > 1}


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
