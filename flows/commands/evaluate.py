"""`aimspax evaluate`, the original's `aims-PAX-test`: models held against a labelled dataset.

Nothing of Prefect is needed; what takes long to import is imported once it is needed.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ase.units import GPa
from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from aimspax_core.errors import ModelError, SettingsError
from aimspax_core.labels.dataset import DEFAULT_KEYS, DataKeys
from aimspax_core.labels.label import BESIDE
from aimspax_core.safe_files import write_text
from aimspax_core.uncertainty.measures import MEASURES, UncertaintyType, measure_of
from flows.commands.exit_codes import DONE, console

if TYPE_CHECKING:
    from aimspax_core.evaluation.evaluation import Deviation, Evaluation, FrameErrors
    from aimspax_core.evaluation.frames import Quantity

Output = Literal["energy", "forces", "stress", "virials"]
Dataset = Annotated[Path, Parameter(help="Labelled dataset, extended XYZ.")]

TABLES = "evaluation.txt"

_MOST_GEOMETRIES = 20
"""How many geometries are shown, those with the most frames; the JSON file has all."""

WIDTH = 150
"""Columns of text that the tables need in full."""


def _flag(name: str, meaning: str, several: bool = False) -> Parameter:
    """Return a flag in the original's spelling, and with dashes."""
    names = tuple(dict.fromkeys((f"--{name.replace('_', '-')}", f"--{name}")))
    return Parameter(name=names, help=meaning, consume_multiple=several, negative=())


@Parameter(name="*")
@dataclass(frozen=True)
class EvaluationOptions:
    """Options of an evaluation; all spellings of the original are accepted.

    What is None follows from the run directory, or else is the default of the settings.
    """

    models: Annotated[
        tuple[Path, ...],
        _flag(
            "models", "Files of models (.model), or folders of them; none: the run's.", several=True
        ),
    ] = ()
    directory: Annotated[
        Path | None,
        _flag("directory", "The run directory; none: this one, unless models are named."),
    ] = None
    save: Annotated[
        Path | None, _flag("save", "Folder to write to; none: evaluation/ of the run's output.")
    ] = None
    device: Annotated[
        str | None, _flag("device", "cpu, cuda or cuda:N; none: the run's, or cpu.")
    ] = None
    batch_size: Annotated[int, _flag("batch_size", "Structures evaluated at once.")] = 16
    output_args: Annotated[
        tuple[Output, ...],
        _flag(
            "output_args", "What to compare, where frames have it; virials count as stress.", True
        ),
    ] = ("energy", "forces", "stress")
    return_predictions: Annotated[
        bool, _flag("return_predictions", "Write predictions.xyz too.")
    ] = False
    energy_key: Annotated[str | None, _flag("energy_key", "Name of the energy.")] = None
    forces_key: Annotated[str | None, _flag("forces_key", "Name of the forces.")] = None
    stress_key: Annotated[str | None, _flag("stress_key", "Name of the stress.")] = None
    virials_key: Annotated[str | None, _flag("virials_key", "Name of the virials.")] = None


DEFAULT_OPTIONS = EvaluationOptions()


@dataclass(frozen=True)
class _Resolved:
    """Models, folder and settings of an evaluation: a run directory's, or of models alone."""

    models: dict[str, Path]
    folder: Path
    device: str = "cpu"
    keys: DataKeys = DEFAULT_KEYS
    measure: UncertaintyType = MEASURES[0].name
    electrons: Mapping[str, float] = field(default_factory=dict)
    alone: bool = False


