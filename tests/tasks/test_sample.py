"""The sampling task, called as the plain function that it is."""

from __future__ import annotations

import numpy as np
from ase.build import molecule

from aimspax_core.campaign.labels import label_key
from aimspax_core.reference.engines import build_reference
from aimspax_core.rundir import RunDir
from aimspax_core.sampling.dynamics import load_state
from aimspax_core.settings.load import Settings
from aimspax_core.structures import decode
from tasks.sample import SampleRequest, sample


def request(settings: Settings, run: RunDir, version: int, points: int) -> SampleRequest:
    return SampleRequest("sample:1:0", run, settings, 0, version, points)


def positions(run: RunDir, key: str) -> np.ndarray:
    import json

    return decode(json.loads(run.structure(key).read_text(encoding="utf-8"))).positions


def test_structures_and_state_are_on_disk_when_it_returns(settings: Settings, run: RunDir) -> None:
    event = sample.fn(request(settings, run, 0, 3))
    assert (event.action_id, event.geometry, event.version, event.refused) == (
        "sample:1:0",
        0,
        1,
        0,
    )
    assert len(set(event.found)) == 3
    state = load_state(run.sampler(0, 1))
    assert state.step == 15
    np.testing.assert_array_equal(positions(run, event.found[-1]), state.structure.positions)
    identity = build_reference(settings.reference, settings.directory).identity()
    assert event.found[-1] == label_key(state.structure, identity)


def test_it_goes_on_from_the_state_it_is_given(settings: Settings, run: RunDir) -> None:
    whole = sample.fn(request(settings, run, 0, 4))
    first = sample.fn(request(settings, run, 0, 2))
    second = sample.fn(request(settings, run, first.version, 2))
    assert second.version == 2
    for one, other in zip(whole.found, (*first.found, *second.found), strict=True):
        np.testing.assert_allclose(positions(run, one), positions(run, other), atol=1e-10)


def test_it_begins_with_the_geometry(settings: Settings, run: RunDir) -> None:
    event = sample.fn(request(settings, run, 0, 1))
    moved = np.abs(positions(run, event.found[0]) - molecule("H2O").positions).max()
    assert 0 < moved < 0.3
