"""`analysis/`: the committee's uncertainties beside its errors, as plain arrays.

The files are described in docs/analysis.md; their names are the original's.
"""

from __future__ import annotations

import logging
import zipfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aimspax_core.campaign.actions import Propagate, Train
from aimspax_core.campaign.events import (
    Checked,
    Event,
    Launched,
    Look,
    SegmentFinished,
    TrainingFinished,
)
from aimspax_core.campaign.journal import entries
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import CampaignState
from aimspax_core.labels.store import LabelStore, StoredLabel
from aimspax_core.prediction import Prediction
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import replacing
from aimspax_core.settings.settings import Settings
from aimspax_core.uncertainty.calibration import Calibration
from aimspax_core.uncertainty.force_spread import atomic_sd
from aimspax_core.uncertainty.judged_atoms import judged as part_of
from aimspax_core.uncertainty.measures import Measure, measure_of
from aimspax_core.uncertainty.true_error import mirrored

Arrays = dict[str, NDArray[Any]]

INITIAL_LOSSES, ACTIVE_LOSSES = "initial_losses", "al_losses"
COMPARISONS = "analysis_checks"
CHECKS = {"t_intervals": "step", "thresholds": "threshold", "uncertainties": "uncertainty"}
"""Files with one number for each check of the uncertainty: name, and field of `Checked`."""

log = logging.getLogger(f"aimspax.{__name__}")


class Analysis:
    """The contents of `analysis/`, collected while a campaign goes on.

    What was read once is kept, so that to write again costs only what is new; to read all anew
    takes about a second for 1,000 looks. A flow keeps one of these, hands it every event, and
    writes from time to time. Nothing is written where `analysis` is off, or nothing was found.
    """

    def __init__(self, run: RunDir, settings: Settings) -> None:
        """Begin with nothing.

        Args:
            run: The run directory.
            settings: The settings in force; `analysis` of both phases says what is written.
        """
        self._run, self._store = run, LabelStore(run.labels)
        self._initial, self._active = settings.idg.analysis, settings.al.analysis
        self._losses = {"initial": _Losses(), "active": _Losses()}
        self._trainings: dict[str, Train] = {}
        self._began: dict[str, _Began] = {}
        self._measure = measure_of(settings.al.uncertainty_type)
        self._looks = 0
        self._unlabelled: list[_Seen] = []
        self._compared: defaultdict[int, list[_Compared]] = defaultdict(list)
        self._checks: defaultdict[int, list[Checked]] = defaultdict(list)
        self._stale: set[str] = set()

    @classmethod
    def of(cls, run: RunDir, settings: Settings) -> Analysis:
        """Collect what a journal holds so far; it is not read where `analysis` is off."""
        found, state = cls(run, settings), None
        if found.wanted:
            for entry in entries(run.journal):
                state = apply(state, entry.event)
                found.note(entry.event, state)
        return found

    @property
    def wanted(self) -> bool:
        """Whether anything is to be written."""
        return self._initial or self._active

    def note(self, event: Event, after: CampaignState) -> None:
        """Take in an event, and the state after it."""
        match event:
            case Launched(action=Train() as training):
                self._trainings[training.id] = training
            case Launched(action=Propagate() as segment) if self._active:
                calibration = after.calibration()
                self._began[segment.id] = _Began(after.training_set_size, calibration)
            case TrainingFinished():
                self._trained(event, tuple(after.members))
            case SegmentFinished() if self._active:
                self._explored(event)

    def write(self) -> None:
        """Write the files that have something new, each of them at once."""
        self._compare()
        for name in sorted(self._stale):
            with replacing(self._run.analysis / f"{name}.npz") as aside, aside.open("wb") as file:
                np.savez(file, **self._arrays(name))  # type: ignore[arg-type]
            self._stale.remove(name)

    def _trained(self, event: TrainingFinished, tags: tuple[str, ...]) -> None:
        action = self._trainings.pop(event.action_id)
        self._losses[action.stage].note(action, event, tags)
        if action.stage == "initial" and self._initial:
            self._stale.add(INITIAL_LOSSES)
        if action.stage == "active" and self._active:
            self._stale.add(ACTIVE_LOSSES)

    def _explored(self, event: SegmentFinished) -> None:
        began = self._began.pop(event.action_id)
        for look in event.looks:
            self._looks += 1
            self._unlabelled.append(_Seen(self._looks, look, began))
        checks = event.all_checks()
        for check in checks:
            self._checks[check.trajectory].append(check)
        if checks:
            self._stale.update(CHECKS)

    def _compare(self) -> None:
        """Compare predictions with the labels that have arrived since."""
        waiting = []
        for seen in self._unlabelled:
            stored = self._store.get(seen.look.key)
            if stored is None:
                waiting.append(seen)  # for ever, if its label failed
                continue
            compared = _compared(self._run.prediction(seen.look.key), stored, seen, self._measure)
            if compared is not None:
                self._compared[seen.look.trajectory].append(compared)
                self._stale.add(COMPARISONS)
        self._unlabelled = waiting

    def _arrays(self, name: str) -> Arrays:
        if name == INITIAL_LOSSES:
            return self._losses["initial"].arrays()
        if name == ACTIVE_LOSSES:
            return self._losses["active"].arrays()
        if name == COMPARISONS:
            return _comparisons(self._compared)
        kind = int if name == "t_intervals" else float
        return {
            str(index): np.array([getattr(c, CHECKS[name]) for c in checks], dtype=kind)
            for index, checks in sorted(self._checks.items())
        }


@dataclass(frozen=True)
class _Began:
    """The training set's size, and the calibration in force, when a segment began."""

    train_set_length: int
    calibration: Calibration | None


@dataclass(frozen=True)
class _Seen:
    """A look, its place among all, and what there was when its segment began."""

    number: int
    look: Look
    began: _Began


