"""The families So3krates and SO3LR: their sections ARCHITECTURE, losses, what may be wrong.

Keys, names and defaults are those of aims-PAX 0.2; where those of the package `so3krates-torch`
differ (embeddings, layer norms, cutoff, activations), aims-PAX's hold.
Source: Frank et al., Nature Communications 15, 6539 (2024) for So3krates; Kabylda et al., J. Am.
Chem. Soc. 147, 33723 (2025) for SO3LR.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from ase.data import chemical_symbols
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from aimspax_core.settings.families.not_of_so3krates import OF_SO3LR, not_of_these
from aimspax_core.settings.families.row import (
    Architecture,
    Example,
    FamilyRow,
    ModelSections,
    model_choice,
)
from aimspax_core.settings.families.so3lr_heads import head_mistakes, head_notes, heads_asked
from aimspax_core.settings.fine_tuning import PARTS
from aimspax_core.settings.reading.mistakes import Mistake, MistakeKind, mistaken
from aimspax_core.settings.values import AnyCase, Count, Number, Positive, Whole
from aimspax_core.structures import symbols_text
from aimspax_core.text import and_list

PACKAGE, EXTRA = "so3krates_torch", "pip install 'aimspax[so3lr]'"

Activation = Literal["silu", "relu", "gelu", "tanh", "identity"]


def _degrees(value: list[int]) -> list[int]:
    if not value or sorted(set(value)) != value:
        raise PydanticCustomError("type", "not degrees in rising order")
    return value


class So3kratesArchitecture(Architecture):
    """ARCHITECTURE: the So3krates network; names and meanings of `so3krates-torch`."""

    activation_fn: Activation = Field("silu", description="Activation of the hidden layers.")
    cutoff_fn: Literal["phys", "cosine", "polynomial", "exponential"] = Field(
        "phys", description="Cutoff function: PhysNet's (`phys`), or another."
    )
    cutoff_p: Count = Field(5, description="Order of the cutoff function `polynomial`.")
    degrees: Annotated[list[Count], AfterValidator(_degrees)] = Field(
        [1, 2, 3, 4],
        description="Degrees of the spherical harmonics of the Euclidean features; their number "
        "divides `num_features`.",
        json_schema_extra={"allowed": "different degrees in rising order, such as [1, 2, 3]"},
    )
    energy_activation_fn: Activation = Field(
        "identity", description="Activation of the energy's last layers."
    )
    energy_learn_atomic_type_scales: bool = Field(
        True, description="Train a factor of the energy for each element."
    )
    energy_learn_atomic_type_shifts: bool = Field(
        True,
        description="Train a shift of the energy for each element, beside the energies of the "
        "free atoms.",
    )
    energy_regression_dim: Count = Field(128, description="Width of the energy's last layers.")
    final_mlp_layers: Count = Field(2, description="Number of the energy's last layers.")
    initialize_ev_to_zeros: bool = Field(
        True, description="Begin with Euclidean features of zero; else from the neighbours."
    )
    input_convention: Literal["positions"] = Field(
        "positions", description="What the network reads."
    )
    interaction_bias: bool = Field(True, description="A bias in the interaction block.")
    layer_normalization_1: bool = Field(
        True, description="Layer normalization after the attention block."
    )
    layer_normalization_2: bool = Field(
        True, description="Layer normalization after the interaction block."
    )
    layers_behave_like_identity_fn_at_init: Literal[False] = Field(
        False, description="Not available in `so3krates-torch`."
    )
    message_normalization: Literal["avg_num_neighbors", "sqrt_num_features", "identity"] = Field(
        "avg_num_neighbors", description="What messages are divided by."
    )
    model_choice: Literal["so3krates"] = model_choice("so3krates")
    num_features: Count = Field(128, description="Invariant features.")
    num_heads: Count = Field(4, description="Attention heads; divides `num_features`.")
    num_layers: Count = Field(3, description="Message-passing layers.")
    num_radial_basis_fn: Count = Field(32, description="Radial basis functions.")
    output_is_zero_at_init: Literal[False] = Field(
        False, description="Not available in `so3krates-torch`."
    )
    qk_non_linearity: Activation = Field("identity", description="Activation of queries and keys.")
    r_max: Positive = Field(4.5, description="Cutoff radius (Å).")
    radial_basis_fn: Literal["bernstein", "gaussian", "bessel"] = Field(
        "bernstein", description="Radial basis."
    )
    residual_mlp_1: bool = Field(True, description="A residual MLP after the attention block.")
    residual_mlp_2: bool = Field(False, description="A residual MLP after the interaction block.")
    solve_energies: Annotated[Literal["auto", "always", "never"], AnyCase()] = Field(
        "auto",
        description="Solve for the energy of each element's atom by least squares, from what the "
        "averaged weights miss on the training set, as training begins and ends; forces do not "
        "change. `auto`: unless `atomic_energies` are given; `always`: they are where it begins; "
        "`never`: the rest is left to training, as in the original.",
    )
    trainable_rbf: bool = Field(False, description="Train the radial basis, too.")
    use_charge_embed: bool = Field(True, description="Embed the total charge.")
    use_spin_embed: bool = Field(True, description="Embed the number of unpaired electrons.")


class So3lrArchitecture(So3kratesArchitecture):
    """ARCHITECTURE: So3krates with ZBL repulsion, electrostatics and dispersion."""

    dispersion_energy_bool: bool = Field(True, description="Add dispersion.")
    dispersion_energy_cutoff_lr_damping: Positive = Field(
        2.0, description="Width (Å) over which dispersion fades out before `r_max_lr`."
    )
    dispersion_energy_scale: Number = Field(1.2, description="Scale of dispersion's damping.")
    electrostatic_energy_bool: bool = Field(
        True, description="Add electrostatics of the predicted partial charges."
    )
    electrostatic_energy_scale: Number = Field(
        4.0, description="Width of the electrostatics' damping at short range."
    )
    model_choice: Literal["so3lr"] = model_choice("so3lr")  # type: ignore[assignment]
    neighborlist_format_lr: Literal["sparse"] = Field(
        "sparse", description="Format of the list of far neighbours."
    )
    num_multihead_heads: Whole | None = Field(
        None, ge=2, description="`use_multihead_model`: number of heads, at least 2."
    )
    r_max_lr: Positive | None = Field(
        None,
        description="Cutoff radius (Å) of electrostatics and dispersion, which need one; usual: "
        "12.",
    )
    use_multihead_model: bool = Field(
        False,
        description="One network with several heads takes the place of the ensemble, with "
        "`ensemble_size: 1`: the spread of the heads is the uncertainty; see "
        "`docs/several-heads.md`.",
    )
    zbl_repulsion_bool: bool = Field(True, description="Add the ZBL repulsion of nuclei.")

    @model_validator(mode="after")
    def _says_how_many_heads(self) -> Self:
        if self.use_multihead_model and self.num_multihead_heads is None:
            why = "`use_multihead_model: True` needs it, how many heads there are"
            raise mistaken(Mistake(MistakeKind.MISSING, why=why, key="num_multihead_heads"))
        return self


def so3krates_architecture(settings: ModelSections) -> So3kratesArchitecture:
    """Return the section ARCHITECTURE of settings whose `model_choice` is of these families."""
    architecture: Architecture = settings.ARCHITECTURE
    assert isinstance(architecture, So3kratesArchitecture)
    return architecture


def far_cutoff(architecture: So3kratesArchitecture) -> float | None:
    """Return the cutoff radius (Å) of the neighbours at long range; None if there are none."""
    if not isinstance(architecture, So3lrArchitecture):
        return None
    wanted = architecture.electrostatic_energy_bool or architecture.dispersion_energy_bool
    return architecture.r_max_lr if wanted else None


USUAL_FAR = {"r_max_lr": 12.0, "dispersion_energy_cutoff_lr_damping": 2.0}
"""What holds (Å) where neither a model of SO3LR nor the settings say it, as in the package's."""


