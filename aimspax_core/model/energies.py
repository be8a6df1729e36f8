"""Energies of free atoms that are solved for: a constant that training would take long to find.

Adam moves the constant part of the energies by steps of the learning rate, through a loss in which
forces weigh a thousand times more; it is off by tens to hundreds of meV/atom when forces are
converged. But energies are linear in it, so that it follows by least squares from what a model
misses on its training set. Forces do not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from ase.formula import Formula

from aimspax_core.model.family import Family, Graph
from aimspax_core.model.learner import Metrics
from aimspax_core.model.member import Member
from aimspax_core.model.residuals import Residuals
from aimspax_core.settings.model import ModelSettings


class Moves(Enum):
    """What of a member is solved for."""

    ELEMENTS = auto()  # the energy of each element's atom
    SHIFT = auto()  # one constant an atom, the same for all elements
    NOTHING = auto()


@dataclass(frozen=True)
class Settled:
    """A member after its energies were solved for at the end of a round or a convergence.

    Attributes:
        metrics: The validation that was its last, or its best, with the errors of today.
        offsets: Mean of label minus prediction over the training set (eV/atom) by formula, where
            nothing may be solved for.
    """

    metrics: Metrics
    offsets: dict[str, float]


def moves(settings: ModelSettings, family: Family, keeps_energies: bool) -> Moves:
    """Return what is solved for.

    Args:
        settings: `ARCHITECTURE.solve_energies`: `auto` leaves energies that were given alone; of
            given models it is for the shift, which would else be a fit to the labels as if there
            were no weights yet.
        family: Whose models may not have such energies.
        keeps_energies: Whether they are a given model's.
    """
    wish = _wish(settings)
    if family.misses is None or wish == "never":
        return Moves.NOTHING
    if settings.ARCHITECTURE.atomic_energies is None and not keeps_energies:
        return Moves.ELEMENTS
    if wish == "auto" and not keeps_energies:
        return Moves.NOTHING
    if family.has_shift(settings):
        return Moves.SHIFT
    return Moves.ELEMENTS if wish == "always" else Moves.NOTHING


def solved(energies: dict[int, float], found: Residuals) -> dict[int, float]:
    """Return energies of atoms (eV) with which as little as can be is missed.

    The squares of what is missed an atom are summed, as in MACE's loss. Where compositions do not
    determine all energies, those that are nearest to the given ones are taken.

    Args:
        energies: By atomic number, as they were when `found` was missed.
        found: What was missed.
    """
    sizes = found.counts.sum(axis=1)
    rows, target = found.counts / sizes[:, None], found.missed / sizes
    change = np.linalg.lstsq(rows, target, rcond=None)[0]
    return {z: energies[z] + float(e) for z, e in zip(sorted(energies), change, strict=True)}


def shift_of(found: Residuals) -> float:
    """Return the constant an atom (eV) that is missed in all structures."""
    return float((found.missed / found.counts.sum(axis=1)).mean())


def offsets(elements: Sequence[int], found: Residuals) -> dict[str, float]:
    """Return what is missed on average (eV/atom), by formula."""
    by_formula: dict[str, list[float]] = {}
    for counts, missed in zip(found.counts.astype(int), found.missed, strict=True):
        pairs = zip(elements, counts.tolist(), strict=True)
        named = {chemical_symbols[z]: n for z, n in pairs if n}
        formula = str(Formula.from_dict(named).convert("hill"))
        by_formula.setdefault(formula, []).append(float(missed) / int(counts.sum()))
    return {formula: float(np.mean(each)) for formula, each in by_formula.items()}


def renew(member: Member, train: Sequence[Graph], of: str) -> None:
    """Renew a member's constants as its training begins, and solve for its energies.

    Those that were solved on the same set are not solved anew: where training goes on that was cut
    into several tasks, it goes on as if it was not cut.

    Args:
        member: The member.
        train: Its whole training set.
        of: Tells that set from all others.

    Raises:
        ModelError: They would change under the best weights that a convergence keeps.
    """
    kind = _moves(member)
    if kind is Moves.NOTHING:
        member.renew_constants(train)
    elif of != member.solved_on:
        old, known = member.constants.atomic_energies, bool(member.solved_on)
        member.renew_constants(train)
        if known and kind is Moves.ELEMENTS:
            member.set_constants(_with(member.constants, atomic_energies=old))
        solve(member, train, kind)
        member.solved_on = of


def settle_energies(
    member: Member, train: Sequence[Graph], valid: Sequence[Graph], last: Metrics
) -> Settled:
    """Solve for a member's energies at the end of a round or of a convergence.

    After a convergence it is those of its best weights, whose metrics the member keeps.

    Args:
        member: The member.
        train: Its whole training set.
        valid: Its validation set.
        last: Its last validation, or that of its best weights.
    """
    kind, member.settled = _moves(member), True
    if kind is Moves.NOTHING:
        missed = None if _wish(member.settings) == "never" else _missed(member, train)
        return Settled(last, {} if missed is None else offsets(member.elements, missed))
    solve(member, train, kind)
    with _published_weights(member):
        now = member.errors_on(valid)
    kept = {name: getattr(last, name) for name in ("epoch", "train_loss", "lr", "seconds")}
    metrics = replace(now, **kept)
    if member.best_metrics is not None:
        member.best_metrics = metrics
    return Settled(metrics, {})


def _wish(settings: ModelSettings) -> str:
    return str(getattr(settings.ARCHITECTURE, "solve_energies", "never"))


def _moves(member: Member) -> Moves:
    return moves(member.settings, member.family, member.keeps_energies)


def solve(member: Member, train: Sequence[Graph], kind: Moves) -> None:
    """Give a member the energies with which it misses as little as can be of a training set.

    Args:
        member: The member.
        train: Its whole training set; what is not finite is left to training to tell.
        kind: What is solved for.
    """
    found = _missed(member, train)
    if found is None or not np.isfinite(found.missed).all():
        return  # which training or validation says
    now: Any = member.constants
    if kind is Moves.SHIFT:
        member.set_constants(_with(now, shift=now.shift + shift_of(found)))
    else:
        energies = solved(now.atomic_energies, found)
        member.set_constants(_with(now, atomic_energies=energies))


def _missed(member: Member, train: Sequence[Graph]) -> Residuals | None:
    """Return what the weights that are published, or drive MD, miss; None where nobody knows."""
    if member.family.misses is None:
        return None
    learner = member.learner
    with _published_weights(member), learner.averaged():
        return member.family.misses(learner.steps, learner.model, train, member.constants)


def _published_weights(member: Member) -> Any:
    """Have the weights of a convergence's best epoch in place, if there is one."""
    best = member.best_weights
    return nullcontext() if best is None else member.learner.weights_in_place(best)


def _with(constants: Any, **changes: Any) -> Any:
    return replace(constants, **changes)
