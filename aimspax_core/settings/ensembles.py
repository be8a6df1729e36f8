"""The ensembles of molecular dynamics: the table of all, and the interface of each.

An ensemble is one file in `aimspax_core/sampling/integrators/` and one row of `ENSEMBLES`;
docs/extending/md-ensemble.md adds one. A row gives names only: the settings read them from here,
and the file is imported once somebody asks for `Row.ensemble`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field

from aimspax_core.settings.values import AnyCase, Natural, Positive, Section

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from ase.md.md import MolecularDynamics

_HERE = "aimspax_core.sampling.integrators"

CHOSEN_BY = {"nvt": "thermostat", "npt": "barostat"}
"""Which key of MD tells apart the ensembles that share a `stat_ensemble`; others have one only."""


@dataclass(frozen=True)
class Row:
    """The names of an ensemble, and where it is.

    Attributes:
        stat_ensemble: The value of `MD.stat_ensemble`.
        name: The value of `MD.thermostat` or `MD.barostat` (see `CHOSEN_BY`); where neither chooses
            it, any name. No two ensembles have the same.
        text: What it is, as in a list: begins with a capital if it is a name.
        place: Module and name of its `Ensemble`, such as `package.module:NAME`.
        cites: What is to be cited for it, by the keys of `references.toml`.
    """

    stat_ensemble: str
    name: str
    text: str
    place: str
    cites: tuple[str, ...] = ()

    @property
    def chosen_by(self) -> str | None:
        """The key of MD that has the name as its value; None where `stat_ensemble` is enough."""
        return CHOSEN_BY.get(self.stat_ensemble)

    @property
    def title(self) -> str:
        """What it is called in texts, such as `NVT langevin`, `NVE`."""
        return self.stat_ensemble.upper() + (f" {self.name}" if self.chosen_by else "")

    @cached_property
    def ensemble(self) -> Ensemble:
        """What is at its place; the module is imported."""
        module, _, name = self.place.partition(":")
        return getattr(import_module(module), name)


ENSEMBLES: tuple[Row, ...] = (
    Row(
        "nvt",
        "langevin",
        "Langevin's friction and noise",
        f"{_HERE}.langevin:LANGEVIN",
        ("vandeneijnden2006",),
    ),
    Row("npt", "berendsen", "Berendsen's", f"{_HERE}.berendsen:BERENDSEN", ("berendsen1984",)),
    Row(
        "npt",
        "npt",
        "Nosé-Hoover and Parrinello-Rahman",
        f"{_HERE}.melchionna:MELCHIONNA",
        ("melchionna1993", "melchionna2000"),
    ),
    Row(
        "npt",
        "mtk",
        "Martyna-Tobias-Klein with a flexible cell",
        f"{_HERE}.mtk:MTK",
        ("martyna1994",),
    ),
    Row(
        "npt",
        "isomtk",
        "the same with a cell that keeps its shape",
        f"{_HERE}.mtk:ISOMTK",
        ("martyna1994",),
    ),
    Row("nve", "nve", "Newton's equations", f"{_HERE}.verlet:NVE", ("swope1982",)),
)
"""All ensembles; the first of a `stat_ensemble` is its default."""


def find(stat_ensemble: str, thermostat: str, barostat: str) -> Row:
    """Return the row that the values of these three keys of MD choose."""
    chosen = {"thermostat": thermostat, "barostat": barostat}
    rows = (row for row in ENSEMBLES if row.stat_ensemble == stat_ensemble)
    return next(row for row in rows if not row.chosen_by or chosen[row.chosen_by] == row.name)


def _names(key: str) -> tuple[str, ...]:
    return tuple(row.name for row in ENSEMBLES if row.chosen_by == key)


def _texts(key: str) -> str:
    return "; ".join(f"`{row.name}`, {row.text}" for row in ENSEMBLES if row.chosen_by == key)


if TYPE_CHECKING:
    StatEnsemble: TypeAlias = str
    Thermostat: TypeAlias = str
    Barostat: TypeAlias = str
else:
    StatEnsemble = Literal[tuple(dict.fromkeys(row.stat_ensemble for row in ENSEMBLES))]
    Thermostat, Barostat = (Literal[_names(key)] for key in ("thermostat", "barostat"))


class MDKeys(Section):
    """The keys of MD that mean something whatever the ensemble; an ensemble adds its own to them.

    `thermostat` and `barostat` choose the ensemble, together with `stat_ensemble`.
    """

    stat_ensemble: Annotated[StatEnsemble, AnyCase()] = Field(description="Statistical ensemble.")
    thermostat: Annotated[Thermostat, AnyCase()] = Field(
        _names("thermostat")[0], description=f"Thermostat of NVT: {_texts('thermostat')}."
    )
    barostat: Annotated[Barostat, AnyCase()] = Field(
        _names("barostat")[0],
        description=f"Barostat and thermostat of NPT: {_texts('barostat')}.",
    )
    temperature: Positive = Field(300.0, description="Temperature (K).")
    timestep: Positive = Field(0.5, description="Time step (fs).")
    MD_seed: Natural = Field(42, description="Seeds noise and velocities of every trajectory.")


@dataclass(frozen=True)
class Kept:
    """What an integrator of ASE keeps between two steps beyond positions, momenta and cell.

    It is part of a trajectory's state on disk (`aimspax_core.sampling.extended`): with it, a
    trajectory that is cut goes on as if it had not been. All are names of the integrator's
    attributes, or of its attributes' attributes (`_thermostat._eta`).

    Attributes:
        variables: Numbers or arrays that `step` changes, or that the constructor derives from the
            first cell.
        constants: What the variables mean nothing without: of an integrator with other constants
            they are not taken over. With another mask, for one, a direction that is now held would
            go on moving at the speed that it had.
        lengths: Variables whose shape settings decide, such as the length of a chain; where it is
            another, nothing is taken over.
        once: An attribute that is true once there are variables; empty: there always are.
    """

    variables: tuple[str, ...]
    constants: tuple[str, ...]
    lengths: tuple[str, ...] = ()
    once: str = ""


def _no(md: Any) -> bool:
    return False


def _no_objection(where: Any, what: Any) -> str | None:
    return None


def _as_it_is(atoms: Atoms, *_: Any) -> None:
    return None


@dataclass(frozen=True)
class Ensemble:
    """What the program may ask about an ensemble.

    `md` is always the section MD, which has the keys of `keys`: times in fs, `temperature` in K.
    `atoms` are in ASE's units (Å, u, eV; momenta in u·Å/(Å·sqrt(u/eV))); only `build`, `fit` and
    `take_over` may change them.

    Attributes:
        keys: The keys of MD that mean something to it; those that no other ensemble has are added
            to the section. They need a default and a description with their unit.
        build: Returns ASE's integrator. Its arguments are the atoms, which have momenta, a
            calculator, and the constraints of held atoms (see `cannot_hold`), and may be given
            more; MD; and the random generator from which all its noise comes.
        moves_cell: Whether it changes the cell, and so needs one that is periodic in three
            directions.
        needs_stress: Whether the integrator asks the calculator for the stress.
        pressure: The pressure that it aims at, in eV/Å³; None: it aims at none.
        holds_centre: Whether it keeps the centre of mass at rest, or counts on its being so.
        holds_temperature: Whether it has a thermostat.
        noisy: Whether noise alone makes another future; else velocities are drawn anew for one.
        kept: What its integrators keep between steps, by the name of the integrator's class; those
            that are not named keep nothing.
        mistake: Says what is wrong with the value of a key, if anything is; its arguments are the
            key and the value. Asked while settings are read, of keys that not all ensembles have.
        why_not: Says in one sentence why it cannot move a geometry, if it cannot.
        cannot_hold: Why it cannot hold atoms in place, as the end of a sentence; empty: its
            integrator heeds the constraints that the atoms have.
        fit: Brings atoms that begin into the form that the integrator needs: may turn them together
            with their cell.
        take_over: Makes atoms that another integrator moved fit for this one, momenta too; may draw
            from the random generator. An ensemble that keeps nothing cannot tell whose atoms they
            are, and is asked at every cut: it must leave what fits as it is.
    """

    keys: type[MDKeys]
    build: Callable[[Atoms, Any, np.random.Generator], MolecularDynamics]
    moves_cell: bool = False
    needs_stress: Callable[[Any], bool] = _no
    pressure: Callable[[Any], float] | None = None
    holds_centre: Callable[[Any], bool] = _no
    holds_temperature: bool = True
    noisy: bool = False
    kept: Mapping[str, Kept] = field(default_factory=dict)
    mistake: Callable[[str, Any], str | None] = _no_objection
    why_not: Callable[[Atoms, Any], str | None] = _no_objection
    cannot_hold: str = "it does not say that its integrator heeds constraints"
    fit: Callable[[Atoms], None] = _as_it_is
    take_over: Callable[[Atoms, Any, np.random.Generator], None] = _as_it_is