def why_not_installed() -> str | None:
    """Return, in a sentence, why these models cannot be computed here; None if they can."""
    if importlib.util.find_spec(PACKAGE) is None:
        return f"these models need the package so3krates-torch, which is not installed ({EXTRA})"
    return None


FOUNDATION = "so3lr"
"""The name by which the SO3LR of the package can be fine-tuned."""

FOUNDATION_ELEMENTS = (1, 6, 7, 8, 9, 15, 16, 17)
"""What the SO3LR that comes with the package was trained on."""


def _foundation_misses(path: Path | None, needed: Collection[int]) -> str | None:
    """Say which elements the package's SO3LR lacks; a user's file has to be loaded to tell."""
    unknown = set(needed) - set(FOUNDATION_ELEMENTS)
    own = path is None or (path.name == FOUNDATION and not path.is_file())
    if not own or not unknown:
        return None
    known = symbols_text(FOUNDATION_ELEMENTS)
    return f"SO3LR does not know {symbols_text(unknown)}; it knows {known}"


def _mistakes(settings: ModelSections, elements: Sequence[int], here: bool) -> Iterator[str]:
    """Yield what is wrong: what is not installed, what does not fit together."""
    architecture = so3krates_architecture(settings)
    why = why_not_installed() if here else None
    if why is not None:
        yield f"ARCHITECTURE.model_choice: {architecture.model_choice}: {why}"
    if architecture.num_features % architecture.num_heads:
        yield (
            f"ARCHITECTURE.num_heads: found {architecture.num_heads}, which does not divide "
            f"num_features ({architecture.num_features})"
        )
    if architecture.num_features % len(architecture.degrees):
        yield (
            f"ARCHITECTURE.degrees: found {len(architecture.degrees)} degrees, a number that does "
            f"not divide num_features ({architecture.num_features})"
        )
    yield from _far_mistakes(architecture)
    yield from _unpredicted(settings)
    yield from head_mistakes(settings)
    known = architecture.atomic_energies
    if known is not None and set(elements) - set(known):
        missing = ", ".join(chemical_symbols[z] for z in sorted(set(elements) - set(known)))
        yield f"ARCHITECTURE.atomic_energies: no energy for {missing}"
    yield from not_of_these(settings)


