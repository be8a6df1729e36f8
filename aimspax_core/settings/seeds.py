"""The members' names and seeds."""

from __future__ import annotations

import numpy as np

from aimspax_core.settings.settings import Settings


def member_seeds(settings: Settings) -> dict[str, int]:
    """Return the members' own seeds by tag.

    They are those of `seeds_tags_dict`; without it they are drawn from `GENERAL.seed`, and the
    tags are `{name_exp}-{seed}`.
    """
    if settings.al.seeds_tags_dict is not None:
        return dict(settings.al.seeds_tags_dict)
    general = settings.model.GENERAL
    rng = np.random.default_rng(general.seed)
    drawn = rng.choice(1000, size=settings.idg.ensemble_size, replace=False)
    return {f"{general.name_exp}-{seed}": int(seed) for seed in drawn}
