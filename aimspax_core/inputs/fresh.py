"""What `--fresh` does: an earlier campaign is moved aside, and nothing of it is lost."""

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
    """Move a campaign to a folder `earlier-…`; its labels are in both places then.

    A label store elsewhere (`MISC.label_store`) is left alone. Models and datasets that the
    campaign began from stay where they are; so they do if the campaign is too damaged to know.

    Returns:
        The folder; None if there was no campaign.

    Raises:
        SettingsError: A process is running the campaign, or labels a dataset here.
    """
    who = holder(run_dir, patient=True)
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
            "it is not known whether the earlier campaign began from models of yours: %s not moved",
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
    """Return whether a process labels a dataset here; see `flows.recalculate`."""
    return any(
        locks.holder(path, patient=True) for path in (run_dir.state / "labelling").glob("*.lock")
    )


def _adopted(run_dir: RunDir) -> bool | None:
    """Return whether a campaign began from given models; None if it is too damaged to know."""
    known = adopted(run_dir)
    if known is not None:
        return known
    try:
        _, state = load(run_dir)
    except CampaignError:
        return None
    return None if state is None else state.adopted


def _link(source: str, target: str) -> None:
    """Give a file a second place, as a link where the file system can, else as a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
