"""The MACE family: its section ARCHITECTURE, its losses, what may be wrong before launch.

Source: aims-PAX README, section "MACE settings", and the second generation's keys.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from ase.data import chemical_symbols
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from aimspax_core.settings.engines import FOUNDATION_MODELS
from aimspax_core.settings.families.mace_file import elements_missing
from aimspax_core.settings.families.row import (
    Architecture,
    Example,
    FamilyRow,
    ModelSections,
    model_choice,
)
from aimspax_core.settings.values import AnyCase, Count, Natural, Positive, lower


def _text(value: Any) -> Any:
    """MACE writes `gate: None` as a name; YAML reads it so too, but `null` as nothing."""
    name = "none" if value is None else lower(value)
    return "None" if name == "none" else name


def _model_class(value: Any) -> Any:
    """Read `mace` as the second generation does: a kind of model, of the usual class."""
    if not isinstance(value, str) or value == "MACE":
        return value
    usual = value.lower() in ("mace", "scaleshiftmace")
    return "ScaleShiftMACE" if usual else value


def _irreps(value: str) -> str:
    if not re.fullmatch(r"\s*(\d+x)?\d+[eo]\s*(\+\s*(\d+x)?\d+[eo]\s*)*", value):
        raise PydanticCustomError("type", "not irreps")
    return value


Interaction = Literal[
    "RealAgnosticResidualInteractionBlock",
    "RealAgnosticAttResidualInteractionBlock",
    "RealAgnosticInteractionBlock",
    "RealAgnosticDensityInteractionBlock",
    "RealAgnosticDensityResidualInteractionBlock",
    "RealAgnosticResidualNonLinearInteractionBlock",
]


class MaceArchitecture(Architecture):
    """ARCHITECTURE: the MACE network; MACE's own names and meanings."""

    compute_avg_num_neighbors: bool = Field(
        True, description="Take the average number of neighbours from the training set; else 1."
    )
    correlation: Count = Field(3, description="Correlation order of the product basis.")
    gate: Annotated[Literal["silu", "tanh", "abs", "None"], AnyCase(_text, (None,))] = Field(
        "silu", description="Activation of the last readout."
    )
    interaction: Interaction = Field(
        "RealAgnosticResidualInteractionBlock", description="Interaction block."
    )
    interaction_first: Interaction = Field(
        "RealAgnosticResidualInteractionBlock", description="First interaction block."
    )
    max_ell: Natural = Field(3, description="Highest degree of the spherical harmonics.")
    max_L: Natural = Field(1, description="Highest degree of the messages.")
    MLP_irreps: Annotated[str, AfterValidator(_irreps)] = Field(
        "16x0e",
        description="Irreps of the last readout's hidden layer.",
        json_schema_extra={"allowed": "irreps as e3nn writes them, such as 16x0e"},
    )
    model: Annotated[Literal["ScaleShiftMACE", "MACE"], AnyCase(_model_class)] = Field(
        "ScaleShiftMACE",
        description="Model class: with scale and shift of the energies, or without. The second "
        "generation's `mace`, in small letters, is a kind of model and means `ScaleShiftMACE`.",
    )
    model_choice: Literal["mace"] = model_choice("mace")
    num_channels: Count = Field(128, description="Channels (features).")
    num_cutoff_basis: Count = Field(5, description="Order of the cutoff polynomial.")
    num_interactions: Count = Field(2, description="Message-passing layers.")
    num_radial_basis: Count = Field(8, description="Radial basis functions.")
    r_max: Positive = Field(5.0, description="Cutoff radius (Å).")
    radial_MLP: list[Count] = Field([64, 64, 64], description="Hidden layers of the radial MLP.")
    radial_type: Literal["bessel", "gaussian", "chebyshev"] = Field(
        "bessel", description="Radial basis."
    )
    scaling: Literal["rms_forces_scaling", "std_scaling", "no_scaling"] = Field(
        "rms_forces_scaling", description="How scale and shift follow from the training set."
    )
    solve_energies: Annotated[Literal["auto", "always", "never"], AnyCase()] = Field(
        "auto",
        description="Solve for the constant part of the energies by least squares, from what the "
        "averaged weights miss on the training set, as training begins and ends; forces do not "
        "change. `auto`: for the energy of each element's atom, or for the shift of a given "
        "ScaleShiftMACE, and not if `atomic_energies` are given; `always`: where these are given "
        "for ScaleShiftMACE's shift, or for them where there is none; `never`: they are a fit to "
        "the labels, and the rest is left to training, as in the original.",
    )
    use_reduced_cg: bool = Field(
        False,
        description="Product basis without couplings that are equal but for the order of their "
        "factors: fewer weights. MACE itself takes it wherever the package cuequivariance is "
        "installed; here this key alone decides, and the package is not needed. Weights of a given "
        "model are converted if this key is given; else (but for `enable_cueq`) they keep the "
        "basis of their file.",
    )


