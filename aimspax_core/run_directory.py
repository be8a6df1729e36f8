"""The layout of a run directory: the path of everything that a run writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aimspax_core.settings.settings import Settings

REPORT_FILES = ("report.html", "report.json", "report.bib")
"""Names of a report's files; they lie beside the user's own."""


@dataclass(frozen=True)
class RunDir:
    """The paths of a run; `output` is where everything is written (`MISC.output_dir`)."""

    output: Path
    data: Path
    logs: Path
    losses: Path
    models: Path
    checkpoints_dir: Path
    store: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> RunDir:
        """Return the layout that the settings ask for."""
        output = (settings.directory / settings.misc.output_dir).resolve()
        general, store = settings.model.GENERAL, settings.misc.label_store
        return cls(
            output=output,
            store=None if store is None else (settings.directory / store).resolve(),
            data=output / settings.misc.dataset_dir,
            logs=output / settings.misc.log_dir,
            losses=output / general.loss_dir,
            models=output / general.model_dir,
            checkpoints_dir=output / general.checkpoints_dir,
        )

    @property
    def state(self) -> Path:
        """The campaign's own folder."""
        return self.output / "aimspax"

    @property
    def journal(self) -> Path:
        """The events, one JSON object a line."""
        return self.state / "journal.jsonl"

    @property
    def snapshot(self) -> Path:
        """The state after the first so many events."""
        return self.state / "snapshot.json"

    @property
    def lock(self) -> Path:
        """Held by the process that runs the campaign."""
        return self.state / "lock"

    @property
    def requests(self) -> Path:
        """What people ask of the process that runs the campaign, one file each."""
        return self.state / "requests"

    @property
    def flow_run(self) -> Path:
        """Which flow run holds the lock, or held it last."""
        return self.state / "flow-run.json"

    @property
    def restarts(self) -> Path:
        """How often that flow run was started again."""
        return self.state / "restarts.json"

    @property
    def settings(self) -> Path:
        """The settings in force, with the versions of everything that matters."""
        return self.state / "settings.json"

    @property
    def labels(self) -> Path:
        """The label store, which may be one that campaigns share."""
        return self.store or self.state / "labels"

    @property
    def refused(self) -> Path:
        """Labels that the gate refused, one file a point."""
        return self.output / "refused"

    @property
    def prefect_results(self) -> Path:
        """Prefect's own small records of labels."""
        return self.state / "prefect-results"

    @property
    def results(self) -> Path:
        """Models and datasets of a finished campaign."""
        return self.output / "results"

    @property
    def last_ensemble(self) -> Path:
        """Models as active learning ended, of members whose converged ones are in `results`."""
        return self.results / "last_ensemble"

    @property
    def report(self) -> Path:
        """The learning curve."""
        return self.output / "results" / "learning_curve.png"

    @property
    def report_files(self) -> tuple[Path, ...]:
        """The page on the campaign, its numbers, and what to cite."""
        return tuple(self.output / name for name in REPORT_FILES)

    @property
    def calibration(self) -> Path:
        """The figure of true error against uncertainty."""
        return self.results / "calibration.png"

    @property
    def analysis(self) -> Path:
        """The files that `analysis: True` asks for."""
        return self.output / "analysis"

    @property
    def trajectories(self) -> Path:
        """The files that `save_trajectories: True` asks for."""
        return self.output / "trajectories"

    @property
    def frames(self) -> Path:
        """Frames that a task has written and that are not in `trajectories` yet."""
        return self.state / "frames"

    def prediction(self, key: str) -> Path:
        """What the committee said of a structure that asked for its label, or is for analysis."""
        return self.state / "predictions" / key[:2] / f"{key}.npz"

    def structure(self, key: str) -> Path:
        """A structure that waits for its label."""
        return self.state / "structures" / key[:2] / f"{key}.json"

    def sampler(self, geometry: int, version: int) -> Path:
        """The MD state of a geometry's sampling trajectory."""
        return self.state / "trajectories" / f"initial-{geometry}" / f"{version}.json"

    def trajectory(self, index: int, version: int) -> Path:
        """The MD state of an exploring trajectory."""
        return self.state / "trajectories" / str(index) / f"{version}.json"

    def checkpoint(self, tag: str, name: str) -> Path:
        """A member at an epoch's end."""
        return self.checkpoints_dir / tag / f"{name}.pt"

    def dataset(self, name: str) -> Path:
        """Which labels belong to which member's sets, for one round of training."""
        return self.state / "datasets" / f"{name}.json"
