"""Charge and multiplicity that REFERENCE gives, and how models that read them come to know of it.

What a structure says of itself holds, for the engine as for the models. Where it says nothing, the
engine takes what REFERENCE says. So that models take the same, structures are given it as they are
read, before anything is computed of them; see `Settings.told`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ase import Atoms

from aimspax_core.campaign.state import CampaignState
from aimspax_core.inputs.foundation_findings import drivers
from aimspax_core.reference.registry import kind_of
from aimspax_core.settings.families.known_families import row_of_foundation
from aimspax_core.settings.settings import Settings

_NEUTRAL = {"charge": 0.0, "spin": 1.0}
_SAMPLING = "INITIAL_DATASET_GENERATION.sampling_engine"


def told_to_models(
    settings: Settings, state: CampaignState | None
) -> dict[int, Mapping[str, float]]:
    """Return what structures of each geometry are told, by its index; see `Settings.electrons`.

    Args:
        settings: The settings in force.
        state: The campaign; it goes on as it was begun, whatever reads them now. None: it is to
            begin.
    """
    if state is not None and not state.rules.tells_electrons:
        return {}
    if state is not None and state.rules.electrons is not None:
        return dict(state.rules.electrons)
    return _given(settings) if any(_readers(settings)) else {}


def given_by_reference(settings: Settings) -> dict[int, Mapping[str, float]]:
    """Return what REFERENCE says of `charge` (e) and `spin` (2S+1) of each geometry, by its index.

    It holds for structures that say nothing of it; what it does not say is not there.
    """
    found: dict[int, Mapping[str, float]] = {}
    for index in range(len(settings.geometry_files)):
        engine = settings.reference.of_geometry(index)
        found[index] = kind_of(engine).electrons(engine, settings.directory)
    return found


def notes_on_electrons(settings: Settings, geometries: list[Atoms], frames: bool) -> Iterator[str]:
    """Yield what is to be said of charges and multiplicities beside the plan, which has them.

    Args:
        settings: The settings in force.
        geometries: The start geometries, as the campaign takes them.
        frames: Whether it begins from datasets.
    """
    readers = " and ".join(dict.fromkeys(_readers(settings)))
    if not readers:
        return
    yield from _untold(settings, geometries, readers)
    told = settings.electrons_of_frames()
    if told and (frames or settings.misc.test_dataset is not None):
        yield (
            f"{settings.project_places.of('REFERENCE')}: frames of given datasets that say nothing "
            f"of it are taken to have {_text(told)}"
        )
    yield from _undecided(settings, frames)
    engine = settings.idg.sampling_engine
    if settings.idg.initial_sampling == "engine" and engine is not None:
        for key, value in told.items():
            own = getattr(engine, key, value)
            if key in engine.model_fields_set and own != value:
                yield (
                    f"{settings.project_places.of(f'{_SAMPLING}.{key}')}: found {own:g}, but "
                    f"structures have {key}={value:g} of REFERENCE, which holds"
                )


def _undecided(settings: Settings, frames: bool) -> Iterator[str]:
    """Yield a note on frames that are told nothing, as nobody knows of which geometry they are."""
    each = [settings.electrons.get(index, {}) for index in range(len(settings.geometry_files))]
    unlike = sorted({key for one in each for key in one} - {*settings.electrons_of_frames()})
    held_out = settings.misc.test_dataset
    if unlike and (frames or not (held_out is None or isinstance(held_out, dict))):
        given = sorted(
            {_text({key: one.get(key, _NEUTRAL[key])}) for one in each for key in unlike}
        )
        usual = _text({key: _NEUTRAL[key] for key in unlike})
        yield (
            f"{settings.project_places.of('REFERENCE')}: geometries are not alike in it "
            f"({', '.join(given)}), so frames of given datasets that say nothing of it are taken "
            f"to have {usual}"
        )


def _untold(settings: Settings, geometries: list[Atoms], readers: str) -> Iterator[str]:
    """Yield a note on structures that models take for neutral singlets, and the engine does not."""
    untold: dict[str, list[str]] = {}
    for index, given in _given(settings).items():
        file, info = settings.geometry_files[index], geometries[index].info
        if other := {key: value for key, value in given.items() if key not in info}:
            untold.setdefault(_text(other), []).append(file.name)
    for text, names in untold.items():
        yield (
            f"{settings.project_places.of('REFERENCE')}: labels of {', '.join(names)} are with "
            f"{text}, which is not in the file: {readers} take the structure for neutral and a "
            "singlet, as the campaign was begun; --fresh begins one whose models know it"
        )


def _given(settings: Settings) -> dict[int, Mapping[str, float]]:
    """Return what REFERENCE says of each geometry's charge and multiplicity, if it is unusual."""
    found: dict[int, Mapping[str, float]] = {}
    for index, given in given_by_reference(settings).items():
        if unusual := {key: value for key, value in given.items() if value != _NEUTRAL[key]}:
            found[index] = unusual
    return found


def _text(electrons: Mapping[str, float]) -> str:
    return " ".join(f"{key}={value:g}" for key, value in electrons.items())


def _readers(settings: Settings) -> Iterator[str]:
    """Yield what reads charge and spin of structures."""
    if settings.model.family.reads_electrons:
        yield f"members ({settings.model.family.name})"
    for driver in drivers(settings):
        if row_of_foundation(driver.kind).reads_electrons:
            yield f"the foundation model {driver.kind}"
