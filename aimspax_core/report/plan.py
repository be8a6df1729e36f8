"""What a run would do, in sentences, before it starts."""

from __future__ import annotations

from collections.abc import Iterator

from ase import Atoms

from aimspax_core.campaign.initial import split_share
from aimspax_core.report.conditions import dynamics, first_copies, restarts, sampled_copies
from aimspax_core.settings.cluster import BatchJobs
from aimspax_core.settings.geometries.held_atoms import held_text
from aimspax_core.settings.known_engines import EngineSettings
from aimspax_core.settings.schedulers import scheduler_row
from aimspax_core.settings.settings import Settings
from aimspax_core.stopping.rule import Stage
from aimspax_core.stopping.table import rules_of
from aimspax_core.text import duration_text
from aimspax_core.uncertainty.judged_atoms import UncertaintyOf

_SHOWN_STEPS = 5


def split_table(settings: Settings, geometries: int) -> list[tuple[int, int, int]]:
    """Return (step, training, validation) set sizes of one member after the first sampling steps.

    Those that there can be: `max_initial_epochs` may end the initial dataset after the first.

    Args:
        settings: The settings in force.
        geometries: How many there are.
    """
    idg = settings.idg
    most_epochs: float = dict(idg)["max_initial_epochs"]  # the key of a stopping rule
    rows, training, validation = [], 0, 0
    for step in range(1, _SHOWN_STEPS + 1):
        new = idg.n_points_per_sampling_step_idg * geometries
        to_validation = split_share(training + validation + new, validation, idg.valid_ratio)
        validation += to_validation
        training += new - to_validation
        rows.append((step, training, validation))
        if step * idg.intermediate_epochs_idg >= most_epochs:
            break
    return rows


def plan(settings: Settings, geometries: list[Atoms], tags: tuple[str, ...]) -> list[str]:
    """Say in sentences what would run."""
    return [
        f"geometries: {len(geometries)} ({', '.join(_geometries(settings, geometries))})",
        f"members: {', '.join(tags)}{_heads(settings)} on {settings.model.MISC.device}, "
        f"{settings.model.GENERAL.default_dtype}",
        *_fine_tuning(settings),
        f"reference: {_engine(settings.reference)}, "
        f"{_many(settings.cluster.labels_at_once, 'label')} at a time",
        *_jobs(settings),
        *dynamics(settings, geometries),
        f"initial dataset: {_initial(settings, len(tags), len(geometries))}",
        *sampled_copies(settings, geometries),
        *_given_data(settings),
        *_exploring(settings, geometries),
        *_analysis(settings),
        *_budget(settings),
    ]


