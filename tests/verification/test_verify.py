"""A run directory of a real campaign is damaged, in each way once; each damage is found."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from aimspax_core.campaign.events import Event
from aimspax_core.errors import CampaignError
from aimspax_core.model import intact
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from aimspax_core.verification import dataset_files, label_files, model_errors
from aimspax_core.verification.accounts import Point
from aimspax_core.verification.findings import Finding, Report
from aimspax_core.verification.findings import Kind as K
from aimspax_core.verification.journal_lines import events
from aimspax_core.verification.ledger import KINDS, Ledger
from aimspax_core.verification.verify import verify

OLD = Path(__file__).parents[1] / "fixtures" / "0.1.0-8e65e71"
NAMES = ("finished", "interrupted", "adopted")
# Labels of `finished`: one of the initial dataset, and one that exploring has found.
INITIAL = "adeda009462b3e6d4e599975b7bd9b104b827c177168bc6297a74352c26e3e47"
LABEL = "2fe87deb75ed7308e5bd3c2d83cb81b0d58139d253fe8559300c9c25610ba6c8"
OTHER = "c81f5aa0697d25757cf06ae74b96ba8bff179c72eae8bebe4acc112ec2ab2bcc"
FLYING = "a8b860811107116fc89e3b3ad643c7cd5025fbfa9f6271be9ede13406792a029"


def copied(name: str, folder: Path) -> Path:
    directory = folder / name
    shutil.copytree(OLD / name, directory)
    return directory


def found(directory: Path, models: bool = False) -> list[Finding]:
    return verify(load(directory), models).findings


def label(key: str) -> str:
    return f"aimspax/labels/{key[:2]}/{key}.json"


# ---- the damages ----------------------------------------------------------------------------


def remove(directory: Path, file: str) -> None:
    (directory / file).unlink()


def truncate(directory: Path, file: str) -> None:
    path = directory / file
    os.truncate(path, path.stat().st_size // 2)


def replaced(old: str, new: str) -> Callable[[Path, str], None]:
    """Replace a text where it is last."""

    def damage(directory: Path, file: str) -> None:
        path = directory / file
        before, middle, after = path.read_text().rpartition(old)
        assert middle
        path.write_text(before + new + after)

    return damage


def changed(change: Callable[[Any], None]) -> Callable[[Path, str], None]:
    """Change the content of a JSON file."""

    def damage(directory: Path, file: str) -> None:
        path = directory / file
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return damage


def forged(change: Callable[[Any], None]) -> Callable[[Path, str], None]:
    """Change a label, and give it the checksum of what it is now."""

    def sign(content: Any) -> None:
        change(content)
        content.pop("checksum")
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        content["checksum"] = hashlib.sha256(text.encode()).hexdigest()

    return changed(sign)


def lines(change: Callable[[list[Any]], None]) -> Callable[[Path, str], None]:
    """Change the journal's entries; the snapshot goes, so that they are all that there is."""

    def damage(directory: Path, file: str) -> None:
        path = directory / file
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        change(entries)
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        (directory / "aimspax" / "snapshot.json").unlink()

    return damage


def twice(kind: str) -> Callable[[list[Any]], None]:
    """Have an event of a kind happen again at once."""

    def change(entries: list[Any]) -> None:
        place = max(n for n, one in enumerate(entries) if one["event"]["kind"] == kind)
        entries.insert(place, dict(entries[place]))
        for number, one in enumerate(entries, start=1):
            one["seq"] = number

    return change


def without(kind: str) -> Callable[[list[Any]], None]:
    """Leave the last event of a kind out."""

    def change(entries: list[Any]) -> None:
        del entries[max(n for n, one in enumerate(entries) if one["event"]["kind"] == kind)]
        for number, one in enumerate(entries, start=1):
            one["seq"] = number

    return change


def of_state(change: Callable[[Any], None]) -> Callable[[Path, str], None]:
    return changed(lambda snapshot: change(snapshot["state"]))


def swap_sets(content: Any) -> None:
    sets = content["water-511"]
    sets["validation"].append(sets["training"][0])


def touch(directory: Path, file: str) -> None:
    (directory / file).touch()


