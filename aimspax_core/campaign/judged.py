"""What a campaign knows of how well its committee's spread tells the true error."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from pydantic import Field

from aimspax_core.campaign.record import Record
from aimspax_core.prediction import Prediction
from aimspax_core.uncertainty.calibration import Calibration, calibrated, weights_of_strata
from aimspax_core.uncertainty.force_spread import atomic_sd
from aimspax_core.uncertainty.measures import Measure

KEPT = 200
"""Points that the calibration in force is fitted to: the latest, of the latest ensembles."""

_DIGITS = 6


class OfElement(Record):
    """The atoms of one element in a structure: how many, and sums over them (eV/Å)."""

    atoms: int
    spread: float
    error: float


class Judged(Record):
    """A committee's spread on a structure, and its true error there, once there is the label.

    No member had trained on it. Spread and error have the unit of the campaign's measure.
    """

    geometry: int
    spread: float
    error: float
    above: bool = Field(description="Whether the spread was above the threshold in force.")
    energy_spread: float = Field(description="Standard deviation over the members, in eV.")
    energy_error: float = Field(description="Mean prediction less the true energy, in eV.")
    atoms: int
    elements: dict[str, OfElement] = Field(
        default_factory=dict, description="By symbol; not in the state."
    )

    @classmethod
    def of(
        cls,
        said: Prediction,
        truth: Prediction,
        structure: Atoms,
        atoms: int,
        threshold: float | None,
        geometry: int,
        measure: Measure,
    ) -> Judged:
        """Hold a prediction against the label.

        Args:
            said: What the committee said, before any member trained on the structure.
            truth: The committee of the label and its mirror image; see `mirrored`.
            structure: The atoms that both are of: all of the structure, or those that can move.
            atoms: Of the whole structure, which the energies are of.
            threshold: In force then; None during warm-up.
            geometry: Of which geometry it is.
            measure: The campaign's measure of uncertainty.
        """
        spread = measure.function(said, structure)
        atom_spread, atom_error = (atomic_sd(one.member_forces) for one in (said, truth))
        symbols = np.array(structure.get_chemical_symbols())
        return cls(
            geometry=geometry,
            spread=_short(spread),
            error=_short(measure.function(truth, structure)),
            above=threshold is not None and spread > threshold,
            energy_spread=_short(float(np.std(said.member_energies))),
            energy_error=_short(said.energy - float(truth.member_energies[0])),
            atoms=atoms,
            elements={
                str(symbol): OfElement(
                    atoms=int((symbols == symbol).sum()),
                    spread=_short(atom_spread[symbols == symbol].sum()),
                    error=_short(atom_error[symbols == symbol].sum()),
                )
                for symbol in np.unique(symbols)
            },
        )


class Judgement(Record):
    """What the calibration in force is fitted to.

    Attributes:
        points: How many labels were held against a prediction so far.
        recent: The latest of them, at most `KEPT`.
        above: Checks whose uncertainty was above the threshold.
        below: All other checks.
    """

    points: int = 0
    recent: tuple[Judged, ...] = ()
    above: int = 0
    below: int = 0

    def checked(self, above: int, below: int) -> Judgement:
        """Return it with some more checks."""
        return self.but(above=self.above + above, below=self.below + below)

    def with_point(self, point: Judged) -> Judgement:
        """Return it with one more point."""
        recent = (*self.recent, point.but(elements={}))[-KEPT:]
        return self.but(points=self.points + 1, recent=recent)

    def calibration(self, geometry: int | None = None) -> Calibration | None:
        """Return the calibration by the latest points; None where there is nothing to fit it to.

        Args:
            geometry: Of the points of which geometry; None: of all.
        """
        points = [one for one in self.recent if geometry in (None, one.geometry)]
        weights = weights_of_strata([one.above for one in points], self.above, self.below)
        return calibrated([p.spread for p in points], [p.error for p in points], weights)


def energy_calibration(points: tuple[Judged, ...]) -> Calibration | None:
    """Return the calibration of energies, in eV for an atom.

    A committee shares the constant part of its error, so its spread cannot tell it: the mean error
    of each geometry is taken out.
    """
    spreads, errors = [], []
    for geometry in sorted({one.geometry for one in points}):
        mine = [one for one in points if one.geometry == geometry]
        off = np.array([one.energy_error / one.atoms for one in mine])
        errors += np.abs(off - off.mean()).tolist()
        spreads += [one.energy_spread / one.atoms for one in mine]
    return calibrated(spreads, errors)


def element_factors(points: tuple[Judged, ...]) -> dict[str, float]:
    """Return the factor of the atoms of each element, by symbol, of points as events have them."""
    sums: dict[str, tuple[float, float]] = {}
    for one in points:
        for symbol, found in one.elements.items():
            spread, error = sums.get(symbol, (0.0, 0.0))
            sums[symbol] = spread + found.spread, error + found.error
    return {symbol: error / spread for symbol, (spread, error) in sums.items() if spread > 0}


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
