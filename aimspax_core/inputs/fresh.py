"""What `--fresh` does: an earlier campaign is moved aside, and nothing of it is lost."""

from __future__ import annotations

import contextlib
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
from aimspax_core.report.document.ours import is_report
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
    known = began_from_given(run_dir)
    if known is None and (there := [str(f) for f in began_from if f.exists()]):
        log.warning(
            "it is not known whether the earlier campaign began from models of yours: %s not moved",
            f"{' and '.join(there)} {'is' if len(there) == 1 else 'are'}",
        )
    # Unless it made its members itself, the new campaign begins from them too.
    for folder in campaign_folders(run_dir, made_members=known is False):
        if folder.exists() and folder != run_dir.state.resolve():
            new = aside / folder.relative_to(output)
            new.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(new)
    _move_report(run_dir, aside)
    _move_state(run_dir, aside / run_dir.state.name)
    return aside


def began_from_given(run_dir: RunDir) -> bool | None:
    """Return whether a campaign began from models that were there.

    None: there is no campaign, or it is too damaged to know.
    """
    known = adopted(run_dir)
    if known is not None:
        return known
    try:
        _, state = load(run_dir)
    except CampaignError:
        return None
    return None if state is None else state.adopted


def _move_report(run_dir: RunDir, aside: Path) -> None:
    """Move the report, but for files of the user's that have such names."""
    for path in run_dir.report_files:
        if path.is_file() and is_report(path):
            aside.mkdir(parents=True, exist_ok=True)
            path.rename(aside / path.name)


def _move_state(run_dir: RunDir, aside: Path) -> None:
    """Move what is in the campaign's own folder; its labels stay where they are, too.

    The journal goes last: a move that was cut short is of a campaign that is still there, so that
    `--fresh` can be asked for again, and no label is away at any time.
    """
    aside.mkdir(parents=True, exist_ok=True)
    labels, journal = run_dir.state / run_dir.labels.name, run_dir.journal
    if run_dir.store is None and labels.exists():
        shutil.copytree(labels, aside / labels.name, copy_function=_link, dirs_exist_ok=True)
    staying = {labels} if run_dir.store is None else set()
    for path in (p for p in run_dir.state.iterdir() if p not in {journal, *staying}):
        path.rename(aside / path.name)
    if journal.exists():
        journal.rename(aside / journal.name)
    with contextlib.suppress(OSError):  # labels are in it
        run_dir.state.rmdir()


def _labelling(run_dir: RunDir) -> bool:
    """Return whether a process labels a dataset here; see `flows.recalculate`."""
    return any(
        locks.holder(path, patient=True) for path in (run_dir.state / "labelling").glob("*.lock")
    )


def _link(source: str, target: str) -> None:
    """Give a file a second place, as a link where the file system can, else as a copy."""
    try:
        os.link(source, target)
    except (FileNotFoundError, FileExistsError):  # a lock that is gone; a label that is there
        return
    except OSError:
        shutil.copy2(source, target)
