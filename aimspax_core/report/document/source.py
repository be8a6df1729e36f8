"""What a report is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ase import Atoms

from aimspax_core.campaign.state import CampaignState
from aimspax_core.report.compared import Compared
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
        electrons: What REFERENCE says of `charge` (e) and `spin` (2S+1) of structures that say
            nothing of it themselves, by the index of their geometry.
        compared: The last labels beside what the committee had said of them.
    """

    run: RunDir
    settings: Settings
    geometries: Sequence[Atoms]
    seeds: Mapping[str, int]
    story: Story
    state: CampaignState
    model_card: str | None = None
    electrons: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    compared: Sequence[Compared] = ()

    def electrons_of(self, geometry: int) -> tuple[float | None, float | None]:
        """Return charge (e) and multiplicity of a geometry; None: nobody says."""
        told = {**self.electrons.get(geometry, {}), **self.geometries[geometry].info}
        charge, spin = (told.get(key) for key in ("charge", "spin"))
        return (None if charge is None else float(charge), None if spin is None else float(spin))
