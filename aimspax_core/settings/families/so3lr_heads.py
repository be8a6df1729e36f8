"""SO3LR with several heads: how many there are, and what may be wrong with their keys."""

from __future__ import annotations

from collections.abc import Iterator

from aimspax_core.settings.families.row import ModelSections


def heads_asked(settings: ModelSections) -> int:
    """Return the number of heads of a network of these settings; 1 for the usual one."""
    several = getattr(settings.ARCHITECTURE, "use_multihead_model", False)
    return int(settings.ARCHITECTURE.num_multihead_heads) if several else 1


def head_mistakes(settings: ModelSections) -> Iterator[str]:
    """Yield what is wrong with the keys of heads, of SO3LR or of So3krates, which has none."""
    if settings.TRAINING.convert_to_multihead and heads_asked(settings) == 1:
        yield (
            "TRAINING.convert_to_multihead: found True, which needs `model_choice: so3lr`, "
            "ARCHITECTURE.use_multihead_model: True and num_multihead_heads; allowed: False"
        )


def head_notes(settings: ModelSections) -> Iterator[str]:
    """Yield keys of heads that have no effect, and what is trained for their sake."""
    several = heads_asked(settings) > 1
    if not several and getattr(settings.ARCHITECTURE, "num_multihead_heads", None) is not None:
        yield (
            "ARCHITECTURE.num_multihead_heads: has no effect without ARCHITECTURE."
            "use_multihead_model: True"
        )
    if several and settings.TRAINING.uses_lora:
        yield (
            "TRAINING.finetuning_choice: lora: the heads are trained, too, or they would stay alike"
        )
