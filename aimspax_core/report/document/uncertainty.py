"""How unsure the committee was, and how well that told the true error."""

from __future__ import annotations

import numpy as np

from aimspax_core.campaign.judged import Judged, element_factors, energy_factor
from aimspax_core.report.document import contents
from aimspax_core.report.document.source import Source
from aimspax_core.uncertainty.measures import measure_of

_NODES = 40


def uncertainty(source: Source) -> contents.Uncertainty:
    """Return thresholds, calibration, and labels held against what the committee had said."""
    state, story, al = source.state, source.story, source.settings.al
    judged, rules = story.judgements, source.state.rules
    calibration = state.calibration()
    by_geometry = {}
    if rules.geometries > 1:
        own = ((number, state.calibration(number)) for number in range(rules.geometries))
        by_geometry = {str(number): one.factor for number, one in own if one is not None}
    several = len(story.curves.thresholds) > 1
    pairs = zip(judged.ensembles, tuple(judged.points), strict=True)
    return contents.Uncertainty(
        measure=al.uncertainty_type,
        measured=measure_of(al.uncertainty_type).text,
        unit=rules.uncertainty_unit,
        of=rules.uncertainty_of,
        selection=_selection(source),
        checks=len(story.curves.checks),
        above=state.judgement.above,
        thresholds={
            str(number) if several else "all": points
            for number, points in sorted(story.curves.thresholds.items())
        },
        factor=None if calibration is None else calibration.factor,
        factor_points=0 if calibration is None else calibration.points,
        factors=judged.factors,
        factor_by_geometry=by_geometry,
        spearman=None if calibration is None else calibration.spearman,
        energy_factor=energy_factor(pairs) if judged.points else None,
        by_element=_by_element(judged.points),
        expected=_expected(source),
        points=[
            contents.Judgement(
                key=key,
                geometry=one.geometry,
                spread=one.spread,
                error=one.error,
                above=one.above,
                energy_error_meV_per_atom=1000 * one.energy_error / max(1, one.atoms),
            )
            for key, one in _judged(source)
        ],
    )


def _judged(source: Source) -> list[tuple[str, Judged]]:
    found = source.story.asked.values()
    return [(one.key, one.judged) for one in found if one.judged is not None]


def _selection(source: Source) -> str:
    rules = source.state.rules
    if rules.random_share is not None:
        return f"by chance, at {rules.random_share:.0%} of the checks (a control)"
    if rules.threshold == "calibrated" and rules.force_error is not None:
        unit = rules.uncertainty_unit
        return f"where an error above {rules.force_error:g} {unit} is to be expected"
    return "where the uncertainty is above a moving threshold"


def _by_element(points: list[Judged]) -> dict[str, contents.ElementError]:
    sums: dict[str, tuple[int, float, float]] = {}
    for point in points:
        for symbol, one in point.elements.items():
            atoms, spread, error = sums.get(symbol, (0, 0.0, 0.0))
            sums[symbol] = atoms + one.atoms, spread + one.spread, error + one.error
    factors = element_factors(tuple(points))
    return {
        symbol: contents.ElementError(
            atoms=atoms,
            spread_eV_per_A=spread / atoms,
            error_eV_per_A=error / atoms,
            factor=factors.get(symbol),
        )
        for symbol, (atoms, spread, error) in sorted(sums.items())
        if atoms
    }


def _expected(source: Source) -> list[tuple[float, float]]:
    """Return the curve of the calibration in force over the spreads that there were."""
    calibration = source.state.calibration()
    spreads = [one.spread for _, one in _judged(source) if one.spread > 0]
    if calibration is None or not spreads:
        return []
    line = np.geomspace(min(spreads), max(spreads), _NODES)
    errors = calibration.expected(line)
    return list(zip(line.tolist(), errors.tolist(), strict=True))