def _far_mistakes(architecture: So3kratesArchitecture) -> Iterator[str]:
    """Yield what is wrong with the long range."""
    if not isinstance(architecture, So3lrArchitecture):
        return
    if not (architecture.electrostatic_energy_bool or architecture.dispersion_energy_bool):
        return
    if architecture.r_max_lr is None:
        yield (
            "ARCHITECTURE.r_max_lr: missing; electrostatics and dispersion need a cutoff radius "
            "(Å), such as 12"
        )
    elif architecture.r_max_lr < architecture.r_max:
        yield (
            f"ARCHITECTURE.r_max_lr: found {architecture.r_max_lr:g}, which is less than r_max "
            f"({architecture.r_max:g})"
        )
    elif architecture.dispersion_energy_cutoff_lr_damping > architecture.r_max_lr:
        yield (
            "ARCHITECTURE.dispersion_energy_cutoff_lr_damping: found "
            f"{architecture.dispersion_energy_cutoff_lr_damping:g}, which is more than r_max_lr "
            f"({architecture.r_max_lr:g}), before which dispersion fades out"
        )


def _unpredicted(settings: ModelSections) -> Iterator[str]:
    """Yield keys that ask for dipoles or Hirshfeld ratios of networks that predict none."""
    architecture, training = settings.ARCHITECTURE, settings.TRAINING
    asked = {
        "dipole": f"TRAINING.dipole_weight: found {training.dipole_weight:g}",
        "hirshfeld_ratios": f"TRAINING.hirshfeld_weight: found {training.hirshfeld_weight:g}",
    }
    for quantity in settings.beside:
        if not getattr(architecture, part := _PART_OF[quantity]):
            yield f"{asked[quantity]}, which needs ARCHITECTURE.{part}: True"
    predicts = (
        isinstance(architecture, So3lrArchitecture) and architecture.electrostatic_energy_bool
    )
    if settings.MISC.compute_dipole and not predicts:
        yield (
            "MISC.compute_dipole: found True; only SO3LR with electrostatic_energy_bool predicts "
            "dipoles"
        )


def _notes(settings: ModelSections) -> Iterator[str]:
    """Yield what has no effect, what is trained beside LoRA, what becomes of given energies."""
    architecture = so3krates_architecture(settings)
    yield from head_notes(settings)
    if settings.TRAINING.uses_lora:
        beside = [text for part, text in PARTS.items() if _trained(settings, part)]
        if beside:
            yield (
                f"TRAINING.finetuning_choice: lora: {and_list(beside)} are trained, too, unless "
                "TRAINING.freeze_… keeps them"
            )
    if architecture.solve_energies == "always" and architecture.atomic_energies is not None:
        yield (
            "ARCHITECTURE.solve_energies: always: the given atomic energies are where it begins, "
            "and move"
        )
    training = settings.TRAINING
    if training.pretrained_weights is not None and training.pretrained_model is None:
        yield (
            "TRAINING.pretrained_weights: weights do not say their mean number of neighbours; that "
            "of the first training set is taken, and stays"
        )
    if settings.MISC.compile == "on":
        yield f"MISC.compile: on: {settings.ARCHITECTURE.model_choice} models are not compiled"


