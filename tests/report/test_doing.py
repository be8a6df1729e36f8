"""What a campaign is doing, in a line."""

from __future__ import annotations

import pytest

from aimspax_core.campaign.actions import (
    Action,
    Assess,
    Converge,
    Label,
    Propagate,
    Publish,
    Sample,
    Train,
)
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.report.doing import doing_text, next_text
from aimspax_core.uncertainty.threshold import Window
from tests.campaign.test_journal import RULES

TAG = RULES.tags[0]


def trained(number: int) -> Train:
    return Train(
        tag=TAG, stage="active", round=1, start=None, checkpoint=f"c{number}", epochs=2
    )  # fmt: skip


CONVERGE = Converge(tag=TAG, stage="final", start=None, first=True, checkpoint="c")


def doing(*actions: Action) -> str:
    state = CampaignState.begin(RULES)
    return doing_text(state.but(in_flight={action.id: action for action in actions}))


@pytest.mark.parametrize(
    ("actions", "told"),
    [
        ([], "workers are starting"),
        ([Label(key="a")], "under way: 1 label"),
        (
            [Label(key="a"), Label(key="b"), trained(1), trained(2)],
            "under way: 2 labels and training of 2 members",
        ),
        (
            [Sample(geometry=0, step=1, points=3), Assess(number=1, checkpoints={})],
            "under way: sampling MD of 1 geometry and errors on the held-out set",
        ),
        (
            [Propagate(number=1, trajectories=(0, 2), checkpoints=("a",)), Publish(what="final")],
            "under way: MD of 2 trajectories and writing models and datasets",
        ),
        ([CONVERGE], f"under way: convergence of {TAG} (0 epochs so far)"),
    ],
)
def test_what_is_under_way_is_told(actions: list[Action], told: str) -> None:
    assert doing(*actions) == told


def test_before_the_first_event_workers_are_starting() -> None:
    assert doing_text(None) == "workers are starting"


def test_what_comes_next_is_told_until_there_are_errors_and_uncertainties() -> None:
    begun = CampaignState.begin(RULES)
    training = begun.but(in_flight={trained(1).id: trained(1)})
    texts = [next_text(begun), next_text(training), next_text(begun.but(phase=Phase.ACTIVE))]
    assert len({*texts}) == 3
    assert all(texts)
    assert next_text(begun.but(rounds=1)) == ""
    assert next_text(begun.but(phase=Phase.ACTIVE, window=Window().add(0.1))) == ""
    assert next_text(begun.but(phase=Phase.FINISHED)) == ""
