"""What a report holds: the schema of `report.json`, which `report.html` shows.

Errors are in meV, meV/Å and so on, as MACE's tables have them; the names of fields have the unit.
Hours count while the campaign ran: not between two processes, nor while it was paused.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT, COMPARED_FORMAT = "aimspax-report", "aimspax-comparison"
VERSION = 1
"""Goes up when a field changes its meaning or goes; new fields alone do not raise it."""


class Content(BaseModel):
    """A part of a report; numbers that are not finite are null in JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Geometry(Content):
    """A start geometry."""

    index: int
    file: str
    formula: str
    atoms: int
    periodic: str = Field(description="Directions in which it is periodic, such as `abc`; or `-`.")
    volume_A3: float | None = Field(description="Of the cell, if periodic in all directions.")
    charge: float | None
    multiplicity: float | None
    dynamics: str = Field(description="Ensemble, temperature and so on, in words.")
    held: str = Field(description="Atoms that do not move, in words; or nothing.")


class Change(Content):
    """A key of the settings whose value is not the default."""

    file: str
    key: str
    value: str
    default: str


class Setup(Content):
    """What was run."""

    reference: str
    family: str
    members: dict[str, int] = Field(description="The members' tags, with their seeds.")
    general_seed: int
    md_seeds: list[int]
    elements: list[str]
    geometries: list[Geometry]
    plan: list[str] = Field(description="What the campaign does, in sentences.")
    changed: list[Change] = Field(description="Settings that are not the defaults.")
    held_out_set: bool = Field(description="Whether there is one (`MISC.test_dataset`).")
    versions: dict[str, str]
    machines: dict[str, int] = Field(description="Hosts that computed labels, and how many.")
    notes: list[str]


class Counts(Content):
    """How much there was of everything."""

    events: int
    starts: int = Field(description="How often a process began to run the campaign.")
    labels: int
    initial_labels: int
    explored_labels: int
    analysis_labels: int
    from_store: int = Field(description="Labels that were in the store already.")
    failed_labels: int
    refused: int
    passed_over: int
    rounds: int
    training_set: int
    md_steps: int
    checks: int
    rollbacks: int
    trajectories_given_up: int
    damaged_files: int
    divergences: int


class Member(Content):
    """A model of the ensemble, and its errors; keys of errors are those of `errors.csv`."""

    tag: str
    state: Literal["converged", "converging", "as active learning ended", "exploring"]
    epochs: int
    training: int
    validation: int
    errors: dict[str, float]
    held_out: dict[str, float]
    held_out_by_geometry: dict[str, dict[str, float]]


class Round(Content):
    """What a campaign had spent when a round of training ended, and how large errors were."""

    labels_seen: int = Field(description="Labels in the sets of all members together.")
    labels: int
    core_hours: float
    hours: float
    validation_mae_f_meV_per_A: float
    held_out_mae_f_meV_per_A: float | None


class Learning(Content):
    """How the errors fell."""

    rounds: list[Round]
    members: dict[str, list[tuple[int, float]]] = Field(
        description="Labels seen, and validation force MAE (meV/Å), by member."
    )
    converged: list[tuple[int, float]]
    converged_held_out: list[tuple[int, float]]
    explored_from: int | None = Field(description="Labels when active learning began.")
    goals: dict[str, float] = Field(description="Force MAE (meV/Å) that end a phase, by the key.")
    forecast: list[dict[str, str]]


class ElementError(Content):
    """Atoms of an element at labels that no member had trained on: means over atoms, eV/Å."""

    atoms: int
    spread_eV_per_A: float
    error_eV_per_A: float
    factor: float | None = Field(description="Error over spread, as the calibration fits it.")


class Judgement(Content):
    """A label held against what the committee had said, in the measure's unit."""

    key: str
    geometry: int
    spread: float
    error: float
    above: bool
    energy_error_meV_per_atom: float


class Uncertainty(Content):
    """How unsure the committee was, and how well that told the true error."""

    measure: str
    measured: str = Field(description="The measure in words.")
    unit: str
    of: str
    selection: str
    checks: int
    above: int
    thresholds: dict[str, list[tuple[int, float]]] = Field(
        description="The threshold after so many checks, by geometry (or `all`)."
    )
    factor: float | None = Field(description="True error over spread, today.")
    factor_points: int = Field(0, description="How many of the latest points tell it.")
    factors: list[tuple[int, float]]
    factor_by_geometry: dict[str, float]
    spearman: float | None
    energy_factor: float | None
    by_element: dict[str, ElementError]
    expected: list[tuple[float, float]] = Field(description="Spread, and error expected with it.")
    points: list[Judgement]


class Label(Content):
    """A structure whose label was asked for, and why."""

    key: str
    geometry: int
    origin: str = Field(description="Where the structure is from, in words.")
    trajectory: int | None
    step: int | None
    why: str
    uncertainty: float | None
    threshold: float | None
    error: float | None = Field(description="True error there, in the measure's unit.")
    status: Literal["requested", "labelled", "failed"]
    used_for: str = Field(description="Training, validation, analysis; or nothing.")
    hours: float | None = Field(description="When it came.")
    wall_s: float | None
    core_hours: float | None
    from_store: bool
    reason: str = Field(description="Why it has no label.")


