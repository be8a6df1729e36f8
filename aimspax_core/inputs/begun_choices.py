"""Choices that a campaign was begun without: it goes on as was done before there was a choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel

from aimspax_core.campaign.state import CampaignState
from aimspax_core.settings.settings import Settings

S = TypeVar("S", bound=BaseModel)


def as_begun(settings: Settings, state: CampaignState | None) -> Settings:
    """Return settings where a key that came later, and nobody names, means what was done before.

    Args:
        settings: The settings of files, environment, overrides, and what was set by hand.
        state: The campaign; None if it is to begin.
    """
    if state is None:
        return settings
    project, model = settings.project, settings.model
    if state.rules.converge_on is None and project.ACTIVE_LEARNING is not None:
        al = unless_named(settings.al, {"converge_on": "own"})
        project = unless_named(project, {"ACTIVE_LEARNING": al}, True)
    if state.rules.solve_energies is None and hasattr(model.ARCHITECTURE, "solve_energies"):
        architecture = unless_named(model.ARCHITECTURE, {"solve_energies": "never"})
        model = unless_named(model, {"ARCHITECTURE": architecture}, True)
    if not state.rules.compile_chosen:
        misc = unless_named(model.MISC, {"compile": "off"})
        model = unless_named(model, {"MISC": misc}, True)
    return replace(settings, project=project, model=model)


def unless_named(section: S, values: Mapping[str, Any], always: bool = False) -> S:
    """Return a section with other values of keys that nobody has named; they stay unnamed.

    Args:
        section: The section.
        values: By key.
        always: Whether keys that were named have them, too.
    """
    named = section.model_fields_set
    new = {key: value for key, value in values.items() if always or key not in named}
    if not new:
        return section
    return type(section).model_construct(_fields_set=set(named), **{**dict(section), **new})
