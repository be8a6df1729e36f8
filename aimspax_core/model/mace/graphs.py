"""Structures and labels as MACE's graphs, and graphs in batches."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import ase
import numpy as np
import torch
from mace.data import AtomicData, Configuration, KeySpecification, config_from_atoms
from mace.tools import AtomicNumberTable, build_default_arg_parser, check_args
from mace.tools.torch_geometric.batch import Batch

from aimspax_core.errors import ModelError
from aimspax_core.model.number_format import number_format
from aimspax_core.settings.families.mace import mace_architecture
from aimspax_core.settings.model import ModelSettings
from aimspax_core.structures import symbols_text

HEAD, REPLAY_HEAD = "Default", "pt_head"
"""A member's own head, and that of replayed data, by MACE's names."""


def heads(settings: ModelSettings) -> list[str]:
    """Return the heads of members in training; a model with one has the first of them."""
    return [HEAD, REPLAY_HEAD] if settings.TRAINING.replays else [HEAD]


KEYS = KeySpecification(
    info_keys={"energy": "REF_energy", "stress": "REF_stress", "virials": "REF_virials"},
    arrays_keys={"forces": "REF_forces"},
)


def arguments(settings: ModelSettings) -> argparse.Namespace:
    """Return what MACE's `run_train` would have parsed for the same settings.

    Whatever the user cannot set has the default of the installed MACE.
    """
    args = build_default_arg_parser().parse_args([f"--name={settings.GENERAL.name_exp}"])
    for section in (settings.ARCHITECTURE, settings.TRAINING):
        for name, value in section:
            if hasattr(args, name):
                setattr(args, name, value)
    args.radial_MLP = str(mace_architecture(settings).radial_MLP)
    args.loss = {"weighted_stress": "stress"}.get(args.loss, args.loss)
    args.default_dtype = settings.GENERAL.default_dtype
    args.compute_stress = settings.GENERAL.compute_stress
    args.compute_energy, args.compute_dipole = True, False
    args, _ = check_args(args)
    return args


def replay_graphs(
    structures: Sequence[ase.Atoms], elements: Sequence[int], settings: ModelSettings
) -> list[AtomicData]:
    """Turn replayed structures into graphs of their own head; see `graphs`.

    Their weight in the loss is multiplied by `TRAINING.weight_pt_head`.
    """
    made = graphs(structures, elements, settings, REPLAY_HEAD)
    for graph in made:
        graph.weight *= settings.TRAINING.weight_pt_head
    return made


def graphs(
    structures: Sequence[ase.Atoms],
    elements: Sequence[int],
    settings: ModelSettings,
    head: str = HEAD,
) -> list[AtomicData]:
    """Turn structures, labelled or not, into MACE's graphs.

    Args:
        structures: Labels in `info["REF_energy"]` (eV), `arrays["REF_forces"]` (n_atoms × 3,
            eV/Å), `info["REF_stress"]` (eV/Å³, Voigt or 3 × 3, ASE's sign) and
            `info["REF_virials"]` (eV; from the stress if not given); a missing one has weight 0.
            Only a structure that is periodic in all directions can have either.
            `info["config_type"]` weighs the structure.
        elements: Atomic numbers that the models know.
        settings: For `r_max`, `config_type_weights` and `default_dtype`.
        head: By which the models predict them.

    Raises:
        ModelError: A structure has an element that the models do not know.
    """
    table = AtomicNumberTable(sorted(int(z) for z in elements))
    weights = settings.TRAINING.config_type_weights
    made = []
    with number_format(settings.GENERAL.default_dtype):
        for index, atoms in enumerate(structures):
            unknown = set(atoms.numbers.tolist()) - set(table.zs)
            if unknown:
                raise ModelError(
                    f"structure {index} ({atoms.get_chemical_formula()}) has "
                    f"{symbols_text(unknown)}, but the models know only {symbols_text(table.zs)}"
                )
            config = config_from_atoms(atoms, KEYS, weights, head)
            _settle_stress(config)
            r_max = mace_architecture(settings).r_max
            graph = AtomicData.from_config(config, table, r_max, heads=heads(settings))
            setattr(graph, _LABEL, config.properties["energy"])
            made.append(graph)
    return made


_LABEL = "__label__"
"""Where a graph keeps its label's energy (eV) in full; MACE passes over names like this one."""


def energy_label(graph: AtomicData) -> float:
    """Return the energy (eV) that a structure is labelled with, in double precision."""
    return float(getattr(graph, _LABEL))


class _Collated(Batch):
    """MACE's batch, which looks through all its fields whenever it is asked for one; this does not.

    Its fields are set once, in `collated`.
    """

    def to(self, device: torch.device, *keys: str, **changes: Any) -> _Collated:
        """Move it; MACE does so in every step, wherever it is."""
        if keys or changes or self["positions"].device != device:
            super().to(device, *keys, **changes)
        return self

    def to_dict(self) -> dict[str, torch.Tensor]:
        """Return its tensors by their names."""
        return {name: item for name, item in vars(self).items() if torch.is_tensor(item)}


def collated(data: Sequence[AtomicData]) -> Batch:
    """Return what `Batch.from_data_list` returns of MACE's graphs, in a fifth of its time."""
    sizes = torch.tensor([len(graph.positions) for graph in data])
    ends = sizes.cumsum(0)
    batch = _Collated(
        batch=torch.repeat_interleave(torch.arange(len(data)), sizes),
        ptr=torch.cat([torch.zeros(1, dtype=torch.long), ends]),
    )
    for name, first in vars(data[0]).items():
        if torch.is_tensor(first):
            batch[name] = _joined([vars(graph)[name] for graph in data], name, ends - sizes)
    return batch


def _joined(items: Sequence[torch.Tensor], name: str, starts: torch.Tensor) -> torch.Tensor:
    """Put one field of several graphs together."""
    if items[0].dim() == 0:
        return torch.stack(list(items))
    if name == "edge_index":
        return torch.cat([one + int(at) for one, at in zip(items, starts, strict=True)], dim=1)
    return torch.cat(list(items))


def batches(data: Sequence[AtomicData], size: int) -> list[Batch]:
    """Collate graphs in their order, `size` a batch, the last one possibly smaller.

    Unlike a DataLoader this draws nothing from the global random generator.
    """
    return [collated(data[start : start + size]) for start in range(0, len(data), size)]


def _settle_stress(config: Configuration) -> None:
    """Derive virials from stress; drop both where there is no volume, but MACE makes one up."""
    properties, weights = config.properties, config.property_weights
    if not (config.pbc is not None and all(config.pbc)):
        for name in ("stress", "virials"):
            properties[name], weights[name] = None, 0.0
    elif properties["virials"] is None and properties["stress"] is not None:
        # MACE's sign: stress is dE/dε / V, virials are -dE/dε (modules.utils).
        volume = abs(np.linalg.det(np.asarray(config.cell, dtype=float)))
        properties["virials"] = -volume * np.asarray(properties["stress"], dtype=float)
        weights["virials"] = weights["stress"]
