"""From a campaign's journal and files to the contents of its report."""

from __future__ import annotations

import time
from collections import Counter

from aimspax_core.campaign.state import CampaignState, PointStatus
from aimspax_core.report.document import contents
from aimspax_core.report.document.costs import costs, utc
from aimspax_core.report.document.frames import series
from aimspax_core.report.document.labels import Files, labels
from aimspax_core.report.document.learning import learning, members
from aimspax_core.report.document.methods import methods
from aimspax_core.report.document.parity import parity
from aimspax_core.report.document.setup import setup
from aimspax_core.report.document.source import Source
from aimspax_core.report.document.story import Story
from aimspax_core.report.document.structures import structures
from aimspax_core.report.document.trajectories import trajectories
from aimspax_core.report.document.uncertainty import uncertainty
from aimspax_core.report.failed_labels import by_reason
from aimspax_core.report.geometry_table import geometry_rows
from aimspax_core.report.progress import progress, title_of
from aimspax_core.versions import release


def report(source: Source) -> contents.Report:
    """Return the contents of a campaign's report; nothing is changed."""
    settings, state, story = source.settings, source.state, source.story
    files = Files.of(source)
    done = setup(source, files.machines)
    now = progress(state, settings.al.max_convergence_epochs)
    return contents.Report(
        written=utc(time.time()) or "",
        aimspax=release(),
        name=settings.model.GENERAL.name_exp,
        directory=settings.directory.resolve().name,
        phase=now.title,
        progress=now.reached,
        stop_reason=state.stop_reason,
        finished=state.finished,
        setup=done,
        counts=_counts(state, story),
        members=members(source),
        geometries=geometry_rows(state),
        learning=learning(source),
        uncertainty=uncertainty(source),
        parity=parity(source),
        labels=labels(source),
        failures=by_reason(state),
        trajectories=trajectories(source),
        series=series(source),
        costs=costs(source),
        phases=[(title_of(phase), seconds / 3600) for phase, seconds in story.phases],
        happenings=[
            contents.Happening(hours=one.at / 3600, text=one.text) for one in story.happenings
        ],
        methods=methods(source, done.versions, files.versions_of(settings.reference.engine)),
        data_card=files.card(),
        model_card=source.model_card,
        structures=structures(source),
    )


def _counts(state: CampaignState, story: Story) -> contents.Counts:
    arrived = [p for p in state.points.values() if p.status is PointStatus.LABELLED]
    kinds = Counter(
        "initial" if p.sampling_step is not None else "analysis" if p.analysis else "explored"
        for p in arrived
    )
    return contents.Counts(
        events=story.events,
        starts=story.starts,
        labels=state.labels,
        initial_labels=state.initial_set_size if state.adopted else kinds["initial"],
        explored_labels=kinds["explored"],
        analysis_labels=kinds["analysis"],
        from_store=sum(p.from_store for p in arrived),
        failed_labels=state.failed_labels,
        refused=state.refused,
        passed_over=sum(state.candidates_refused.values()),
        rounds=state.rounds,
        training_set=state.training_set_size,
        md_steps=sum(t.step for t in state.trajectories),
        checks=len(story.checks) or len(story.curves.checks),
        rollbacks=sum(t.rollbacks for t in state.trajectories),
        trajectories_given_up=state.trajectories_given_up,
        damaged_files=state.damaged_files,
        divergences=state.divergences,
    )
