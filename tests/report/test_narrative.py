"""A campaign told in lines, and how far it is."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from aimspax_core.campaign.actions import Sample
from aimspax_core.campaign.events import (
    Adopted,
    ConvergenceAdvanced,
    Event,
    ExplorationAsked,
    LabelArrived,
    LabelFailed,
    Launched,
    Published,
    Resumed,
    Sampled,
    SegmentFinished,
    Started,
    TaskLost,
    TrainingFinished,
)
from aimspax_core.campaign.members import MemberState
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.report.narrative import lines
from aimspax_core.report.progress import progress, progress_text
from tests.campaign.virtual import VirtualShell, World

RULES = Rules(
    tags=("a", "b"), geometries=1, seed=1, points_per_step=3, initial_epochs=5,
    initial_accuracy=0.45, max_initial_epochs=math.inf, max_initial_set_size=math.inf,
    initial_valid_ratio=0.2, converge_initial=True, num_trajectories=3, epochs_per_round=2,
    valid_ratio=0.2, desired_acc=0.0, max_train_set_size=30, freeze_threshold_dataset=math.inf,
    c_x=0.0, max_md_steps=math.inf, converge_al=True, converge_best=True, max_segments=2,
)  # fmt: skip

Step = tuple[CampaignState | None, Event, CampaignState]


def played(world: World, rules: Rules = RULES, adopt: bool = False) -> Iterator[Step]:
    """Every event of a campaign, cut and taken up once, with the states around it."""
    events: list[Event] = [Started(rules=rules, adopt=adopt)]
    shell = VirtualShell(
        rules, world, np.random.default_rng(2), lambda _, e: events.append(e), adopt
    )
    while len(events) < 40 and shell.state.phase is not Phase.READY:
        shell.advance()
    shell.restart()
    shell.run()
    state = None
    for event in events:
        before, state = state, apply(state, event)
        yield before, event, state


STEPS = list(played(World(label_fails=0.2, task_lost=0.05, explodes=0.1, looks=0.3)))


def of(kind: type) -> list[tuple[Step, list[str]]]:
    return [(step, lines(*step)) for step in STEPS if isinstance(step[1], kind)]


def test_every_kind_of_event_happens_here() -> None:
    assert {type(event) for _, event, _ in STEPS} == {
        Started, Resumed, ExplorationAsked, Launched, Sampled, LabelArrived, LabelFailed,
        SegmentFinished, TrainingFinished, ConvergenceAdvanced, Published, TaskLost,
    }  # fmt: skip


def test_no_line_is_empty_or_more_than_one() -> None:
    for step in STEPS:
        for line in lines(*step):
            assert line.strip() == line != ""
            assert "\n" not in line
            assert "None" not in line
            assert "nan" not in line


def test_what_is_launched_is_no_news() -> None:
    assert {tuple(found) for _, found in of(Launched)} == {()}


def test_a_beginning_names_the_members() -> None:
    ((_, found),) = of(Started)
    assert found == ["2 members, 1 geometry: a, b"]


def test_a_sampling_step_that_begins_anew_says_from_which_label() -> None:
    state = STEPS[1][2]
    plain = Sample(geometry=0, step=2, points=3)
    anew = plain.model_copy(update={"origin": "0123456789abcdef"})
    assert lines(state, Launched(action=plain), state) == []
    (line,) = lines(state, Launched(action=anew), state)
    assert "geometry 0" in line and line.endswith("label 01234567")


def test_a_round_tells_the_sets_that_it_was_held_on() -> None:
    rules = RULES.model_copy(
        update={"initial_accuracy": 0.0, "max_initial_set_size": 18, "samples_ahead": True}
    )
    told = [
        (step, line)
        for step in played(World(), rules)
        for line in lines(*step)
        if line.startswith("round 1 ")
    ]
    ((before, _, _), line), *_ = told
    assert before is not None
    held = max(len(member.training) for member in before.members.values())
    assert f"(training sets of {held}," in line and held == 2


def test_a_restart_tells_what_changed() -> None:
    state = STEPS[-1][2]
    event = Resumed(rules=RULES, changes=("c_x: was 0, is 1",))
    (line,) = lines(state, event, state)
    assert "taken up again in phase finished" in line
    assert line.endswith("; changed: c_x: was 0, is 1")


def test_a_member_that_is_fine_tuned_tells_its_energies_of_free_atoms_beside_the_rest() -> None:
    before, event, after = next(
        step for step in played(World()) if isinstance(step[1], TrainingFinished)
    )
    tuned = event.but(atomic_energies={8: -2041.75, 1: -13.5})
    found, usual = lines(before, tuned, after), lines(before, event, after)
    (new,) = [line for line in found if line not in usual]
    assert new.startswith(f"{event.tag} is fine-tuned")
    assert new.endswith("H -13.500, O -2041.750")


@pytest.mark.parametrize("kind", [TrainingFinished, ConvergenceAdvanced])
def test_what_a_training_has_to_tell_of_compiling_is_told_once(kind: type) -> None:
    steps = [(before, event) for (before, event, _), _ in of(kind)]
    told: list[str] = []
    for before, event in steps[:2]:
        assert before is not None
        before = before.but(compile_notes=("one",) if told else ())
        event = event.but(compile_notes=("one", "two") if told else ("one",))
        told += [x for x in lines(before, event, apply(before, event)) if x in ("one", "two")]
    assert told == ["one", "two"]


def test_labels_of_the_exploration_tell_where_they_go() -> None:
    kinds = set()
    for (_, event, after), found in of(LabelArrived):
        assert isinstance(event, LabelArrived)
        point = after.points[event.key]
        if point.sampling_step is None and not point.analysis:
            assert f"label {event.key[:8]} of trajectory" in found[0]
            where = "validation" if event.key in after.validation else "training"
            assert f"goes to {where}" in found[0]
            kinds.add(where)
        else:
            assert not any("goes to" in line for line in found)
    assert kinds == {"training", "validation"}


def test_labels_of_the_initial_dataset_are_told_every_so_many() -> None:
    rules = RULES.model_copy(update={"progress_every": 2})
    told_of = []
    for before, event, after in played(World(), rules):
        if isinstance(event, LabelArrived) and after.points[event.key].sampling_step == 1:
            told_of.append(lines(before, event, after))
    assert told_of[:6] == [
        [], ["labels: 2 of 6"], [], ["labels: 4 of 6"], [], ["labels: 6 of 6"],
    ]  # fmt: skip


def test_structures_for_analysis_are_counted_once_a_segment() -> None:
    asked = 0
    for (before, event, after), found in of(SegmentFinished):
        assert isinstance(event, SegmentFinished)
        assert before is not None
        new = sum(p.analysis for k, p in after.points.items() if k not in before.points)
        plural = "structure" if new == 1 else "structures"
        assert (f"{new} {plural} to label for analysis" in found) == (new > 0)
        asked += new
    assert asked > 3


def test_labels_for_analysis_are_told_as_such() -> None:
    for kind, words in ((LabelArrived, "is for analysis"), (LabelFailed, "for analysis failed: ")):
        told_of = []
        for (_, event, after), found in of(kind):
            assert isinstance(event, LabelArrived | LabelFailed)
            if after.points[event.key].analysis:
                told_of.append(words in found[0])
        assert told_of and all(told_of)


def test_what_is_taken_over_is_counted() -> None:
    steps = list(played(World(), adopt=True))
    (found,) = [lines(*step) for step in steps if isinstance(step[1], Adopted)]
    assert found == ["2 members and their datasets taken over: 4 + 2 points"]
    assert all(progress(state, 100).title for _, _, state in steps)


def test_a_threshold_that_freezes_is_told_once() -> None:
    rules = RULES.model_copy(update={"freeze_threshold_dataset": 15.0})
    steps = list(played(World(), rules))
    news = [line for step in steps for line in lines(*step) if "frozen" in line]
    level = steps[-1][2].window.frozen
    (line,) = news
    assert line.startswith(f"threshold frozen at {level:.4f} eV/Å, training sets of ")


def test_thresholds_have_the_unit_of_the_measure() -> None:
    rules = RULES.model_copy(
        update={"freeze_threshold_dataset": 15.0, "uncertainty_unit": "eV/atom"}
    )
    steps = played(World(), rules)
    news = [line for step in steps for line in lines(*step) if "threshold " in line]
    assert any("eV/atom" in line for line in news if line.startswith("threshold frozen"))
    assert any("eV/atom" in line for line in news if line.startswith("MD to step"))
    assert not any("eV/Å" in line for line in news)


def test_a_label_that_came_twice_is_no_news() -> None:
    _, event, after = next(
        step for step, found in of(LabelArrived) if any("goes to" in line for line in found)
    )
    assert lines(after, event, apply(after, event)) == []


def test_a_failed_label_tells_why() -> None:
    for _, found in of(LabelFailed):
        assert "failed: virtual SCF not converged" in found[0]


def test_a_failed_label_tells_who_goes_back() -> None:
    for (before, event, after), found in of(LabelFailed):
        assert isinstance(event, LabelFailed)
        assert before is not None
        waited = [str(t.index) for t in before.trajectories if t.waiting_for == event.key]
        back = [i for i in waited if not after.trajectories[int(i)].over]
        assert found[0].endswith(f"; trajectory {', '.join(back)} set back to the last label") == (
            len(back) == 1
        )


def test_a_segment_counts_its_trajectories() -> None:
    for (_, event, _), found in of(SegmentFinished):
        assert isinstance(event, SegmentFinished)
        for word in ("crossed", "running", "exploded"):
            number = sum(result.outcome == word for result in event.results)
            assert (f"{number} {word}" in found[0]) == (number > 0)


def test_each_round_is_told_once_with_its_points_and_error() -> None:
    rounds = [
        line for _, found in of(TrainingFinished) for line in found if line.startswith("round")
    ]
    assert len(rounds) == STEPS[-1][2].rounds
    assert all("validation force MAE" in line and "energy MAE" in line for line in rounds)


@pytest.mark.key("ModelSettings", "error_table")
def test_errors_are_those_of_the_error_table() -> None:
    news = [line for step in STEPS for line in lines(*step, table="TotalRMSE")]
    told_of = [line for line in news if line.startswith("round") or "converged:" in line]
    assert told_of
    assert all("force RMSE" in line and "energy RMSE" in line for line in told_of)
    assert not any(" MAE " in line for line in told_of)


def test_a_convergence_tells_its_best_error() -> None:
    for (_, event, _), found in of(ConvergenceAdvanced):
        assert isinstance(event, ConvergenceAdvanced)
        assert event.best is not None
        assert f"{1000 * event.best.mae_f:.1f} meV/Å" in found[0]
        assert ("converged" in found[0]) == event.converged


def test_a_change_of_phase_tells_its_reason_once() -> None:
    news = [line for step in STEPS for line in lines(*step)]
    reason = STEPS[-1][2].stop_reason
    assert reason.startswith("max_train_set_size")
    told = f"exploring ends ({reason})"
    assert news.count(told) == 1
    begins = [line for line in news if line.startswith("active learning begins")]
    assert len(begins) == news.count("finished") == 1
    (converging,) = (line for line in news if line.startswith("converging on the final dataset"))
    assert news.index(told) < news.index(converging)


def test_a_loss_that_we_caused_is_no_news() -> None:
    state = STEPS[-1][2]
    lost = TaskLost(action_id="label:k", reason="its worker died")
    assert lines(state, lost, state) == ["label k was lost: its worker died"]
    assert lines(state, lost.model_copy(update={"counted": False}), state) == []


@pytest.mark.parametrize(
    ("action", "told"),
    [
        ("propagate:14", "MD (segment 14) was lost: "),
        ("train:water-7:active-3", "training of water-7 was lost: "),
        ("converge:water-7:final", "convergence of water-7 was lost: "),
        ("sample:2:0", "sampling step 2 was lost: "),
    ],
)
def test_what_was_lost_is_told_in_words(action: str, told: str) -> None:
    state = STEPS[-1][2]
    lost = TaskLost(action_id=action, reason="its worker died")
    assert lines(state, lost, state) == [f"{told}its worker died"]


def test_a_failure_is_told_as_one() -> None:
    steps = list(played(World(task_lost=0.0, label_fails=1.0)))
    news = [line for step in steps for line in lines(*step)]
    assert news[-1].startswith("FAILED: no usable label in 3 sampling steps: virtual SCF")


# ---- progress -------------------------------------------------------------------------------


def test_progress_can_be_told_at_every_moment() -> None:
    for _, _, state in STEPS:
        found = progress(state, 100)
        assert found.fraction is None or 0 <= found.fraction <= 1
        assert f"{state.labels} labels" in found.reached


def test_progress_is_that_of_the_nearest_limit() -> None:
    state = next(s for _, _, s in STEPS if s.phase is Phase.ACTIVE)
    share = state.training_set_size / 30
    assert progress(state, 100).fraction == pytest.approx(share)
    tight = RULES.model_copy(update={"max_md_steps": 1.0})
    moved = tuple(t.model_copy(update={"step": 3}) for t in state.trajectories)
    assert progress(state.but(rules=tight, trajectories=moved), 100).fraction == 1.0
    endless = RULES.model_copy(update={"max_train_set_size": math.inf})
    assert progress(state.but(rules=endless), 100).fraction is None


@pytest.mark.parametrize("goal", [0.01, 0.5, 2.0])
def test_an_accuracy_that_is_reached_is_all_of_the_way(goal: float) -> None:
    state = next(s for _, _, s in STEPS if s.phase is Phase.ACTIVE)

    def at(mae: float) -> float | None:
        members = {
            tag: m.model_copy(
                update={"errors": m.errors and m.errors.model_copy(update={"mae_f": mae})}
            )
            for tag, m in state.members.items()
        }
        rules = RULES.model_copy(update={"desired_acc": goal, "max_train_set_size": math.inf})
        return progress(state.but(members=members, rules=rules), 100).fraction

    assert at(min(goal, 0.9)) == at(0.0) == 1.0
    if goal == 0.01:
        assert at(0.1) == pytest.approx(0.5)


def test_progress_of_a_convergence_is_in_epochs() -> None:
    state = next(s for _, _, s in STEPS if s.phase is Phase.CONVERGE)
    tag = next(m.tag for m in state.members.values() if m.converging)
    half: MemberState = state.members[tag].model_copy(update={"converge_epochs": 50})
    assert progress(state.but(members={**state.members, tag: half}), 100).fraction == 0.5


def test_a_failed_campaign_is_as_far_as_it_came() -> None:
    (*_, (_, _, state)) = played(World(label_fails=1.0))
    found = progress(state, 100)
    assert found.title == "failed"
    assert "failed" in progress_text(state)


def test_a_sampling_step_in_parts_is_told_once_with_all_that_it_gave() -> None:
    steps = list(played(World(comes_back=1.0)))
    parts = [(event, lines(*step)) for step in steps if isinstance(event := step[1], Sampled)]
    assert any(event.more for event, _ in parts)
    assert all(not told for event, told in parts if event.more)
    total = 0
    for event, told in parts:
        total += len(event.found)
        if not event.more:
            assert f"gave {total} structures" in told[0]
            total = 0
