"""What a campaign knows of the members of its ensemble: sets, checkpoints, errors."""

from __future__ import annotations

from pydantic import Field

from aimspax_core.campaign.record import Record


class Errors(Record):
    """Errors of a member on its validation set, like `model.learner.Metrics`; in eV and Å."""

    epoch: int
    train_loss: float | None
    valid_loss: float
    mae_f: float
    rmse_f: float
    mae_e: float
    rmse_e: float
    mae_e_per_atom: float
    rmse_e_per_atom: float
    mae_stress: float | None
    rmse_stress: float | None
    lr: float
    seconds: float
    mae_dipole: float | None = None
    rmse_dipole: float | None = None
    mae_hirshfeld_ratios: float | None = None
    rmse_hirshfeld_ratios: float | None = None


class Earlier(Record):
    """A checkpoint of a member that is kept in case that the ones after it are damaged."""

    checkpoint: str
    epochs: int  # of the convergence, if it is one of that
    errors: Errors | None = None  # the best so far, if it is one of a convergence


class MemberState(Record):
    """One model of the ensemble."""

    tag: str
    checkpoint: str | None = None
    epochs: int = 0
    round_epochs: int = 0
    training: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    errors: Errors | None = None
    converging: str | None = None
    converged: bool = False
    converge_epochs: int = 0
    best: Errors | None = None
    earlier: tuple[Earlier, ...] = ()  # what `checkpoint` falls back to, the newest first
    converge_earlier: Earlier | None = None  # what `converging` falls back to
    owed: int = 0  # epochs that were lost with a checkpoint: trained with the next round
    setbacks: int = 0  # checkpoints that were lost; names of later ones have the number
    diverged: int = 0  # in a row, without a stretch of training that went well in between
    sat_out: int = 0  # rounds in a row that it went through with the weights from before
    before_round: Errors | None = None  # its errors when the round began
    assessed: Errors | None = None  # on the held-out set
    assessed_at: str | None = None  # which checkpoint that was
    assessed_by: dict[str, Errors] = Field(default_factory=dict)  # by geometry
    offsets: dict[str, float] = Field(default_factory=dict)  # see `TrainingFinished`
    settled: Errors | None = None  # of its model as published, if its energies followed only then

    @property
    def last_errors(self) -> Errors | None:
        """Its errors in validation as they were known last: as published, or else the best."""
        return self.settled or self.best or self.errors

    @property
    def suffix(self) -> str:
        """What tells the names of its checkpoints from those of files that were lost."""
        return f"-{self.setbacks}" if self.setbacks else ""