@dataclass(frozen=True)
class _Compared:
    """A look with prediction and label; forces (N, 3) in eV/Å, energies in eV."""

    seen: _Seen
    numbers: NDArray[np.int_]
    prediction: NDArray[np.float64]
    true_forces: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    predicted_energy: float
    true_energy: float
    measured: float
    measured_error: float

    @property
    def expected_error(self) -> float:
        """The error that was to be expected, by the labels before; NaN where there were none."""
        calibration = self.seen.began.calibration
        return np.nan if calibration is None else float(calibration.expected(self.measured))

    @property
    def error(self) -> NDArray[np.float64]:
        """Each atom's root mean square over x, y and z of the mean prediction's force error."""
        return np.sqrt(((self.true_forces - self.prediction) ** 2).mean(axis=1))


def _compared(path: Path, stored: StoredLabel, seen: _Seen, measure: Measure) -> _Compared | None:
    """Compare the prediction of a structure with its label; None if it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as found:
            members, mean = found["member_forces"], found["forces"]
            energies = found["member_energies"]
            free = found["free"] if "free" in found else np.ones(len(mean), dtype=bool)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        log.warning("%s is left out of the analysis: %s", path, error)
        return None
    label = stored.label
    said = Prediction(float(np.mean(energies, dtype=float)), mean, energies, members)
    truth = mirrored(said, label.energy, label.forces)
    return _Compared(
        seen=seen,
        numbers=np.asarray(stored.atoms.numbers),
        prediction=np.asarray(mean, dtype=float),
        true_forces=np.asarray(label.forces, dtype=float),
        uncertainty=atomic_sd(members),
        predicted_energy=said.energy,
        true_energy=label.energy,
        measured=measure.function(*part_of("free_atoms", said, stored.atoms, free)),
        measured_error=measure.function(*part_of("free_atoms", truth, stored.atoms, free)),
    )


def _comparisons(found: dict[int, list[_Compared]]) -> Arrays:
    """The arrays of `analysis_checks.npz`: looks in the order in which the MD came to them."""
    arrays: Arrays = {}
    for index, compared in sorted(found.items()):
        rows = sorted(compared, key=lambda row: row.seen.number)
        uncertainty = np.array([row.uncertainty for row in rows])
        error = np.array([row.error for row in rows])
        looks = [row.seen.look for row in rows]
        columns = {
            "numbers": rows[0].numbers,
            "current_md_step": np.array([look.step for look in looks]),
            "train_set_length": np.array([row.seen.began.train_set_length for row in rows]),
            "threshold": np.array([look.threshold for look in looks], dtype=float),
            "prediction": np.array([row.prediction for row in rows]),
            "true_forces": np.array([row.true_forces for row in rows]),
            "predicted_energy": np.array([row.predicted_energy for row in rows]),
            "true_energy": np.array([row.true_energy for row in rows]),
            "atom_wise_uncertainty": uncertainty,
            "uncertainty_via_max": uncertainty.max(axis=1),
            "uncertainty_via_mean": uncertainty.mean(axis=1),
            "atom_wise_error": error,
            "max_error": error.max(axis=1),
            "mean_error": error.mean(axis=1),
            "uncertainty": np.array([row.measured for row in rows]),
            "error": np.array([row.measured_error for row in rows]),
            "expected_error": np.array([row.expected_error for row in rows]),
        }
        arrays |= {f"{index}/{name}": column for name, column in columns.items()}
    return arrays


@dataclass
class _Progress:
    """How far a member has come in a phase.

    Attributes:
        checkpoint: What its last training wrote.
        stage_epoch: Epochs since it entered the stage, which is how its validations count them.
        epochs: Epochs in the phase.
        round: The round it was trained for last.
        round_epoch: Epochs in that round.
    """

    checkpoint: str | None = None
    stage_epoch: int = 0
    epochs: int = 0
    round: int = 0
    round_epoch: int = 0


@dataclass
class _Losses:
    """The validation losses of a phase, by round, epoch within the round, and member.

    Members are compared at the same epoch of the same round, that is, on the same data, also
    after a stop has cut a round short and left them with different numbers of epochs.
    """

    tags: tuple[str, ...] = ()
    members: defaultdict[str, _Progress] = field(default_factory=lambda: defaultdict(_Progress))
    found: defaultdict[tuple[int, int], dict[str, tuple[int, float]]] = field(
        default_factory=lambda: defaultdict(dict)
    )

    def note(self, action: Train, event: TrainingFinished, tags: tuple[str, ...]) -> None:
        """Take in the validations of a training."""
        self.tags = tags
        member = self.members[event.tag]
        if action.start is None or action.start != member.checkpoint:
            member.stage_epoch = 0  # it entered the stage anew
        if action.round != member.round:
            member.round, member.round_epoch = action.round, 0
        for errors in event.errors:
            since = errors.epoch - member.stage_epoch
            place = (action.round, member.round_epoch + since)
            self.found[place][event.tag] = (member.epochs + since, errors.valid_loss)
        member.checkpoint = event.checkpoint
        member.stage_epoch += event.epochs
        member.epochs += event.epochs
        member.round_epoch += event.epochs

    def arrays(self) -> Arrays:
        """Return one row for each moment at which all members were validated."""
        rows = [row for _, row in sorted(self.found.items()) if len(row) == len(self.tags)]
        losses = np.array([[row[tag][1] for tag in self.tags] for row in rows], dtype=float)
        losses = losses.reshape(len(rows), len(self.tags))
        return {
            "epoch": np.array([max(n for n, _ in row.values()) for row in rows], dtype=int),
            "avg_losses": losses.mean(axis=1),
            "ensemble_losses": losses,
            "tags": np.array(self.tags),
        }