def evaluate(
    data: Path,
    options: EvaluationOptions = DEFAULT_OPTIONS,
    overrides: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Hold models against a dataset; print tables, and write them with JSON and figures.

    Args:
        data: The labelled dataset.
        options: Which models, what is compared, and where the results go.
        overrides: Values that replace those of the run directory's files, if there is one.

    Returns:
        The errors of each model and of their mean.

    Raises:
        AimspaxError: Models, dataset or run directory cannot be used; the text says why.
    """
    if options.batch_size < 1:
        raise SettingsError(f"--batch-size: found {options.batch_size}; allowed: 1 and more")
    resolved = _resolve(options, overrides or {})
    named = {
        name: getattr(options, f"{name}_key") for name in ("energy", "forces", "stress", "virials")
    }
    keys = replace(resolved.keys, **{name: key for name, key in named.items() if key is not None})
    quantities = dict.fromkeys(_quantity(name) for name in options.output_args)

    from aimspax_core.evaluation import evaluation, parity_plots, results_files
    from aimspax_core.evaluation import frames as frame_files
    from aimspax_core.evaluation.delivered import delivered_together

    models = evaluation.open_models(resolved.models, resolved.device)
    beside = [name for name in BESIDE if any(name in model.beside for model in models)]
    frames = frame_files.read_frames(data, keys, tuple(quantities), resolved.electrons, beside)
    for quantity in quantities:
        has, key = frames.labelled(quantity), getattr(keys, quantity)
        molecules = quantity == "stress" and not frames.pbc.any() and not has
        by_default = options.output_args == DEFAULT_OPTIONS.output_args
        if has < len(frames) and not (molecules and by_default):
            console.print(
                f"{quantity}: only {has} of {len(frames)} frames have it ({key})", markup=False
            )
    untold = sum(not told for told in frames.electrons)
    if untold and resolved.alone and any(model.reads_electrons for model in models):
        console.print(
            f"{untold} of {len(frames)} frames say nothing of charge and multiplicity, and are "
            "taken for neutral singlets; with --directory they have those of REFERENCE",
            markup=False,
        )
    known = delivered_together(list(resolved.models.values()))
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("predicting", total=len(frames) * len(models))
        found = evaluation.evaluate(
            frames, models, options.batch_size, lambda done: bar.advance(task, done), known
        )
    text = Console(file=io.StringIO(), width=WIDTH, highlight=False)
    for table in tables(found, console.width):
        console.print(table)
    for table in tables(found):
        text.print(table)
    write_text(resolved.folder / TABLES, text.file.getvalue())  # type: ignore[attr-defined]
    results_files.write_json(found, resolved.folder / "evaluation.json")
    parity_plots.draw(found, resolved.folder, resolved.measure)
    if options.return_predictions:
        results_files.write_predictions(found, resolved.folder / "predictions.xyz")
    console.print(f"written: {resolved.folder}", markup=False)
    return found


def aims_pax_test(
    *,
    models: Annotated[tuple[Path, ...], _flag("models", "The models: a folder.", several=True)],
    data: Annotated[Path, _flag("data", "Labelled dataset, extended XYZ.")],
    output_args: Annotated[
        tuple[Output, ...], _flag("output_args", "What to compare.", several=True)
    ] = ("energy", "forces"),
    batch_size: Annotated[int, _flag("batch_size", "Structures evaluated at once.")] = 16,
    device: Annotated[str, _flag("device", "cpu, cuda or cuda:N.")] = "cpu",
    save: Annotated[Path, _flag("save", "Folder to write to.")] = Path(),
    return_predictions: Annotated[
        Literal["True", "False"], _flag("return_predictions", "Write predictions too.")
    ] = "False",
    energy_key: Annotated[str, _flag("energy_key", "Name of the energy.")] = "REF_energy",
    forces_key: Annotated[str, _flag("forces_key", "Name of the forces.")] = "REF_forces",
    stress_key: Annotated[str, _flag("stress_key", "Name of the stress.")] = "REF_stress",
    virials_key: Annotated[str, _flag("virials_key", "Name of the virials.")] = "virials",
    dipole_key: Annotated[str | None, _flag("dipole_key", "Without effect.")] = None,
    charges_key: Annotated[str | None, _flag("charges_key", "Without effect.")] = None,
    head_key: Annotated[str | None, _flag("head_key", "Without effect.")] = None,
) -> int:
    """Hold models against a labelled dataset; as `aimspax evaluate`, and the original's files."""
    from aimspax_core.evaluation.results_files import write_arrays

    unused = {"--dipole_key": dipole_key, "--charges_key": charges_key, "--head_key": head_key}
    if flags := ", ".join(flag for flag, value in unused.items() if value is not None):
        console.print(f"{flags}: accepted, but without effect", markup=False)
    keys = (energy_key, forces_key, stress_key, virials_key)
    predictions = return_predictions == "True"
    options = EvaluationOptions(
        models, None, save, device, batch_size, output_args, predictions, *keys
    )
    found = evaluate(data, options)
    write_arrays(found, save / "ensemble_test_results.npz", predictions)
    when = datetime.now().isoformat(sep=" ", timespec="seconds")
    head = f"{when} {', '.join(map(str, models))} on {data}\n"
    text = (save / TABLES).read_text(encoding="utf-8")
    write_text(save / "test_ensemble.log", head + text)
    return DONE


def find_models(places: Sequence[Path]) -> dict[str, Path]:
    """Return the model files of files and folders, by tag.

    The tag is the file's stem, with the folder's name in front where two would be the same.

    Raises:
        ModelError: There is nothing there, a folder holds no model, or two would have one tag.
    """
    files = list(dict.fromkeys(file.resolve() for place in places for file in _models(place)))
    stems = Counter(file.stem for file in files)
    tags = [f.stem if stems[f.stem] == 1 else f"{f.parent.name}/{f.stem}" for f in files]
    for tag, count in Counter(tags).items():
        if count > 1:
            twins = ", ".join(str(f) for f, t in zip(files, tags, strict=True) if t == tag)
            raise ModelError(f"{count} models would be called {tag}: {twins}")
    return dict(zip(tags, files, strict=True))


def tables(found: Evaluation, width: int = WIDTH) -> list[Table]:
    """Return the tables of an evaluation: all models, then the best prediction in detail.

    Args:
        found: The evaluation.
        width: Columns of text of the terminal; below `WIDTH`, only the usual errors are shown.
    """
    columns = _COLUMNS if width >= WIDTH else tuple(c for c in _COLUMNS if c.brief)
    frames, models = found.frames, found.scores
    best = found.mean or next(iter(models.values()))
    of = "mean prediction" if found.mean else next(iter(models))
    rows = {tag: [scores.total] for tag, scores in models.items()}
    if found.mean:
        rows["average of these"] = [scores.total for scores in models.values()]
        rows["mean prediction"] = [found.mean.total]
    title = f"{escape(frames.path.name)}: {len(frames)} frames, {len(frames.numbers)} atoms"
    shown = [_table(title, ("model",), {(tag,): listed for tag, listed in rows.items()}, columns)]
    if best.by_element:
        forces = [column for column in _COLUMNS if column.field == "forces"]
        table = Table(
            "element", "atoms", *map(_heading, forces), title=f"By element ({escape(of)})"
        )
        for symbol, deviation in best.by_element.items():
            cells = [column.cell([deviation]) for column in forces]
            table.add_row(symbol, str(deviation.count // 3), *cells)
        shown.append(table)
    if len(best.by_geometry) > 1:
        largest = sorted(best.by_geometry.items(), key=lambda item: -item[1].frames)
        left = len(largest) - _MOST_GEOMETRIES
        title = (
            f"By geometry ({escape(of)}{f'; {left} more in evaluation.json' if left > 0 else ''})"
        )
        geometries: dict[tuple[str, ...], list[FrameErrors]] = {}
        geometries |= {(name, str(e.frames)): [e] for name, e in largest[:_MOST_GEOMETRIES]}
        shown.append(_table(title, ("geometry", "frames"), geometries, columns))
    if found.trust:
        shown.append(_trust_table(found))
    return shown


@dataclass(frozen=True)
class _Column:
    """A column of the tables: one statistic of one kind of error.

    Attributes:
        field: The kind of error, a field of `FrameErrors`.
        statistic: A field of `Deviation`: mae, rmse or max.
        name: The kind of error in the heading.
        unit: The unit that it is shown in.
        digits: Decimals.
        factor: From the unit of `Deviation` to the unit shown.
        brief: Whether narrow terminals show it too.
    """

    field: str
    statistic: str
    name: str
    unit: str
    digits: int
    factor: float = 1000.0
    brief: bool = True

    def cell(self, deviations: Sequence[Deviation | None]) -> str:
        """Return the average over some errors; a dash if there are none."""
        values = [getattr(one, self.statistic) for one in deviations if one is not None]
        return f"{self.factor * sum(values) / len(values):.{self.digits}f}" if values else "-"


_COLUMNS = (
    *(_Column("forces", kind, "force", "meV/Å", 1) for kind in ("mae", "rmse")),
    _Column("forces", "max", "force", "meV/Å", 1, brief=False),
    *(_Column("energy_per_atom", kind, "energy", "meV/atom", 2) for kind in ("mae", "rmse")),
    _Column("energy_per_atom", "max", "energy", "meV/atom", 2, brief=False),
    *(_Column("energy", kind, "energy", "meV", 1, brief=False) for kind in ("mae", "rmse")),
    *(_Column("stress", kind, "stress", "meV/Å³", 3) for kind in ("mae", "rmse")),
    *(_Column("stress", kind, "stress", "GPa", 3, 1 / GPa, False) for kind in ("mae", "rmse")),
    *(_Column("dipole", kind, "dipole", "me·Å", 2) for kind in ("mae", "rmse")),
    *(_Column("hirshfeld_ratios", kind, "Hirshfeld", "10⁻³", 2) for kind in ("mae", "rmse")),
)


def _heading(column: _Column) -> str:
    kind = column.statistic if column.statistic == "max" else column.statistic.upper()
    return f"{column.name}\n{kind}\n{column.unit}"


def _table(
    title: str,
    names: tuple[str, ...],
    rows: Mapping[tuple[str, ...], Sequence[FrameErrors]],
    columns: Sequence[_Column],
) -> Table:
    """Return a table of errors, each the average over a list of them; only what was measured."""
    every = [errors for listed in rows.values() for errors in listed]
    shown = [c for c in columns if any(getattr(errors, c.field) for errors in every)]
    table = Table(*names, *map(_heading, shown), title=title)
    for row, listed in rows.items():
        cells = [
            column.cell([getattr(errors, column.field) for errors in listed]) for column in shown
        ]
        table.add_row(*map(escape, row), *cells)
    return table


def _trust_table(found: Evaluation) -> Table:
    headings = ("mean of it", "mean error", "expected", "unit", "Pearson", "Spearman")
    table = Table("uncertainty", *headings, title="Uncertainty against true error, by structure")
    for kind, trust in found.trust.items():
        shown = (trust.uncertainty, trust.error, trust.expected)
        means = ("-" if values is None else f"{1000 * values.mean():.1f}" for values in shown)
        correlations = (
            "-" if value is None else f"{value:.3f}" for value in (trust.pearson, trust.spearman)
        )
        table.add_row(kind, *means, f"m{measure_of(kind).unit}", *correlations)
    return table


def _quantity(output: Output) -> Quantity:
    return "stress" if output == "virials" else output


def _resolve(options: EvaluationOptions, overrides: Mapping[str, Any]) -> _Resolved:
    """Take from the run directory, if there is one, what the options do not name."""
    if options.directory is None and options.models:
        folder = options.save or Path("evaluation")
        return _Resolved(find_models(options.models), folder, options.device or "cpu", alone=True)
    from aimspax_core.campaign.journal import load as load_journal
    from aimspax_core.inputs.electrons_of_models import told_to_models
    from aimspax_core.run_directory import RunDir
    from aimspax_core.settings.load import load
    from aimspax_core.settings.reading.which_files import settings_files

    directory = options.directory or Path()
    settings = load(directory, *settings_files(directory, overrides))
    run = RunDir.of(settings)
    settings = replace(settings, electrons=told_to_models(settings, load_journal(run)[1]))
    places = options.models or (run.results if any(run.results.glob("*.model")) else run.models,)
    return _Resolved(
        find_models(places),
        options.save or run.output / "evaluation",
        options.device or settings.model.MISC.device,
        DataKeys.of(settings.misc),
        settings.al.uncertainty_type,
        settings.electrons_of_frames(),
    )


def _models(place: Path) -> Iterator[Path]:
    """Yield the model files of a path, which may be one itself."""
    if place.is_file():
        yield place
        return
    if not place.is_dir():
        raise ModelError(f"there is no model file, nor a folder of models, {place}")
    found = sorted(place.glob("*.model"))
    if not found:
        there = sorted(path.name for path in place.iterdir())
        more = f", and {len(there) - 10} more" if len(there) > 10 else ""
        holds = f"it holds {', '.join(there[:10])}{more}" if there else "it is empty"
        raise ModelError(f"{place}: no *.model file there; {holds}")
    yield from found
