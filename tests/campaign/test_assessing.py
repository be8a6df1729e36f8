"""The held-out set: every round is assessed by it, nobody waits for it, and it steers nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aimspax_core.campaign import assessing
from aimspax_core.campaign.actions import Assess, Propagate
from aimspax_core.campaign.events import Assessed, ExplorationAsked, TaskLost
from aimspax_core.campaign.rules import next_actions
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.report.error_tables import error_rows
from aimspax_core.report.narrative import lines
from aimspax_core.report.progress import progress_text
from tests.campaign.test_rules import make_rules
from tests.campaign.virtual import VirtualShell, World


class Story:
    """A campaign played to its end, and what was assessed on the way."""

    def __init__(self, world: World | None = None, seed: int = 2, **rules: Any) -> None:
        self.assessed: list[Assessed] = []
        self.told: list[str] = []
        self.waiting: list[int] = []
        self.before: CampaignState | None = None
        numbers = {"assessed": True, "max_train_set_size": 30, "desired_acc": 0.0, **rules}
        rng = np.random.default_rng(seed)
        self.shell = VirtualShell(make_rules(**numbers), world or World(), rng, self.watch)

    def watch(self, state: CampaignState, event: Any) -> None:
        if isinstance(event, Assessed):
            self.assessed.append(event)
            self.told += lines(self.before, event, state)
        self.before = state
        self.waiting.append(len(state.unassessed))

    def run(self) -> CampaignState:
        return self.shell.run()


def test_every_round_and_what_is_published_is_assessed() -> None:
    story = Story()
    state = story.run()
    assert state.phase is Phase.FINISHED and not state.unassessed
    assert len(story.assessed) == state.rounds + 1
    assert all(set(event.errors) == set(state.members) for event in story.assessed)
    final = {tag: m.converging if m.converge_epochs else m.checkpoint for tag, m in
             state.members.items()}  # fmt: skip
    assert {tag: m.assessed_at for tag, m in state.members.items()} == final


def test_without_convergence_the_last_round_is_what_is_published() -> None:
    story = Story(converge_al=False)
    state = story.run()
    assert len(story.assessed) in (state.rounds, state.rounds + 1)  # one that a stop cut short
    assert all(m.assessed_at == m.checkpoint for m in state.members.values())


def test_nothing_is_assessed_without_a_held_out_set() -> None:
    story = Story(assessed=False)
    story.run()
    assert not story.assessed and not any(isinstance(a, Assess) for a in story.shell.launched)


def test_it_steers_nothing() -> None:
    """Where assessing finds a worker idle, all else goes as it goes without."""
    steady = World(steady=True, ml_slots=8, crosses=1.0, reference_slots=8)

    def played(assessed: bool) -> dict[str, Any]:
        story = Story(steady, assessed=assessed, max_segments=8)
        state = story.run()
        assert bool(story.assessed) is assessed
        return {
            "rounds": state.rounds,
            "labels": state.labels,
            "stop": state.stop_reason,
            "sets": [state.dataset(tag) for tag in state.members],
            "points": {key: point.status for key, point in state.points.items()},
            "epochs": [member.epochs for member in state.members.values()],
            "published": [member.converging for member in state.members.values()],
        }

    assert played(True) == played(False)


def test_md_goes_first_until_several_ensembles_wait() -> None:
    story = Story(World(crosses=0.3))
    seen = []
    while story.shell.state.phase is not Phase.DRAIN:
        if story.shell.state.phase is Phase.READY:
            story.shell.tell(ExplorationAsked())
        before = story.shell.state
        wanted = next_actions(before)
        assessor = [a for a in wanted if isinstance(a, Assess)]
        if assessor and before.phase is Phase.ACTIVE:
            flying = [a for a in before.in_flight.values() if not isinstance(a, Assess)]
            full = len(before.unassessed) > assessing.MOST_UNASSESSED
            idle = len(flying) + len(wanted) - 1 < before.rules.max_segments or any(
                not isinstance(a, Propagate) for a in (*flying, *wanted)
            )
            seen.append((full, idle))
        story.shell.advance()
    assert seen and all(full or idle for full, idle in seen)
    assert max(story.waiting) <= assessing.MOST_UNASSESSED + 2


@pytest.mark.parametrize("fatal", [True, False], ids=["in vain", "again and again"])
def test_a_judging_that_fails_costs_nothing_else(fatal: bool) -> None:
    story = Story()
    shell = story.shell
    usual = shell._outcome

    def failing(action: Any) -> Any:
        if isinstance(action, Assess):
            return TaskLost(action_id=action.id, reason="no such file", final=fatal)
        return usual(action)

    shell._outcome = failing  # type: ignore[method-assign]
    assert story.run().phase is Phase.FINISHED
    assert not story.assessed and not shell.state.unassessed


def test_a_restart_judges_what_was_under_way() -> None:
    story = Story()
    shell = story.shell
    while not any(isinstance(a, Assess) for a in shell.state.in_flight.values()):
        if shell.state.phase is Phase.READY:
            shell.tell(ExplorationAsked())
        shell.advance()
    waiting = shell.state.unassessed
    assert shell.restart().unassessed == waiting
    assert shell.run().phase is Phase.FINISHED and not shell.state.unassessed


def test_errors_on_the_held_out_set_are_told() -> None:
    story = Story()
    state = story.run()
    assert len(story.told) == len(story.assessed)
    assert all(line.startswith("held-out set after ") and "meV/Å" in line for line in story.told)
    (best,) = [tag for tag, m in state.members.items() if m.converge_epochs]
    assert [tag for tag in state.members if tag in story.told[-1]] == [best]
    error = f"{1000 * story.assessed[-1].errors[best].mae_f:.1f} meV/Å"
    assert error in story.told[-1], "not the mean over models that did not converge"
    force_mae = f"force MAE {1000 * state.members[best].last_errors.mae_f:.1f} meV/Å"
    told = f"{best} converged: {force_mae}, on the held-out set {error}"
    assert progress_text(state).endswith(told)
    assert all("held-out force MAE (meV/Å)" in row for row in error_rows(state, "PerAtomMAE"))
