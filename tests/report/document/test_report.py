"""The report of campaigns of release 0.1.0: its numbers, its page, and that the page is alone."""

from __future__ import annotations

import base64
import copy
import csv
import hashlib
import json
import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimspax_core.campaign.journal import entries, load
from aimspax_core.campaign.judged import KEPT
from aimspax_core.campaign.state import PointStatus
from aimspax_core.errors import CampaignError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.inputs.electrons_of_models import given_by_reference
from aimspax_core.inputs.fresh import move_aside
from aimspax_core.report.compared import Compared
from aimspax_core.report.document import contents
from aimspax_core.report.document.charts import compared, figures
from aimspax_core.report.document.comparison import comparison, names_of
from aimspax_core.report.document.costs import TARGETS, costs
from aimspax_core.report.document.gather import report
from aimspax_core.report.document.labels import labels
from aimspax_core.report.document.page import comparison_page, page
from aimspax_core.report.document.setup import resolved
from aimspax_core.report.document.source import Source
from aimspax_core.report.document.story import Story
from aimspax_core.report.document.tables import costs_to_targets, headline
from aimspax_core.report.document.tables import targets as target_rows
from aimspax_core.report.document.writing import write_comparison, write_report
from aimspax_core.report.forecast import IN_VALIDATION
from aimspax_core.run_directory import RunDir

OLD = Path(__file__).parents[2] / "fixtures" / "0.1.0-8e65e71"
NAMES = ("finished", "interrupted", "adopted")


def source(name: str) -> Source:
    inputs = Inputs.of_campaign(OLD / name)
    assert inputs.state is not None
    return Source(
        run=inputs.run,
        settings=inputs.settings,
        geometries=inputs.geometries,
        seeds=inputs.seeds,
        story=Story.of(entries(inputs.run.journal)),
        state=inputs.state,
        electrons=given_by_reference(inputs.settings),
        model_card="# card <b>of</b>\n\n| a |\n| --- |\n| 1 |\n",
    )


@pytest.fixture(scope="module")
def sources() -> dict[str, Source]:
    return {name: source(name) for name in NAMES}


@pytest.fixture(scope="module")
def reports(sources: dict[str, Source]) -> dict[str, contents.Report]:
    return {name: report(one) for name, one in sources.items()}


@pytest.fixture(scope="module")
def pages(sources: dict[str, Source], reports: dict[str, contents.Report]) -> dict[str, str]:
    return {name: page(one, figures(one, sources[name].story)) for name, one in reports.items()}


