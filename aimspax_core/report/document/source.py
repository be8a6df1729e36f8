"""What a report is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ase import Atoms

from aimspax_core.campaign.state import CampaignState
from aimspax_core.report.document.story import Story
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.settings import Settings


@dataclass(frozen=True)
class Source:
    """A campaign, read.

    Attributes:
        run: Where everything lies.
        settings: The settings in force.
        geometries: The start geometries.
        seeds: Each member's own seed, by tag.
        story: What the journal tells.
        state: The campaign as its files know it, which may be more than a damaged journal tells.
        model_card: Of a finished campaign, Markdown; None: there is none yet.
    """

    run: RunDir
    settings: Settings
    geometries: Sequence[Atoms]
    seeds: Mapping[str, int]
    story: Story
    state: CampaignState
    model_card: str | None = None
