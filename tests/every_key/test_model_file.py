"""Keys and what changes with them: mace.yaml: names, logs, checkpoints."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import pytest

from aimspax_core.campaign.obsolete_files import remove_obsolete
from aimspax_core.run_directory import RunDir
from flows.runs.log_files import campaign_logs
from tests.every_key.base import with_values
from tests.every_key.test_rules import SHORT, Story


@pytest.mark.key("ModelSettings", "name_exp", "seed")
def test_the_experiments_name_and_seed_make_the_members(folder: Path) -> None:
    plain, named, seeded = (
        list(with_values(folder, {"GENERAL": given}).member_seeds)
        for given in ({}, {"name_exp": "ice"}, {"seed": 7})
    )
    assert [tag.replace("ice-", "water-") for tag in named] == plain != named
    assert not {*plain} & {*seeded}


@pytest.mark.key("ModelSettings", "log_level")
@pytest.mark.parametrize("level", ["DEBUG", "WARNING"])
def test_the_log_has_what_its_level_lets_pass(
    folder: Path, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.runs.log_files.APILogHandler", logging.NullHandler)
    settings = with_values(folder, {"MISC": {"log_level": level}})
    run = RunDir.of(settings)
    with campaign_logs(run, settings, None):
        logging.getLogger("aimspax").info("an ordinary line")
        logging.getLogger("aimspax").warning("a warning")
    text = (run.logs / "initial_dataset.log").read_text(encoding="utf-8")
    assert ("an ordinary line" in text) == (level == "DEBUG")
    assert "a warning" in text


@pytest.mark.key("ModelSettings", "keep_checkpoints")
@pytest.mark.parametrize("keep", [True, False])
def test_checkpoints_of_earlier_rounds_are_kept_if_asked(folder: Path, keep: bool) -> None:
    settings = with_values(folder, SHORT, {"MISC": {"keep_checkpoints": keep}})
    story, run = Story(settings), RunDir.of(settings)
    story.exploring()
    states = [story.state, *(story.crossed(key) for key in "abc")]
    for before, after in itertools.pairwise(states):
        for state in (before, after):
            for tag, member in state.members.items():
                path = run.checkpoint(tag, str(member.checkpoint))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        remove_obsolete(run, before, after.but(in_flight={}), settings.model.MISC.keep_checkpoints)
    last = [m.checkpoint for m in states[-1].members.values()]
    names = {path.stem for path in run.checkpoints_dir.rglob("*.pt")}
    assert {*last} <= names
    # Else there are the last one and the one before it.
    assert len([*run.checkpoints_dir.rglob("*.pt")]) == (6 if keep else 4)
