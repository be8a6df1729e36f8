"""The errors that aimspax raises on purpose; each survives pickling, to cross process borders."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class AimspaxError(Exception):
    """Base of all errors that aimspax raises on purpose; its text is one message for the user."""


class SettingsError(AimspaxError):
    """What the user wrote cannot be run.

    Args:
        message: Every mistake of every file, for the user.
        mistakes: The same as data (`settings.reading.mistakes.Mistake`), where there is such.
    """

    def __init__(self, message: str, mistakes: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.mistakes = mistakes

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.mistakes)


class StructureError(AimspaxError):
    """A geometry cannot be read, or must not reach an engine or a dataset."""


class CampaignError(AimspaxError):
    """The run directory cannot be used as asked: held by another process, finished, or changed."""


class NewerReleaseError(CampaignError):
    """A newer release of aimspax has written what this one was to read.

    Args:
        message: What cannot be read, and what reads it.
        version: The release that wrote it; empty if it does not say.
    """

    def __init__(self, message: str, version: str = "") -> None:
        super().__init__(message)
        self.version = version

    @classmethod
    def of(cls, what: object, version: str) -> NewerReleaseError:
        """Return the error for a file, or a part of one."""
        release = f"aimspax {version}" if version else "the release that wrote it"
        return cls(f"{what} was written by a newer release of aimspax; read by {release}", version)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.version)


class HeldError(CampaignError):
    """Another process works in the run directory; the text says which."""


class StalledError(CampaignError):
    """The campaign was started again and again, and came no further."""


class ModelError(AimspaxError):
    """A model file cannot be loaded, downloaded or built."""


class WeightsError(ModelError):
    """A file of weights, which take the place of a model's own, holds none or others."""


class DivergedError(ModelError):
    """Training left the physical: a loss or a weight is not finite, or errors have exploded."""


class DamagedError(AimspaxError):
    """A file that a campaign goes on from is gone, cannot be read, or was changed since.

    Args:
        message: Which file, and what is wrong with it.
        file: Its path.
        reason: What is wrong with it.
    """

    def __init__(self, message: str, file: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.file, self.reason = file, reason

    @classmethod
    def of(cls, file: object, reason: str) -> DamagedError:
        """Return the error of a file."""
        return cls(f"{file}: {reason}", str(file), reason)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.file, self.reason)


class EngineError(AimspaxError):
    """The engine refuses its input; no structure can be labelled until the user mends it."""


class ExplodedError(AimspaxError):
    """A trajectory left the physical: non-finite, atoms on top of each other, or absurd forces."""


class LabelFailure(StrEnum):
    """Why a structure has no label: reports count failures by it, whatever the messages say."""

    OTHER = "other"  # counted by the message
    SCF = "scf-not-converged"
    STRUCTURE = "structure"  # the gate does not let the structure pass to the reference
    ANSWER = "answer"  # of other atoms, of another shape, or not finite
    FORCE = "force"  # too large
    ENERGY = "energy"  # too far from those of the same composition
    STRESS = "stress"  # missing, or no stress tensor
    LOST = "lost"  # its calculations were lost too often


class LabelError(AimspaxError):
    """The reference gave no usable label.

    Args:
        message: What went wrong, in one line.
        transient: True if trying again may help (launcher, node, memory), False if the same
            structure would fail again (SCF not converged, refused by the gate).
        worker: Address of the worker where it went wrong, if it is known.
        refused: True if there is an answer, but the gate does not let it pass.
        kind: What sort of failure it is.
    """

    def __init__(
        self,
        message: str,
        transient: bool = False,
        worker: str = "",
        refused: bool = False,
        kind: LabelFailure = LabelFailure.OTHER,
    ) -> None:
        super().__init__(message)
        self.transient, self.worker, self.refused, self.kind = transient, worker, refused, kind

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.transient, self.worker, self.refused, self.kind)