def mace_architecture(settings: ModelSections) -> MaceArchitecture:
    """Return the section ARCHITECTURE of settings whose `model_choice` is `mace`."""
    architecture: Architecture = settings.ARCHITECTURE
    assert isinstance(architecture, MaceArchitecture)
    return architecture


def why_no_cueq(settings: ModelSections) -> str | None:
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


_NO_LEAN_FORM = (
    "RealAgnosticAttResidualInteractionBlock",
    "RealAgnosticResidualNonLinearInteractionBlock",
)


def why_no_lean(settings: ModelSections) -> str | None:
    """Return which key of ARCHITECTURE has no lean form, and its value; none if all have one.

    Nothing is imported; `aimspax_core.model.mace.lean.why_not` says the same of a model.
    """
    architecture = mace_architecture(settings)
    for key in ("interaction_first", "interaction"):
        if getattr(architecture, key) in _NO_LEAN_FORM:
            return f"ARCHITECTURE.{key} {getattr(architecture, key)}"
    if re.search(r"[1-9]\d*[eo]|0o", architecture.MLP_irreps.replace(" ", "").lower()):
        return f"ARCHITECTURE.MLP_irreps {architecture.MLP_irreps}"
    return None


def _mistakes(settings: ModelSections, elements: Sequence[int], here: bool) -> Iterator[str]:
    """Yield what is wrong: energies that miss an element, degrees and kernels that cannot be."""
    architecture = mace_architecture(settings)
    if architecture.max_ell == 0 and architecture.max_L > 0:
        yield (
            f"ARCHITECTURE.max_L: found {architecture.max_L}, but max_ell is 0, so messages have "
            "no direction; allowed: 0"
        )
    known = settings.ARCHITECTURE.atomic_energies
    if known is not None and set(elements) - set(known):
        missing = ", ".join(chemical_symbols[z] for z in sorted(set(elements) - set(known)))
        yield f"ARCHITECTURE.atomic_energies: no energy for {missing}"
    if settings.MISC.compute_dipole:
        yield "MISC.compute_dipole: found True; MACE models predict no dipoles, SO3LR does"
    why = why_no_cueq(settings) if here else None
    if why is not None:
        yield f"MISC.enable_cueq: {why}"
    training = settings.TRAINING
    if training.perform_finetuning and training.pretrained_model is None:
        yield (
            "TRAINING.pretrained_model: missing; TRAINING.pretrained_weights alone do not say how "
            "MACE's network is made; allowed: the model that they are of"
        )
    for part in training.frozen_parts:
        yield (
            f"TRAINING.freeze_{part}: found True, which keeps a part of So3krates and SO3LR; "
            "allowed: False, and TRAINING.freeze, which counts MACE's layers"
        )
    if training.convert_to_multihead:
        yield (
            "TRAINING.convert_to_multihead: found True, which gives heads to SO3LR; allowed: "
            "False, and TRAINING.multiheads_finetuning"
        )
    alone = _by_mace_alone(settings)
    if alone is not None and settings.MISC.enable_cueq:
        yield f"MISC.enable_cueq: found True, which TRAINING.{alone} does not have"
    if alone is not None and settings.MISC.kernel == "lean":
        yield (
            f"MISC.kernel: found lean, which training by TRAINING.{alone} does not have; allowed: "
            "auto or mace"
        )
    if settings.MISC.kernel == "lean":
        if settings.MISC.enable_cueq:
            yield "MISC.kernel: found lean, but MISC.enable_cueq is True; one of them can be used"
        no_form = why_no_lean(settings)
        if no_form is not None:
            yield f"MISC.kernel: found lean, which {no_form} does not have; allowed: auto or mace"


