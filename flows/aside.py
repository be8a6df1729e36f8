"""Make room for a new campaign, without losing the old one."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path

from aimspax_core.campaign.journal import holder, load
from aimspax_core.errors import CampaignError, SettingsError
from aimspax_core.rundir import RunDir
from aimspax_core.settings.provenance import adopted

log = logging.getLogger("aimspax")


def move_aside(run_dir: RunDir) -> Path | None:
    """Move a campaign to `earlier-…`; its labels are in both places then.

    Members and datasets that it began from stay where they are, and so do those of a campaign that
    is too broken to tell whether it began from them.

    Returns:
        Where it is now; None if there was none.

    Raises:
        SettingsError: A process is running it.
    """
    who = holder(run_dir)
    if who is not None:
        raise SettingsError(f"{run_dir.output}: process {who.get('pid')} is running this campaign")
    if not run_dir.state.exists():
        return None
    output = run_dir.output.resolve()
    aside = output / f"earlier-{time.strftime('%Y%m%d-%H%M%S')}"
    folders = [
        run_dir.state, run_dir.results, run_dir.losses, run_dir.logs, run_dir.checkpoints_dir,
        run_dir.analysis, run_dir.trajectories,
    ]  # fmt: skip
    began_from = [run_dir.data, run_dir.models]
    known = _adopted(run_dir)
    if known is False:  # else the new campaign begins from these too
        folders += began_from
    elif known is None and (there := [str(f) for f in began_from if f.exists()]):
        log.warning(
            "whether the earlier campaign began from models of yours cannot be told: %s not moved",
            f"{' and '.join(there)} {'is' if len(there) == 1 else 'are'}",
        )
    for folder in (f.resolve() for f in folders):
        # A setting may name one folder twice, or one that holds the user's own files.
        if folder.exists() and output in folder.parents:
            new = aside / folder.relative_to(output)
            new.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(new)
    labels = aside / run_dir.state.name / run_dir.labels.name
    if labels.exists():
        shutil.copytree(labels, run_dir.labels, copy_function=_link)
    return aside


def _adopted(run_dir: RunDir) -> bool | None:
    """Whether a campaign began from members that were there; None if nothing tells."""
    known = adopted(run_dir)
    if known is not None:
        return known
    try:
        _, state = load(run_dir)
    except CampaignError:
        return None
    return None if state is None else state.adopted


def _link(source: str, target: str) -> None:
    """Have one file in two places: a label is paid for once, and stored once where that works."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
