"""The original's commands, in the working directory: `aims-PAX[-initial-ds|-al|-test]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from aimspax_core import __version__
from aimspax_core.settings.reading.which_files import PROJECT
from flows.commands.app import CODES, finish
from flows.commands.evaluate import aims_pax_test
from flows.commands.label_dataset import DEFAULT_OPTIONS as ALL_FRAMES
from flows.commands.label_dataset import RelabelOptions
from flows.commands.options import NONE, Fresh, Options
from flows.commands.run import run_flow


def aims_pax() -> None:
    """Run the command line `aims-PAX`."""
    app = _app("aims-PAX")

    @app.default
    def command(*, options: Options = NONE, fresh: Fresh = False) -> int:
        """Run the campaign of this directory; the same as `aimspax run`."""
        return run_flow("all", Path(), options.overrides, fresh)

    finish(app)


def initial_ds() -> None:
    """Run the command line `aims-PAX-initial-ds`."""
    app = _app("aims-PAX-initial-ds")

    @app.default
    def command(*, options: Options = NONE, fresh: Fresh = False) -> int:
        """Make the initial dataset in this directory; the same as `aimspax initial-dataset`."""
        return run_flow("initial", Path(), options.overrides, fresh)

    finish(app)


def al() -> None:
    """Run the command line `aims-PAX-al`."""
    app = _app("aims-PAX-al")

    @app.default
    def command(*, options: Options = NONE, fresh: Fresh = False) -> int:
        """Run active learning in this directory; the same as `aimspax active-learning`."""
        return run_flow("active", Path(), options.overrides, fresh)

    finish(app)


def test() -> None:
    """Run the command line `aims-PAX-test`."""
    app = _app("aims-PAX-test")
    app.default(aims_pax_test)
    finish(app)


def recalc() -> None:
    """Run the command line `aims-PAX-recalc`."""
    app = _app("aims-PAX-recalc")

    @app.default
    def command(
        *,
        data: Annotated[Path, Parameter(help="The dataset, in any format that ASE reads.")],
        settings: Annotated[Path | None, Parameter(help="File in place of aimsPAX.yaml.")] = None,
        asked: RelabelOptions = ALL_FRAMES,
    ) -> int:
        """Label a dataset again with the settings of this directory; see `aimspax label`."""
        from flows.commands.label_dataset import label_dataset

        named = {} if settings is None else {PROJECT: str(settings.expanduser().absolute())}
        return label_dataset(data, asked, Path(), named)

    finish(app)


def _app(name: str) -> App:
    return App(name=name, version=__version__, help_epilogue=CODES)
