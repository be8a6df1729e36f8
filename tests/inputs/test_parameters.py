"""Settings that are changed while a campaign is there: what may, and which change counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aimspax_core.campaign.events import ParametersSet, Resumed, Started
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.requests import SetRequest
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import CampaignState
from aimspax_core.errors import SettingsError
from aimspax_core.inputs.parameters import change, in_force, origins, parsed, yaml_text
from aimspax_core.settings.changeable import CHANGEABLE, changeable, value_by_key
from aimspax_core.settings.frozen import why_frozen
from aimspax_core.settings.load import load
from aimspax_core.settings.settings import Settings
from tests.settings_files import SettingsFiles

C_X = "ACTIVE_LEARNING.c_x"


def begun(settings: Settings) -> CampaignState:
    return apply(None, Started(rules=Rules.of(settings, ("a", "b"), 1)))


def request(**values: str) -> SetRequest:
    return SetRequest(values=values, time=0.0, by="me")


class Campaign:
    """A campaign in a directory, its settings changed and read again as its processes do."""

    def __init__(self, inputs: SettingsFiles, overrides: Mapping[str, Any] | None = None) -> None:
        self.inputs, self.overrides = inputs, dict(overrides or {})
        inputs.write()
        self.settings = self.base
        self.state = begun(self.settings)

    @property
    def base(self) -> Settings:
        return load(self.inputs.directory, self.overrides)

    def set(self, name: str, value: str) -> ParametersSet:
        event, self.settings = change(
            request(**{name: value}), self.state, self.settings, self.overrides
        )
        self.state = apply(self.state, event)
        return event

    def restart(self, overrides: Mapping[str, Any] | None = None) -> Settings:
        """Start again, with these `--set` options and no others."""
        self.overrides = dict(overrides or {})
        directory = self.inputs.directory
        self.settings, superseded = in_force(directory, self.overrides, self.base, self.state)
        rules = Rules.of(self.settings, ("a", "b"), 1, self.state.rules)
        self.state = apply(self.state, Resumed(rules=rules, superseded=superseded))
        return self.settings

    def edit(self, section: str, key: str, text: str) -> None:
        self.inputs.plant("aimsPAX.yaml", section, key, text)
        self.inputs.write()


def test_a_value_that_was_set_is_in_the_settings_and_the_rules(inputs: SettingsFiles) -> None:
    campaign = Campaign(inputs)
    campaign.set("c_x", "-0.1")
    assert campaign.settings.al.c_x == -0.1
    assert campaign.state.rules.c_x == -0.1


def test_the_file_is_not_written(inputs: SettingsFiles) -> None:
    campaign = Campaign(inputs)
    before = (inputs.directory / "aimsPAX.yaml").read_bytes()
    campaign.set("c_x", "-0.1")
    assert (inputs.directory / "aimsPAX.yaml").read_bytes() == before


def test_a_value_that_was_set_survives_a_restart(inputs: SettingsFiles) -> None:
    campaign = Campaign(inputs)
    campaign.set("c_x", "-0.1")
    assert campaign.restart().al.c_x == -0.1
    assert campaign.restart().al.c_x == -0.1


def test_the_same_key_changed_in_the_file_later_counts(inputs: SettingsFiles) -> None:
    campaign = Campaign(inputs)
    campaign.set("c_x", "-0.1")
    campaign.edit("ACTIVE_LEARNING", "c_x", "0.3")
    assert campaign.restart().al.c_x == 0.3
    assert campaign.state.set_values == {}


def test_another_key_changed_in_the_file_leaves_what_was_set(inputs: SettingsFiles) -> None:
    campaign = Campaign(inputs)
    campaign.set("c_x", "-0.1")
    campaign.edit("ACTIVE_LEARNING", "epochs_per_worker", "7")
    settings = campaign.restart()
    assert (settings.al.c_x, settings.al.epochs_per_worker) == (-0.1, 7)


def test_a_file_that_is_changed_back_after_a_start_does_not_bring_back_what_was_set(
    inputs: SettingsFiles,
) -> None:
    campaign = Campaign(inputs)
    campaign.edit("ACTIVE_LEARNING", "c_x", "0.2")
    campaign.set("c_x", "-0.1")
    campaign.edit("ACTIVE_LEARNING", "c_x", "0.3")
    campaign.restart()
    campaign.edit("ACTIVE_LEARNING", "c_x", "0.2")
    assert campaign.restart().al.c_x == 0.2


def test_set_after_the_file_was_edited_counts(inputs: SettingsFiles) -> None:
    campaign = Campaign(inputs)
    campaign.edit("ACTIVE_LEARNING", "c_x", "0.3")
    campaign.set("c_x", "-0.1")
    assert campaign.restart().al.c_x == -0.1


def test_an_edit_of_another_key_is_not_taken_along_while_it_runs(inputs: SettingsFiles) -> None:
    campaign = Campaign(inputs)
    campaign.edit("ACTIVE_LEARNING", "epochs_per_worker", "7")
    campaign.set("c_x", "-0.1")
    assert campaign.settings.al.epochs_per_worker == 2


def test_an_override_that_is_new_or_another_counts(inputs: SettingsFiles) -> None:
    campaign = Campaign(inputs, {C_X: 0.2})
    campaign.set("c_x", "-0.1")
    assert campaign.restart({C_X: 0.2}).al.c_x == -0.1
    assert campaign.restart().al.c_x == -0.1
    assert campaign.restart({"ACTIVE_LEARNING": {"c_x": 0.4}}).al.c_x == 0.4


def test_an_environment_variable_that_is_new_counts(
    inputs: SettingsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = Campaign(inputs)
    campaign.set("c_x", "-0.1")
    monkeypatch.setenv("AIMSPAX_ACTIVE_LEARNING__C_X", "0.5")
    assert campaign.restart().al.c_x == 0.5


def test_second_names_of_a_section_count_as_the_same_key(inputs: SettingsFiles) -> None:
    inputs.plant("aimsPAX.yaml", "CLUSTER", "parsl_options", "{max_blocks: 4}")
    inputs.plant("aimsPAX.yaml", "CLUSTER", "slurm_str", "'#SBATCH --time=1:00:00'")
    campaign = Campaign(inputs)
    campaign.set("CLUSTER.blocks.max_blocks", "8")
    assert campaign.restart().cluster.blocks.max_blocks == 8
    inputs.plant("aimsPAX.yaml", "CLUSTER", "parsl_options", "{max_blocks: 5}")
    inputs.write()
    assert campaign.restart().cluster.blocks.max_blocks == 5


def test_infinity_survives(inputs: SettingsFiles) -> None:
    campaign = Campaign(inputs)
    event = campaign.set("max_train_set_size", "500")
    assert event.values[0].before == ".inf"
    campaign.set("max_train_set_size", ".inf")
    back = CampaignState.model_validate_json(campaign.state.model_dump_json())
    assert back == campaign.state
    assert campaign.restart().al.max_train_set_size == math.inf  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [0.25, 1e-05, math.inf, True, False, None, 7, "abc"])
def test_values_survive_as_text(value: object) -> None:
    assert parsed(yaml_text(value)) == value


def test_a_section_that_is_not_in_the_file_can_be_set(inputs: SettingsFiles) -> None:
    campaign = Campaign(inputs)
    campaign.set("CLUSTER.max_workers", "3")
    assert campaign.settings.cluster.max_workers == 3
    assert campaign.restart().cluster.max_workers == 3


def test_a_key_of_both_phases_means_active_learning(inputs: SettingsFiles) -> None:
    (value,) = Campaign(inputs).set("desired_acc", "0.05").values
    assert value.key == "ACTIVE_LEARNING.desired_acc"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACTIVE_LEARNING.c_x", "much"),
        ("ACTIVE_LEARNING.c_xx", "0.1"),
        ("ACTIVE_LERNING.c_x", "0.1"),
        ("ACTIVE_LEARNING.c_x", "-2"),
    ],
)
def test_mistakes_are_those_of_the_files(inputs: SettingsFiles, name: str, value: str) -> None:
    campaign = Campaign(inputs)
    with pytest.raises(SettingsError) as by_hand:
        campaign.set(name, value)
    with pytest.raises(SettingsError) as override:
        load(inputs.directory, {name: parsed(value)})
    (found,), (known,) = by_hand.value.mistakes, override.value.mistakes
    assert found.file == "aimspax set"
    assert (found.kind, found.key, found.text) == (known.kind, known.key, known.text)


def test_a_short_name_that_is_wrong_gets_the_nearest(inputs: SettingsFiles) -> None:
    with pytest.raises(SettingsError, match="did you mean desired_acc"):
        Campaign(inputs).set("desird_acc", "0.1")


def test_a_short_name_of_several_keys_names_them(inputs: SettingsFiles) -> None:
    with pytest.raises(SettingsError, match=r"CLUSTER\.ml\.blocks\.max_blocks"):
        Campaign(inputs).set("max_blocks", "3")


@pytest.mark.parametrize(
    ("key", "value"),
    [("ARCHITECTURE.r_max", "4.0"), ("ACTIVE_LEARNING.uncertainty_type", "max_atomic_sd")],
)
@pytest.mark.parametrize("whole", [True, False])
def test_frozen_keys_are_refused_with_the_reason(
    inputs: SettingsFiles, key: str, value: str, whole: bool
) -> None:
    file = "mace.yaml" if key.startswith("ARCH") else "aimsPAX.yaml"
    why = why_frozen(file, key)
    assert why is not None
    with pytest.raises(SettingsError, match=f"{key}.*{why}"):
        Campaign(inputs).set(key if whole else key.partition(".")[2], value)


def test_keys_that_only_a_start_reads_are_refused(inputs: SettingsFiles) -> None:
    with pytest.raises(SettingsError, match="takes force when a run starts"):
        Campaign(inputs).set("MISC.log_dir", "elsewhere")


def test_what_is_set_beside_what_is_refused_does_not_take_force(inputs: SettingsFiles) -> None:
    campaign = Campaign(inputs)
    both = request(**{C_X: "-0.1", "MISC.log_dir": "elsewhere"})
    with pytest.raises(SettingsError):
        change(both, campaign.state, campaign.settings, None)


def test_every_changeable_key_is_there_and_not_frozen(inputs: SettingsFiles) -> None:
    inputs.plant("aimsPAX.yaml", "CLUSTER", "type", "local")
    known = value_by_key(inputs.load())
    by_index = [pattern for pattern in CHANGEABLE if "*" in pattern]
    assert [p for p in CHANGEABLE if p not in known and p not in by_index] == []
    assert [p for p in CHANGEABLE if why_frozen("aimsPAX.yaml", p) is not None] == []


def test_every_number_of_the_rules_can_be_changed_or_is_the_campaign_itself(
    inputs: SettingsFiles,
) -> None:
    # A new number of the rules belongs into one of the two: it takes force by an event.
    inputs.plant("aimsPAX.yaml", "ACTIVE_LEARNING", "replay_strategy", "random_subset")
    inputs.plant("aimsPAX.yaml", "ACTIVE_LEARNING", "train_subset_size", "5")
    inputs.plant("aimsPAX.yaml", "ACTIVE_LEARNING", "threshold", "calibrated")
    inputs.plant("aimsPAX.yaml", "ACTIVE_LEARNING", "force_error", "0.1")
    inputs.plant("aimsPAX.yaml", "ACTIVE_LEARNING", "selection", "random")
    inputs.plant("aimsPAX.yaml", "ACTIVE_LEARNING", "candidates", "largest_error")
    settings = inputs.load()
    before = Rules.of(settings, ("a", "b"), 1).model_dump()
    itself = {
        "tags", "geometries", "seed", "max_segments", "distinct_sets", "uncertainty_unit", "limits",
        "uncertainty_of",
        "threshold_scope", "solve_energies", "compile_chosen",  # of a start, and of mace.yaml
        "samples_ahead",  # of a start
        "pays_again", "counts_ensembles", "counts_all_costs", "share_of_line",  # likewise
        "tells_electrons", "electrons",
        "architecture", "tuning_lr",  # of a start, and of mace.yaml
        "assessed",  # by a file that only a start reads
    }  # fmt: skip
    changed = set()
    for key, value in value_by_key(settings).items():
        if changeable(key):
            other = str(not value).lower() if isinstance(value, bool) else "0.37"
            for text in (other, "37", "own", "moving", "uncertainty", "first"):
                try:
                    overrides = {key: parsed(text)}
                    rules = Rules.of(load(inputs.directory, overrides), ("a", "b"), 1).model_dump()
                except SettingsError:
                    continue
                changed |= {name for name in rules if rules[name] != before[name]}
    assert set(before) - changed <= itself


# ---- what a campaign was begun without ------------------------------------------------------


def begun_before_there_was_a_choice(inputs: SettingsFiles) -> Campaign:
    campaign = Campaign(inputs)
    rules = campaign.state.rules.but(converge_on=None, solve_energies=None, compile_chosen=False)
    campaign.state = campaign.state.but(rules=rules)
    return campaign


def test_a_campaign_keeps_what_it_was_begun_without(inputs: SettingsFiles) -> None:
    campaign = begun_before_there_was_a_choice(inputs)
    for _ in range(2):
        assert campaign.restart().al.converge_on == "own"
        assert campaign.state.rules.converge_on is None
        assert campaign.settings.model.ARCHITECTURE.solve_energies == "never"
        assert campaign.state.rules.solve_energies is None
        assert campaign.settings.model.MISC.compile == "off"
        assert not campaign.state.rules.compile_chosen
    campaign.set("c_x", "-0.1")
    assert campaign.state.rules.converge_on is None
    assert campaign.settings.al.converge_on == "own"


def test_it_takes_what_is_named(inputs: SettingsFiles) -> None:
    campaign = begun_before_there_was_a_choice(inputs)
    campaign.set("converge_on", "all")
    assert campaign.state.rules.converge_on == "all"
    other = begun_before_there_was_a_choice(inputs)
    other.edit("ACTIVE_LEARNING", "converge_on", "all")
    inputs.plant("mace.yaml", "ARCHITECTURE", "solve_energies", "auto")
    inputs.plant("mace.yaml", "MISC", "compile", "auto")
    inputs.write()
    assert other.restart().al.converge_on == "all"
    assert other.state.rules.converge_on == "all"
    assert other.state.rules.solve_energies == "auto"
    assert other.settings.model.MISC.compile == "auto"
    assert other.state.rules.compile_chosen


def test_a_campaign_that_begins_today_converges_on_all(inputs: SettingsFiles) -> None:
    campaign = Campaign(inputs)
    assert campaign.restart().al.converge_on == "all"
    assert campaign.state.rules.converge_on == "all"
    assert campaign.settings.model.MISC.compile == "auto"


def test_origins_tell_value_time_and_file(inputs: SettingsFiles) -> None:
    campaign = Campaign(inputs)
    campaign.edit("ACTIVE_LEARNING", "c_x", "0.2")
    campaign.set("c_x", "-0.1")
    campaign.set("epochs_per_worker", "3")
    first, second = origins(campaign.state, inputs.directory, None)
    assert first.startswith(f"{C_X} -0.1, set ")
    assert first.endswith("file: 0.2")
    assert second.endswith("default: 2")


def test_origins_tell_what_the_next_start_changes(inputs: SettingsFiles) -> None:
    campaign = Campaign(inputs)
    campaign.set("c_x", "-0.1")
    (before,) = origins(campaign.state, inputs.directory, None)
    campaign.edit("ACTIVE_LEARNING", "c_x", "0.2")
    (after,) = origins(campaign.state, inputs.directory, None)
    assert after != before


def test_temperatures_by_geometry_are_set_one_by_one(inputs: SettingsFiles, tmp_path: Path) -> None:
    del inputs.project["MD"]
    inputs.plant("aimsPAX.yaml", "MD", "0", "{stat_ensemble: NVT, temperature: 300}")
    inputs.plant("aimsPAX.yaml", "MD", "1", "{stat_ensemble: NVT, temperature: 400}")
    inputs.plant("aimsPAX.yaml", "MISC", "path_to_geometry", "{0: geometry.in, 1: geometry.in}")
    campaign = Campaign(inputs)
    campaign.set("MD.1.temperature", "500")
    assert [campaign.settings.md(index).temperature for index in (0, 1)] == [300, 500]
    assert campaign.restart().md(1).temperature == 500


@pytest.mark.parametrize("text", ["[300, 500]", "{from: 300, to: 500, steps: 2}"])
def test_several_temperatures_are_set_and_stay(inputs: SettingsFiles, text: str) -> None:
    campaign = Campaign(inputs)
    campaign.set("temperature", text)
    for settings in (campaign.settings, campaign.restart()):
        assert [settings.md(0, k).temperature for k in range(3)] == [300, 500, 300]
    campaign.set("temperature", "400")
    assert campaign.restart().md(0, 1).temperature == 400
