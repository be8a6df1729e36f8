"""The files of a report, written beside what they are about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aimspax_core.errors import CampaignError
from aimspax_core.report.document import contents
from aimspax_core.report.document.charts import compared, figures
from aimspax_core.report.document.citations import bibtex
from aimspax_core.report.document.comparison import comparison
from aimspax_core.report.document.gather import report
from aimspax_core.report.document.ours import REFERENCES_HEAD, is_report
from aimspax_core.report.document.page import comparison_page, page
from aimspax_core.report.document.setup import resolved
from aimspax_core.report.document.source import Source
from aimspax_core.run_directory import REPORT_FILES
from aimspax_core.safe_files import write_text

PAGE, DATA, REFERENCES = REPORT_FILES
COMPARED_PAGE, COMPARED_DATA = "comparison.html", "comparison.json"


def write_report(source: Source, folder: Path) -> tuple[Path, ...]:
    """Write the report of a campaign; return its files, the page first.

    Args:
        source: The campaign.
        folder: Where to write.

    Raises:
        CampaignError: There is a file of another's making in the place of one of them.
        OSError: A file cannot be written.
    """
    require_ours(folder / PAGE, folder / DATA, folder / REFERENCES)
    found = report(source)
    keys = [one.key for one in found.methods.references]
    write_text(folder / DATA, as_json(found) + "\n")
    write_text(folder / REFERENCES, f"{REFERENCES_HEAD}\n\n{bibtex(keys)}")
    write_text(folder / PAGE, page(found, figures(found, source.story)))
    return folder / PAGE, folder / DATA, folder / REFERENCES


def write_comparison(sources: Mapping[str, Source], folder: Path) -> tuple[Path, ...]:
    """Write what there is to say of several campaigns; return its files, the page first.

    Args:
        sources: The campaigns, by the name that tells each from the others.
        folder: Where to write.

    Raises:
        CampaignError: There is a file of another's making in the place of one of them.
        OSError: A file cannot be written.
    """
    page_, data = folder / COMPARED_PAGE, folder / COMPARED_DATA
    require_ours(page_, data)
    found = comparison(
        {name: report(source) for name, source in sources.items()},
        {name: resolved(source.settings) for name, source in sources.items()},
    )
    write_text(data, as_json(found) + "\n")
    write_text(page_, comparison_page(found, compared(found.campaigns)))
    return page_, data


def as_json(found: contents.Content) -> str:
    """Return contents as JSON."""
    return found.model_dump_json(indent=1)


def require_ours(*paths: Path) -> None:
    """Refuse to write over a file that no report was.

    Raises:
        CampaignError: There is one.
    """
    for path in paths:
        if path.exists() and not is_report(path):
            raise CampaignError(f"{path}: found a file that no report was; move it away")
