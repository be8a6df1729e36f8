"""Every structure whose label was asked for, and why; and the label files themselves."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from ase import Atoms

from aimspax_core.campaign.final_sets import seen
from aimspax_core.campaign.state import CampaignState, Point
from aimspax_core.labels.store import LabelStore
from aimspax_core.report.document import contents
from aimspax_core.report.document.source import Source
from aimspax_core.report.document.story import Asked

T = TypeVar("T")

READ = 5000
"""Label files that are read at most; of more, evenly spaced ones."""


def labels(source: Source) -> list[contents.Label]:
    """Return a row for each structure, in the order in which they were asked for."""
    state, asked = source.state, source.story.asked
    uses = used_for(state)
    return [
        _row(source, point, asked.get(key, Asked(key)), uses.get(key, ""))
        for key, point in state.points.items()
    ]


def used_for(state: CampaignState) -> dict[str, str]:
    """Return what labels are used for, by key; those for nothing are not there.

    Where members have sets of their own, one may train on what another validates with.
    """
    found: dict[str, set[str]] = {}
    for tag in state.members:
        sets = seen(state, tag)
        for use, keys in (("training", sets.training), ("validation", sets.validation)):
            for key in keys:
                found.setdefault(key, set()).add(use)
    for key, point in state.points.items():
        if point.analysis:
            found.setdefault(key, set()).add("analysis")
    return {key: " and ".join(sorted(uses)) for key, uses in found.items()}


def _row(source: Source, point: Point, asked: Asked, use: str) -> contents.Label:
    uncertainty = asked.uncertainty if asked.uncertainty is not None else point.uncertainty
    return contents.Label(
        key=point.key,
        geometry=point.geometry,
        origin=_origin(point, asked),
        trajectory=point.trajectory,
        step=asked.step,
        why=_why(source, point, asked),
        uncertainty=uncertainty,
        threshold=asked.threshold,
        error=None if asked.judged is None else asked.judged.error,
        status=point.status.value,
        used_for=use if point.status.value == "labelled" else "",
        hours=None if asked.arrived is None else asked.arrived / 3600,
        wall_s=asked.wall_s,
        core_hours=asked.core_hours,
        from_store=point.from_store or asked.from_store,
        reason=point.reason,
    )


def _origin(point: Point, asked: Asked) -> str:
    if point.sampling_step is not None:
        return f"sampling step {point.sampling_step}"
    step = "" if asked.step is None else f", MD step {asked.step}"
    return f"trajectory {point.trajectory}{step}"


def _why(source: Source, point: Point, asked: Asked) -> str:
    if point.sampling_step is not None:
        return "initial dataset"
    if point.analysis:
        return "for analysis"
    if source.state.rules.random_share is not None:
        return "taken by chance"
    if asked.uncertainty is None or asked.threshold is None:
        return "uncertainty above its threshold"
    if is_below(asked):
        return (
            f"taken anyway, by `uncert_not_crossed_limit`: uncertainty {asked.uncertainty:.3g}, "
            f"not above {asked.threshold:.3g}"
        )
    return f"uncertainty {asked.uncertainty:.3g} above {asked.threshold:.3g}"


def is_below(asked: Asked) -> bool:
    """Return whether a structure was asked for though it was not above a known threshold."""
    if asked.uncertainty is None or asked.threshold is None:
        return False
    return asked.uncertainty <= asked.threshold


@dataclass
class Files:
    """What the label files of a campaign tell, all together.

    Attributes:
        structures: How many labels the campaign has.
        read: How many of the files were read.
        machines: Hosts that computed them.
        methods: Engine, method and version.
        versions: Engine and version.
        formulas: Of the structures.
        warnings: Of the engine.
        energies: Energy per atom (eV) of each.
        forces: Norm of the force on each atom (eV/Å).
        stress: Whether any has a stress.
    """

    structures: int = 0
    read: int = 0
    machines: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    versions: Counter[tuple[str, str]] = field(default_factory=Counter)
    formulas: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    energies: list[float] = field(default_factory=list)
    forces: list[Any] = field(default_factory=list)
    stress: bool = False

    @classmethod
    def of(cls, source: Source) -> Files:
        """Read the files; one that cannot be read is left out, as a report changes nothing."""
        store, keys = LabelStore(source.run.labels), source.state.labelled
        found = cls(structures=len(keys))
        for key in evenly(keys, READ):
            content = label_content(store, key)
            if content is not None:
                found.note(content)
        return found

    def note(self, content: dict[str, Any]) -> None:
        """Take in what a file holds."""
        structure, provenance = content["structure"], content.get("provenance") or {}
        self.read += 1
        self.formulas[Atoms(structure["numbers"]).get_chemical_formula()] += 1
        self.energies.append(content["energy"] / len(structure["numbers"]))
        self.forces.append(np.linalg.norm(np.asarray(content["forces"]).reshape(-1, 3), axis=1))
        self.stress = self.stress or content.get("stress") is not None
        if "host" in provenance:
            self.machines[str(provenance["host"])] += 1
        names = (provenance.get(name) for name in ("engine", "method", "version"))
        self.methods[" ".join(str(name) for name in names if name) or "not known"] += 1
        if provenance.get("version"):
            self.versions[str(provenance.get("engine")), str(provenance["version"])] += 1
        for warning in provenance.get("warnings") or ():
            self.warnings[str(warning)] += 1

    def versions_of(self, engine: str) -> list[str]:
        """Return the versions of an engine that computed labels, the one of most of them first."""
        return [version for (name, version), _ in self.versions.most_common() if name == engine]

    def card(self) -> contents.DataCard:
        """Return the card of the data."""
        energies, norms = np.array(self.energies), np.concatenate([*self.forces, np.zeros(0)])
        return contents.DataCard(
            structures=self.structures,
            read=self.read,
            formulas=dict(self.formulas.most_common()),
            energy_eV_per_atom=(
                (float(energies.min()), float(energies.mean()), float(energies.max()))
                if len(energies)
                else None
            ),
            force_eV_per_A=(
                (
                    float(np.sqrt(np.mean(norms**2))),
                    float(np.percentile(norms, 99)),
                    float(norms.max()),
                )
                if len(norms)
                else None
            ),
            stress=self.stress,
            warnings=dict(self.warnings.most_common()),
            methods=dict(self.methods.most_common()),
        )


def evenly(values: list[T], most: int) -> list[T]:
    """Return values, or evenly spaced ones of them if they are too many; the last is among them."""
    if len(values) <= most:
        return values
    places = np.linspace(0, len(values) - 1, most).round().astype(int)
    return [values[place] for place in places]


def label_content(store: LabelStore, key: str) -> dict[str, Any] | None:
    """Return what a label's file holds, as it is; None if it cannot be read, or holds no label.

    `LabelStore.get` sets damaged files aside: a report changes nothing.
    """
    try:
        content: dict[str, Any] = json.loads(store.path(key).read_text(encoding="utf-8"))
        whole = content["structure"]["numbers"] and "energy" in content and "forces" in content
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content if whole else None