def copy_over(other: str) -> Callable[[Path, str], None]:
    def damage(directory: Path, file: str) -> None:
        shutil.copyfile(directory / other, directory / file)

    return damage


JOURNAL, SNAPSHOT = "aimspax/journal.jsonl", "aimspax/snapshot.json"
RESULT = "results/train_set_water-511.xyz"
ROUND = "aimspax/datasets/active-11.json"
MD_STATE = "aimspax/trajectories/1/9.json"

# What is damaged, how, and the kinds of findings that name the file.
DAMAGES: dict[str, tuple[str, Callable[[Path, str], None], set[K]]] = {
    "label gone": (label(LABEL), remove, {K.MISSING}),
    "label cut": (label(LABEL), truncate, {K.UNREADABLE}),
    "label, a digit": (label(LABEL), replaced("2", "3"), {K.CHANGED}),
    "label, NaN": (label(LABEL), changed(lambda c: c.update(energy=float("nan"))), {K.UNREADABLE}),
    "label of another": (label(LABEL), copy_over(label(OTHER)), {K.CHANGED}),
    "label forged": (
        label(LABEL),
        forged(lambda c: c["structure"]["positions"][0].reverse()),
        {K.CHANGED},
    ),
    "label, reference": (
        label(LABEL),
        forged(lambda c: c["reference"].update(method="GFN1-xTB")),
        {K.CHANGED},
    ),
    "label, few forces": (label(LABEL), forged(lambda c: c["forces"].pop()), {K.UNREADABLE}),
    "label no JSON object": (label(LABEL), lambda d, f: write(d, f, "[1]"), {K.UNREADABLE}),
    "label without key": (label(LABEL), changed(lambda c: c.pop("key")), {K.UNREADABLE}),
    "journal, a line": (JOURNAL, lambda d, f: line_out(d, f, 60), {K.SEQUENCE}),
    "journal, a byte": (JOURNAL, lambda d, f: byte(d, f, 0.5), {K.UNREADABLE}),
    "journal, event twice": (JOURNAL, lines(twice("label-arrived")), {K.TWICE, K.EVENT}),
    "journal, round twice": (JOURNAL, lines(twice("training-finished")), {K.EVENT}),
    "journal, launch twice": (JOURNAL, lines(twice("launched")), {K.TWICE}),
    "journal, training lost": (JOURNAL, lines(without("training-finished")), {K.TWICE, K.EVENT}),
    "journal, start twice": (JOURNAL, lines(twice("started")), {K.EVENT}),
    "journal, strange event": (
        JOURNAL,
        lines(lambda e: e[-1]["event"].update(kind="sung")),
        {K.EVENT},
    ),
    "journal, field gone": (JOURNAL, lines(lambda e: e[-1]["event"].pop("what")), {K.EVENT}),
    "snapshot cut": (SNAPSHOT, truncate, {K.UNREADABLE}),
    "snapshot ahead": (SNAPSHOT, changed(lambda c: c.update(seq=200)), {K.STATE}),
    "snapshot, no state": (SNAPSHOT, changed(lambda c: c["state"].pop("window")), {K.UNREADABLE}),
    "labels counted": (SNAPSHOT, of_state(lambda s: s.update(labels=29)), {K.COUNTER}),
    "failed counted": (SNAPSHOT, of_state(lambda s: s.update(failed_labels=1)), {K.COUNTER}),
    "refused counted": (SNAPSHOT, of_state(lambda s: s.update(refused=0)), {K.COUNTER}),
    "rounds counted": (SNAPSHOT, of_state(lambda s: s.update(rounds=12)), {K.COUNTER}),
    "core-hours": (SNAPSHOT, of_state(lambda s: s.update(core_hours=1.0)), {K.COUNTER}),
    "epochs counted": (
        SNAPSHOT,
        of_state(lambda s: s["members"]["water-472"].update(epochs=20)),
        {K.COUNTER},
    ),
    "checkpoint named": (
        SNAPSHOT,
        of_state(lambda s: s["members"]["water-472"].update(checkpoint="train-18-10")),
        {K.STATE},
    ),
    "member's set": (
        SNAPSHOT,
        of_state(lambda s: s["members"]["water-472"]["training"].reverse()),
        {K.SETS},
    ),
    "set of exploring": (SNAPSHOT, of_state(lambda s: s["training"].pop()), {K.SETS}),
    "point's status": (
        SNAPSHOT,
        of_state(lambda s: s["points"][LABEL].update(status="requested")),
        {K.STATE},
    ),
    "point gone": (SNAPSHOT, of_state(lambda s: s["points"].pop(LABEL)), {K.STATE}),
    "point invented": (
        SNAPSHOT,
        of_state(lambda s: s["points"].update({"f" * 64: s["points"][LABEL]})),
        {K.STATE},
    ),
    "uncertainties": (SNAPSHOT, of_state(lambda s: s["window"]["values"].pop()), {K.STATE}),
    "threshold": (SNAPSHOT, of_state(lambda s: s["window"].update(frozen=0.1)), {K.STATE}),
    "trajectory": (SNAPSHOT, of_state(lambda s: s["trajectories"][1].update(step=7)), {K.STATE}),
    "phase": (SNAPSHOT, of_state(lambda s: s.update(phase="active")), {K.STATE}),
    "round file, both sets": (ROUND, changed(swap_sets), {K.MIXED, K.SETS}),
    "round file, twice": (
        ROUND,
        changed(lambda c: c["water-472"]["training"].append(LABEL)),
        {K.TWICE},
    ),
    "round file cut": (ROUND, truncate, {K.UNREADABLE}),
    "result gone": (RESULT, remove, {K.MISSING}),
    "result cut": (RESULT, truncate, {K.UNREADABLE}),
    "result, a frame less": (RESULT, lambda d, f: last_lines_out(d, f, 5), {K.SETS}),
    "result, energy": (RESULT, replaced("REF_energy=-13", "REF_energy=-14"), {K.VALUES}),
    "result, other set": (
        RESULT,
        copy_over("results/train_set_water-472.xyz"),
        {K.VALUES},
    ),
    "initial dataset": (
        "data/initial/training/combined_initial_train_set.xyz",
        replaced("REF_energy=-13", "REF_energy=-14"),
        {K.VALUES},
    ),
    "MD state gone": (MD_STATE, remove, {K.MISSING}),
    "MD state cut": (MD_STATE, truncate, {K.UNREADABLE}),
    "MD state of another": (MD_STATE, copy_over("aimspax/trajectories/1/13.json"), {K.STATE}),
    "sampler gone": ("aimspax/trajectories/initial-0/2.json", remove, {K.MISSING}),
    "checkpoint gone": ("checkpoints/water-472/train-20-11.pt", remove, {K.MISSING}),
    "model gone": ("results/water-511.model", remove, {K.MISSING}),
    "aside": ("results/.errors.csv.0123abcd.csv", touch, {K.LEFT}),
    "lock of a label": (f"aimspax/labels/{LABEL[:2]}/{LABEL}.lock", touch, {K.LEFT}),
}


