"""What a campaign knows of how well its committee's spread tells the true error."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pydantic import Field

from aimspax_core.campaign.record import Record
from aimspax_core.prediction import Prediction
from aimspax_core.uncertainty.calibration import (
    LEAST,
    SHARE_OF_LINE,
    Calibration,
    calibrated,
    weights_of_strata,
)
from aimspax_core.uncertainty.force_spread import atomic_sd
from aimspax_core.uncertainty.measures import Measure

KEPT = 200
"""Points that the calibration of all geometries is fitted to: the latest."""

IN_A_ROW = 10
"""Labels of a geometry, one after another, whose ranks are held against each other.

Spread and error both shrink as the committee learns; over many ensembles they would go together
even where none of these knows where it is wrong.
"""

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


class Tally(Record):
    """Checks: how many uncertainties were above the threshold in force, and how many were not."""

    above: int = 0
    below: int = 0

    def since(self, earlier: Tally) -> Tally:
        """Return the checks that came after an earlier tally."""
        return Tally(above=self.above - earlier.above, below=self.below - earlier.below)


class Kept(Judged):
    """A point as the state keeps it: without its elements, with the checks that were before it.

    Snapshots of before these were kept count as if there had been none.
    """

    checks: Tally = Field(default=Tally(), description="Of all geometries, before its label came.")
    own_checks: Tally = Field(default=Tally(), description="Of its geometry, likewise.")


class Judgement(Record):
    """What the calibration in force is fitted to.

    Attributes:
        points: How many labels were held against a prediction so far.
        recent: The latest of them, at most `KEPT`.
        above: Checks whose uncertainty was above the threshold.
        below: All other checks.
        older: Points before those, without which their geometry would have less than `LEAST`.
        by_geometry: Checks of each geometry.
    """

    points: int = 0
    recent: tuple[Kept, ...] = ()
    above: int = 0
    below: int = 0
    older: tuple[Kept, ...] = ()
    by_geometry: dict[int, Tally] = Field(default_factory=dict)

    def checked(self, above: Sequence[bool], geometries: Sequence[int]) -> Judgement:
        """Return it with some more checks.

        Args:
            above: Of each, whether the uncertainty was above the threshold in force.
            geometries: Of which geometry each was.
        """
        by_geometry = dict(self.by_geometry)
        for geometry in set(geometries):
            own = [up for up, of in zip(above, geometries, strict=True) if of == geometry]
            by_geometry[geometry] = _more(by_geometry.get(geometry, Tally()), own)
        both = _more(Tally(above=self.above, below=self.below), above)
        return self.but(above=both.above, below=both.below, by_geometry=by_geometry)

    def with_point(self, point: Judged) -> Judgement:
        """Return it with one more point."""
        before = {"checks": self._checks(None), "own_checks": self._checks(point.geometry)}
        kept = Kept(**{**dict(point), "elements": {}, **before})
        recent = (*self.recent, kept)
        older = (*self.older, *recent[:-KEPT])
        recent = recent[-KEPT:]
        return self.but(points=self.points + 1, recent=recent, older=_needed(older, recent))

    def points_of(self, geometry: int | None) -> tuple[Kept, ...]:
        """Return the points that a calibration is fitted to, in the order in which they came.

        Args:
            geometry: Of which geometry it is; None: of all.
        """
        if geometry is None:
            return self.recent
        return tuple(one for one in (*self.older, *self.recent) if one.geometry == geometry)

    def weights(self, geometry: int | None = None) -> NDArray[np.float64]:
        """Return the weights of `points_of`: they stand for all checks since the first of them."""
        points = self.points_of(geometry)
        if not points:
            return np.ones(0)
        before = points[0].checks if geometry is None else points[0].own_checks
        checks = self._checks(geometry).since(before)
        return weights_of_strata([one.above for one in points], checks.above, checks.below)

    def calibration(
        self, geometry: int | None = None, share_of_line: float = SHARE_OF_LINE
    ) -> Calibration | None:
        """Return the calibration by the latest points; None where there is nothing to fit it to.

        Args:
            geometry: Of the points of which geometry; None: of all.
            share_of_line: How much of a curve is the straight line.
        """
        points = self.points_of(geometry)
        spreads, errors = [one.spread for one in points], [one.error for one in points]
        weights, stretches = self.weights(geometry), _stretches(points)
        return calibrated(spreads, errors, weights, stretches, share_of_line)

    def _checks(self, geometry: int | None) -> Tally:
        if geometry is None:
            return Tally(above=self.above, below=self.below)
        return self.by_geometry.get(geometry, Tally())


def _more(tally: Tally, above: Sequence[bool]) -> Tally:
    many = sum(above)
    return Tally(above=tally.above + many, below=tally.below + len(above) - many)


def _stretches(points: Sequence[Judged]) -> list[Hashable]:
    """Return the stretch of each point: its geometry, and which `IN_A_ROW` of it it is among."""
    met: Counter[int] = Counter()
    found: list[Hashable] = []
    for one in points:
        found.append((one.geometry, met[one.geometry] // IN_A_ROW))
        met[one.geometry] += 1
    return found


def _needed(older: tuple[Kept, ...], recent: tuple[Kept, ...]) -> tuple[Kept, ...]:
    """Return the latest of the older points that make up `LEAST` of each geometry."""
    have = Counter(one.geometry for one in recent)
    needed = []
    for one in reversed(older):
        if have[one.geometry] < LEAST:
            have[one.geometry] += 1
            needed.append(one)
    return tuple(reversed(needed))


def energy_factor(points: Iterable[tuple[Hashable, Judged]]) -> float | None:
    """Return the factor of energies of an atom: root mean square of errors over that of spreads.

    A committee shares the constant part of its error, so its spread cannot tell it, and each
    training moves it. So errors are those about the mean of what one ensemble had said of one
    geometry, with n - 1 in place of n; what is alone there tells nothing.

    Args:
        points: With the ensemble whose prediction each is of.

    Returns:
        None where nothing is known, or no point has a spread.
    """
    together: dict[Hashable, list[Judged]] = defaultdict(list)
    for ensemble, one in points:
        together[ensemble, one.geometry].append(one)
    errors = spreads = 0.0
    for some in together.values():
        if len(some) < 2:
            continue
        off = np.array([one.energy_error / one.atoms for one in some])
        errors += len(some) * float(np.var(off, ddof=1))
        spreads += sum((one.energy_spread / one.atoms) ** 2 for one in some)
    return (errors / spreads) ** 0.5 if spreads > 0 else None


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
