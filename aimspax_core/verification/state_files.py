"""Checkpoints and MD states: those that the journal names are there, and can be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from aimspax_core.run_directory import RunDir
from aimspax_core.verification.findings import Kind, Report
from aimspax_core.verification.label_files import digest
from aimspax_core.verification.ledger import Ledger


def check_md_states(run: RunDir, ledger: Ledger, report: Report) -> None:
    """Look at the states that trajectories go on from, or may be sent back to."""
    for index, one in ledger.trajectories.items():
        for version, step in {one.version: one.step, one.checkpoint: one.checkpoint_step}.items():
            if version:  # 0: the start, which has no file
                _md_state(run.trajectory(index, version), step, report)
    for geometry, version in ledger.samplers.items():
        if geometry not in ledger.samplers_lost:
            _md_state(run.sampler(geometry, version), None, report)


def checkpoints(run: RunDir, ledger: Ledger) -> Iterator[tuple[str, Path]]:
    """Yield tag and file of the checkpoints that members go on from."""
    for tag, member in ledger.members.items():
        names = [] if member.set_back else [member.checkpoint]
        if not (ledger.unsure_of_convergence or member.converge_set_back):
            names.append(member.converging)
        for name in dict.fromkeys(name for name in names if name):
            yield tag, run.checkpoint(tag, name)


def _md_state(path: Path, step: int | None, report: Report) -> None:
    try:
        state = json.loads(path.read_bytes())
        checksum = state.pop("checksum", None)
        if checksum is not None and checksum != digest(state):
            report.found(Kind.CHANGED, path, "its checksum is that of another content")
            return
        structure, momenta = state["structure"], np.array(state["momenta"], dtype=float)
        positions = np.array(structure["positions"], dtype=float)
        if positions.shape != (len(structure["numbers"]), 3) or momenta.shape != positions.shape:
            raise ValueError("numbers, positions and momenta do not fit together")
        if not (np.isfinite(positions).all() and np.isfinite(momenta).all()):
            raise ValueError("positions or momenta are not finite")
        if momenta[np.array(state.get("held", {}).get("fixed", ()), dtype=int)].any():
            raise ValueError("an atom moves that is fixed")
        int(state["rng"]["state"]["state"])
        found = state["step"]
    except FileNotFoundError:
        report.found(Kind.MISSING, path, "a trajectory goes on from it, and it is not there")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        what = f"it is no MD state ({type(error).__name__}: {error})"
        report.found(Kind.UNREADABLE, path, what)
    else:
        report.looked_at["MD states"] += 1
        if step is not None and found != step:
            report.found(Kind.STATE, path, f"it is at step {found}, by the journal at step {step}")
