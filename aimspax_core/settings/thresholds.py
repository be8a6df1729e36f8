"""Settings of how unsure is too unsure: which measure, which threshold, whose."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from aimspax_core.settings.reading.mistakes import Mistake, MistakeKind, missing, mistaken
from aimspax_core.settings.values import AnyCase, Number, Positive, Section
from aimspax_core.uncertainty.calibration import LEAST
from aimspax_core.uncertainty.judged_atoms import UncertaintyOf
from aimspax_core.uncertainty.measures import (
    MEASURES,
    UncertaintyType,
    measure_of,
    measures_text,
)


class Thresholds(Section):
    """The part of ACTIVE_LEARNING that says where a label is asked for."""

    uncertainty_type: UncertaintyType = Field(
        MEASURES[0].name,
        description=f"Measure of the ensemble's disagreement: {measures_text()}.",
    )
    uncertainty_of: Annotated[UncertaintyOf, AnyCase()] = Field(
        "all",
        description="Of which atoms the uncertainty is that is held against the threshold: of all, "
        "or of those that can move (`free_atoms`; see docs/surfaces.md).",
    )
    threshold: Literal["moving", "calibrated"] = Field(
        "moving",
        description="A label is asked for where the uncertainty is above the mean of the last ones "
        "(`moving`, as in the original), or where an error above `force_error` is to be expected "
        f"(`calibrated`; until {LEAST} labels tell how large errors are, the moving one holds).",
    )
    threshold_scope: Literal["shared", "geometry"] = Field(
        "shared",
        description="All geometries share one threshold, or each `geometry` has its own, by the "
        "uncertainties, and the labels, of its own trajectories.",
    )
    force_error: Positive | None = Field(
        None,
        description="Force error (eV/Å) that is acceptable, reduced over atoms as "
        "`uncertainty_type` is; `threshold: calibrated` needs it.",
    )

    selection: Literal["uncertainty", "random"] = Field(
        "uncertainty",
        description="What takes a structure: its uncertainty, or chance (`random`: a control that "
        "shows what the uncertainty gains; all else is the same).",
    )
    random_share: Number = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of the checks at which `selection: random` takes the structure, once "
        "there is a threshold (after the warm-up).",
    )

    candidates: Literal["first", "largest_error"] = Field(
        "first",
        description="Which structures get a label where more wait than can be computed at once: "
        "who came `first`, as in the original, or those of the `largest_error` to be expected; "
        "what a new ensemble could judge otherwise is not labelled (docs/calibration.md).",
    )

    novelty: Number = Field(
        0.0,
        ge=0,
        description="With `candidates: largest_error`, a structure gets no label if it is nearer "
        "than this to one that is trained on or waits: 1 is the typical distance of structures "
        "that are trained on to the nearest other one (0.5 is a beginning); 0: that is not looked "
        "at, as in the original.",
    )

    @field_validator("force_error")
    @classmethod
    def _error_named(cls, error: float | None, info: ValidationInfo) -> float | None:
        if info.data.get("threshold") != "calibrated":
            return error
        if error is None:
            raise missing("`threshold: calibrated` needs it, in eV/Å")
        measure = measure_of(info.data.get("uncertainty_type", MEASURES[0].name))
        if measure.unit != MEASURES[0].unit:
            why = f"`uncertainty_type: {measure.name}` is in {measure.unit}, and no force error"
            raise mistaken(Mistake(MistakeKind.CONFLICT, why=why))
        return error
