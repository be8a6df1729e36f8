"""The members' seeds and names."""

from __future__ import annotations

import numpy as np
import pytest

IDG, AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"


def _seeds(inputs, seed: int, members: int = 4) -> dict[str, int]:
    inputs.plant("mace.yaml", "GENERAL", "seed", str(seed))
    inputs.plant("aimsPAX.yaml", IDG, "ensemble_size", str(members))
    return inputs.load().member_seeds


def test_seeds_are_the_same_each_time(inputs):
    assert _seeds(inputs, 100) == _seeds(inputs, 100)


def test_seeds_do_not_depend_on_numpys_global_state(inputs):
    first = _seeds(inputs, 100)
    np.random.seed(1)
    assert _seeds(inputs, 100) == first


def test_another_seed_gives_other_members(inputs):
    assert _seeds(inputs, 100) != _seeds(inputs, 101)


@pytest.mark.parametrize("members", [2, 4, 50])
def test_every_member_has_a_seed_of_its_own(inputs, members):
    assert len(set(_seeds(inputs, 7, members).values())) == members


def test_tags_are_the_experiments_name_and_the_seed(inputs):
    seeds = _seeds(inputs, 100)
    assert list(seeds) == [f"test-{seed}" for seed in seeds.values()]


@pytest.mark.key("ActiveLearning", "seeds_tags_dict")
def test_seeds_that_are_given_by_tag_hold(inputs):
    inputs.plant("aimsPAX.yaml", IDG, "ensemble_size", "2")
    inputs.plant("aimsPAX.yaml", AL, "seeds_tags_dict", "{run-7: 7, other: 1}")
    assert inputs.load().member_seeds == {"run-7": 7, "other": 1}


def test_seeds_that_are_given_must_be_those_of_all_members(inputs):
    told = inputs.mistake("aimsPAX.yaml", AL, "seeds_tags_dict", "{run-7: 7}")
    assert told == (f"{AL}.seeds_tags_dict: conflict 1 members")


def test_without_an_initial_dataset_the_models_say_how_many_members_there_are(inputs):
    del inputs.project[IDG]
    inputs.plant("aimsPAX.yaml", AL, "seeds_tags_dict", "{run-7: 7}")
    assert inputs.load().member_seeds == {"run-7": 7}


def test_seeds_are_plain_integers(inputs):
    assert {type(seed) for seed in _seeds(inputs, 100).values()} == {int}
