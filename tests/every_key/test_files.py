"""Keys and what changes with them: folders, files, workers."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule

from aimspax_core.campaign.journal import Journal
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.errors import CampaignError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.inputs.given_models import find_given_models
from aimspax_core.labels.dataset import DataKeys, carried, labelled, read_labels, write
from aimspax_core.labels.store import StoredLabel
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from flows.loops.campaign import Campaign
from flows.pools import open as opening
from tests.every_key.base import AL, PROJECT, with_values


@pytest.mark.key("Misc", "dataset_dir", "log_dir")
@pytest.mark.key("ModelSettings", "checkpoints_dir", "loss_dir", "model_dir")
@pytest.mark.parametrize(("section", "key", "seen"), [
    ("MISC", "dataset_dir", lambda run: run.data),
    ("MISC", "log_dir", lambda run: run.logs),
    ("GENERAL", "checkpoints_dir", lambda run: run.checkpoint("a-1", "c").parent.parent),
    ("GENERAL", "loss_dir", lambda run: run.losses),
    ("GENERAL", "model_dir", lambda run: run.models),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_a_folder_lies_where_it_is_wanted_in_output_dir(
    folder: Path, section: str, key: str, seen: Any
) -> None:
    settings = with_values(folder, {"MISC": {"output_dir": "out"}}, {section: {key: "other"}})
    assert seen(RunDir.of(settings)) == folder / "out" / "other"


@pytest.mark.key("Misc", "output_dir")
def test_all_that_a_campaign_writes_lies_in_output_dir(folder: Path) -> None:
    run = RunDir.of(with_values(folder, {"MISC": {"output_dir": "out"}}))
    named = [name for name in vars(RunDir) if isinstance(vars(RunDir)[name], property)]
    fields = [name for name in run.__dataclass_fields__ if name != "store"]  # the user's own
    written = [run.output, *(getattr(run, name) for name in (*fields, *named))]
    written = [path for one in written for path in (one if isinstance(one, tuple) else (one,))]
    assert len(written) > 15
    assert all(path.is_relative_to(folder / "out") for path in written)


@pytest.mark.key("Misc", "test_dataset")
def test_models_are_assessed_by_a_held_out_set_if_there_is_one(folder: Path) -> None:
    atoms = molecule("H2O")
    atoms.info["REF_energy"], atoms.arrays["REF_forces"] = 0.0, np.zeros((3, 3))
    ase.io.write(folder / "test.xyz", atoms)
    for given, names in (({}, []), ({"test_dataset": "test.xyz"}, [folder / "test.xyz"])):
        settings = with_values(folder, {"MISC": given})
        assert list(settings.misc.test_files(folder).values()) == names
        assert Rules.of(settings, ("a",), 1).assessed is bool(names)


@pytest.mark.key("Misc", "label_store")
def test_campaigns_share_the_label_store_that_they_name(folder: Path) -> None:
    runs = [
        RunDir.of(with_values(folder, {"MISC": {"label_store": "../labels", "output_dir": output}}))
        for output in ("a", "b")
    ]
    assert runs[0].labels == runs[1].labels == (folder.parent / "labels").resolve()
    assert runs[0].state != runs[1].state


@pytest.mark.key("Misc", "create_restart")
@pytest.mark.parametrize("restart", [True, False])
def test_a_campaign_is_taken_up_again_unless_create_restart_is_off(
    folder: Path, restart: bool
) -> None:
    settings = {"MISC.create_restart": restart}
    inputs = Inputs.read(folder, settings)
    with Journal(inputs.run) as journal:
        Campaign(inputs, journal, "all").take_up()
        again = Campaign(inputs, journal, "all")
        if restart:
            again.take_up()
            return
        with pytest.raises(CampaignError, match="--fresh"):
            again.take_up()


@pytest.mark.key("Misc", "path_to_geometry")
def test_geometries_are_those_of_the_path(folder: Path) -> None:
    (folder / "several").mkdir()
    for name in ("NH3", "CH4"):
        ase.io.write(folder / "several" / f"{name}.xyz", molecule(name))
    inputs = Inputs.read(folder, {"MISC.path_to_geometry": "several"})
    assert [str(atoms.symbols) for atoms in inputs.geometries] == ["CH4", "NH3"]


@pytest.fixture
def trained(folder: Path) -> Path:
    """A run directory with the files of two members, and datasets of all kinds."""
    (folder / "model").mkdir()
    for tag in ("a-1", "a-2"):
        (folder / "model" / f"{tag}.model").write_text(tag)
        for phase, kind, name in (
            ("initial", "training", f"initial_train_set_{tag}"),
            ("initial", "validation", f"initial_valid_set_{tag}"),
            ("final", "training", f"train_set_{tag}"),
            ("final", "validation", f"valid_set_{tag}"),
        ):
            path = folder / "data" / phase / kind / f"{name}.xyz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    for name in ("mine.xyz", "other.xyz"):
        (folder / name).touch()
    return folder


def sets_to_begin_from(folder: Path, **changes: Any) -> dict[str, list[str]]:
    settings = with_values(folder, {AL: changes})
    found = find_given_models(settings, RunDir.of(settings))
    return {
        "training": [path.name for path in found.training.values()],
        "validation": [path.name for path in found.validation.values()],
    }


@pytest.mark.key("ActiveLearning", "initial_train_dataset", "initial_valid_dataset")
@pytest.mark.parametrize(
    ("key", "kind"),
    [("initial_train_dataset", "training"), ("initial_valid_dataset", "validation")],
)
def test_members_begin_from_the_dataset_given(trained: Path, key: str, kind: str) -> None:
    given = {"initial_train_dataset": "mine.xyz", "initial_valid_dataset": "mine.xyz"}
    other = "validation" if kind == "training" else "training"
    assert sets_to_begin_from(trained, **given | {key: "other.xyz"}) == {
        kind: ["other.xyz"] * 2,
        other: ["mine.xyz"] * 2,
    }


@pytest.mark.key("ActiveLearning", "extend_existing_final_ds")
def test_members_begin_from_the_final_sets_if_these_are_to_be_extended(trained: Path) -> None:
    initial, final = (
        sets_to_begin_from(trained, extend_existing_final_ds=extend) for extend in (False, True)
    )
    assert initial["training"] == ["initial_train_set_a-1.xyz", "initial_train_set_a-2.xyz"]
    assert final == {
        "training": ["train_set_a-1.xyz", "train_set_a-2.xyz"],
        "validation": ["valid_set_a-1.xyz", "valid_set_a-2.xyz"],
    }


QUANTITIES = ("energy", "forces", "stress", "virials", "dipole", "polarizability")
QUANTITIES += ("hirshfeld_ratios", "charges", "head", "total_charge", "total_spin")


@pytest.mark.key("Misc", *(f"{quantity}_key" for quantity in QUANTITIES))
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_quantity_is_read_and_written_under_its_name(folder: Path, quantity: str) -> None:
    """A dataset of somebody else with one name of its own, read, and written again."""
    settings = with_values(folder, {"MISC": {f"{quantity}_key": "my_name"}})
    standard, mine = DataKeys(), DataKeys.of(settings.misc)
    assert getattr(mine, quantity) == "my_name"
    atoms = bulk("Cu", cubic=True)
    info = {"energy": -1.5, "dipole": [1.0, 2.0, 3.0], "polarizability": [1.0, 2.0, 3.0],
            "head": "dft", "total_charge": 1.0, "total_spin": 2.0}  # fmt: skip
    info["virials" if quantity == "virials" else "stress"] = np.eye(3) * 0.5
    arrays = {"forces": np.ones((4, 3)), "hirshfeld_ratios": np.ones(4), "charges": np.ones(4)}
    atoms.info |= {getattr(mine, name): value for name, value in info.items()}
    for name, value in arrays.items():
        atoms.set_array(getattr(mine, name), value)
    write(folder / "set.xyz", [atoms])
    (found,) = read_labels(folder / "set.xyz", mine)
    structure, label = found
    assert label.stress is not None
    label.provenance.update(carried(structure, mine))
    again = labelled(StoredLabel("k", structure, label), mine)
    if quantity == "virials":
        volume = atoms.get_volume()
        np.testing.assert_allclose(label.stress, -np.eye(3) * 0.5 / volume)
        return
    there = {**again.info, **again.arrays}
    expected = {**info, **arrays}[quantity]
    if isinstance(expected, str):
        assert there["my_name"] == expected
    else:
        np.testing.assert_allclose(there["my_name"], expected)
    assert getattr(standard, quantity) not in there


class Steadfast:
    """A pool that is asked for nothing but its end."""

    def dismiss(self) -> None: ...


@pytest.mark.key("Cluster", "max_workers", "ml")
@pytest.mark.key("MlPool", "max_workers")
def test_labels_and_training_have_as_many_workers_as_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def local(name: str, workers: int, gpus: Sequence[str] = (), **_: Any) -> Any:
        asked[name] = workers
        return contextlib.nullcontext(Steadfast())

    monkeypatch.setattr(opening, "local_pool", local)
    cluster = "CLUSTER: {type: local, max_workers: 7, ml: {max_workers: 3}}"
    (folder / "aimsPAX.yaml").write_text(PROJECT + cluster, encoding="utf-8")
    with opening.pools(load(folder)):
        assert asked == {"reference": 7, "ml": 3}
