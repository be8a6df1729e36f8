"""MACE models: graphs and data-dependent constants, build, load, save, foundation models.

Everything scientific is MACE's own (`mace.tools.model_script_utils.configure_model`,
`mace.modules`, `mace.data`); this module only hands it the user's settings.
Source: MACE, Batatia et al., arXiv:2206.07697; `mace.cli.run_train`.
"""

from __future__ import annotations

import argparse
import importlib.util
import pickle
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols
from mace import modules
from mace.calculators import mace_mp
from mace.calculators.foundations_models import (
    download_mace_mp_checkpoint,
    mace_mp_names,
    mace_mp_urls,
)
from mace.data import AtomicData, Configuration, KeySpecification, config_from_atoms
from mace.tools import AtomicNumberTable, build_default_arg_parser, check_args
from mace.tools.model_script_utils import configure_model
from mace.tools.torch_geometric.batch import Batch
from numpy.typing import ArrayLike

from aimspax_core.errors import ModelError
from aimspax_core.files import replacing
from aimspax_core.settings.model import ModelSettings

HEAD = "Default"
KEYS = KeySpecification(
    info_keys={"energy": "REF_energy", "stress": "REF_stress", "virials": "REF_virials"},
    arrays_keys={"forces": "REF_forces"},
)

# Building, unpickling and copying a MACE model trace and compile code with torch.fx, which
# two threads must not do at the same time.
model_lock = threading.Lock()

# What torch.load raises for files that are no whole-module pickle, or of another version.
_BROKEN = (pickle.UnpicklingError, RuntimeError, EOFError)
_OTHER_VERSION = (AttributeError, ImportError, LookupError, ValueError)

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


@contextmanager
def number_format(dtype: str) -> Iterator[None]:
    """Make `dtype` ("float32" or "float64") torch's default within the block.

    MACE's own `default_dtype` does not restore it after an exception. The default belongs to
    the process: threads that work at the same time must use the same format.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def arguments(settings: ModelSettings) -> argparse.Namespace:
    """Return what MACE's `run_train` would have parsed for the same settings.

    Whatever the user cannot set has the default of the installed MACE.
    """
    args = build_default_arg_parser().parse_args([f"--name={settings.GENERAL.name_exp}"])
    for section in (settings.ARCHITECTURE, settings.TRAINING):
        for name, value in section:
            if hasattr(args, name):
                setattr(args, name, value)
    args.radial_MLP = str(settings.ARCHITECTURE.radial_MLP)
    args.loss = {"weighted_stress": "stress"}.get(args.loss, args.loss)
    args.default_dtype = settings.GENERAL.default_dtype
    args.compute_stress = settings.GENERAL.compute_stress
    args.compute_energy, args.compute_dipole = True, False
    args, _ = check_args(args)
    return args


def graphs(
    structures: Sequence[ase.Atoms], elements: Sequence[int], settings: ModelSettings
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
                    f"structure {index} ({atoms.get_chemical_formula()}) has {_symbols(unknown)}, "
                    f"but the models know only {_symbols(table.zs)}"
                )
            config = config_from_atoms(atoms, KEYS, weights, HEAD)
            _settle_stress(config)
            r_max = settings.ARCHITECTURE.r_max
            made.append(AtomicData.from_config(config, table, r_max, heads=[HEAD]))
    return made


def batches(data: Sequence[AtomicData], size: int) -> list[Batch]:
    """Collate graphs in their order, `size` a batch, the last one possibly smaller.

    Unlike a DataLoader this draws nothing from the global random generator.
    """
    return [
        Batch.from_data_list(list(data[start : start + size]))
        for start in range(0, len(data), size)
    ]


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

    The same `seed` gives the same weights; torch's global random state is left as it was.

    Raises:
        ModelError: MACE cannot build this architecture.
    """
    elements = sorted(int(z) for z in elements)
    args = arguments(settings)
    args.avg_num_neighbors = constants.avg_num_neighbors
    args.mean, args.std = constants.shift, constants.scale
    energies = np.array([[constants.atomic_energies[z] for z in elements]])
    table = AtomicNumberTable(elements)
    dtype = settings.GENERAL.default_dtype
    with (
        model_lock,
        number_format(dtype),
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
    ):
        # Fifteen a model, from e3nn; the user can do nothing about them.
        warnings.filterwarnings("ignore", message="The TorchScript type system")
        # torch.manual_seed would seed CUDA's generators too, which are not forked here.
        torch.default_generator.manual_seed(seed)
        try:
            model, _ = configure_model(args, None, energies, heads=[HEAD], z_table=table)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise ModelError(f"MACE cannot build this ARCHITECTURE: {error}") from error
    return model


def set_constants(model: torch.nn.Module, constants: Constants, elements: Sequence[int]) -> None:
    """Renew the data-dependent constants of `model` in place; its weights stay."""
    parts: Any = model
    energies = [constants.atomic_energies[z] for z in sorted(int(z) for z in elements)]
    with torch.no_grad():
        buffer = parts.atomic_energies_fn.atomic_energies
        buffer.copy_(torch.tensor(energies, dtype=buffer.dtype).reshape(buffer.shape))
        parts.scale_shift.scale.fill_(constants.scale)
        parts.scale_shift.shift.fill_(constants.shift)
    for interaction in parts.interactions:  # a plain attribute, so not in the state dict
        interaction.avg_num_neighbors = constants.avg_num_neighbors