class Tags(HTMLParser):
    """What a page would have a browser load, what it links, and its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.tags: list[str] = []
        self._script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append(tag)
        self.loads += [str(known[name]) for name in ("src", "srcset", "data") if name in known]
        if "href" in known:
            (self.links if tag == "a" else self.loads).append(str(known["href"]))
        self._script = tag == "script" and "type" not in known
        if self._script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._script = self._script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[-1] += data


def without_scripts(text: str) -> str:
    return re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("name", NAMES)
def test_page_loads_nothing(pages: dict[str, str], name: str) -> None:
    tags = Tags(pages[name])
    assert not tags.loads
    assert all(link.startswith(("#", "https://")) for link in tags.links)
    assert not {"link", "iframe", "img", "object", "embed", "base"} & set(tags.tags)
    assert "@import" not in without_scripts(pages[name])
    assert "url(" not in without_scripts(pages[name])


def test_policy_of_the_page_lets_its_own_scripts_run_and_no_others(pages: dict[str, str]) -> None:
    found = re.search(r'Content-Security-Policy" content="([^"]*)"', pages["finished"])
    assert found is not None
    policy = found[1].replace("&#39;", "'")
    allowed = set(re.findall(r"'sha256-([^']*)'", policy))
    scripts = Tags(pages["finished"]).scripts
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    assert allowed == {base64.b64encode(digest).decode() for digest in digests}
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]


def test_what_users_and_programs_have_said_is_text_on_the_page(
    sources: dict[str, Source], reports: dict[str, contents.Report]
) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'{{ 7 * 7 }}"
    known = reports["finished"]
    label = known.labels[0].model_copy(update={"reason": evil, "origin": evil, "why": evil})
    structure = known.structures[0].model_copy(update={"title": evil})
    member = known.members[0].model_copy(update={"tag": evil})
    setup = known.setup.model_copy(
        update={"plan": [evil], "machines": {evil: 1}, "versions": {evil: evil}, "notes": [evil]}
    )
    bad = known.model_copy(
        update={
            "name": evil, "stop_reason": evil, "failures": [(evil, 1)], "labels": [label],
            "structures": [structure], "members": [member], "setup": setup, "model_card": evil,
            "happenings": [contents.Happening(hours=0.0, text=evil)],
        }
    )  # fmt: skip
    good = page(known, figures(known, sources["finished"].story))
    text = page(bad, figures(bad, sources["finished"].story))
    assert len(Tags(text).scripts) == len(Tags(good).scripts)
    assert "img" not in Tags(text).tags
    assert "{{ 7 * 7 }}" in text.replace("&#34;", '"')


@pytest.mark.parametrize("name", ["finished", "adopted"])
def test_errors_are_those_of_the_table_of_results(
    reports: dict[str, contents.Report], name: str
) -> None:
    with (OLD / name / "results" / "errors.csv").open(newline="") as file:
        rows = {row["member"]: row for row in csv.DictReader(file)}
    members = {one.tag: one for one in reports[name].members}
    assert members.keys() == rows.keys()
    for tag, row in rows.items():
        one = members[tag]
        assert (str(one.training), str(one.validation)) == (row["training"], row["validation"])
        assert one.state == row["state"]
        for key, value in one.errors.items():
            assert f"{value:.3f}" == row[key]


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_those_of_the_state(
    sources: dict[str, Source], reports: dict[str, contents.Report], name: str
) -> None:
    state, counts = sources[name].state, reports[name].counts
    assert counts.events == load(sources[name].run)[0]
    assert counts.labels == state.labels
    assert counts.rounds == state.rounds
    assert (
        counts.failed_labels
        == state.failed_labels
        == len([one for one in reports[name].labels if one.status == "failed"])
    )
    assert [one.steps for one in reports[name].trajectories] == [t.step for t in state.trajectories]
    if name != "finished":  # a label of that one was computed twice
        took = sum(one.core_hours or 0.0 for one in reports[name].labels)
        assert took == pytest.approx(state.core_hours)


def test_points_that_exploring_asked_for_say_with_which_uncertainty(
    reports: dict[str, contents.Report],
) -> None:
    asked = [one for one in reports["finished"].labels if one.why.startswith("uncertainty")]
    assert asked
    for one in asked:
        assert one.uncertainty is not None
        assert one.threshold is not None
        assert one.uncertainty > one.threshold


def test_what_was_said_of_the_last_labels_is_drawn_against_them(
    sources: dict[str, Source], pages: dict[str, str]
) -> None:
    forces, dipole = np.arange(9.0).reshape(3, 3), np.ones(3)
    one = Compared(("O", "H", "H"), forces + 0.1, forces, 2.0, 1.0, dipole + 0.2, dipole)
    told = report(replace(sources["finished"], compared=(one, one)))
    assert told.parity is not None
    assert (told.parity.labels, told.parity.mae_f_meV_per_A) == (2, pytest.approx(100))
    assert told.parity.mae_dipole_me_A == pytest.approx(200)
    drawn = figures(told, sources["finished"].story)
    assert {"forces", "energies", "dipoles"} <= set(drawn)
    for name in ("forces", "energies", "dipoles"):
        x, y = (drawn[name]["layout"][axis] for axis in ("xaxis", "yaxis"))
        assert (x["range"], y["scaleanchor"]) == (y["range"], "x"), "equal is a diagonal"
    text = page(told, drawn)
    assert "force MAE 100.0 meV/Å there" in text and "MAE 200.0 me·Å" in text
    assert "was said of the last" not in pages["finished"], "nothing was kept of what was said"


def test_how_many_labels_tell_the_factor_is_told(reports: dict[str, contents.Report]) -> None:
    found = reports["finished"].uncertainty
    assert (found.factor_points > 0) == (found.factor is not None)
    assert found.factor_points <= min(KEPT, len(found.points))


def test_refused_points_are_told_with_their_reasons(reports: dict[str, contents.Report]) -> None:
    failed = [one for one in reports["finished"].labels if one.status == "failed"]
    assert len(failed) == sum(count for _, count in reports["finished"].failures) > 0
    assert all(one.reason and not one.used_for for one in failed)


def test_numbers_are_read_back_from_json(reports: dict[str, contents.Report]) -> None:
    for one in reports.values():
        text = one.model_dump_json()
        assert contents.Report.model_validate_json(text) == one
        json.loads(text, parse_constant=pytest.fail)  # NaN and infinity are no JSON


def test_figures_are_what_plotly_knows(
    sources: dict[str, Source], reports: dict[str, contents.Report]
) -> None:
    import plotly.graph_objects as go

    drawn = figures(reports["finished"], sources["finished"].story)
    assert {"learning", "checks", "pools", "temperature", "energy"} <= drawn.keys()
    for figure in drawn.values():
        go.Figure(figure)  # raises where a name or a value is not plotly's
        for trace in figure["data"]:
            assert len(trace["x"]) == len(trace["y"])


def test_methods_cite_what_was_used_and_nothing_else(
    reports: dict[str, contents.Report],
) -> None:
    keys = {one.key for one in reports["finished"].methods.references}
    assert {"henkes2025", "batatia2022", "bannwarth2019", "vandeneijnden2006"} <= keys
    assert not {"grimme2017", "kabylda2025", "blum2009", "hu2022", "batatia2025foundation"} & keys
    text, latex = reports["finished"].methods.text, reports["finished"].methods.latex
    for number in range(1, len(keys) + 1):
        assert re.search(rf"[\[ ]{number}[\],]", text)
    assert set(re.findall(r"[\w]+", " ".join(re.findall(r"\\cite\{([^}]*)\}", latex)))) == keys


def test_structures_that_have_no_label_are_not_counted_among_the_first_ones(
    sources: dict[str, Source], reports: dict[str, contents.Report]
) -> None:
    state = sources["interrupted"].state
    key = next(k for k, p in state.points.items() if p.sampling_step is not None)
    failed = state.points[key].but(status=PointStatus.FAILED)
    fewer = replace(sources["interrupted"], state=state.but(points={**state.points, key: failed}))
    before, after = (report(one).methods.text for one in (sources["interrupted"], fewer))
    first, then = (int(re.findall(r"first (\d+) structures", one)[0]) for one in (before, after))
    assert (first, then) == (reports["interrupted"].counts.initial_labels, first - 1)
    assert re.search(r"sampled by [^.]* in MD \([^)]* K,", before)


def test_methods_tell_thresholds_as_they_are(sources: dict[str, Source]) -> None:
    known = sources["finished"]

    def told(**rules: object) -> str:
        return report(replace(known, state=known.state.but(**rules))).methods.text

    rules, window = known.state.rules, known.state.window
    assert "stood still" not in told()
    assert "stood still at 0.25" in told(window=replace(window, frozen=0.25))
    scoped = rules.model_copy(update={"threshold_scope": "geometry", "geometries": 2})
    assert "checks of its geometry" in told(rules=scoped)


def test_methods_count_structures_that_were_taken_below_the_threshold(
    sources: dict[str, Source],
) -> None:
    known = sources["finished"]
    key, asked = next(
        (key, one)
        for key, one in known.story.asked.items()
        if one.threshold and known.state.points[key].status is PointStatus.LABELLED
    )
    assert asked.threshold is not None
    story = copy.copy(known.story)
    story.asked = {**story.asked, key: replace(asked, uncertainty=asked.threshold / 2)}
    assert "without one above" not in report(known).methods.text
    assert "One structure was labelled after" in report(replace(known, story=story)).methods.text


def test_labels_from_the_store_are_told_in_the_methods(sources: dict[str, Source]) -> None:
    known = sources["finished"]
    points = {key: one.but(from_store=True) for key, one in known.state.points.items()}
    there = report(replace(known, state=known.state.but(points=points)))
    assert f"{there.counts.from_store} of them by labels that were in the store" in (
        there.methods.text
    )


def test_charge_and_multiplicity_are_those_that_the_reference_gives(
    sources: dict[str, Source],
) -> None:
    known = sources["finished"]
    assert (report(known).setup.geometries[0].charge) == 0
    charged = replace(known, electrons={0: {"charge": 1.0, "spin": 2.0}})
    found = report(charged)
    (geometry, *_) = found.setup.geometries
    assert (geometry.charge, geometry.multiplicity) == (1.0, 2.0)
    assert "the charge 1 e and the multiplicity 2" in found.methods.text
    own = known.geometries[0].copy()  # what a structure says of itself holds before
    own.info.update(charge=-1, spin=1)
    (geometry, *_) = report(replace(charged, geometries=[own])).setup.geometries
    assert (geometry.charge, geometry.multiplicity) == (-1.0, 1.0)


def test_settings_that_are_not_the_defaults_are_told(reports: dict[str, contents.Report]) -> None:
    changed = {one.key: one for one in reports["finished"].setup.changed}
    assert changed["ACTIVE_LEARNING.c_x"].value == "-0.5"
    assert changed["GATE.max_force"].default == "50"
    assert "GATE.min_distance" not in changed
    assert changed["CLUSTER.ml.max_workers"].value == "1"


def test_time_of_workers_is_shared_out_over_the_running_time(
    reports: dict[str, contents.Report],
) -> None:
    for pool in reports["finished"].costs.pools:
        if len(pool.use) > 1:
            span = pool.use[1][0] - pool.use[0][0]
            assert span * sum(busy for _, busy in pool.use) == pytest.approx(
                pool.busy_hours, rel=0.02
            )


def test_report_changes_nothing_in_the_run_directory(tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (OLD / "finished").rglob("*")}
    paths = write_report(source("finished"), tmp_path)
    assert [path.name for path in paths] == ["report.html", "report.json", "report.bib"]
    assert {path: path.stat().st_mtime_ns for path in (OLD / "finished").rglob("*")} == before
    data: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
    assert (data["format"], data["version"]) == (contents.FORMAT, contents.VERSION)
    bib = (tmp_path / "report.bib").read_text()
    assert all(f"{{{one['key']}," in bib for one in data["methods"]["references"])


@pytest.mark.parametrize("name", ["report.html", "report.json", "report.bib"])
def test_file_of_a_user_is_not_written_over(tmp_path: Path, name: str) -> None:
    mine = tmp_path / name
    mine.write_text("mine")
    with pytest.raises(CampaignError, match=re.escape(name)):
        write_report(source("finished"), tmp_path)
    assert mine.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [mine]
    mine.unlink()
    write_report(source("finished"), tmp_path)
    write_report(source("finished"), tmp_path)  # its own is renewed


@pytest.mark.parametrize("name", ["comparison.html", "comparison.json"])
def test_comparison_writes_over_no_file_of_a_user(
    sources: dict[str, Source], tmp_path: Path, name: str
) -> None:
    mine = tmp_path / name
    mine.write_text('{"format": "mine"}')
    with pytest.raises(CampaignError, match=re.escape(name)):
        write_comparison(sources, tmp_path)
    mine.unlink()
    write_comparison(sources, tmp_path)
    write_comparison(sources, tmp_path)


def test_fresh_moves_the_report_and_leaves_a_page_of_the_users(tmp_path: Path) -> None:
    for name, written in (("ours", True), ("theirs", False)):
        shutil.copytree(OLD / "finished", tmp_path / name)
        run = Inputs.of_campaign(tmp_path / name).run
        if written:
            write_report(source("finished"), run.output)
        else:
            for path in run.report_files:
                path.write_text("mine")
        aside = move_aside(run)
        assert aside is not None
        assert all((aside / path.name).is_file() is written for path in run.report_files)
        assert all(path.is_file() is not written for path in run.report_files)


def test_card_is_markdown_whose_html_is_text(pages: dict[str, str]) -> None:
    text = pages["finished"]
    assert "card &lt;b&gt;of&lt;/b&gt;" in text
    assert "<td>1</td>" in text


def test_campaign_that_has_only_begun_has_a_report(sources: dict[str, Source]) -> None:
    known = sources["interrupted"]
    for number in (1, 2, 5, 12):
        some = list(entries(known.run.journal))[:number]
        story = Story.of(some)
        assert story.last is not None
        early = Source(known.run, known.settings, known.geometries, known.seeds, story, story.last)
        found = report(early)
        assert "report of a campaign" in page(found, figures(found, story))


def test_campaigns_are_held_against_each_other(
    sources: dict[str, Source], reports: dict[str, contents.Report]
) -> None:
    found = comparison(reports, {name: resolved(one.settings) for name, one in sources.items()})
    text = comparison_page(found, compared(found.campaigns))
    assert not Tags(text).loads
    assert all(name in text for name in NAMES)
    assert [one.labels for one in found.campaigns] == [r.counts.labels for r in reports.values()]
    assert set(found.differing["GENERAL.name_exp"]) == set(NAMES)
    assert all(len(set(values.values())) > 1 for values in found.differing.values())
    assert found.differing["GATE.min_distance"]["finished"] == "0.5"  # it does not name the key
    for figure in compared(found.campaigns).values():
        assert len(figure["data"]) <= len(NAMES)


def test_values_of_a_campaign_are_its_own_and_never_defaults_of_another(
    sources: dict[str, Source], reports: dict[str, contents.Report]
) -> None:
    settings = {name: resolved(one.settings) for name, one in sources.items()}
    settings["adopted"].pop("ACTIVE_LEARNING.c_x")
    found = comparison(reports, settings).differing
    assert found["ACTIVE_LEARNING.c_x"]["adopted"] == "-"
    assert found["ACTIVE_LEARNING.c_x"]["finished"] == "-0.5"
    own = {one.key for r in reports.values() for one in r.setup.changed}
    settings["finished"]["REFERENCE.unnamed"] = "1"
    assert "REFERENCE.unnamed" not in own | comparison(reports, settings).differing.keys()
    settings = {name: {"TRAINING.lr": name} for name in NAMES}
    assert comparison(reports, settings).differing["TRAINING.lr"] == {n: n for n in NAMES}


def test_first_arrivals_at_an_error_are_those_of_the_learning_curve(
    reports: dict[str, contents.Report],
) -> None:
    assert any(one.costs.targets for one in reports.values())
    for report_ in reports.values():
        rounds = report_.learning.rounds
        reached = {
            target: next(r for r in rounds if r.validation_mae_f_meV_per_A <= target)
            for target in TARGETS
            if any(r.validation_mae_f_meV_per_A <= target for r in rounds)
        }
        found = {t.mae_f_meV_per_A: t for t in report_.costs.targets if t.on == IN_VALIDATION}
        assert found.keys() == reached.keys()
        for target, one in found.items():
            assert one.labels == reached[target].labels
            assert one.from_the_beginning is (reached[target] is rounds[0])


def test_initial_ensembles_have_cost_what_they_have_cost(
    sources: dict[str, Source], reports: dict[str, contents.Report]
) -> None:
    rounds = reports["finished"].learning.rounds
    curves = sources["finished"].story.curves
    assert curves.explored_from is not None
    first = [one for one in rounds if one.labels_seen <= curves.explored_from]
    assert first
    assert all(one.labels >= one.labels_seen and one.core_hours > 0 for one in first)


def test_errors_of_the_first_models_are_told_as_such() -> None:
    def one(error: float, first: bool) -> contents.Target:
        return contents.Target(
            mae_f_meV_per_A=error, on="x", labels=20, core_hours=1, hours=1,
            from_the_beginning=first,
        )  # fmt: skip

    def campaign(name: str, *targets: contents.Target) -> contents.Summary:
        return contents.Summary(
            name=name, experiment="", phase="", selection="", labels=0, core_hours=0, hours=0,
            error_name=None, error_meV_per_A=None, rounds=[], targets=list(targets),
        )  # fmt: skip

    good = campaign("good", one(300, True), one(200, True), one(100, False))
    bad = campaign("bad", one(300, True), one(200, False))
    rows = {row["force MAE (meV/Å)"]: row for row in costs_to_targets([good, bad])}
    assert list(rows) == ["200 x", "100 x"]
    assert "beginning" in rows["200 x"]["good"]
    assert "20 labels" in rows["200 x"]["bad"]
    assert rows["100 x"]["bad"] == "-"
    assert [row["labels"] for row in target_rows(good.targets)] == [
        "from the beginning (≤ 20)", "20"
    ]  # fmt: skip


def test_point_that_a_limit_of_steps_took_does_not_say_that_it_crossed(
    sources: dict[str, Source],
) -> None:
    known = sources["finished"]
    key, asked = next((k, a) for k, a in known.story.asked.items() if a.threshold is not None)
    assert asked.threshold is not None
    below = replace(asked, uncertainty=asked.threshold / 2)
    story = copy.copy(known.story)
    story.asked = {**story.asked, key: below}
    (told,) = (one for one in labels(replace(known, story=story)) if one.key == key)
    assert "uncert_not_crossed_limit" in told.why
    assert not told.why.startswith("uncertainty")


def test_headline_is_of_converged_members_alone(reports: dict[str, contents.Report]) -> None:
    report_ = reports["finished"]
    errors = ({"mae_f_meV_per_A": 60.0}, {"mae_f_meV_per_A": 100.0})
    for states, told in (
        (("converged", "converging"), ("converged", 60.0)),
        (("converging", "converging"), ("converging", 80.0)),
        (("as active learning ended", "converging"), ("converging", 100.0)),
        (("exploring", "exploring"), ("mean", 80.0)),
    ):
        members = [
            report_.members[0].model_copy(update={"state": state, "errors": own, "held_out": {}})
            for state, own in zip(states, errors, strict=True)
        ]
        found = headline(report_.model_copy(update={"members": members}))
        assert found is not None
        assert (found.name.split(", ")[-1], found.value) == told


def test_labels_from_the_store_are_not_in_the_median_of_what_labels_took(
    sources: dict[str, Source],
) -> None:
    known = sources["interrupted"]
    story = copy.copy(known.story)
    story.asked = {
        key: replace(one, core_hours=0.0, from_store=True) if number else replace(one, core_hours=2)
        for number, (key, one) in enumerate(story.asked.items())
    }
    assert costs(replace(known, story=story)).core_seconds_a_label == 7200


def test_campaigns_have_names_that_tell_them_apart() -> None:
    assert names_of([Path("/x/a"), Path("/x/b")]) == ["a", "b"]
    assert names_of([Path("/x/run"), Path("/y/run")]) == ["x/run", "y/run"]


def test_running_time_leaves_out_the_time_between_two_processes(
    sources: dict[str, Source], reports: dict[str, contents.Report]
) -> None:
    found, story = reports["interrupted"], sources["interrupted"].story
    assert story.began is not None
    assert story.ended is not None
    assert found.counts.starts > 1
    assert 0 < found.costs.hours < (story.ended - story.began) / 3600
    assert all(math.isfinite(one.hours) for one in found.happenings)


def test_run_directory_names_the_files(tmp_path: Path) -> None:
    run = RunDir(tmp_path, *(tmp_path / str(number) for number in range(5)))
    assert [path.parent for path in run.report_files] == [tmp_path] * 3
