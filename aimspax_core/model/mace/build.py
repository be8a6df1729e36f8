"""MACE models: their data-dependent constants, and how they are built.

Everything scientific is MACE's own (`mace.tools.model_script_utils.configure_model`,
`mace.modules`, `mace.data`); this module only hands it the user's settings.
Source: MACE, Batatia et al., arXiv:2206.07697; `mace.cli.run_train`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mace import modules
from mace.data import AtomicData
from mace.tools import AtomicNumberTable
from mace.tools.model_script_utils import configure_model
from mace.tools.torch_geometric.batch import Batch
from numpy.typing import ArrayLike

from aimspax_core.errors import ModelError
from aimspax_core.model.mace.graphs import arguments, batches, heads
from aimspax_core.model.mace.model_files import model_lock
from aimspax_core.model.mace.product_basis import couplings
from aimspax_core.model.number_format import number_format
from aimspax_core.settings.families.mace import mace_architecture
from aimspax_core.settings.model import ModelSettings
from aimspax_core.structures import symbols_text

# Graphs a batch when only sums over the whole set are wanted.
_STATISTICS_BATCH = 32


@dataclass(frozen=True)
class Constants:
    """The constants of a member that follow from its training set.

    Attributes:
        atomic_energies: Energy (eV) of an atom of each element, by atomic number.
        avg_num_neighbors: Mean number of neighbours within `r_max`.
        scale: Factor of the interaction energy (eV).
        shift: Interaction energy an atom (eV) that is added to every atom.
    """

    atomic_energies: dict[int, float]
    avg_num_neighbors: float
    scale: float
    shift: float


def fit_atomic_energies(
    counts: ArrayLike, energies: ArrayLike, elements: Sequence[int]
) -> dict[int, float]:
    """Fit one energy an element to total energies by least squares.

    Where the compositions do not determine them, the solution of smallest norm is taken, as in
    `mace.data.compute_average_E0s`.

    Args:
        counts: Atoms of each element in each structure (n_structures × n_elements).
        energies: Total energies (n_structures, eV).
        elements: Atomic numbers in the order of the columns of `counts`.
    """
    matrix, target = np.asarray(counts, dtype=float), np.asarray(energies, dtype=float)
    solution = np.linalg.lstsq(matrix, target, rcond=None)[0]
    return {int(z): float(energy) for z, energy in zip(elements, solution, strict=True)}


def constants_of(
    data: Sequence[AtomicData],
    elements: Sequence[int],
    settings: ModelSettings,
    atomic_energies: dict[int, float] | None = None,
) -> Constants:
    """Return the constants that follow from a training set, as MACE's `run_train` computes them.

    `MACE` as model has no shift. Structures without energy or forces are left out.

    Args:
        data: Graphs of the training set.
        elements: Atomic numbers that the models know.
        settings: Which constants follow from the set, and how.
        atomic_energies: Energies (eV) to take as they are, if the settings give none.

    Raises:
        ModelError: No structure is labelled, a label is not finite, no two atoms are neighbours,
            or the user's atomic energies miss an element.
    """
    elements = sorted(int(z) for z in elements)
    labelled = [graph for graph in data if graph.energy_weight > 0 and graph.forces_weight > 0]
    _refuse_unusable(labelled)
    with number_format(settings.GENERAL.default_dtype):
        collated = batches(labelled, _STATISTICS_BATCH)
        energies = _atomic_energies(labelled, elements, settings, atomic_energies)
        shift, scale = _shift_and_scale(collated, energies, elements, settings)
        return Constants(energies, _neighbours(collated, settings), scale, shift)


def build(
    settings: ModelSettings, elements: Sequence[int], constants: Constants, seed: int
) -> torch.nn.Module:
    """Build, on the CPU, the model that MACE's `run_train` builds for the same arguments.

    The same `seed` gives the same weights, whatever else is installed; torch's global random state
    is left as it was.

    Raises:
        ModelError: MACE cannot build this architecture.
    """
    elements = sorted(int(z) for z in elements)
    args = arguments(settings)
    args.avg_num_neighbors = constants.avg_num_neighbors
    names = heads(settings)
    args.mean, args.std = (
        [number] * len(names) if len(names) > 1 else number
        for number in (constants.shift, constants.scale)
    )
    energies = np.array([[constants.atomic_energies[z] for z in elements]] * len(names))
    table = AtomicNumberTable(elements)
    dtype = settings.GENERAL.default_dtype
    # MACE converts weights to cuEquivariance's kernels by the tensors of the package itself.
    ours = args.use_reduced_cg and not settings.MISC.enable_cueq
    with (
        model_lock,
        number_format(dtype),
        couplings(reduced=ours),
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
        _root_logger_left_alone(),
    ):
        # Fifteen a model, from e3nn; the user can do nothing about them.
        warnings.filterwarnings("ignore", message="The TorchScript type system")
        # torch.manual_seed would seed CUDA's generators too, which are not forked here.
        torch.default_generator.manual_seed(seed)
        try:
            model, _ = configure_model(args, None, energies, heads=names, z_table=table)
        except (AssertionError, IndexError, RuntimeError, ValueError) as error:
            raise ModelError(f"MACE cannot build this ARCHITECTURE: {error}") from error
    return model


@contextmanager
def _root_logger_left_alone() -> Iterator[None]:
    """Keep MACE from giving the root logger a handler: all lines of a run would be printed twice.

    MACE logs by `logging.info`, which makes one where there is none.
    """
    root, nowhere = logging.root, logging.NullHandler()
    root.addHandler(nowhere)
    try:
        yield
    finally:
        root.removeHandler(nowhere)


def set_constants(model: torch.nn.Module, constants: Constants, elements: Sequence[int]) -> None:
    """Renew the data-dependent constants of `model` in place; its weights stay.

    Of several heads the member's own has them, the first.
    """
    parts: Any = model
    energies = [constants.atomic_energies[z] for z in sorted(int(z) for z in elements)]
    with torch.no_grad():
        buffer = parts.atomic_energies_fn.atomic_energies
        buffer.view(-1, len(energies))[0] = torch.tensor(energies, dtype=buffer.dtype)
        parts.scale_shift.scale.view(-1)[0] = constants.scale
        parts.scale_shift.shift.view(-1)[0] = constants.shift
    for interaction in parts.interactions:  # a plain attribute, so not in the state dict
        interaction.avg_num_neighbors = constants.avg_num_neighbors


def _refuse_unusable(labelled: Sequence[AtomicData]) -> None:
    if not labelled:
        raise ModelError("no training structure is labelled with energy and forces")
    for index, graph in enumerate(labelled):
        label = (graph.energy, graph.forces, graph.stress, graph.virials)
        if not all(torch.isfinite(part).all() for part in label):
            raise ModelError(f"the label of training structure {index} is not finite")


def _atomic_energies(
    data: Sequence[AtomicData],
    elements: Sequence[int],
    settings: ModelSettings,
    known: dict[int, float] | None,
) -> dict[int, float]:
    given = settings.ARCHITECTURE.atomic_energies or known
    if given is None:
        counts = [graph.node_attrs.sum(dim=0).tolist() for graph in data]
        return fit_atomic_energies(counts, [graph.energy.item() for graph in data], elements)
    missing = set(elements) - set(given)
    if missing:
        raise ModelError(f"ARCHITECTURE.atomic_energies has no energy of {symbols_text(missing)}")
    return {z: float(given[z]) for z in elements}


def _shift_and_scale(
    collated: Sequence[Batch],
    energies: dict[int, float],
    elements: Sequence[int],
    settings: ModelSettings,
) -> tuple[float, float]:
    scaling = mace_architecture(settings).scaling
    if scaling == "no_scaling":
        return 0.0, 1.0
    table = np.array([[energies[z] for z in elements]])
    shift, scale = modules.scaling_classes[scaling](collated, table)
    if mace_architecture(settings).model == "MACE":
        shift = 0.0
    return float(np.ravel(shift)[0]), float(np.ravel(scale)[0])


def _neighbours(collated: Any, settings: ModelSettings) -> float:
    if not mace_architecture(settings).compute_avg_num_neighbors:
        return 1.0
    if all(batch.edge_index.shape[1] == 0 for batch in collated):
        r_max = mace_architecture(settings).r_max
        raise ModelError(f"no two atoms of the training set are closer than r_max ({r_max} Å)")
    return float(modules.compute_avg_num_neighbors(collated))
