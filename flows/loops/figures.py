"""The figures of a finished campaign: what draws them takes its time to import."""

from __future__ import annotations

import contextlib
import threading
from importlib import import_module

from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.run_directory import RunDir

_MODULES = (
    "aimspax_core.report.calibration_figure",
    "aimspax_core.report.figures",
    "aimspax_core.report.document.writing",  # at the end there is a report, too
)


class Figures:
    """Draws figures once a campaign is finished.

    Args:
        run: The run directory.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._loading: threading.Thread | None = None

    def expect(self, state: CampaignState) -> None:
        """Import what draws them as the last convergence begins, in which the flow only waits."""
        if state.phase is Phase.CONVERGE and self._loading is None:
            self._loading = threading.Thread(target=_load, name="figures", daemon=True)
            self._loading.start()

    def draw(self) -> None:
        """Draw them, into the files that the run directory has for them."""
        if self._loading is not None:
            self._loading.join()
        from aimspax_core.report.calibration_figure import calibration_figure
        from aimspax_core.report.figures import learning_curve

        learning_curve(self._run, self._run.report)
        calibration_figure(self._run, self._run.calibration)


def _load() -> None:
    # What fails here fails again where they are drawn, and is told there.
    with contextlib.suppress(Exception):
        for module in _MODULES:
            import_module(module)
