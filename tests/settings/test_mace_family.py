"""What MACE cannot build, or does not do right, is told before anything is launched."""

from __future__ import annotations

import pytest

from aimspax_core.settings.families.mace import MACE
from aimspax_core.settings.model import ModelSettings


def settings(**architecture: object) -> ModelSettings:
    return ModelSettings.model_validate(
        {"GENERAL": {"name_exp": "t"}, "ARCHITECTURE": architecture}
    )


def test_messages_have_no_direction_where_harmonics_have_none() -> None:
    def mistakes(**degrees: int) -> list[str]:
        return list(MACE.mistakes(settings(**degrees), (1,), False))

    (mistake,) = mistakes(max_ell=0, max_L=1)
    assert mistake.startswith("ARCHITECTURE.max_L:")
    assert mistakes(max_ell=0, max_L=0) == mistakes(max_ell=1, max_L=1) == []


def test_a_radial_basis_that_torch_does_not_differentiate_is_noted() -> None:
    (note,) = MACE.notes(settings(radial_type="chebyshev"))
    assert note.startswith("ARCHITECTURE.radial_type:")
    assert list(MACE.notes(settings(radial_type="bessel"))) == []


@pytest.mark.parametrize(
    ("architecture", "misc", "told"),
    [
        ({}, {"kernel": "mace"}, "MISC.kernel"),
        ({}, {"enable_cueq": True, "device": "cuda"}, "MISC.enable_cueq"),
        ({"MLP_irreps": "16x0e + 4x1o"}, {}, "ARCHITECTURE.MLP_irreps"),
        ({}, {}, None),
    ],
)
def test_what_cannot_be_compiled_is_noted_where_it_is_asked_for(
    architecture: dict[str, object], misc: dict[str, object], told: str | None
) -> None:
    def notes(compiled: str) -> list[str]:
        given = settings(**architecture).model_dump(exclude_unset=True)
        asked = ModelSettings.model_validate(given | {"MISC": {**misc, "compile": compiled}})
        return [note for note in MACE.notes(asked) if note.startswith("MISC.compile:")]

    assert [told in note for note in notes("on") if told] == ([True] if told else [])
    assert len(notes("on")) == (told is not None)
    assert notes("auto") == notes("off") == []
