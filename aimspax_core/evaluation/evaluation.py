"""Models compared with a labelled dataset: predictions, errors, and uncertainty against true error.

Errors are defined as MACE defines them (`mace.tools.train.MACELoss`): energies are averaged over
frames, forces over all components of all atoms, stresses over all nine components.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray
from scipy.stats import rankdata

from aimspax_core.errors import ModelError
from aimspax_core.evaluation.delivered import Delivered
from aimspax_core.evaluation.frames import Array, Frames
from aimspax_core.model.committee import Committee
from aimspax_core.model.family import load_any, reads_electrons
from aimspax_core.prediction import Prediction
from aimspax_core.uncertainty.calibration import Calibration
from aimspax_core.uncertainty.measures import MEASURES, UncertaintyType
from aimspax_core.uncertainty.true_error import mirrored


@dataclass(frozen=True)
class Tested:
    """A model that is compared with a dataset: its name, its file, and how it is evaluated.

    `beside` is what models of its family may predict beside energy, forces and stress;
    `reads_electrons` whether these depend on the charge and multiplicity of a structure.
    """

    tag: str
    path: Path
    elements: tuple[int, ...]
    committee: Committee
    beside: tuple[str, ...] = ()
    reads_electrons: bool = False


@dataclass(frozen=True)
class Predictions:
    """The predictions of M models for all frames; shapes and units of `Frames` with M in front.

    `beside` has what the frames have; of models that do not predict it, NaN. `heads` has energies
    and forces of all heads, where models have several.
    """

    energy: Array
    forces: Array
    stress: Array
    beside: Mapping[str, Array] = field(default_factory=dict)
    heads: tuple[Array, Array] | None = None

    @property
    def member_energy(self) -> Array:
        """The energies whose spread is the uncertainty: of models, or of all their heads."""
        return self.energy if self.heads is None else self.heads[0]

    @property
    def member_forces(self) -> Array:
        """The forces likewise."""
        return self.forces if self.heads is None else self.heads[1]

    def of(self, model: int | None) -> tuple[Array, Array, Array]:
        """Return energy, forces and stress of a model, or of the mean of all (None)."""
        if model is None:
            return self.energy.mean(axis=0), self.forces.mean(axis=0), self.stress.mean(axis=0)
        return self.energy[model], self.forces[model], self.stress[model]

    def beside_of(self, model: int | None) -> dict[str, Array]:
        """Return what else a model predicts, or the mean of all (None)."""
        return {
            name: values.mean(axis=0) if model is None else values[model]
            for name, values in self.beside.items()
        }


@dataclass(frozen=True)
class Deviation:
    """Errors of one quantity, in eV and Å, and how many numbers they are averages over."""

    count: int
    mae: float
    rmse: float
    max: float


@dataclass(frozen=True)
class FrameErrors:
    """The errors on some of the frames; None where no frame has the label."""

    frames: int
    atoms: int
    energy_per_atom: Deviation | None
    energy: Deviation | None
    forces: Deviation | None
    stress: Deviation | None
    dipole: Deviation | None = None
    hirshfeld_ratios: Deviation | None = None


@dataclass(frozen=True)
class Scores:
    """The errors of one model, or of the mean prediction of all; forces alone by element."""

    total: FrameErrors
    by_element: dict[str, Deviation]
    by_geometry: dict[str, FrameErrors]


@dataclass(frozen=True)
class Trust:
    """Uncertainty and true error of the mean prediction, by one measure, in the measure's unit.

    Attributes:
        uncertainty: Of each of the F frames whose labels the measure needs, shape (F,).
        error: What the measure says of two members, the label and its mirror image beyond the mean
            prediction: each is off from their mean by just the true error. Shape (F,).
        expected: The error that was to be expected, by the calibration of the models when they were
            delivered, shape (F,); None where there is none.
    """

    uncertainty: Array
    error: Array
    expected: Array | None = None

    @property
    def factor(self) -> float | None:
        """True error over uncertainty on these frames; None where there is no uncertainty."""
        total = float(self.uncertainty.sum())
        return float(self.error.sum()) / total if total > 0 else None

    @property
    def quarters(self) -> list[tuple[float, float]]:
        """The means of expected and of true error, of quarters of the frames by the expected one.

        There are none without expected errors, or with fewer than four frames.
        """
        if self.expected is None or len(self.error) < 4:
            return []
        parts = np.array_split(np.argsort(self.expected, kind="stable"), 4)
        return [(float(self.expected[p].mean()), float(self.error[p].mean())) for p in parts]

    @property
    def pearson(self) -> float | None:
        """Their linear correlation; None where one of them does not vary."""
        return _correlation(self.uncertainty, self.error)

    @property
    def spearman(self) -> float | None:
        """The correlation of their ranks; None where one of them does not vary."""
        return _correlation(rankdata(self.uncertainty), rankdata(self.error))


@dataclass(frozen=True)
class Evaluation:
    """The results of models on a dataset.

    Attributes:
        frames: The dataset.
        models: The M models.
        predictions: Their predictions for it.
        scores: The errors of each model, by its tag.
        mean: The errors of the mean prediction; None for a single model.
        trust: By measure of uncertainty; empty for a single model with one head, and without a
            measure for whose error no frame has the labels.
    """

    frames: Frames
    models: tuple[Tested, ...]
    predictions: Predictions
    scores: dict[str, Scores]
    mean: Scores | None
    trust: dict[UncertaintyType, Trust]


def open_models(files: dict[str, Path], device: str = "cpu") -> tuple[Tested, ...]:
    """Load models, each in the number format that it was saved in.

    Args:
        files: Model files of any family, by the name that the model goes by.
        device: `cpu`, `cuda` or `cuda:N`.

    Raises:
        ModelError: A file holds no model, or one that needs inputs beyond a structure, or
            there is no such device.
    """
    models = []
    for tag, path in files.items():
        family, model = load_any(path)
        try:
            committee = Committee(family.evaluator([model], device))
        # What torch says of a device that it does not know, was not built for, or does not find.
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"{path} cannot be put on device {device!r}: {error}") from error
        known = (committee.evaluator.elements, committee, family.beside, reads_electrons(family))
        models.append(Tested(tag, path, *known))
    return tuple(models)


def evaluate(
    frames: Frames,
    models: Sequence[Tested],
    batch_size: int = 16,
    on_batch: Callable[[int], None] = lambda _: None,
    known: Delivered | None = None,
) -> Evaluation:
    """Compare models, which may differ in elements, cutoff and size, with a dataset.

    Args:
        frames: The dataset.
        models: One or more.
        batch_size: How many structures are evaluated at once.
        on_batch: Called after each batch of one model with the number of its structures.
        known: What is to be expected of these models side by side; None: nothing is known.

    Raises:
        ModelError: A model does not know an element of a frame, or predicts nothing finite of one.
    """
    _require_elements(frames, models)
    found = _predict(frames, models, batch_size, on_batch)
    scores = {model.tag: _scores(frames, found, m) for m, model in enumerate(models)}
    mean = _scores(frames, found, None) if len(models) > 1 else None
    trust = trusts(frames, found) if len(found.member_energy) > 1 else {}
    if known is not None:
        trust = {kind: _expecting(one, known.by_measure.get(kind)) for kind, one in trust.items()}
    return Evaluation(frames, tuple(models), found, scores, mean, trust)


def _expecting(trust: Trust, calibration: Calibration | None) -> Trust:
    if calibration is None:
        return trust
    return replace(trust, expected=calibration.expected(trust.uncertainty))


def _require_elements(frames: Frames, models: Sequence[Tested]) -> None:
    for model in models:
        unknown = np.flatnonzero(~np.isin(frames.numbers, model.elements))
        if unknown.size:
            frame = int(np.searchsorted(frames.starts, unknown[0], side="right")) - 1
            symbol = chemical_symbols[int(frames.numbers[unknown[0]])]
            known = ", ".join(chemical_symbols[z] for z in model.elements)
            raise ModelError(
                f"{frames.where(frame)}: {model.path} does not know {symbol}, only {known}"
            )


def _predict(
    frames: Frames, models: Sequence[Tested], batch_size: int, on_batch: Callable[[int], None]
) -> Predictions:
    count, stress = len(frames), frames.labelled("stress") > 0
    ends = np.cumsum([len(model.committee) for model in models])
    found = Predictions(
        energy=np.full((len(models), count), np.nan),
        forces=np.full((len(models), len(frames.numbers), 3), np.nan),
        stress=np.full((len(models), count, 3, 3), np.nan),
        beside={k: np.full((len(models), *v.shape), np.nan) for k, v in frames.beside.items()},
        heads=None
        if ends[-1] == len(models)
        else (
            np.full((ends[-1], count), np.nan),
            np.full((ends[-1], len(frames.numbers), 3), np.nan),
        ),
    )
    for m, model in enumerate(models):
        members = slice(ends[m] - len(model.committee), ends[m])
        for first in range(0, count, batch_size):
            batch = range(first, min(first + batch_size, count))
            structures = [frames.atoms(frame) for frame in batch]
            for frame, one in zip(batch, model.committee.evaluate(structures, stress), strict=True):
                if not (np.isfinite(one.energy) and np.isfinite(one.forces).all()):
                    raise ModelError(
                        f"{frames.where(frame)}: {model.path} predicts nothing finite; are the "
                        "positions, the cell and the model sound?"
                    )
                found.energy[m, frame] = one.energy
                found.forces[m, frames.own(frame)] = one.forces
                found.member_energy[members, frame] = one.member_energies
                found.member_forces[members, frames.own(frame)] = one.member_forces
                if one.stress is not None:
                    found.stress[m, frame] = one.stress
                for name in found.beside.keys() & one.beside.keys():
                    place = frame if name == "dipole" else frames.own(frame)
                    found.beside[name][m, place] = one.beside[name]
            on_batch(len(batch))
    return found


def _scores(frames: Frames, predictions: Predictions, model: int | None) -> Scores:
    """Return the errors of a model, or of the mean of all (None)."""
    energy, forces, stress = predictions.of(model)
    beside = predictions.beside_of(model)
    names, group = np.unique(np.array(frames.groups), return_inverse=True)
    elements, element = np.unique(frames.numbers, return_inverse=True)
    off_energy = (energy - frames.energy)[:, None]
    off_forces, off_stress = forces - frames.forces, (stress - frames.stress).reshape(-1, 9)

    def besides(name: str, group: NDArray[np.int_], count: int) -> list[Deviation | None]:
        if name not in beside:
            return [None] * count
        off = beside[name] - frames.beside[name]
        return _deviations(off.reshape(len(group), -1), group, count)

    def errors(group: NDArray[np.int_], count: int) -> list[FrameErrors]:
        columns = (
            np.bincount(group, minlength=count).tolist(),
            np.bincount(group, frames.sizes, minlength=count).astype(int).tolist(),
            _deviations(off_energy / frames.sizes[:, None], group, count),
            _deviations(off_energy, group, count),
            _deviations(off_forces, np.repeat(group, frames.sizes), count),
            _deviations(off_stress, group, count),
            besides("dipole", group, count),
            besides("hirshfeld_ratios", np.repeat(group, frames.sizes), count),
        )
        return [FrameErrors(*row) for row in zip(*columns, strict=True)]

    by_element = zip(elements, _deviations(off_forces, element, len(elements)), strict=True)
    return Scores(
        total=errors(np.zeros(len(frames), dtype=int), 1)[0],
        by_element={chemical_symbols[z]: found for z, found in by_element if found is not None},
        by_geometry=dict(zip(names.tolist(), errors(group, len(names)), strict=True)),
    )


def _deviations(off: Array, group: NDArray[np.int_], count: int) -> list[Deviation | None]:
    """Return the errors of each of `count` groups.

    Args:
        off: Differences (n, k); a row without a label is NaN.
        group: The group of each row (n,).
        count: How many groups there are.
    """
    known = np.isfinite(off).all(axis=1)
    size, group, width = np.abs(off[known]), group[known], off.shape[1]
    rows = np.bincount(group, minlength=count)
    sums = np.bincount(group, size.sum(axis=1), minlength=count)
    squares = np.bincount(group, (size**2).sum(axis=1), minlength=count)
    largest = np.zeros(count)
    np.maximum.at(largest, group, size.max(axis=1, initial=0.0))
    return [
        Deviation(n * width, float(s / (n * width)), float(np.sqrt(q / (n * width))), float(top))
        if n
        else None
        for n, s, q, top in zip(rows.tolist(), sums, squares, largest, strict=True)
    ]


def trusts(frames: Frames, found: Predictions) -> dict[UncertaintyType, Trust]:
    """Return the trust by each measure that any frame has the labels for."""
    pairs: dict[UncertaintyType, list[tuple[float, float]]] = {one.name: [] for one in MEASURES}
    for frame in range(len(frames)):
        structure = frames.atoms(frame)
        prediction = _prediction(found, frame, frames.own(frame))
        truth = mirrored(prediction, float(frames.energy[frame]), frames.forces[frames.own(frame)])
        for one in MEASURES:
            error = one.function(truth, structure)
            if np.isfinite(error):
                pairs[one.name].append((one.function(prediction, structure), error))
    return {name: Trust(*np.array(rows).T) for name, rows in pairs.items() if rows}


def _prediction(found: Predictions, frame: int, own: slice) -> Prediction:
    """Return the models' predictions for a frame as those of one committee."""
    energies, forces = found.member_energy[:, frame], found.member_forces[:, own]
    stress = found.stress[:, frame].mean(axis=0)
    return Prediction(
        energy=float(energies.mean()),
        forces=forces.mean(axis=0),
        member_energies=energies,
        member_forces=forces,
        stress=stress if np.isfinite(stress).all() else None,
    )


def _correlation(one: Array, other: Array) -> float | None:
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])
