"""What becomes of a label that a worker has stored: it is looked at before it counts."""

from __future__ import annotations

import contextlib

from aimspax_core.campaign.events import LabelArrived, LabelFailed, TaskLost
from aimspax_core.campaign.state import CampaignState
from aimspax_core.errors import LabelError, LabelFailure
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.labels.durations import Durations
from aimspax_core.labels.gate import EnergyGate, check_label
from aimspax_core.labels.refused import refuse
from aimspax_core.labels.store import LabelStore
from aimspax_core.output.predictions import judged
from tasks.label import LabelRecord


class ArrivedLabels:
    """The labels of a campaign: what new ones are judged by, and how long they take.

    Args:
        inputs: What the user has given.

    Attributes:
        inputs: As given; others may be set.
        durations: Of the labels so far.
        vanished: Keys of labels that workers had stored and the store does not have.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.durations = Durations()
        self.vanished: set[str] = set()
        self._energies = EnergyGate(inputs.settings.gate)

    def learn(self, state: CampaignState) -> None:
        """Take in the labels of the store: energies to judge others by, and what they took."""
        store = LabelStore(self.inputs.run.labels)
        given = [key for m in state.members.values() for key in (*m.training, *m.validation)]
        for key in dict.fromkeys((*given, *state.points)):
            stored = store.get(key)
            if stored is not None:
                with contextlib.suppress(LabelError):  # it was judged when it arrived
                    self._energies.admit(stored.atoms, stored.label.energy)
                wall_s = stored.label.provenance.get("wall_s")
                if wall_s is not None and key in state.points:
                    self.durations.note(state.points[key].geometry, wall_s)

    def judge(
        self, action_id: str, record: LabelRecord, geometry: int
    ) -> LabelArrived | LabelFailed | TaskLost:
        """Return that a label arrived, if it is in the store, unharmed, and no outlier.

        Args:
            action_id: Of the action that asked for it.
            record: What the worker says of it.
            geometry: Index of the geometry that it belongs to.

        Raises:
            OSError: It cannot be read, or not be kept as refused.
        """
        run, settings = self.inputs.run, self.inputs.settings
        store = LabelStore(run.labels)
        stored = store.get(record.key)
        if stored is None:
            self.vanished.add(record.key)
            # Counted as a loss: the store may never show what workers write.
            return TaskLost(action_id=action_id, reason="its label is gone from the store")
        try:
            beside = settings.model.beside
            check_label(stored.atoms, stored.label, settings.gate, settings.stress, beside)
            self._energies.admit(stored.atoms, stored.label.energy)
        except LabelError as error:
            if error.kind is LabelFailure.ENERGY:
                store.doubt(record.key, str(error))
            refused = refuse(
                run.refused, record.key, stored.atoms, str(error), stored.label, error.kind
            )
            return LabelFailed(
                key=record.key, reason=str(refused), refused=True, failure=refused.kind
            )
        if record.core_hours:  # it was computed now
            self.durations.note(geometry, record.wall_s)
        return LabelArrived(
            key=record.key,
            wall_s=record.wall_s,
            core_hours=record.core_hours,
            from_store=record.from_store,
            computed_at=stored.label.provenance.get("finished", 0.0),
            judged=judged(run, stored, geometry, settings.al.uncertainty_type),
        )