def write(directory: Path, file: str, text: str) -> None:
    (directory / file).write_text(text)


def line_out(directory: Path, file: str, number: int) -> None:
    path = directory / file
    content = path.read_text().splitlines(keepends=True)
    path.write_text("".join(content[: number - 1] + content[number:]))


def last_lines_out(directory: Path, file: str, count: int) -> None:
    path = directory / file
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-count]))


def byte(directory: Path, file: str, where: float) -> None:
    """Spoil a byte that JSON needs."""
    path = directory / file
    content = bytearray(path.read_bytes())
    content[content.index(b'":', int(len(content) * where))] = 0xFF
    path.write_bytes(content)


def placed(directory: Path) -> set[tuple[K, str]]:
    return {(f.kind, str(f.file.relative_to(directory))) for f in found(directory)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[K, str]]:
    """What is missing from the directory `finished` in any case: models were taken out of it."""
    return placed(copied("finished", tmp_path_factory.mktemp("whole")))


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_is_found_in_the_file_that_it_is_in(
    name: str, tmp_path: Path, whole: set[tuple[K, str]]
) -> None:
    file, damage, expected = DAMAGES[name]
    directory = copied("finished", tmp_path)
    damage(directory, file)
    assert {kind for kind, place in placed(directory) - whole if place == file} == expected


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_found_in_a_sound_directory(name: str, tmp_path: Path) -> None:
    """But that models are missing, which were taken out of these directories."""
    directory = copied(name, tmp_path)
    strange = [f for f in found(directory) if (f.kind, f.file.suffix) != (K.MISSING, ".model")]
    assert not strange


