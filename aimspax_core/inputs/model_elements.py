"""Elements that models know of which members begin, where only the loaded models tell them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from aimspax_core.errors import ModelError
from aimspax_core.settings.fine_tuning import Pretrained
from aimspax_core.settings.model import ModelSettings
from aimspax_core.structures import symbols_text


def elements_missing(
    model: ModelSettings, source: Pretrained, needed: Collection[int]
) -> str | None:
    """Say in a sentence which of some elements (by atomic number) a loaded model does not know.

    Args:
        model: Settings of the members.
        source: The model.
        needed: The elements.

    Returns:
        None if it knows all, or does not tell, or cannot be loaded, which is told elsewhere, or the
        family need not load it (see `FamilyRow.elements_missing`).
    """
    known = _told(model, source)
    if not known or not (unknown := set(needed) - known):
        return None
    name = Path(source.name).name
    return f"{name} does not know {symbols_text(unknown)}; it knows {symbols_text(known)}"


def notes_on_elements(model: ModelSettings, sources: Collection[Pretrained]) -> Iterator[str]:
    """Yield a note for each model that does not tell which elements it was trained on."""
    for source in sources:
        if _told(model, source) == frozenset():
            yield (
                f"{source.name} does not say which elements it was trained on: make sure that "
                "those of the geometries are among them"
            )


def _told(model: ModelSettings, source: Pretrained) -> frozenset[int] | None:
    """Return what a model tells; nothing if it does not, None if it is not to be had."""
    if not model.family.elements_by_loading:
        return None
    from aimspax_core.model.family import family_of  # takes torch

    try:
        read = family_of(model).elements_of
        assert read is not None, f"the family {model.family.name} has no such function"
        return frozenset(read(source, model) or ())
    except ModelError:
        return None  # who begins from it says why
