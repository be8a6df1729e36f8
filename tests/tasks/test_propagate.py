"""The segment task: where trajectories begin, and what is on disk when it returns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import molecule

import tasks.propagate as module
from aimspax_core.campaign.labels import label_key
from aimspax_core.campaign.state import Trajectory
from aimspax_core.model.mace import Constants
from aimspax_core.model.training import Member
from aimspax_core.reference.engines import build_reference
from aimspax_core.rundir import RunDir
from aimspax_core.sampling.dynamics import MDState, load_state, random_stream, save_state, start
from aimspax_core.sampling.segment import Start
from aimspax_core.settings.load import Settings
from aimspax_core.structures import decode
from aimspax_core.uncertainty import Window
from tasks.propagate import PropagateRequest, propagate


@pytest.fixture
def checkpoints(settings: Settings, run: RunDir) -> tuple[Path, ...]:
    """Two untrained members."""
    made = []
    for seed in (1, 2):
        member = Member(
            settings.model, (1, 8), f"water-{seed}", seed, Constants({1: 0, 8: 0}, 2, 1, 0)
        )
        made.append(run.checkpoint(member.tag, "c"))
        member.save(made[-1])
    return tuple(made)


def request(
    settings: Settings,
    run: RunDir,
    *trajectories: Trajectory,
    checkpoints: tuple[Path, ...] = (),
    number: int = 7,
    window: Window | None = None,
) -> PropagateRequest:
    return PropagateRequest(
        action_id=f"propagate:{number}", number=number, run=run, settings=settings,
        trajectories=trajectories, elements=(1, 8), checkpoints=checkpoints,
        window=window or Window(), time_budget_s=0.0,
    )  # fmt: skip


def begun(monkeypatch: pytest.MonkeyPatch, asked: PropagateRequest) -> MDState:
    """Where the only trajectory of a request would begin."""
    starts: list[Start] = []

    class Seen(Exception):
        pass

    def look(given: list[Start], *_: Any) -> None:
        starts.extend(given)
        raise Seen

    with monkeypatch.context() as patch:
        patch.setattr(module, "run_segment", look)
        with pytest.raises(Seen):
            propagate.fn(asked)
    (only,) = starts
    return only.state


def same(left: MDState, right: MDState) -> bool:
    return (
        (left.structure.positions == right.structure.positions).all()
        and (left.structure.get_momenta() == right.structure.get_momenta()).all()
        and (left.step, left.rng) == (right.step, right.rng)
    )


def test_version_0_is_the_geometry_with_velocities_of_its_own(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def first(**changes: Any) -> MDState:
        trajectory = Trajectory(index=0, geometry=0).model_copy(update=changes)
        return begun(monkeypatch, request(settings, run, trajectory, checkpoints=checkpoints))

    one = first()
    np.testing.assert_allclose(one.structure.positions, molecule("H2O").positions, atol=1e-8)
    assert one.step == 0
    assert same(one, first()), "a segment that was lost begins the same way"
    another, again = first(index=1), first(rollbacks=1, rollbacks_in_a_row=1)
    for other in (another, again):
        assert (other.structure.get_momenta() != one.structure.get_momenta()).all()
        assert other.rng != one.rng


def test_after_a_rollback_the_checkpoint_goes_on_with_new_noise(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = start(molecule("H2O"), settings.md, random_stream(5))
    for version in (3, 4):
        save_state(run.trajectory(0, version), saved)

    def resumed(**changes: Any) -> MDState:
        trajectory = Trajectory(index=0, geometry=0, version=3, checkpoint=3)
        changed = trajectory.model_copy(update=changes)
        return begun(monkeypatch, request(settings, run, changed, checkpoints=checkpoints))

    assert same(resumed(), saved)
    first = resumed(rollbacks=1, rollbacks_in_a_row=1)
    second = resumed(rollbacks=2, rollbacks_in_a_row=2)
    for state in (first, second):
        np.testing.assert_array_equal(state.structure.positions, saved.structure.positions)
    np.testing.assert_array_equal(first.structure.get_momenta(), saved.structure.get_momenta())
    assert not np.isclose(second.structure.get_momenta(), saved.structure.get_momenta()).all()
    assert second.step == saved.step
    assert len({str(state.rng) for state in (saved, first, second)}) == 3
    assert same(resumed(rollbacks=1, rollbacks_in_a_row=1, version=4), saved), "on its way again"
    assert same(resumed(rollbacks=1), saved), "labelled since"


def test_states_and_crossing_structures_are_on_disk_when_it_returns(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...]
) -> None:
    low = Window().extend([1e-9] * 400)
    trajectories = [Trajectory(index=i, geometry=0) for i in range(2)]
    event = propagate.fn(request(settings, run, *trajectories, checkpoints=checkpoints, window=low))
    assert event.action_id == "propagate:7"
    assert len(event.uncertainties) == 2
    assert (event.evaluations, event.structures) == (5, 10)
    identity = build_reference(settings.reference, settings.directory).identity()
    for result in event.results:
        assert (result.outcome, result.version, result.step) == ("crossed", 7, 4)
        state = load_state(run.trajectory(result.trajectory, 7))
        assert state.step == 4
        assert result.key == label_key(state.structure, identity)
        kept = decode(json.loads(run.structure(result.key).read_text(encoding="utf-8")))
        np.testing.assert_array_equal(kept.positions, state.structure.positions)


def test_segments_on_two_workers_equal_one_run(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...]
) -> None:
    event = propagate.fn(
        request(settings, run, Trajectory(index=0, geometry=0), checkpoints=checkpoints)
    )
    (first,) = event.results
    assert (first.outcome, first.key, first.since_crossing) == ("running", None, 4)
    further = Trajectory(index=0, geometry=0, version=7, step=4, since_crossing=4)
    propagate.fn(request(settings, run, further, checkpoints=checkpoints, number=8))
    at_once = settings.project.model_copy(
        update={"ACTIVE_LEARNING": settings.al.model_copy(update={"skip_step_mlff": 8})}
    )
    whole = Settings(settings.directory, at_once, settings.model)
    propagate.fn(
        request(whole, run, Trajectory(index=0, geometry=0), checkpoints=checkpoints, number=9)
    )
    assert same(load_state(run.trajectory(0, 8)), load_state(run.trajectory(0, 9)))


def test_an_explosion_leaves_no_state_and_says_why(
    settings: Settings, run: RunDir, checkpoints: tuple[Path, ...]
) -> None:
    spoilt = start(molecule("H2O"), settings.md, random_stream(5))
    spoilt.structure.positions[1] = spoilt.structure.positions[0] + 0.01
    save_state(run.trajectory(0, 3), spoilt)
    trajectory = Trajectory(index=0, geometry=0, version=3, step=11, checkpoint=3)
    event = propagate.fn(request(settings, run, trajectory, checkpoints=checkpoints))
    (result,) = event.results
    assert (result.outcome, result.version, result.step, result.key) == ("exploded", 3, 11, None)
    assert result.reason
    assert not run.trajectory(0, 7).exists()