def test_every_kind_of_event_is_known() -> None:
    kinds = {
        get_args(one.model_fields["kind"].annotation)[0] for one in get_args(get_args(Event)[0])
    }
    assert kinds == KINDS


def test_a_directory_without_a_campaign_cannot_be_verified(tmp_path: Path) -> None:
    directory = copied("finished", tmp_path)
    shutil.rmtree(directory / "aimspax")
    with pytest.raises(CampaignError, match="no campaign"):
        found(directory)


def test_nothing_is_changed(tmp_path: Path) -> None:
    directory = copied("finished", tmp_path)
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in directory.rglob("*")}
    found(directory)
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in directory.rglob("*")} == before


def test_a_torn_last_line_never_counted(tmp_path: Path) -> None:
    directory = copied("interrupted", tmp_path)
    with (directory / JOURNAL).open("a") as journal:
        journal.write('{"seq": 88, "ti')
    report = verify(load(directory), models=False)
    assert not [f for f in report.findings if f.file.name == "journal.jsonl"]
    assert any("torn" in note for note in report.notes)


def sealed(content: Any) -> str:
    """As today's code writes a line of the journal, or a snapshot: the checksum is its last key."""
    body = json.dumps(content)[:-1]
    return f'{body},"sum":"{hashlib.sha256(body.encode()).hexdigest()[:16]}"}}'


def seal(directory: Path) -> None:
    """Give each line of the journal, and the snapshot, its checksum."""
    lines = (directory / JOURNAL).read_text().splitlines()
    (directory / JOURNAL).write_text("".join(f"{sealed(json.loads(line))}\n" for line in lines))
    (directory / SNAPSHOT).write_text(sealed(json.loads((directory / SNAPSHOT).read_text())))


def test_checksums_hold(tmp_path: Path, whole: set[tuple[K, str]]) -> None:
    directory = copied("finished", tmp_path)
    seal(directory)
    assert placed(directory) == whole


@pytest.mark.parametrize("file", [JOURNAL, SNAPSHOT])
def test_a_digit_that_changed_is_found(file: str, tmp_path: Path) -> None:
    directory = copied("finished", tmp_path)
    seal(directory)
    replaced('"rmse_f": 0.', '"rmse_f": 1.')(directory, file)
    assert {(f.kind, f.file) for f in found(directory)} >= {(K.CHANGED, directory / file)}


def test_damage_that_was_mended_is_told_and_no_fault(
    tmp_path: Path, whole: set[tuple[K, str]]
) -> None:
    directory = copied("finished", tmp_path)
    seal(directory)
    snapshot = json.loads((directory / SNAPSHOT).read_text())
    event = {"kind": "state-restored", "state": snapshot["state"], "reason": "it was damaged"}
    entry = {"seq": 154, "time": 0.0, "event": event}
    byte(directory, JOURNAL, 0.5)
    with (directory / JOURNAL).open("a") as journal:
        journal.write(f"{sealed(entry)}\n")
    assert placed(directory) == whole
    assert any("told anew" in note for note in verify(load(directory), models=False).notes)


def test_where_the_journal_is_damaged_the_snapshot_says_what_files_must_be(
    tmp_path: Path, whole: set[tuple[K, str]]
) -> None:
    directory = copied("finished", tmp_path)
    byte(directory, JOURNAL, 0.5)
    assert placed(directory) - whole == {(K.UNREADABLE, JOURNAL)}
    (directory / label(LABEL)).unlink()
    replaced("REF_energy=-13", "REF_energy=-14")(directory, RESULT)
    assert placed(directory) - whole == {
        (K.UNREADABLE, JOURNAL),
        (K.MISSING, label(LABEL)),
        (K.VALUES, RESULT),
    }