def _notes(settings: ModelSections) -> Iterator[str]:
    """Yield what MACE does not do right, what has no effect, what becomes of given energies."""
    architecture = mace_architecture(settings)
    if architecture.solve_energies == "always" and architecture.atomic_energies is not None:
        shifts = architecture.model == "ScaleShiftMACE"
        yield "ARCHITECTURE.solve_energies: always: " + (
            "the given atomic energies stay, and the shift of ScaleShiftMACE is solved for"
            if shifts
            else "the given atomic energies are where it begins, and move"
        )
    if mace_architecture(settings).radial_type == "chebyshev":
        yield (
            "ARCHITECTURE.radial_type: chebyshev: torch does not differentiate these functions, so "
            "MACE's forces are not the derivative of its energy; usual: bessel"
        )
    no_form = why_no_lean(settings)
    if settings.MISC.kernel == "auto" and not settings.MISC.enable_cueq and no_form is not None:
        yield f"MISC.kernel: auto: {no_form} has no lean form, so MACE itself is used"
    alone = _by_mace_alone(settings)
    if alone is not None and settings.MISC.kernel == "auto":
        yield (
            f"MISC.kernel: auto: with TRAINING.{alone} members are trained by MACE itself; MD "
            "takes what kernel there is, by models as they are published"
        )
    if settings.MISC.compile == "on":
        why = _why_not_compiled(settings, no_form)
        if why is not None:
            yield f"MISC.compile: on: nothing is compiled, as {why}"


def _by_mace_alone(settings: ModelSections) -> str | None:
    """Return what of TRAINING has no other kernel than MACE's own; None if all has."""
    if settings.TRAINING.uses_lora:
        return "finetuning_choice lora"
    return "multiheads_finetuning" if settings.TRAINING.replays else None


def _why_not_compiled(settings: ModelSections, no_form: str | None) -> str | None:
    """Return why the lean network, which alone is compiled, is not what trains; none if it is."""
    if settings.MISC.kernel == "mace":
        return "MISC.kernel is mace"
    if settings.MISC.enable_cueq:
        return "MISC.enable_cueq is True"
    if (alone := _by_mace_alone(settings)) is not None:
        return f"TRAINING has {alone}"
    return None if no_form is None else f"{no_form} has no lean form"


_STRESS_LOSSES = ("stress", "weighted_stress", "virials", "huber", "universal")

MACE = FamilyRow(
    name="mace",
    architecture=MaceArchitecture,
    implementation="aimspax_core.model.mace.family:MACE",
    losses=("weighted", "ef", "forces_only", *_STRESS_LOSSES, "l1l2energyforces"),
    stress_losses=_STRESS_LOSSES,
    mistakes=_mistakes,
    notes=_notes,
    frozen=(("MISC.enable_cueq", "the kernels' weights and moments are kept"),),
    foundations=("mace-mp",),
    pretrained_keys=(
        *("r_max", "num_interactions", "num_channels", "max_L", "max_ell", "correlation"),
        *("interaction", "interaction_first", "num_radial_basis", "num_cutoff_basis"),
        *("radial_type", "radial_MLP", "MLP_irreps", "gate", "model", "use_reduced_cg"),
    ),
    elements_missing=elements_missing,
    pretrained_names=FOUNDATION_MODELS,
    example=Example(
        architecture={
            "r_max": 5.0, "num_channels": 32, "max_L": 0, "max_ell": 3, "correlation": 3,
        },
        quick_architecture={"r_max": 4.5, "radial_MLP": [32, 32]},
        quick_training={"lr": 0.03, "scheduler": "ExponentialLR", "lr_scheduler_gamma": 0.96},
        called="MACE",
        names="MACE's own",
        larger="num_channels 64 or 128, max_L 1",
    ),
    cites=("batatia2022", "batatia2025design"),
    foundation_cites=("batatia2025foundation",),
    told_keys=("r_max", "num_interactions", "num_channels", "max_L", "max_ell", "correlation"),
)  # fmt: skip