def _exploring(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    al = settings.al
    if settings.project.ACTIVE_LEARNING is None:
        yield "active learning: none; `aimspax initial-dataset` makes the initial dataset alone"
        return
    yield (
        f"active learning: {max(al.num_trajectories, len(geometries))} trajectories"
        f"{_driver(settings)}, a check every "
        f"{al.skip_step_mlff} steps{_checked(al.uncertainty_of)}"
        f"{_scope(settings, len(geometries))}, until {_end('active', al)}"
    )
    yield from first_copies(settings, geometries)
    yield from restarts(settings, geometries)
    yield from _replay(settings)
    yield f"convergence: {_convergence(settings)}"


def _heads(settings: Settings) -> str:
    """Return what an only member has in the place of others."""
    heads = settings.model.heads
    return f", with {heads} heads," if heads > 1 else ""


def _fine_tuning(settings: Settings) -> Iterator[str]:
    """Yield what members begin from, if not from random weights."""
    training = settings.model.TRAINING
    if not training.perform_finetuning:
        return
    yield (
        f"fine-tuning: from {training.pretrained_text}, {training.tuning_text}, learning "
        f"rate {training.lr:g}; {_atoms_energies(settings)}"
    )


def _atoms_energies(settings: Settings) -> str:
    if settings.model.ARCHITECTURE.atomic_energies is not None:
        return "energies of free atoms as given"
    return "energies of free atoms estimated for the reference from the first labels"


def _jobs(settings: Settings) -> Iterator[str]:
    """Yield how labels, and training and MD, run in batch jobs, if one of them does."""
    cluster = settings.cluster
    labels, ml = cluster.reference_jobs, cluster.ml_jobs
    if labels is None and ml is None:
        return
    if labels is not None:
        yield f"labels: in {_batch_jobs(labels, 'calculation', cluster.idle_time)}"
    if ml is not None:
        yield f"training and MD: in {_batch_jobs(ml, 'process', cluster.idle_time)}"
    else:
        yield f"training and MD: on this machine, {_many(settings.ml_workers, 'process')}"


def _batch_jobs(jobs: BatchJobs, what: str, idle_time: float) -> str:
    blocks, each = jobs.blocks, jobs.per_slot
    limit = (
        "no time limit said"
        if jobs.walltime_s is None
        else f"at most {duration_text(jobs.walltime_s)}"
    )
    has = [f"{each.cores} cores"] if each is not None and each.cores else []
    has += [f"{each.memory_mb:.0f} MB"] if each is not None and each.memory_mb else []
    least, most = blocks.min_blocks, blocks.max_blocks
    number = f"{most}" if least == most else f"{least} to {most}"
    apiece = f" ({', '.join(has)} each)" if has else ""
    return (
        f"{scheduler_row(jobs.scheduler).title} jobs {jobs.name!r}, {number} at a time "
        f"({blocks.init_blocks} at the start), each with {_many(blocks.nodes_per_block, 'node')}, "
        f"{_many(jobs.slots, what)} at once{apiece}, {limit}; "
        f"one without work for {duration_text(idle_time)} is given back"
    )


def _many(number: int, what: str) -> str:
    return f"{number} {what if number == 1 else what + ('es' if what.endswith('s') else 's')}"


def _geometries(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    """Yield formulas, with what a geometry says of its electrons, and of atoms that it holds."""
    own = {"charge": "charge", "spin": "multiplicity"}
    for index, atoms in enumerate(geometries):
        said = [f"{text} {atoms.info[name]:g}" for name, text in own.items() if name in atoms.info]
        if held := (settings.held or {}).get(index):
            said.append(held_text(held))
        yield " with ".join(filter(None, (atoms.get_chemical_formula(), " and ".join(said))))


def _initial(settings: Settings, members: int, geometries: int) -> str:
    idg = settings.idg
    if not settings.has_initial:
        return "none; the models and datasets that are there are adopted"
    labels = idg.n_points_per_sampling_step_idg * geometries
    shared = "" if idg.distinct_model_sets else ", the same for all members"
    return (
        f"sampled by {sampler_text(settings)}, {labels if shared else labels * members} labels a "
        f"step{shared}, {idg.intermediate_epochs_idg} epochs after each, "
        f"until {_end('initial', idg)}"
    )


def _given_data(settings: Settings) -> Iterator[str]:
    """Yield a line on each set that active learning begins from, if it is not its own."""
    al = settings.al
    if settings.has_initial:
        return
    named = {"training": al.initial_train_dataset, "validation": al.initial_valid_dataset}
    for name, given in named.items():
        if isinstance(given, dict):
            yield f"{name} set given: " + ", ".join(
                f"{path} ({tag})" for tag, path in given.items()
            )
        elif given is not None:
            yield f"{name} set given: {given}"
    if al.extend_existing_final_ds:
        yield f"datasets extended: those in {settings.misc.dataset_dir / 'final'}"


def _driver(settings: Settings) -> str:
    al = settings.al
    if not al.use_foundational:
        return ""
    return f" driven by {al.foundational_model_settings.model_text(al.foundational_model)}"


def _scope(settings: Settings, geometries: int) -> str:
    al, whose = settings.al, ""
    if al.selection == "random":
        return f", structures taken by chance at {al.random_share:.0%} of them (a control)"
    first = ", largest expected errors first" if al.candidates == "largest_error" else ""
    if al.threshold_scope == "geometry" and geometries > 1:
        whose = " against the threshold of its geometry"
    if al.threshold == "calibrated":
        return (
            f"{whose}, a label where a force error above {al.force_error:g} eV/Å is expected{first}"
        )
    return f"{whose}{first}"


def _checked(of: UncertaintyOf) -> str:
    return "" if of == "all" else " of the atoms that can move"


def _replay(settings: Settings) -> Iterator[str]:
    al = settings.al
    if al.replay_strategy == "random_subset":
        validation = "all" if al.valid_subset_size is None else f"at most {al.valid_subset_size}"
        yield (
            f"training rounds: at most {al.train_subset_size} random training points of each "
            f"member, {validation} of its validation points"
        )


def _analysis(settings: Settings) -> Iterator[str]:
    """Yield a line on analysis, which costs labels in active learning only."""
    idg, al = settings.idg, settings.al
    kept = ["metrics of the initial dataset"] if idg.analysis else []
    if al.analysis:
        kept.append(
            f"in active learning a label every {al.analysis_skip} steps of a trajectory, "
            "not trained on"
        )
    if kept:
        yield f"analysis: {'; '.join(kept)}"


def _engine(engine: EngineSettings) -> str:
    command = f", run by `{engine.command_text}`" if engine.command_text else ""
    return f"{engine.engine_text}{command}"


def sampler_text(settings: Settings) -> str:
    """Return what drives the MD that samples the initial dataset."""
    idg = settings.idg
    if idg.initial_sampling == "aimd":
        return "the reference itself"
    if idg.initial_sampling == "engine":
        assert idg.sampling_engine is not None
        return _engine(idg.sampling_engine)
    if idg.initial_sampling == "rattle":
        return "rattling the geometries"
    return idg.foundation.model_text(idg.foundational_model)


def _end(stage: Stage, section: object) -> str:
    """Return what ends a phase: `a training set has 500 points or ...`."""
    return " or ".join(_ends(stage, section)) or "you stop it"


def _ends(stage: Stage, section: object) -> list[str]:
    limits = ((rule, rule.limit(section)) for rule in rules_of(stage))
    return [rule.text(limit) for rule, limit in limits if limit != rule.key.off]


def _budget(settings: Settings) -> Iterator[str]:
    """Yield what the whole campaign may cost, if that is bounded."""
    if ends := _ends("campaign", settings.project.BUDGET):
        yield f"budget: nothing new begins once {' or '.join(ends)}; then it converges"


def _convergence(settings: Settings) -> str:
    al = settings.al
    if not al.converge_al:
        return "none"
    who = "the best member" if al.converge_best else "all members"
    what = "all members' points" if al.converge_on == "all" else "own points"
    if al.analysis and al.converge_on == "all" and al.converge_on_analysis:
        what += " and those of analysis"
    return (
        f"{who}, on {what}, at most {al.max_convergence_epochs} epochs, "
        f"or {al.convergence_patience} without progress"
    )
