"""A finished campaign, as those see it who make something of its models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ase import Atoms

from aimspax_core.campaign.state import CampaignState
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.settings import Settings


@dataclass(frozen=True)
class Finished:
    """A campaign that has results.

    Attributes:
        run: Where everything lies.
        settings: The settings in force.
        state: The state that it has come to.
        geometries: The start geometries.
    """

    run: RunDir
    settings: Settings
    state: CampaignState
    geometries: Sequence[Atoms]
