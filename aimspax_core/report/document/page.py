"""The report as a page that needs nothing beside it: no network, no other file.

Whatever a user, a program or a file has said is text on the page and nothing else: templates escape
it, data are JSON, and the page's own policy lets no script run but those that are written here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from aimspax_core.report.document import contents, tables
from aimspax_core.report.document.charts import Figure
from aimspax_core.report.document.ours import GENERATOR
from aimspax_core.report.document.viewer import scenes
from aimspax_core.report.summary import core_hours_text
from aimspax_core.text import duration_text

LABEL_ROWS = 500
"""Labels that the page has a row for at most: the last ones; `report.json` has all."""

_PACKAGE = "aimspax_core.report.document"


def page(report: contents.Report, figures: Mapping[str, Figure]) -> str:
    """Return the page of a campaign.

    Args:
        report: What it shows.
        figures: Its figures, by name; see `charts.figures`.
    """
    labels = report.labels[-LABEL_ROWS:]
    card = report.model_card
    return _rendered(
        "report.html.j2",
        beside="report.json",
        written=report.written,
        release=report.aimspax,
        figures=figures,
        structures=scenes(report.structures),
        r=report,
        headline=tables.headline(report),
        core_hours=core_hours_text(report.costs.core_hours),
        has_held_out=any(one.held_out for one in report.members),
        model_card=None if card is None else markdown(card),
        member_rows=tables.members(report),
        element_rows=tables.elements(report),
        failure_rows=[{"reason": why, "structures": count} for why, count in report.failures],
        label_rows=[tables.label(one) for one in labels],
        trajectory_rows=[tables.trajectory(one) for one in report.trajectories],
        pool_rows=tables.pools(report),
        target_rows=tables.targets(report.costs.targets),
        phase_rows=[
            {"phase": phase, "begun after": duration_text(3600 * hours)}
            for phase, hours in report.phases
        ],
        happening_rows=[
            {"after": duration_text(3600 * one.hours), "what": one.text}
            for one in report.happenings
        ],
        geometry_rows=[tables.geometry(one) for one in report.setup.geometries],
        changed_rows=[dict(one) for one in report.setup.changed],
        data_rows=tables.data(report.data_card),
    )


def markdown(text: str) -> Markup:
    """Return Markdown as HTML; HTML in it is shown as it is written."""
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    return Markup(renderer.render(text))  # `html: False` has escaped it


def shown(value: Any) -> str:
    """Return a value of a table as a reader wants it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def minute(time: str) -> str:
    """Return a time in ISO 8601 to the minute."""
    return time[:16].replace("T", " ")


@cache
def scripts() -> tuple[str, ...]:
    """Return the scripts of every page: plotly's, and ours."""
    plotly = files("plotly") / "package_data" / "plotly.min.js"
    ours = (files(_PACKAGE) / "templates" / name for name in ("report.js", "viewer.js"))
    return tuple(one.read_text(encoding="utf-8") for one in (plotly, *ours))


@cache
def policy() -> str:
    """Return what a page lets a browser do: run our scripts, load nothing."""
    digests = (hashlib.sha256(_inside(script).encode()).digest() for script in scripts())
    hashes = " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in digests)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
    )


def _inside(script: str) -> str:
    """Return a script as it can stand inside a page."""
    return script.replace("</script", "<\\/script")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(_PACKAGE, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": shown, "duration": duration_text, "utc": minute}
    return environment


def _rendered(template: str, **values: Any) -> str:
    css = (files(_PACKAGE) / "templates" / "report.css").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template(template)
        .render(
            generator=GENERATOR,
            policy=policy(),
            css=Markup(css),
            scripts=[Markup(_inside(script)) for script in scripts()],
            **values,
        )
    )


def comparison_page(found: contents.Comparison, figures: Mapping[str, Figure]) -> str:
    """Return the page that holds campaigns against each other.

    Args:
        found: What it shows.
        figures: Its figures, by name; see `charts.compared`.
    """
    return _rendered(
        "comparison.html.j2",
        beside="comparison.json",
        written=found.written,
        release=found.aimspax,
        figures=figures,
        structures=[],
        names=[one.name for one in found.campaigns],
        summary_rows=[tables.summary(one) for one in found.campaigns],
        target_rows=tables.costs_to_targets(found.campaigns),
        differing_rows=[{"key": key, **values} for key, values in found.differing.items()],
    )