_LEARNT = {
    "shifts": "energy_learn_atomic_type_shifts",
    "scales": "energy_learn_atomic_type_scales",
}


def _trained(settings: ModelSections, part: str) -> bool:
    """Whether the models have a part that is not frozen, and train it."""
    if part in settings.TRAINING.frozen_parts:
        return False
    key = (OF_SO3LR | _LEARNT).get(part)
    return key is None or getattr(settings.ARCHITECTURE, key, False)


_NOT_OF_A_MODEL = {
    *("model_choice", "atomic_energies", "solve_energies", "neighborlist_format_lr"),
    *("layers_behave_like_identity_fn_at_init", "output_is_zero_at_init", "input_convention"),
    *("use_multihead_model", "num_multihead_heads"),
}
"""Keys of ARCHITECTURE that a trained model says nothing of, that leave no choice, or that say how
many members there are."""

_TUNING_LR = {"naive": 0.0003, "lora": 0.001}
"""By the usual rate SO3LR loses what it knows, or diverges; docs/fine-tuning.md has figures."""

_STRESS_LOSSES = ("stress", "weighted_stress")

_TRAINS = {
    "weighted_energy_forces_dipole": ("dipole",),
    "weighted_energy_forces_hirshfeld": ("hirshfeld_ratios",),
    "weighted_energy_forces_dipole_hirshfeld": ("dipole", "hirshfeld_ratios"),
}
"""Losses of SO3LR that train on more than energy and forces; So3krates predicts nothing more."""

_PART_OF = {
    "dipole": "electrostatic_energy_bool",
    "hirshfeld_ratios": "dispersion_energy_bool",
}
"""The part of SO3LR that predicts it."""

_OF_THE_CALCULATOR = (
    "It takes the total charge (e) from info['charge'] and S from info['total_spin']; datasets "
    "here have them as total_charge (e) and total_spin (2S+1), or as MISC.total_charge_key and "
    "total_spin_key name them."
)


def _row(
    name: str,
    architecture: type[So3kratesArchitecture],
    called: str,
    far: Mapping[str, float] | None = None,
    trains: Mapping[str, tuple[str, ...]] | None = None,
    **more: Any,
) -> FamilyRow:
    return FamilyRow(
        name=name,
        architecture=architecture,
        implementation=f"aimspax_core.model.so3krates.family:{name.upper()}",
        losses=("weighted", *_STRESS_LOSSES, *(trains or {})),
        trains=trains or {},
        stress_losses=_STRESS_LOSSES,
        mistakes=_mistakes,
        notes=_notes,
        why_not_installed=why_not_installed,
        reads_electrons=True,
        elements_by_loading=True,
        calculator_note=_OF_THE_CALCULATOR,
        tuning_lr=_TUNING_LR,
        weights_alone=True,
        heads=heads_asked,
        example=Example(
            architecture={"num_features": 64, "num_layers": 2, **(far or {})},
            training={"lr": 0.005},
            fine_tuning={"lr": _TUNING_LR["naive"]},
            called=called,
            names="those of so3krates-torch",
            larger="num_features 128, num_layers 3",
        ),
        told_keys=("r_max", "num_layers", "num_features", "num_heads", "degrees"),
        pretrained_keys=tuple(
            key for key in architecture.model_fields if key not in _NOT_OF_A_MODEL
        ),
        **more,
    )


SO3KRATES = _row("so3krates", So3kratesArchitecture, "So3krates", cites=("frank2024",))
SO3LR = _row(
    "so3lr",
    So3lrArchitecture,
    "SO3LR",
    {"r_max_lr": USUAL_FAR["r_max_lr"]},
    _TRAINS,
    cites=("frank2024", "kabylda2025"),
    foundation_cites=("kabylda2025",),
    foundations=("so3lr",),
    elements_missing=_foundation_misses,
    pretrained_names=(FOUNDATION,),
)
