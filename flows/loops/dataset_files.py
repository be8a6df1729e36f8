"""Files that say which labels are in whose sets: a training task reads them."""

from __future__ import annotations

import errno
import json
import logging
from pathlib import Path

from aimspax_core.campaign.actions import ConvergeOn
from aimspax_core.campaign.final_sets import sets_on
from aimspax_core.campaign.rounds import replayed
from aimspax_core.campaign.state import CampaignState
from aimspax_core.safe_files import write_text

log = logging.getLogger("aimspax")


def written(path: Path, state: CampaignState, on: ConvergeOn = "own") -> Path:
    """Write the sets of all members, unless an earlier task of the round did so.

    Args:
        path: The file; what it holds is replaced if it is not what the state says.
        state: The campaign's.
        on: The sets that members converge on.

    Returns:
        The file.
    """
    wanted = json.dumps({tag: _sets(state, tag, on) for tag in state.members}).encode()
    try:
        found = path.read_bytes() if path.exists() else None
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        found = b""  # in a bad sector
    if found != wanted:
        if found is not None:
            log.warning("%s differs from the journal: written anew", path)
        write_text(path, wanted.decode())
    return path


def _sets(state: CampaignState, tag: str, on: ConvergeOn) -> dict[str, tuple[str, ...]]:
    """Return the sets that a member trains on now.

    With a replay strategy they are a part; the model's constants follow from the whole set then.
    """
    if on != "own":
        final = sets_on(state, tag, on)
        return {"training": final.training, "validation": final.validation}
    training, validation = replayed(state, tag)
    everything = state.dataset(tag)[0]
    sets = {"training": training, "validation": validation}
    return sets if training == everything else {**sets, "constants": everything}
