"""Keys of SO3LR with several heads: what they need, and that one network is all there is."""

from __future__ import annotations

from typing import Any

import pytest

from aimspax_core.settings.families.known_families import row_of
from aimspax_core.settings.model import ModelSettings

IDG, AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
HEADS = {"use_multihead_model": True, "num_multihead_heads": 3}
SEVERAL = "{model_choice: so3lr, r_max_lr: 12, use_multihead_model: True, num_multihead_heads: 3}"


def settings(name: str, training: dict[str, Any] | None = None, **keys: Any) -> ModelSettings:
    tuned = {"perform_finetuning": True, "pretrained_model": "so3lr"} | (training or {})
    given = {"GENERAL": {"name_exp": "t"}, "ARCHITECTURE": {"model_choice": name, **keys}}
    return ModelSettings.model_validate(given | ({} if training is None else {"TRAINING": tuned}))


def told(found: ModelSettings) -> list[str]:
    wrong = found.family.mistakes(found, (1, 8), False)
    return [one for one in wrong if "heads" in one or "multihead" in one]


def test_a_model_has_the_heads_that_it_is_asked_for() -> None:
    assert settings("so3lr", **HEADS).heads == 3
    assert settings("so3lr", num_multihead_heads=3).heads == 1
    assert settings("so3krates").heads == settings("mace").heads == 1


@pytest.mark.parametrize("heads", ["", "1", "two"])
def test_several_heads_are_two_and_more(inputs, heads: str) -> None:
    inputs.model["ARCHITECTURE"] = SEVERAL.replace(": 3", f": {heads}" if heads else ":")
    (found,) = [one for one in inputs.mistakes() if "num_multihead_heads" in one]
    assert found.startswith("mace.yaml:")


@pytest.mark.parametrize("phase", [IDG, AL])
def test_beside_several_heads_there_is_no_other_member(inputs, phase: str) -> None:
    inputs.model["ARCHITECTURE"] = SEVERAL
    inputs.plant("aimsPAX.yaml", IDG, "ensemble_size", "1")
    assert inputs.load().model.heads == 3
    inputs.plant("aimsPAX.yaml", phase, "ensemble_size", "2")
    (found,) = inputs.mistakes()
    assert found.endswith(f"{phase}.ensemble_size: conflict 2")


def test_four_members_that_nobody_asked_for_are_no_heads_either(inputs) -> None:
    inputs.model["ARCHITECTURE"] = SEVERAL
    (found,) = inputs.mistakes()
    assert f"{IDG}.ensemble_size" in found


def test_one_member_with_one_head_has_no_spread(inputs) -> None:
    told = inputs.mistake("aimsPAX.yaml", AL, "ensemble_size", "1")
    assert told == f"{AL}.ensemble_size: wrong value 1"


def test_heads_are_copied_where_there_are_some() -> None:
    assert not told(settings("so3lr", {"convert_to_multihead": True}, **HEADS))
    for name in ("so3lr", "so3krates", "mace"):
        (found,) = told(settings(name, {"convert_to_multihead": True}))
        assert found.startswith("TRAINING.convert_to_multihead: found True")


def test_a_number_of_heads_without_them_is_noted() -> None:
    notes = [*row_of("so3lr").notes(settings("so3lr", num_multihead_heads=3))]
    assert notes == [
        "ARCHITECTURE.num_multihead_heads: has no effect without ARCHITECTURE."
        "use_multihead_model: True"
    ]


def test_heads_beside_lora_are_noted() -> None:
    found = settings("so3lr", {"finetuning_choice": "lora"}, **HEADS)
    assert any("the heads are trained, too" in one for one in row_of("so3lr").notes(found))
