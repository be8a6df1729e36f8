"""A long campaign: of its state, only what is about points grows, and in proportion to them."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pytest

from aimspax_core.campaign.events import Event, ExplorationAsked
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.state import CampaignState, Phase
from tests.campaign.virtual import VirtualShell, World

EVENTS = 10_000
LOOK_EVERY = 500
RESTART_EVERY = 3_000

RULES = Rules(
    tags=("a", "b", "c", "d"), geometries=2, seed=1, points_per_step=3, initial_epochs=5,
    initial_accuracy=0.45, max_initial_epochs=math.inf, max_initial_set_size=math.inf,
    initial_valid_ratio=0.2, converge_initial=True, num_trajectories=8, epochs_per_round=2,
    valid_ratio=0.1, desired_acc=0.0, max_train_set_size=math.inf,
    freeze_threshold_dataset=math.inf, c_x=0.0, max_md_steps=math.inf, converge_al=True,
    converge_best=True, max_segments=2,
)  # fmt: skip

WORLD = World(label_fails=0.1, task_lost=0.05, explodes=0.1, crosses=0.3, looks=0.1, factor=1.5)

GROW = {"points", "training", "validation"}
"""Fields that must grow: a point each, and in which set it is."""


@dataclass
class Sizes:
    """How long (characters of JSON) the state is and each of its fields, now and then."""

    fields: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    whole: list[int] = field(default_factory=list)
    points: list[int] = field(default_factory=list)
    events: int = 0

    def watch(self, state: CampaignState, event: Event) -> None:
        self.events += 1
        if self.events % LOOK_EVERY == 0:
            content = json.loads(state.model_dump_json())
            for name, value in content.items():
                self.fields[name].append(len(json.dumps(value)))
            self.whole.append(len(json.dumps(content)))
            self.points.append(len(state.points))


@pytest.fixture(scope="module")
def long() -> Sizes:
    """A campaign with failed labels, lost tasks, explosions and restarts."""
    sizes = Sizes()
    shell = VirtualShell(RULES, WORLD, np.random.default_rng(1), sizes.watch)
    restarts = 0
    while sizes.events < EVENTS:
        if shell.state.phase is Phase.READY:
            shell.tell(ExplorationAsked())
        shell.advance()
        if sizes.events // RESTART_EVERY > restarts:
            restarts += 1
            shell.restart()
    assert shell.state.phase is Phase.ACTIVE
    assert shell.state.labels > 500
    return sizes


def test_the_size_of_a_state_is_that_of_its_points(long: Sizes) -> None:
    each = [whole / points for whole, points in zip(long.whole, long.points, strict=True)]
    half = len(each) // 2
    assert max(each[half:]) <= max(each[:half])
    more = (long.whole[-1] - long.whole[half]) / (long.points[-1] - long.points[half])
    assert more < 350


def test_nothing_in_a_state_grows_with_events_but_points(long: Sizes) -> None:
    for name, found in long.fields.items():
        first, second = max(found[: len(found) // 2]), max(found[len(found) // 2 :])
        if name not in GROW:
            assert second <= 1.5 * first + 50, name
