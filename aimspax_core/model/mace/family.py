"""MACE's row of functions; see `aimspax_core.model.family.Family`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from aimspax_core.model.family import Family, GivenModel
from aimspax_core.model.mace import build
from aimspax_core.model.mace.cueq import kernels, to_cueq, to_e3nn
from aimspax_core.model.mace.foundation import foundation
from aimspax_core.model.mace.given_file import given_model
from aimspax_core.model.mace.graphs import graphs, replay_graphs
from aimspax_core.model.mace.heads import with_one_head
from aimspax_core.model.mace.invariants import invariants
from aimspax_core.model.mace.kernel import evaluator
from aimspax_core.model.mace.lammps import write_lammps
from aimspax_core.model.mace.lora import fused, with_lora
from aimspax_core.model.mace.model_files import copy_model, load_model, save_model
from aimspax_core.model.mace.pretrained import architecture_of, pretrained, with_replay_head
from aimspax_core.model.mace.product_basis import settings_of
from aimspax_core.model.mace.scripts import SCRIPTS
from aimspax_core.model.mace.steps import MaceSteps, misses
from aimspax_core.model.steps import Settled
from aimspax_core.settings.families.mace import mace_architecture
from aimspax_core.settings.fine_tuning import Pretrained
from aimspax_core.settings.model import ModelSettings


def _build(
    settings: ModelSettings, elements: Sequence[int], constants: build.Constants, seed: int
) -> torch.nn.Module:
    """Build a model with the kernels that `MISC.enable_cueq` asks for, or LoRA in its place."""
    model = to_cueq(build.build(settings, elements, constants, seed), settings)
    return with_lora(model, settings, seed)


def _pretrained(
    source: Pretrained, settings: ModelSettings, elements: Sequence[int], seed: int
) -> GivenModel:
    """Return a model that is to be fine-tuned, with LoRA if that is to be trained."""
    given = with_replay_head(pretrained(source, settings, elements, seed), settings, seed)
    return replace(given, model=with_lora(given.model, settings, seed))


def _fused(model: torch.nn.Module) -> torch.nn.Module:
    """Return a model as it is published: without LoRA, with the member's own head alone."""
    return with_one_head(fused(model))


def _copy_with(
    model: torch.nn.Module, weights: dict[str, torch.Tensor], settings: ModelSettings
) -> torch.nn.Module:
    """Return a copy on the CPU with other weights, as e3nn has them."""
    copy = copy_model(model)
    with torch.no_grad():
        for name, parameter in copy.named_parameters():
            parameter.copy_(weights[name])
    return to_e3nn(_fused(copy), settings)


def _settle(steps: Any, model: torch.nn.Module, train: Sequence[Any], ahead_s: float) -> Settled:
    """Settle how a member's steps are computed."""
    return steps.settle(model, train, ahead_s)


def _loaded_by(settings: ModelSettings, file: str) -> tuple[str, ...]:
    dtype = settings.GENERAL.default_dtype
    return (
        "from mace.calculators import MACECalculator",
        f'atoms.calc = MACECalculator("{file}", device="cpu", default_dtype="{dtype}")',
    )


MACE = Family(
    graphs=graphs,
    replay=replay_graphs,
    constants=build.Constants,
    constants_of=build.constants_of,
    set_constants=build.set_constants,
    build=_build,
    steps=MaceSteps,
    evaluator=evaluator,
    copy_with=_copy_with,
    save=save_model,
    load=load_model,
    copy=copy_model,
    fused=_fused,
    kernels=kernels,
    settle=_settle,
    settings_of=settings_of,
    given_model=given_model,
    pretrained=_pretrained,
    architecture_of=architecture_of,
    foundation=foundation,
    misses=misses,
    invariants=invariants,
    has_shift=lambda settings: mace_architecture(settings).model == "ScaleShiftMACE",
    lammps=write_lammps,
    scripts=SCRIPTS,
    loaded_by=_loaded_by,
)
