"""One campaign, six SIGKILLs: as if nothing had happened. `make soak-kills` does hundreds."""

from __future__ import annotations

import numpy as np
import pytest

from tests.soak.kills import Campaign, Kill, campaign_in, judge, run

KILLS = (
    Kill("label written, not journalled", 0.0),
    Kill("worker", 1.0),
    Kill("engine", 0.0),
    Kill("checkpoint, before its rename", 0.0),
    Kill("server", 0.5),
    Kill("everything", 1.0),
)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """A campaign that was finished by the same command, given again after each death."""
    with campaign_in(tmp_path_factory.mktemp("kills"), seed=1, most=9, initial=2) as campaign:
        run(campaign, KILLS, np.random.default_rng(1), point_s=90)
        campaign.findings = judge(campaign)
    return campaign


@pytest.mark.slow
def test_all_six_were_killed(killed: Campaign) -> None:
    assert [struck.kind for struck in killed.struck] == [kill.kind for kill in KILLS]


@pytest.mark.slow
def test_all_is_as_if_nothing_had_been_killed(killed: Campaign) -> None:
    assert not killed.findings, "\n".join(killed.findings)