class Series(Content):
    """A trajectory in time: frames that were saved, thinned evenly."""

    kind: Literal["exploring", "initial"]
    index: int
    geometry: int
    time_ps: list[float]
    temperature_K: list[float]
    energy_eV_per_atom: list[float]
    density_g_per_cm3: list[float] | None


class Trajectory(Content):
    """A trajectory that explores."""

    index: int
    geometry: int
    conditions: str
    status: str
    steps: int
    time_ps: float
    labels: int
    rollbacks: int
    begun_anew: int
    setbacks: list[str]


class WorkOfKind(Content):
    """Tasks of a kind."""

    kind: str
    tasks: int
    hours: float = Field(description="Of workers, all together.")


class Parity(Content):
    """The last labels that exploring asked for: each value, and what the committee had said."""

    labels: int
    mae_f_meV_per_A: float
    mae_dipole_me_A: float | None = Field(description="Of components; null: none are learnt.")
    forces_eV_per_A: dict[str, list[tuple[float, float]]] = Field(
        description="Components, by element: evenly spaced ones, if they are too many."
    )
    energies_meV_per_atom: list[tuple[float, float]] = Field(
        description="Each less its mean over the structures of the same composition."
    )
    dipoles_e_A: list[tuple[float, float]] = Field(description="Components.")


class Pool(Content):
    """A pool of workers."""

    name: str
    workers: int = Field(description="At the same time at most, as the settings say today.")
    busy_hours: float
    idle_share: float | None = Field(description="Of all workers' time; null: not known.")
    work: list[WorkOfKind]
    use: list[tuple[float, float]] = Field(description="Hours, and workers busy on average then.")


class Target(Content):
    """What it cost until an error was reached for the first time."""

    mae_f_meV_per_A: float
    on: str
    labels: int
    core_hours: float
    hours: float
    from_the_beginning: bool = Field(
        False, description="Whether the first models were as good: it may have cost less."
    )


class Costs(Content):
    """What it took."""

    hours: float
    core_hours: float = Field(description="Of the labels.")
    core_seconds_a_label: float | None = Field(description="Median of those that were computed.")
    began: str | None = Field(description="UTC, ISO 8601.")
    ended: str | None
    pools: list[Pool]
    targets: list[Target]


class Happening(Content):
    """Something out of the ordinary."""

    hours: float
    text: str


class Reference(Content):
    """Something to cite: its key in `report.bib`, and how it reads in a list."""

    key: str
    text: str
    url: str | None


class Methods(Content):
    """A paragraph to paste, as text and for LaTeX, and what it cites."""

    text: str
    latex: str
    references: list[Reference]


class DataCard(Content):
    """The labelled structures, as one who uses them needs to know them."""

    structures: int
    read: int = Field(description="Label files that were read for this card.")
    formulas: dict[str, int]
    energy_eV_per_atom: tuple[float, float, float] | None = Field(description="Least, mean, most.")
    force_eV_per_A: tuple[float, float, float] | None = Field(
        description="Root mean square, 99th percentile of norms, largest norm."
    )
    stress: bool
    warnings: dict[str, int]
    methods: dict[str, int]


class Structure(Content):
    """Atoms to look at: positions and cell in Å."""

    title: str
    symbols: list[str]
    positions: list[tuple[float, float, float]]
    cell: list[tuple[float, float, float]] | None


class Report(Content):
    """The report of a campaign."""

    format: Literal["aimspax-report"] = "aimspax-report"
    version: int = VERSION
    written: str = Field(description="UTC, ISO 8601.")
    aimspax: str = Field(description="The release that wrote it.")
    name: str
    directory: str = Field(description="Name of the run directory.")
    phase: str
    progress: str
    stop_reason: str
    finished: bool
    setup: Setup
    counts: Counts
    members: list[Member]
    geometries: list[dict[str, Any]] = Field(description="A row each, where there are several.")
    learning: Learning
    uncertainty: Uncertainty
    parity: Parity | None = Field(description="null: nothing was kept of what was said.")
    labels: list[Label]
    failures: list[tuple[str, int]] = Field(description="Reasons, with how many labels failed so.")
    trajectories: list[Trajectory]
    series: list[Series]
    costs: Costs
    phases: list[tuple[str, float]] = Field(description="With the hours at which each began.")
    happenings: list[Happening]
    methods: Methods
    data_card: DataCard
    model_card: str | None = Field(description="Markdown; null: there are no results yet.")
    structures: list[Structure]


class Summary(Content):
    """A campaign among others."""

    name: str = Field(description="By which it is told from the others.")
    experiment: str
    phase: str
    selection: str
    labels: int
    core_hours: float
    hours: float
    error_name: str | None = Field(description="What the error is: of which models, on what.")
    error_meV_per_A: float | None
    rounds: list[Round]
    targets: list[Target]


class Comparison(Content):
    """Campaigns held against each other."""

    format: Literal["aimspax-comparison"] = "aimspax-comparison"
    version: int = VERSION
    written: str = Field(description="UTC, ISO 8601.")
    aimspax: str = Field(description="The release that wrote it.")
    campaigns: list[Summary]
    differing: dict[str, dict[str, str]] = Field(
        description="Settings and versions that are not the same in all, by key and campaign."
    )
