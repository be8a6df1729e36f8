"""What MACE cannot build, or does not do right, is told before anything is launched."""

from __future__ import annotations

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
