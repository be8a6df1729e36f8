"""Somebody's trained MACE model, read and held against what the settings build."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from mace.tools.scripts_utils import extract_radial_MLP

from aimspax_core.errors import ModelError
from aimspax_core.model.committee import Committee
from aimspax_core.model.family import GivenModel
from aimspax_core.model.mace.build import Constants, build
from aimspax_core.model.mace.cueq import to_cueq
from aimspax_core.model.mace.evaluator import MaceEvaluator
from aimspax_core.model.mace.model_files import copy_model, load_model
from aimspax_core.model.mace.product_basis import products, settings_of, take_products
from aimspax_core.settings.families.mace import mace_architecture
from aimspax_core.settings.model import ModelSettings

READERS: dict[str, Callable[[Any], Any]] = {
    "r_max": lambda model: round(float(model.r_max), 6),
    "num_interactions": lambda model: int(model.num_interactions),
    "num_channels": lambda model: int(model.node_embedding.linear.irreps_out.dim),
    "max_L": lambda model: int(model.products[0].linear.irreps_out.lmax),
    "max_ell": lambda model: int(model.spherical_harmonics._lmax),
    "correlation": lambda model: len(_contraction(model).weights) + 1,
    "interaction": lambda model: type(model.interactions[-1]).__name__,
    "interaction_first": lambda model: type(model.interactions[0]).__name__,
    "num_radial_basis": lambda model: int(model.radial_embedding.out_dim),
    "num_cutoff_basis": lambda model: int(model.radial_embedding.cutoff_fn.p),
    "radial_type": lambda model: type(model.radial_embedding.bessel_fn).__name__,
    "radial_MLP": lambda model: [int(width) for width in extract_radial_MLP(model)],
    "MLP_irreps": lambda model: str(model.readouts[-1].hidden_irreps),
    "gate": lambda model: getattr(model.readouts[-1].non_linearity.acts[0].f, "__name__", None),
}
"""How the keys of ARCHITECTURE are read off a model; MACE's own names of classes count."""


def given_model(path: Path, settings: ModelSettings, seed: int) -> GivenModel:
    """Return the model of a file as the settings build it, with the file's weights.

    Args:
        path: A `.model` file, of MACE's `run_train` or ours.
        settings: Settings of the members; their ARCHITECTURE must be that of the file.
        seed: Of the model that the file's weights are put into.

    Raises:
        ModelError: The file cannot be read, or is of another architecture; the text names the keys
            of ARCHITECTURE that differ.
    """
    return rebuilt(load_model(path).to("cpu"), path, settings, seed)


def rebuilt(
    theirs: Any, path: Path | str, settings: ModelSettings, seed: int, converted: bool = True
) -> GivenModel:
    """Return a model as the settings build it, with its weights.

    Args:
        theirs: The model, on the CPU.
        path: Its file or name, for messages.
        settings: As for `given_model`.
        seed: Likewise.
        converted: For the kernels that `MISC.enable_cueq` asks for.

    Raises:
        ModelError: It is of another architecture.
    """
    elements = tuple(int(z) for z in theirs.atomic_numbers)
    require_adoptable(theirs, elements, path, settings)
    settings = _with_basis(settings, theirs)
    constants = _constants(theirs, elements)
    ours = build(settings, elements, constants, seed)
    differences = _differences(ours, theirs)
    if differences:
        raise ModelError(f"{path} is not what the settings say: {'; '.join(differences)}")
    _take_weights(ours, theirs, path)
    if not alike(ours, theirs, elements, settings):
        raise ModelError(
            f"{path} has the weights that the settings ask for, but predicts something else "
            "with them: it was built with options of MACE that ARCHITECTURE does not have"
        )
    model = to_cueq(ours, settings) if converted else ours
    return GivenModel(model, elements, constants)


def require_adoptable(
    model: Any, elements: Sequence[int], path: Path | str, settings: ModelSettings
) -> None:
    """Refuse what no member could be, whatever its ARCHITECTURE."""
    heads = getattr(model, "heads", None) or ["Default"]
    if len(heads) > 1:
        raise ModelError(f"{path} has {len(heads)} heads ({', '.join(heads)}), members have one")
    if list(elements) != sorted(elements):
        raise ModelError(f"{path} does not have its elements in order: {list(elements)}")
    if not hasattr(model, "products") or hasattr(model, "joint_embedding"):
        raise ModelError(f"{path} is a {type(model).__name__}, which members cannot be")
    if not hasattr(model.products[0].symmetric_contractions, "contractions"):
        raise ModelError(f"{path} is for other kernels than MACE's own (convert_cueq_e3nn in MACE)")
    given = settings.ARCHITECTURE.atomic_energies
    missing = [chemical_symbols[z] for z in elements if given is not None and z not in given]
    if missing:
        raise ModelError(
            f"ARCHITECTURE.atomic_energies has no energy of {', '.join(missing)}, known to {path}"
        )


