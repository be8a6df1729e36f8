"""What a budget still allows, as an independent reader adds it up."""

from __future__ import annotations

import math
from collections.abc import Iterable

from aimspax_core.verification.accounts import Accounts
from aimspax_core.verification.findings import Kind


class Spending(Accounts):
    """A campaign, and what it may still spend."""

    def limit(self, name: str) -> float:
        """Return a limit of the budget: `labels`, `core_hours` or `hours`; infinity if none is."""
        return float(self.rules.get("limits", {}).get(f"budget_{name}", math.inf))

    @property
    def limited(self) -> bool:
        """Whether there is a budget."""
        return any(self.limit(name) < math.inf for name in ("labels", "core_hours", "hours"))

    def may_begin(self, key: str, flying: Iterable[str]) -> bool:
        """Return whether a label may begin.

        Args:
            key: The label.
            flying: The labels under way.
        """
        if not self.limited or key in self.restoring:
            return True
        if self.ran_s / 3600 >= self.limit("hours"):
            return False
        under_way = [one for one in flying if one not in self.restoring]
        if self.labels + len(under_way) >= self.limit("labels"):
            return False
        if self.limit("core_hours") == math.inf:
            return True
        geometry = self.points[key].geometry
        flown = [self.points[one].geometry for one in under_way]
        foreseen = [*flown, *(self.points[one].geometry for one in self._paid_again())]
        bound = self.core_hours + sum(self.costliest.get(g, 0.0) for g in foreseen)
        cost = self.costliest.get(geometry, 0.0)
        if not cost:
            told = geometry not in flown or self._has_come(geometry)
            return bound < self.limit("core_hours") and told
        return bound + cost <= self.limit("core_hours") * (1 + 1e-12)

    def _has_come(self, geometry: int) -> bool:
        of = (p for p in self.points.values() if p.geometry == geometry)
        there = [point for point in of if point.status == "labelled"]
        if self.rules.get("counts_all_costs"):  # those of a store tell nothing
            there = [point for point in there if not point.from_store]
        return bool(there)

    def _paid_again(self) -> set[str]:
        both = self.rules.get("counts_all_costs") and self.rules.get("pays_again")
        return self.restoring if both else set()

    def spend_on(self, key: str) -> None:
        """Judge that a label begins."""
        if not self.may_begin(key, self.labels_flying()):
            what = f"label {key[:8]} is launched, and the budget has nothing left for it"
            self.complain(Kind.BUDGET, what)

    def to_come(self, keys: Iterable[str]) -> bool:
        """Return whether one of some labels that are wanted is under way, or may begin."""
        flying = self.labels_flying()
        return any(key in flying or self.may_begin(key, flying) for key in keys)

    def labels_flying(self) -> set[str]:
        """Return the labels under way."""
        return {one["key"] for one in self.in_flight.values() if one["kind"] == "label"}

    def pay(self, key: str, core_hours: float) -> None:
        """Add what a label has taken."""
        self.core_hours += core_hours
        geometry = self.points[key].geometry
        self.costliest[geometry] = max(self.costliest.get(geometry, 0.0), core_hours)
