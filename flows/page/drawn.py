"""The cards with pictures on a campaign's page: drawn in a thread, so seldom that it costs nothing.

Only what has changed is drawn again.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from functools import partial
from importlib import import_module
from typing import Any

from aimspax_core.campaign.state import CampaignState, Phase, Point
from aimspax_core.errors import AimspaxError, LabelError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.report.document.source import Source
from aimspax_core.report.document.story import Story
from flows.page.all_campaigns import KEY
from flows.page.artifacts import Cards
from flows.runs.best_effort import best_effort
from flows.runs.teller import tell

LEAST_S = 60.0
"""From one drawing to the next, at least (s); the card "campaign" is renewed as often."""

SOON_S = 10.0
"""The same of the card "campaign" while it has no picture, and is a few lines (s)."""

CURVE_SHARE, OTHER_SHARE = 0.004, 0.006
"""Of the time: what drawing may take of one core. The learning curve, which one looks for first,
has a share of its own, so that it does not get old because all others together are dear."""

_MODULES = ("figures", "trajectory_figure", "calibration_figure", "parity", "use_figure")
"""What draws, in `aimspax_core.report`."""

_PICTURES = 4
"""Structures without a label that are shown: the last."""

log = logging.getLogger(f"aimspax.{__name__}")


class Pace:
    """When something may be drawn again, so that it takes a share of the time.

    Args:
        share: What it may take of one core.
    """

    def __init__(self, share: float) -> None:
        self._share, self._begun, self._took = share, -math.inf, 0.0

    def due(self, now: float) -> bool:
        """Return whether it is time, by `time.monotonic`."""
        return now - self._begun >= max(LEAST_S, self._took / self._share)

    @contextlib.contextmanager
    def drawing(self, now: float) -> Iterator[None]:
        """Note what the block takes of a core."""
        self._begun, before = now, time.thread_time()
        yield
        self._took = time.thread_time() - before


class Drawn:
    """The cards with pictures.

    Args:
        cards: Those of the flow run.
        job_texts: Returns what the batch jobs of each pool do, in a few words.

    Attributes:
        workers: How many workers each pool has at most, by its name.
        links: Addresses that the card "campaign" tells, by their names.
    """

    def __init__(self, cards: Cards, job_texts: Callable[[], Mapping[str, str]] = dict) -> None:
        self._cards, self._job_texts = cards, job_texts
        self.workers: dict[str, int] = {}
        self.links: dict[str, str] = {}
        self._thread: threading.Thread | None = None
        self._told = -math.inf
        self._curve_pace, self._other_pace = Pace(CURVE_SHARE), Pace(OTHER_SHARE)
        self._stamps: dict[str, object] = {}  # of each card that is shown, what it shows
        self._failing: dict[str, str] = {}
        self._stopped = False
        self._curve: bytes | None = None

    def renew(self, inputs: Inputs, story: Story, state: CampaignState) -> None:
        """Have the cards drawn in a thread, if it is time."""
        now, least_s = time.monotonic(), SOON_S if self._curve is None else LEAST_S
        if now - self._told < least_s or (self._thread is not None and self._thread.is_alive()):
            return
        self._told = now
        source = _source(inputs, story, state)
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._draw, source), name="drawn", daemon=True
        )
        self._thread.start()

    def stop(self, inputs: Inputs, story: Story, state: CampaignState) -> None:
        """Have the card "campaign" tell where the campaign was stopped; no picture is drawn."""
        self._stopped = True
        self._try(_source(inputs, story, state), self._campaign)

    def finish(self, inputs: Inputs, story: Story, state: CampaignState) -> None:
        """Draw the cards at the end."""
        if self._thread is not None:
            self._thread.join()
        self._draw(_source(inputs, story, state), last=True)

    def _draw(self, source: Source, last: bool = False) -> None:
        """Draw what is due, or everything, the card "campaign" in any case."""
        self._try(source, _load)
        now = time.monotonic()
        if last or self._curve is None or self._curve_pace.due(now):
            with self._curve_pace.drawing(now):
                self._try(source, self._learning)
        self._try(source, self._campaign)
        if last or self._other_pace.due(now):
            with self._other_pace.drawing(now):
                self._try(
                    source, self._trajectories, self._calibration, self._parity, self._costs,
                    self._without_label,
                )  # fmt: skip

    def _try(self, source: Source, *draws: Callable[[Source], None]) -> None:
        for draw in draws:
            try:
                with best_effort("drawing the run's page"):
                    draw(source)
            except Exception as error:  # a campaign can do without its page
                self._failed(draw.__name__, error)
            else:
                self._failing.pop(draw.__name__, None)

    def _failed(self, draw: str, error: Exception) -> None:
        """Log why a card could not be drawn, once as long as it is the same."""
        known, self._failing[draw] = self._failing.get(draw), repr(error)
        if known == repr(error):
            log.debug("the run's page", exc_info=True)
        elif isinstance(error, AimspaxError):  # of files that are damaged, or of a newer release
            log.warning("the run's page: %s", error)
        else:
            log.error("the run's page", exc_info=True)

    def _is_new(self, card: str, stamp: object) -> bool:
        """Return whether a card has to be drawn, as what it shows is not what is shown."""
        return self._stamps.get(card) != stamp

    def _learning(self, source: Source) -> None:
        curves = source.story.curves
        stamp = (
            source.state.phase, source.state.rounds, len(curves.held_out), len(curves.checks),
            tuple(curves.converged.items()), tuple(curves.delivered.items()),
        )  # fmt: skip
        if not curves.mean or not self._is_new("learning-curve", stamp):
            return
        from aimspax_core.report.figures import learning_figure
        from aimspax_core.report.pictures import png

        self._curve = png(learning_figure(curves))
        labels, error = curves.mean[-1]
        told = f"force MAE in validation after {labels} labels: {error:.3g} meV/Å"
        self._show(self._cards.image, "learning-curve", stamp, self._curve, told)

    def _campaign(self, source: Source) -> None:
        from aimspax_core.report.page_texts import campaign_card

        report = source.run.report_files[0]
        links = {**self.links, "all campaigns of this server": f"[{KEY}](/artifacts/key/{KEY})"}
        if report.exists():
            links = {"report on this campaign": f"`{report}`", **links}
        card = campaign_card(
            source,
            self._curve,
            links,
            jobs=self._job_texts(),
            seconds=None if self._stopped else running_s(source.story, source.state),
            stopped=self._stopped,
        )
        self._show(self._cards.markdown, "campaign", None, *card)

    def _trajectories(self, source: Source) -> None:
        state, story = source.state, source.story
        stamp = state.trajectories, state.phase
        if not state.trajectories or not self._is_new("trajectories", stamp):
            return
        from aimspax_core.report.page_texts import trajectories_card
        from aimspax_core.report.trajectory_figure import trajectory_figure

        figure = trajectory_figure(story.checks, state.rules.uncertainty_unit)
        card = trajectories_card(source, _png(figure))
        self._show(self._cards.markdown, "trajectories", stamp, *card)

    def _calibration(self, source: Source) -> None:
        points = source.story.judgements.points
        if not points or not self._is_new("calibration", len(points)):
            return
        from aimspax_core.report.calibration_figure import calibration_drawing
        from aimspax_core.report.calibration_text import calibration_text

        drawn, found = (
            _png(calibration_drawing(source.story.judgements)),
            source.state.calibration(),
        )
        if drawn is None:
            self._stamps["calibration"] = len(points)
        else:
            told = "true error" if found is None else f"true error: {calibration_text(found)}"
            self._show(self._cards.image, "calibration", len(points), drawn, told)

    def _parity(self, source: Source) -> None:
        count = len(source.story.judgements.points)
        if not count or not self._is_new("parity", count):
            return
        from aimspax_core.output.compared import last_compared
        from aimspax_core.report.parity import parity_figure

        drawn = _png(parity_figure(last_compared(source.run, source.state)))
        if drawn is None:
            self._stamps["parity"] = count
        else:
            told = "the last labels against what the committee had said before it learnt them"
            self._show(self._cards.image, "parity", count, drawn, told)

    def _costs(self, source: Source) -> None:
        work = source.story.work
        stamp = len(work), len(source.story.asked)
        if not source.state.labels or not work or not self._is_new("costs", stamp):
            return
        from aimspax_core.report.document.costs import PoolWork, by_pool
        from aimspax_core.report.page_texts import costs_card
        from aimspax_core.report.use_figure import use_figure

        pools = [
            PoolWork(name, self.workers.get(name, 0), done)
            for name, done in by_pool(source.settings, work).items()
        ]
        figure = use_figure(pools, source.story.seconds)
        self._show(self._cards.markdown, "costs", stamp, *costs_card(source, pools, _png(figure)))

    def _without_label(self, source: Source) -> None:
        state = source.state
        if not state.failed_labels or not self._is_new("without-label", state.failed_labels):
            return
        from aimspax_core.report.failed_labels import failed_points, rows
        from aimspax_core.report.page_texts import without_label_card

        last = failed_points(state)[: -_PICTURES - 1 : -1]
        shown = [(point, drawn) for point in last if (drawn := _structure(source, point))]
        card = without_label_card(state, shown, rows(state))
        self._show(self._cards.markdown, "without-label", state.failed_labels, *card)

    def _show(self, how: Callable[..., bool], card: str, stamp: object, *content: Any) -> None:
        """Have a card sent; it counts as drawn once it is shown."""
        meanwhile = threading.current_thread() is self._thread
        tell(partial(self._send, how, card, stamp, content, meanwhile))

    def _send(
        self, how: Callable[..., bool], card: str, stamp: object, content: Any, meanwhile: bool
    ) -> None:
        if card == "campaign" and meanwhile and self._stopped:
            return  # it is older than the one that tells where the campaign was stopped
        if how(card, *content):
            self._stamps[card] = stamp


def running_s(story: Story, state: CampaignState) -> float:
    """Return for how long a campaign has run (s), also if nothing has come back for a while."""
    over = state.phase in (Phase.FINISHED, Phase.FAILED)
    return story.seconds if over else story.seconds_at(time.time())


def _load(source: Source) -> None:
    """Import what draws: that takes a second, once, and is no part of what a drawing takes."""
    if source.story.work:
        for module in _MODULES:
            import_module(f"aimspax_core.report.{module}")


def _source(inputs: Inputs, story: Story, state: CampaignState) -> Source:
    return Source(
        run=inputs.run,
        settings=inputs.settings,
        geometries=inputs.geometries,
        seeds=inputs.seeds,
        story=_still(story),
        state=state,
    )


def _still(value: Any) -> Any:
    """Return a copy of what is collected that does not grow while it is drawn."""
    if isinstance(value, list):
        return [*value]
    if isinstance(value, dict):
        return {key: _still(one) for key, one in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and _grows(value):
        found = copy(value)
        for one in dataclasses.fields(value):
            setattr(found, one.name, _still(getattr(value, one.name)))
        return found
    return value


def _grows(value: Any) -> bool:
    return not value.__dataclass_params__.frozen


def _png(figure: Any) -> bytes | None:
    from aimspax_core.report.pictures import png

    return None if figure is None else png(figure)


def _structure(source: Source, point: Point) -> bytes | None:
    """Return the picture of a structure without a label; None where there is none any more."""
    from aimspax_core.labels.waiting import waiting_structure
    from aimspax_core.report.pictures import structure_picture

    try:
        return structure_picture(waiting_structure(source.run.structure(point.key)))
    except (LabelError, OSError):
        return None
