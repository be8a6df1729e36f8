"""The members' names and seeds."""

from __future__ import annotations

import numpy as np

from aimspax_core.settings.load import Settings


def member_seeds(settings: Settings) -> dict[str, int]:
    """Draw the members' own seeds from `GENERAL.seed`; return them by tag, `{name_exp}-{seed}`."""
    general = settings.model.GENERAL
    rng = np.random.default_rng(general.seed)
    drawn = rng.choice(1000, size=settings.idg.ensemble_size, replace=False)
    return {f"{general.name_exp}-{seed}": int(seed) for seed in drawn}
