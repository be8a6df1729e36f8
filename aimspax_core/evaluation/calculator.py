"""All models of a finished campaign as one ASE calculator: their mean, and their spread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from aimspax_core.evaluation.delivered import Committees, delivered, measured
from aimspax_core.evaluation.whose import Files, files_of
from aimspax_core.model.committee import Committee
from aimspax_core.model.driver_calculator import ElectronsCalculator
from aimspax_core.model.family import load_any
from aimspax_core.prediction import Prediction
from aimspax_core.settings.geometries.held_atoms import HeldAtoms
from aimspax_core.uncertainty.chosen import Chosen
from aimspax_core.uncertainty.force_spread import atomic_sd
from aimspax_core.uncertainty.measures import UncertaintyType, measure_of


class CommitteeCalculator(ElectronsCalculator):
    """Energy, forces and stress of the converged models, and the spread of the ensemble.

    | property | what it is | unit |
    | --- | --- | --- |
    | `energy`, `free_energy`, `forces`, `stress` | mean of the converged models | eV, eV/Å, eV/Å³ |
    | `forces_sd` (N,) | each atom's standard deviation of the forces; see `atomic_sd` | eV/Å |
    | `energy_sd` | standard deviation of the energy over the models | eV |
    | `uncertainty` | one number by `measure`, as the campaign's checks had it | the measure's |
    | `expected_error` | true error to be expected, reduced like `uncertainty` | the measure's |
    | `forces_expected_error` (N,) | likewise of each atom's forces; NaN: unknown element | eV/Å |

    `uncertainty` is what the campaign's checks had, by `uncertainty.json`: with `uncertainty_of:
    free_atoms` it leaves out the atoms that are fixed by the constraints of the structure. Results
    of an earlier release do not say it; there it is `max_atomic_sd` of all atoms.

    The last two are there where `calibration.json` is, from labels that no model was trained on: of
    the held-out set and of analysis, or, where these are fewer than five, with those of the
    validation sets. The weights were chosen by the latter, so that the errors to be expected are
    rather too small then; `labels` in the file tells how many are of which.

    Where all members have converged, the spread is theirs. Where only some have (`converge_best`),
    it is that of the last ensemble, of which `results/last_ensemble/` has the models that have
    converged since; a folder of an earlier release has them not, and there the converged models
    stand in for them. Where none has, the mean is of all as active learning ended. A model with
    several heads stands for so many models, one for each head; one model with one head has no
    spread.

    Args:
        results: The folder `results/` of a campaign.
        device: `cpu`, `cuda` or `cuda:N`.
        measure: What `uncertainty` is: a value of `ACTIVE_LEARNING.uncertainty_type`; None: the
            campaign's.
        kernel: What computes the network; see `MISC.kernel`.

    Attributes:
        converged: The models that energy and forces are of, by name.
        ensemble: Those whose spread it is.

    Raises:
        ModelError: The folder has no models, or not those that its `errors.csv` names; or its
            `calibration.json` or `uncertainty.json` is damaged.
    """

    implemented_properties = [  # noqa: RUF012 (ASE's)
        "energy", "free_energy", "forces", "stress", "forces_sd", "energy_sd", "uncertainty",
        "expected_error", "forces_expected_error",
    ]  # fmt: skip

    def __init__(
        self,
        results: Path | str,
        device: str = "cpu",
        measure: UncertaintyType | None = None,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        chosen = Chosen.read(Path(results))
        self._measure, self._of = measure_of(measure or chosen.measure), chosen.of
        self._delivered = delivered(Path(results), "calculator")
        files = files_of(Path(results))
        self.converged, self.ensemble = tuple(files.averaged), tuple(files.ensemble)
        self._mean, self._spread = committees_of(files, device, kernel)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed since the last calculation, with what is held if it counts."""
        changes = list(super().check_state(atoms, tol))
        if not changes and self.atoms is not None and self._of == "free_atoms":
            one, other = (HeldAtoms.of(each).fixed for each in (atoms, self.atoms))
            return [] if one == other else ["constraints"]
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = None,
        system_changes: Any = all_changes,
    ) -> None:
        """Predict all there is; results have no spread where one model with one head is alone."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        (mean,) = self._mean.evaluate([self.atoms], stress=bool(self.atoms.pbc.all()))
        self.results = {"energy": mean.energy, "free_energy": mean.energy, "forces": mean.forces}
        if mean.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(mean.stress)
        if len(self._spread) > 1:
            self.results |= self._spreads(mean)

    def _spreads(self, mean: Prediction) -> dict[str, Any]:
        assert self.atoms is not None
        found = mean
        if self._spread is not self._mean:
            (found,) = self._spread.evaluate([self.atoms])
        spreads = atomic_sd(found.member_forces)
        uncertainty = measured(self._measure, self._of, found, self.atoms)
        results = {
            "forces_sd": spreads,
            "energy_sd": float(found.member_energies.std()),
            "uncertainty": uncertainty,
        }
        if self._delivered is None:
            return results
        results["forces_expected_error"] = self._delivered.of_atoms(self.atoms, spreads)
        calibration = self._delivered.by_measure.get(self._measure.name)
        if calibration is not None:
            results["expected_error"] = float(calibration.expected(uncertainty))
        return results


def committees_of(files: Files, device: str, kernel: str) -> Committees:
    """Return whose mean is predicted, and whose spread is its uncertainty; perhaps the same."""
    mean = side_by_side(list(files.averaged.values()), device, kernel)
    if files.averaged == files.ensemble:
        return mean, mean
    return mean, side_by_side(list(files.ensemble.values()), device, kernel)


def side_by_side(files: Sequence[Path], device: str, kernel: str) -> Committee:
    """Return the models of some files, which are of one family, as one committee."""
    loaded = [load_any(file) for file in files]
    family, _ = loaded[0]
    return Committee(family.evaluator([model for _, model in loaded], device, kernel=kernel))