def _with_basis(settings: ModelSettings, theirs: torch.nn.Module) -> ModelSettings:
    """Return the settings with the file's basis of the products, unless the user named one.

    The weights of cuEquivariance's kernels do not tell their basis: it stays that of the settings.
    """
    named = "use_reduced_cg" in settings.ARCHITECTURE.model_fields_set
    if named or settings.MISC.enable_cueq:
        return settings
    return settings_of(settings, theirs.state_dict())


def _constants(model: Any, elements: Sequence[int]) -> Constants:
    energies = model.atomic_energies_fn.atomic_energies.detach().double().ravel().tolist()
    scaling = getattr(model, "scale_shift", None)  # MACE's class `MACE` has none
    return Constants(
        atomic_energies=dict(zip(elements, energies, strict=True)),
        avg_num_neighbors=float(model.interactions[0].avg_num_neighbors),
        scale=1.0 if scaling is None else float(scaling.scale.ravel()[0]),
        shift=0.0 if scaling is None else float(scaling.shift.ravel()[0]),
    )


def _differences(ours: torch.nn.Module, theirs: torch.nn.Module) -> list[str]:
    """Say which keys differ, as far as both models tell."""
    found = []
    for key, reader in READERS.items():
        wanted, has = read(reader, ours), read(reader, theirs)
        if wanted is not None and has is not None and wanted != has:
            found.append(f"ARCHITECTURE.{key} is {has} in the file, {wanted} in the settings")
    return found


def read(reader: Callable[[Any], Any], model: torch.nn.Module) -> Any:
    """Return what one of `READERS` reads off a model; None if it does not tell."""
    try:
        return reader(model)
    except (AttributeError, IndexError, TypeError):
        return None  # a class of another version or kind, which does not tell


def _contraction(model: Any) -> Any:
    return model.products[0].symmetric_contractions.contractions[0]


def _take_weights(ours: torch.nn.Module, theirs: torch.nn.Module, path: Path | str) -> None:
    """Copy the weights, converted to our number format, and to our basis of the products."""
    kept = {name for name, _ in products(ours)}
    source, wanted = _weights(theirs, kept), _weights(ours, kept)
    shapes = {name: tuple(weight.shape) for name, weight in wanted.items()}
    other = {name: tuple(weight.shape) for name, weight in source.items()}
    if shapes != other:
        unlike = sorted(name for name, _ in shapes.items() ^ other.items())
        raise ModelError(
            f"{path} is not what the settings build: weights differ in {', '.join(unlike[:3])}"
        )
    with torch.no_grad():
        for name, weight in wanted.items():
            weight.copy_(source[name])
    try:
        take_products(ours, theirs)
    except ModelError as error:
        raise ModelError(f"{path} is not what the settings build: {error}") from error


def _weights(model: torch.nn.Module, without: set[str]) -> dict[str, torch.nn.Parameter]:
    """Return the weights by name, without those of some modules."""
    return {
        name: weight
        for name, weight in model.named_parameters()
        if not any(name.startswith(f"{module}.") for module in without)
    }


def alike(
    ours: torch.nn.Module, theirs: torch.nn.Module, elements: Sequence[int], settings: ModelSettings
) -> bool:
    """Whether both predict the same forces for a cluster in which all elements meet."""
    kinds = list(elements) * max(1, -(-6 // len(elements)))
    side = int(np.ceil(len(kinds) ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3)[: len(kinds)]
    bent = grid + 0.1 * np.sin(np.arange(grid.size)).reshape(grid.shape)
    cluster = Atoms(numbers=kinds, positions=bent * mace_architecture(settings).r_max / 3)
    committees = [  # of one each, as they may know different elements
        Committee(MaceEvaluator([copy_model(model)], dtype="float64")) for model in (ours, theirs)
    ]
    mine, other = (committee.evaluate([cluster])[0].forces for committee in committees)
    # The file may have been made in float32 and ours rounded to it.
    return bool(np.allclose(mine, other, rtol=1e-3, atol=1e-3 * np.abs(other).max()))