def test_what_a_killed_process_has_left_is_no_fault_while_its_campaign_waits(
    tmp_path: Path,
) -> None:
    directory = copied("interrupted", tmp_path)
    (directory / "aimspax" / ".snapshot.json.0123abcd.json").touch()
    report = verify(load(directory), models=False)
    assert not [f for f in report.findings if f.kind is K.LEFT]
    assert any(".snapshot.json.0123abcd.json" in note for note in report.notes)


def test_a_label_that_was_computed_as_the_campaign_was_killed_is_no_fault_before_its_end(
    tmp_path: Path,
) -> None:
    directory = copied("interrupted", tmp_path)
    assert (directory / label(FLYING)).exists()
    assert not [f for f in found(directory) if f.kind is K.UNUSED]


@pytest.mark.parametrize(
    ("on", "strange"), [("", {K.SETS}), ("-all", {K.SETS}), ("-all-and-analysis", set())]
)
def test_labels_for_analysis_are_only_where_they_were_asked_for(
    on: str, strange: set[K], tmp_path: Path
) -> None:
    run = RunDir.of(load(copied("finished", tmp_path)))
    ledger, report = Ledger(), Report()
    for _, event in events(run.journal, report):
        ledger.take(event)
    ledger.points["analysis"] = Point(geometry=0, analysis=True, asked=True, status="labelled")
    sets = {tag: [*own, "analysis"] for tag, (own, _) in ledger.sets().items()}
    file = run.dataset(f"converge-final-11-17{on}")
    file.write_text(json.dumps({t: {"training": s, "validation": []} for t, s in sets.items()}))
    dataset_files.check_round_files(run, ledger, report)
    assert {f.kind for f in report.findings if f.file == file} == strange


def test_a_finished_campaign_has_used_every_label_that_was_computed(tmp_path: Path) -> None:
    directory = copied("interrupted", tmp_path)
    run, ledger, report = RunDir.of(load(directory)), Ledger(), Report()
    for _, event in events(run.journal, report):
        ledger.take(event)
    ledger.finished = True
    label_files.check(run, ledger, label_files.Labels(run, report), report)
    assert [(f.kind, f.file.stem) for f in report.findings] == [(K.UNUSED, FLYING)]


def test_a_structure_that_waits_for_its_label_must_be_there(tmp_path: Path) -> None:
    directory = copied("interrupted", tmp_path)
    (directory / label(FLYING)).unlink()
    file = directory / "aimspax" / "structures" / FLYING[:2] / f"{FLYING}.json"
    assert file.exists()
    assert not [f for f in found(directory) if f.file == file]
    file.unlink()
    assert [f.kind for f in found(directory) if f.file == file] == [K.MISSING]


def test_a_store_that_campaigns_share_may_hold_what_is_not_ours(tmp_path: Path) -> None:
    directory = copied("finished", tmp_path)
    (directory / "aimspax" / "labels").rename(tmp_path / "store")
    settings = directory / "aimsPAX.yaml"
    settings.write_text(
        settings.read_text().replace("MISC: {", f"MISC: {{label_store: {tmp_path / 'store'}, ")
    )
    (tmp_path / "store" / "ff").mkdir()
    (tmp_path / "store" / "ff" / f"{'f' * 64}.json").write_text("not ours")
    (tmp_path / "store" / "ff" / f"{'f' * 64}.lock").touch()
    assert {f.kind for f in found(directory)} == {K.MISSING}


def test_events_of_an_older_release_know_fewer_kinds_of_errors(tmp_path: Path) -> None:
    directory = copied("finished", tmp_path)
    later = of_state(
        lambda state: [m["errors"].update(mae_new=None) for m in state["members"].values()]
    )
    before = found(directory)
    later(directory, SNAPSHOT)
    assert found(directory) == before


@pytest.mark.torch
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("results/water-511.model", {K.ERROR}),
        ("checkpoints/water-511/train-20-11.pt", {K.ERROR}),
        ("checkpoints/water-511/converge-final-22-0.pt", {K.ERROR}),
    ],
)
def test_other_weights_have_other_errors(file: str, expected: set[K], tmp_path: Path) -> None:
    import torch

    directory = copied("finished", tmp_path)
    path = directory / file
    if path.suffix == ".model":
        model = torch.load(path, map_location="cpu", weights_only=False)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.01)
        torch.save(model, path)
    else:
        content = torch.load(path, map_location="cpu", weights_only=True)
        place = content["best_weights"] or content["learner"]["ema"]["shadow_params"]
        for weights in place.values() if isinstance(place, dict) else place:
            weights.mul_(1.01)
        torch.save(content, path)
    now = found(directory, models=True)
    assert {f.kind for f in now if f.file == path} == expected
    assert not [f for f in now if f.file != path and f.kind is not K.MISSING]