def copy_model(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of `model` on the CPU; copying unpickles, so it takes the lock."""
    with model_lock:
        return deepcopy(model).to("cpu")


def save_model(model: torch.nn.Module, path: Path) -> None:
    """Write `model` as MACE's `run_train` does: the whole module, on the CPU, trainable.

    The file loads in `mace.calculators.MACECalculator`. It appears complete or not at all.
    """
    write_atomically(copy_model(model).requires_grad_(True), path)


def write_atomically(payload: Any, path: Path) -> None:
    """`torch.save` to a file that appears complete or not at all."""
    with replacing(Path(path)) as aside, aside.open("wb") as file:
        torch.save(payload, file)


def load_model(path: Path, device: str = "cpu", dtype: str | None = None) -> torch.nn.Module:
    """Load a MACE `.model` file; it is a pickle, so only from a path that the user named.

    Args:
        path: File written by MACE or by `save_model`.
        device: `cpu`, `cuda` or `cuda:N`.
        dtype: "float32" or "float64"; none: as saved.

    Raises:
        ModelError: There is no such file, or it holds no MACE model.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"there is no model file {path}")
    try:
        with model_lock:
            model = torch.load(path, map_location=device, weights_only=False)
    except (*_BROKEN, *_OTHER_VERSION) as error:
        raise ModelError(f"{path} is not a readable MACE model file: {error}") from error
    wanted = ("r_max", "atomic_numbers", "interactions", "atomic_energies_fn")
    if not isinstance(model, torch.nn.Module) or not all(hasattr(model, name) for name in wanted):
        raise ModelError(f"{path} holds no MACE model but a {type(model).__name__}")
    return model if dtype is None else model.to(getattr(torch, dtype))


def foundation_calculator(
    model: str,
    device: str,
    dtype: str,
    dispersion: bool = False,
    dispersion_xc: str = "pbe",
    dispersion_cutoff: float = 12.0,
    damping: str = "bj",
) -> Calculator:
    """Return MACE's own foundation-model calculator (`mace.calculators.mace_mp`).

    Args:
        model: A name that `mace_mp` knows ("small", "medium", …) or a local `.model` file.
        device: `cpu`, `cuda` or `cuda:N`.
        dtype: "float32" or "float64".
        dispersion: Add Grimme's D3 (package `torch-dftd`).
        dispersion_xc: Functional of the D3 parameters.
        dispersion_cutoff: Cutoff of D3 in Å.
        damping: Damping function of D3.

    Raises:
        ModelError: Neither a known name nor a model file, not downloadable from here, or
            `torch-dftd` is missing.
    """
    if dispersion and importlib.util.find_spec("torch_dftd") is None:
        raise ModelError(
            "dispersion: True needs the package torch-dftd, which is not installed "
            "(pip install torch-dftd)"
        )
    path = _foundation_file(model)
    load_model(path)  # says clearly what is wrong with a file; mace_mp would not
    with model_lock:
        return mace_mp(
            model=str(path),
            device=device,
            default_dtype=dtype,
            dispersion=dispersion,
            damping=damping,
            dispersion_xc=dispersion_xc,
            dispersion_cutoff=dispersion_cutoff,
        )


def _foundation_file(model: str) -> Path:
    """Return the local file of a foundation model, downloading it if it is a known name."""
    if model not in mace_mp_names and not str(model).startswith("https:"):
        if Path(model).is_file():
            return Path(model)
        near = get_close_matches(str(model), [n for n in mace_mp_names if n], n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ModelError(
            f"foundation model {model!r} is neither a file nor a name that MACE knows{hint}: "
            + ", ".join(name for name in mace_mp_names if name)
        )
    try:
        return Path(download_mace_mp_checkpoint(model))
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"cannot download foundation model {model!r} from {mace_mp_urls.get(model, model)}: "
            f"this machine has no access to it ({error}). Give a local .model file as "
            "mace_model"
        ) from error


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
        raise ModelError(f"ARCHITECTURE.atomic_energies has no energy of {_symbols(missing)}")
    return {z: float(given[z]) for z in elements}


def _shift_and_scale(
    collated: Sequence[Batch],
    energies: dict[int, float],
    elements: Sequence[int],
    settings: ModelSettings,
) -> tuple[float, float]:
    scaling = settings.ARCHITECTURE.scaling
    if scaling == "no_scaling":
        return 0.0, 1.0
    table = np.array([[energies[z] for z in elements]])
    shift, scale = modules.scaling_classes[scaling](collated, table)
    if settings.ARCHITECTURE.model == "MACE":
        shift = 0.0
    return float(np.ravel(shift)[0]), float(np.ravel(scale)[0])


def _neighbours(collated: Any, settings: ModelSettings) -> float:
    if not settings.ARCHITECTURE.compute_avg_num_neighbors:
        return 1.0
    if all(batch.edge_index.shape[1] == 0 for batch in collated):
        r_max = settings.ARCHITECTURE.r_max
        raise ModelError(f"no two atoms of the training set are closer than r_max ({r_max} Å)")
    return float(modules.compute_avg_num_neighbors(collated))


def why_no_cueq(settings: ModelSettings) -> str | None:
    """Return, in a sentence, why cuEquivariance cannot be used; none if it can or is not asked for.

    Nothing is imported: this may run where there is no GPU.
    """
    if not settings.MISC.enable_cueq:
        return None
    if not settings.MISC.device.startswith("cuda"):
        return f"cuEquivariance runs on NVIDIA GPUs only, but MISC.device is {settings.MISC.device}"
    for package in ("cuequivariance_torch", "cuequivariance_ops_torch"):
        if importlib.util.find_spec(package) is None:
            return (
                f"cuEquivariance needs the package {package}, which is not installed "
                "(pip install cuequivariance-torch cuequivariance-ops-torch-cu12)"
            )
    return None


def _symbols(numbers: Sequence[int] | set[int]) -> str:
    return ", ".join(chemical_symbols[int(z)] for z in sorted(numbers))
