"""Make room for a new campaign, without losing the old one."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path

from aimspax_core import locks
from aimspax_core.campaign.journal import holder, load
from aimspax_core.errors import CampaignError, SettingsError
from aimspax_core.inputs.campaign_inputs import campaign_folders
from aimspax_core.inputs.provenance import adopted
from aimspax_core.run_directory import RunDir

log = logging.getLogger(f"aimspax.{__name__}")


def move_aside(run_dir: RunDir) -> Path | None:
    """Move a campaign to `earlier-…`; its labels are in both places then.

    A label store elsewhere (`MISC.label_store`) is left alone.

    Members and datasets that it began from stay where they are, and so do those of a campaign that
    is too broken to tell whether it began from them.

    Returns:
        Where it is now; None if there was none.

    Raises:
        SettingsError: A process is running it, or labels a dataset here.
    """
    who = holder(run_dir)
    if who is not None:
        raise SettingsError(f"{run_dir.output}: process {who.pid} is running this campaign")
    if _labelling(run_dir):
        raise SettingsError(
            f"{run_dir.output}: `aimspax label` is labelling a dataset here, and what it needs "
            "would be moved away; stop it, or wait for its end"
        )
    if not run_dir.state.exists():
        return None
    output = run_dir.output.resolve()
    aside = output / f"earlier-{time.strftime('%Y%m%d-%H%M%S')}"
    began_from = [run_dir.data, run_dir.models]
    known = _adopted(run_dir)
    if known is None and (there := [str(f) for f in began_from if f.exists()]):
        log.warning(
            "whether the earlier campaign began from models of yours cannot be told: %s not moved",
            f"{' and '.join(there)} {'is' if len(there) == 1 else 'are'}",
        )
    # Unless it made its members itself, the new campaign begins from them too.
    for folder in campaign_folders(run_dir, made_members=known is False):
        if folder.exists():
            new = aside / folder.relative_to(output)
            new.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(new)
    labels = aside / run_dir.state.name / run_dir.labels.name
    if run_dir.store is None and labels.exists():
        shutil.copytree(labels, run_dir.labels, copy_function=_link, dirs_exist_ok=True)
    return aside


def _labelling(run_dir: RunDir) -> bool:
    """Whether a process labels a dataset here; see `flows.recalculate`."""
    return any(locks.holder(path) for path in (run_dir.state / "labelling").glob("*.lock"))


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