@pytest.mark.torch
@pytest.mark.parametrize(
    "file", ["results/water-511.model", "checkpoints/water-472/train-20-11.pt"]
)
def test_a_model_that_cannot_be_read_is_found(file: str, tmp_path: Path) -> None:
    directory = copied("finished", tmp_path)
    truncate(directory, file)
    now = found(directory, models=True)
    assert {f.kind for f in now if f.file == directory / file} == {K.UNREADABLE}


@pytest.mark.torch
def test_a_checkpoint_has_a_checksum(tmp_path: Path) -> None:
    directory = copied("finished", tmp_path)
    path = directory / "checkpoints" / "water-472" / "train-20-11.pt"
    path.write_bytes(intact.sealed(path.read_bytes()))
    assert not [f for f in found(directory, models=True) if f.file == path]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert {f.kind for f in found(directory, models=True) if f.file == path} == {K.CHANGED}


def test_an_md_state_has_a_checksum(tmp_path: Path) -> None:
    directory = copied("finished", tmp_path)
    state = json.loads((directory / MD_STATE).read_text())
    text = json.dumps(state, sort_keys=True, separators=(",", ":"))
    checksum = hashlib.sha256(text.encode()).hexdigest()
    (directory / MD_STATE).write_text(json.dumps({**state, "checksum": checksum}))
    assert not [f for f in found(directory) if f.file == directory / MD_STATE]
    (directory / MD_STATE).write_text(
        json.dumps({**state, "extras": {"a": 1}, "checksum": checksum})
    )
    assert {f.kind for f in found(directory) if f.file == directory / MD_STATE} == {K.CHANGED}


def test_in_an_md_state_no_fixed_atom_moves(tmp_path: Path) -> None:
    directory = copied("finished", tmp_path)
    state = json.loads((directory / MD_STATE).read_text()) | {"held": {"fixed": [1]}}
    for momentum, kinds in (([0.0, 0.0, 0.0], set()), ([0.0, 0.1, 0.0], {K.UNREADABLE})):
        state["momenta"][1] = momentum
        (directory / MD_STATE).write_text(json.dumps(state))
        assert {f.kind for f in found(directory) if f.file == directory / MD_STATE} == kinds


@pytest.mark.torch
def test_a_checkpoint_of_another_member_is_found(tmp_path: Path) -> None:
    directory = copied("finished", tmp_path)
    file = "checkpoints/water-472/train-20-11.pt"
    copy_over("checkpoints/water-511/train-20-11.pt")(directory, file)
    now = found(directory, models=True)
    assert {f.kind for f in now if f.file == directory / file} == {K.STATE}


def test_energies_that_were_solved_for_at_publishing_have_the_errors_that_were_told_then(
    tmp_path: Path,
) -> None:
    run, ledger = RunDir.of(load(copied("finished", tmp_path))), Ledger()
    for _, event in events(run.journal, Report()):
        late = event["kind"] == "published" and event["what"] == "final"
        ledger.take(event | ({"settled": {"water-511": {"mae_e": 0.5}}} if late else {}))
    expected = model_errors.published_models(run, ledger)
    errors, keys = expected[run.results / "water-511.model"]
    assert errors == {"mae_e": 0.5} and keys == ledger.published_sets()["water-511"][1]
    assert expected[run.results / "water-472.model"][0] != errors


def test_models_of_a_campaign_that_is_publishing_are_in_the_making(tmp_path: Path) -> None:
    directory = copied("finished", tmp_path)
    ledger = Ledger()
    run, report = RunDir.of(load(directory)), Report()
    for _, event in events(run.journal, report):
        ledger.take(event)
        if event["kind"] == "launched" and event["action"].get("what") == "final":
            assert not model_errors.published_models(run, ledger)
    assert model_errors.published_models(run, ledger)
