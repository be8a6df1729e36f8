"""The figures of a campaign, drawn from journals that the virtual shell writes."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aimspax_core.campaign.events import Assessed, Event, Resumed, Started
from aimspax_core.campaign.journal import Entry, Journal, entries
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.report.curves import Curves, curves
from aimspax_core.report.figures import learning_curve, learning_figure
from aimspax_core.report.forecast import IN_VALIDATION
from aimspax_core.run_directory import RunDir
from tests.campaign.virtual import VirtualShell, World

RULES = Rules(
    tags=("a-1", "a-2"), geometries=1, seed=1, points_per_step=3, initial_epochs=5,
    initial_accuracy=0.4, max_initial_epochs=math.inf, max_initial_set_size=200,
    initial_valid_ratio=0.2, converge_initial=False, num_trajectories=4, epochs_per_round=2,
    valid_ratio=0.2, desired_acc=0.1, max_train_set_size=40, freeze_threshold_dataset=math.inf,
    c_x=0.0, max_md_steps=math.inf, converge_al=True, converge_best=True, max_segments=2,
)  # fmt: skip


WORLD = World()


def run_dir(folder: Path) -> RunDir:
    return RunDir(folder, *(folder / name for name in ("data", "logs", "losses", "model", "chk")))


def played(
    folder: Path, until: Phase | None = None, rules: Rules = RULES, world: World = WORLD
) -> tuple[RunDir, CampaignState]:
    """A run directory with the journal of a virtual campaign, up to the beginning of a phase."""
    run = run_dir(folder)
    with Journal(run) as journal:
        journal.append(Started(rules=rules))

        def watch(state: CampaignState, event: Event) -> None:
            if journal.state.phase is not until:
                journal.append(event)

        VirtualShell(rules, world, np.random.default_rng(0), watch).run()
        return run, journal.state


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, CampaignState]:
    return played(tmp_path_factory.mktemp("finished"))


def test_last_point_of_the_mean_is_the_campaigns_own_after_its_last_round(
    finished: tuple[RunDir, CampaignState],
) -> None:
    run, _ = finished
    state: CampaignState | None = None
    last = rounds = 0.0
    for entry in entries(run.journal):
        state = apply(state, entry.event)
        if state.rounds > rounds and state.mean_force_mae is not None:
            last, rounds = state.mean_force_mae, state.rounds
    found = curves(entries(run.journal))
    assert found.mean[-1][1] == pytest.approx(1000 * last)


def test_each_round_of_training_is_one_point_of_every_member(
    finished: tuple[RunDir, CampaignState],
) -> None:
    run, state = finished
    found = curves(entries(run.journal))
    assert [len(curve) for curve in found.members.values()] == [state.rounds] * len(RULES.tags)


def test_boundary_is_at_the_labels_of_the_initial_dataset(
    finished: tuple[RunDir, CampaignState],
) -> None:
    run, state = finished
    initial = sum(len(m.training) + len(m.validation) for m in state.members.values())
    assert curves(entries(run.journal)).explored_from == initial


def test_converged_is_the_best_of_all_members_on_the_final_labels(
    finished: tuple[RunDir, CampaignState],
) -> None:
    run, state = finished
    best = min(1000 * m.best.mae_f for m in state.members.values() if m.best is not None)
    assert list(curves(entries(run.journal)).converged.items()) == [
        (len({k for t in state.members for keys in state.dataset(t) for k in keys}), best)
    ]


def test_the_held_out_set_is_a_curve_of_its_own() -> None:
    told: list[tuple[CampaignState, Event]] = []
    rules = RULES.but(assessed=True)
    shell = VirtualShell(rules, World(), np.random.default_rng(1), lambda s, e: told.append((s, e)))
    shell.run()
    events: list[Event] = [Started(rules=rules), *(event for _, event in told)]
    journal = [Entry(seq=n, time=float(n), event=e) for n, e in enumerate(events, start=1)]
    found = curves(journal)
    *rounds, last = [e.errors for e in events if isinstance(e, Assessed)]
    assert [error for _, error in found.held_out] == pytest.approx(
        [1000 * sum(one.mae_f for one in each.values()) / len(each) for each in rounds]
    )
    (best,) = [tag for tag, m in shell.state.members.items() if m.converge_epochs]
    assert list(found.delivered.values()) == [1000 * last[best].mae_f], "not of the others"
    assert len(found.held_out) == shell.state.rounds
    labels = [count for count, _ in (*found.held_out, *found.delivered.items())]
    assert labels == sorted(labels) and 0 < labels[0] < labels[-1] <= shell.state.labels


def test_errors_of_a_first_round_stand_beside_round_numbers() -> None:
    members = {"a-1": [(4, 191.4)], "a-2": [(4, 211.4)]}
    found = Curves(members, mean=[(4, 201.4)], state=CampaignState.begin(RULES))
    axis = learning_figure(found).axes[0].yaxis
    low, high = axis.get_view_interval()
    told = [float(value) for value in axis.get_majorticklocs() if low <= value <= high]
    assert told == [150, 200, 300]


def test_how_the_error_goes_on_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = played(tmp_path)
    found = curves(entries(run.journal))
    (one,), last = found.ahead, found.mean[-1]
    assert (one.on, one.labels[0]) == (IN_VALIDATION, last[0])
    assert 1000 * one.errors[0].value == pytest.approx(last[1], rel=0.1)
    learning_curve(run, tmp_path / "with.png")
    monkeypatch.setattr("aimspax_core.report.curves.ahead", lambda learning: [])
    learning_curve(run, tmp_path / "without.png")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


def test_checks_and_threshold_are_those_of_the_window(
    finished: tuple[RunDir, CampaignState],
) -> None:
    run, state = finished
    found = curves(entries(run.journal))
    assert len(found.checks) == state.window.count
    assert found.thresholds[0][-1] == (state.window.count, state.window.threshold(RULES.c_x))


def test_pause_between_two_runs_is_not_counted() -> None:
    events: list[tuple[float, Event]] = [
        (0.0, Started(rules=RULES)), (1000.0, Resumed(rules=RULES)),
    ]  # fmt: skip
    journal = [Entry(seq=n, time=t, event=e) for n, (t, e) in enumerate(events, start=1)]
    assert curves(journal).seconds == 0.0


@pytest.mark.parametrize(
    "until", [None, Phase.INITIAL, Phase.READY, Phase.ACTIVE, Phase.CONVERGE, Phase.PUBLISH]
)
def test_campaign_in_any_phase_gives_a_wide_picture(tmp_path: Path, until: Phase | None) -> None:
    run, _ = played(tmp_path, until)
    learning_curve(run, run.report)
    with Image.open(run.report) as picture:
        assert picture.format == "PNG" and picture.width >= 900


def test_campaign_without_a_journal_gives_a_picture(tmp_path: Path) -> None:
    learning_curve(run_dir(tmp_path), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 0


def test_nothing_is_left_beside_the_picture(
    finished: tuple[RunDir, CampaignState], tmp_path: Path
) -> None:
    learning_curve(finished[0], tmp_path / "curve.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]


def test_pyplot_with_its_global_state_is_not_imported() -> None:
    script = "import sys, aimspax_core.report.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_every_geometry_has_the_curve_of_its_own_threshold(tmp_path: Path) -> None:
    rules = RULES.model_copy(update={"threshold_scope": "geometry", "geometries": 2})
    run, state = played(tmp_path, rules=rules, world=World(spreads=(0.02, 0.4)))
    found = curves(entries(run.journal))
    last = [found.thresholds[geometry][-1][1] for geometry in (0, 1)]
    assert last == [window.threshold(rules.c_x) for window in state.windows]
    learning_curve(run, run.report)
