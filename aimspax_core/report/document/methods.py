"""A methods paragraph, ready to paste, and what it cites: exactly what was used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from aimspax_core.campaign.state import Phase, PointStatus
from aimspax_core.campaign.thresholds import memories
from aimspax_core.report.document import contents
from aimspax_core.report.document.citations import citations
from aimspax_core.report.document.labels import is_below
from aimspax_core.report.document.learning import held_out_error
from aimspax_core.report.document.source import Source
from aimspax_core.report.plan import sampler_text
from aimspax_core.report.summary import core_hours_text
from aimspax_core.sampling.dynamics import describe
from aimspax_core.settings.engines import FoundationalModel
from aimspax_core.settings.families.known_families import row_of_foundation
from aimspax_core.settings.model import Training
from aimspax_core.structures import symbols_text
from aimspax_core.text import and_list, duration_text
from aimspax_core.uncertainty.measures import measure_of
from aimspax_core.uncertainty.threshold import WINDOW

_CITED = re.compile(r"\s*\[\[([\w, ]+)\]\]")
_OPTIMIZERS = {
    "adam": ("Adam", "kingma2015"),
    "adamw": ("AdamW", "kingma2015", "loshchilov2019"),
}
"""What optimizers are called, and what is cited for them."""

_LOOSE = re.compile(r" ([.,;:)])")
_FOLDERS = re.compile(r"(?<![\w/])(?:~|\.{1,2})?/(?:[^\s/'\"]+/)*(?=[^\s/'\"])")
"""Of the user's disk, before the name of a file."""

_IN_LATEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"},
        **{"Å": "\\AA{}", "−": "$-$", "×": "$\\times$", "·": "$\\cdot$", "°": "$^\\circ$"},
        **{"ω": "$\\omega$", "Γ": "$\\Gamma$", "²": "$^2$", "³": "$^3$", "–": "--"},
    }
)
"""Signs that LaTeX takes for something else or does not know, and how they are written there."""

_OWN = "(a file: cite where it comes from)"

_SECOND = " and MACE's second stage, with its own learning rate and weights"

_BESIDE = {
    "dipole": ("dipoles", "dipole_weight"),
    "hirshfeld_ratios": ("Hirshfeld ratios", "hirshfeld_weight"),
}
"""What is learnt beside energies, forces and stress: its name, and the key of its weight."""


def methods(
    source: Source, versions: dict[str, str], of_engine: Sequence[str] = ()
) -> contents.Methods:
    """Return the paragraph.

    Args:
        source: The campaign.
        versions: Those that it was run with.
        of_engine: Versions of the reference that computed its labels.
    """
    sentences = [
        *_what(source, versions, of_engine),
        *_electrons(source),
        *_initial(source),
        *_exploring(source),
        *_training(source),
        *_outcome(source),
    ]
    return written(" ".join(sentences))


def written(text: str) -> contents.Methods:
    """Return a paragraph, whose citations are written `[[key, key]]`, with what it cites."""
    text = _FOLDERS.sub("", text)
    text = _LOOSE.sub(r"\1", " ".join(text.split()))  # a place without a citation leaves room
    order: dict[str, int] = {}
    for match in _CITED.finditer(text):
        for key in _keys(match):
            order.setdefault(key, len(order) + 1)
    known = citations()

    def plain(match: re.Match[str]) -> str:
        return " [" + ", ".join(str(order[key]) for key in _keys(match)) + "]"

    def latex(match: re.Match[str]) -> str:
        return "~\\cite{" + ",".join(_keys(match)) + "}"

    parts = _CITED.split(text)
    escaped = "".join(
        f"[[{part}]]" if index % 2 else part.translate(_IN_LATEX)
        for index, part in enumerate(parts)
    )
    return contents.Methods(
        text=_CITED.sub(plain, text),
        latex=_CITED.sub(latex, escaped),
        references=[
            contents.Reference(key=key, text=known[key].text, url=known[key].url) for key in order
        ],
    )


def _keys(match: re.Match[str]) -> list[str]:
    return [key.strip() for key in match[1].split(",")]


def _cite(*keys: str) -> str:
    return f"[[{', '.join(dict.fromkeys(keys))}]]" if keys else ""


def _what(source: Source, versions: dict[str, str], of_engine: Sequence[str]) -> Iterator[str]:
    settings, rules = source.settings, source.state.rules
    row, sections = settings.model.family, settings.model
    told = (f"{key} {_value(getattr(sections.ARCHITECTURE, key))}" for key in row.told_keys)
    what = {int(z) for atoms in source.geometries for z in atoms.numbers}
    formulas = dict.fromkeys(atoms.get_chemical_formula() for atoms in source.geometries)
    subject = and_list(formulas) if len(formulas) <= 4 else (
        f"{len(formulas)} systems of {symbols_text(what)}"
    )  # fmt: skip
    yield (
        f"A force field for {subject} was made by active learning after aims-PAX "
        f"{_cite('henkes2025')} with aimspax{_version(versions, 'aimspax')}, whose tasks are run "
        f"by Prefect{_version(versions, 'prefect')} {_cite('prefect')} on Dask "
        f"{_cite('rocklin2015')}, and whose structures and dynamics are those of ASE"
        f"{_version(versions, 'ase')} {_cite('larsen2017')}."
    )
    number = "version" if len(of_engine) == 1 else "versions"
    by = f", {number} {and_list(of_engine)}" if of_engine else ""
    called = row.example.called or row.name
    many = len(rules.tags)
    models = f"{called} model" if many == 1 else f"committee of {many} {called} models"
    models += f" with {sections.heads} heads" if sections.heads > 1 else ""
    yield (
        f"The {models} {_cite(*row.cites)} ({', '.join(told)}; PyTorch"
        f"{_version(versions, 'torch')} {_cite('paszke2019')}) learnt "
        f"{and_list([*_learnt(source)])} of the reference "
        f"{settings.reference.told(settings.directory)}{by} {_cite(*settings.reference.cites)}."
    )


def _electrons(source: Source) -> Iterator[str]:
    """Yield charges and multiplicities that are not those of a neutral singlet."""
    found: dict[str, str] = {}
    for index, atoms in enumerate(source.geometries):
        charge, spin = source.electrons_of(index)
        if charge or spin not in (None, 1.0):
            parts = [f"the charge {charge or 0:g} e"]
            parts += [f"the multiplicity {spin:g}"] if spin is not None else []
            found[atoms.get_chemical_formula()] = " and ".join(parts)
    for formula, text in found.items():
        yield f"{formula} has {text}."


def _learnt(source: Source) -> dict[str, float]:
    """Return what the loss is made of, with its weights."""
    model = source.settings.model
    training = model.TRAINING
    found = {"energies": training.energy_weight} if training.loss != "forces_only" else {}
    found["forces"] = training.forces_weight
    if training.loss in model.family.stress_losses and any(a.pbc.any() for a in source.geometries):
        virials = training.loss == "virials"
        found["stress"] = training.virials_weight if virials else training.stress_weight
    for one in model.beside:
        name, key = _BESIDE[one]
        found[name] = getattr(training, key)
    return found


def _version(versions: dict[str, str], package: str) -> str:
    return f" {versions[package]}" if package in versions else ""


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _of_foundation(kind: str, model: FoundationalModel) -> str:
    """Cite a foundation model; where one of a user's own file comes from is not known."""
    cites = row_of_foundation(kind).foundation_cites
    return _cite(*cites) if model.is_published(kind) else _OWN


def _initial(source: Source) -> Iterator[str]:
    settings, state, idg = source.settings, source.state, source.settings.idg
    training = settings.model.TRAINING
    if training.perform_finetuning:
        row = settings.model.family
        by = f" by LoRA {_cite('hu2022')}" if training.uses_lora else ""
        beside = ", with frames of what it was trained on replayed" if training.replays else ""
        known = training.pretrained_model in row.pretrained_names
        cites = [_cite(*row.foundation_cites)] if known else []
        if not known or training.pretrained_weights is not None:
            cites.append(_OWN)
        yield (
            f"Its members were fine-tuned{by} from {training.pretrained_text} "
            f"{' '.join(cites)}{beside}."
        )
    if state.adopted:
        yield "It began from models and datasets that were there."
    elif settings.has_initial:
        sampler = ""
        if idg.initial_sampling == "engine" and idg.sampling_engine is not None:
            sampler = _cite(*idg.sampling_engine.cites)
        elif idg.initial_sampling not in ("aimd", "rattle"):
            sampler = _of_foundation(idg.foundational_model, idg.foundation)
        number = sum(
            p.sampling_step is not None and p.status is PointStatus.LABELLED
            for p in state.points.values()
        )
        moved = f" in MD {_dynamics(source)}" if idg.initial_sampling != "rattle" else ""
        if number:
            yield (
                f"The first {number} structures were sampled by {sampler_text(settings)} "
                f"{sampler}{moved}."
            )


def _dynamics(source: Source) -> str:
    """Return the dynamics of all geometries, in brackets, with what is cited for them."""
    sections = [source.settings.md_section(index) for index in range(len(source.geometries))]
    dynamics = dict.fromkeys(describe(section) for section in sections)
    keys = dict.fromkeys(key for section in sections for key in section.row.cites)
    return f"({'; '.join(dynamics)}) {_cite(*keys)}"


def _exploring(source: Source) -> Iterator[str]:
    settings, state = source.settings, source.state
    al, rules = settings.al, state.rules
    if not state.trajectories:
        return
    driver = "by their mean"
    if al.use_foundational:
        kind, model = al.foundational_model, al.foundational_model_settings
        driver = f"by {model.model_text(kind)} {_of_foundation(kind, model)}"
    yield (
        f"The models then explored: {len(state.trajectories)} trajectories "
        f"{_dynamics(source)} were driven {driver}, for {_md_time(source)} in all."
    )
    measure = measure_of(al.uncertainty_type)
    checked = f"Every {al.skip_step_mlff} steps"
    if rules.random_share is not None:
        share = rules.random_share
        yield f"{checked} a structure was taken by chance, with a probability of {share:g}."
        return
    of = "" if rules.uncertainty_of == "all" else " that can move"
    whose = "heads'" if settings.model.heads > 1 else "committee's"
    first = "structures above were labelled and learnt"
    if al.candidates == "largest_error":
        first += ", those first whose expected errors were the largest"
        first += ", but none that was nearly the same as others" if al.novelty else ""
    yield (
        f"{checked} the {whose} uncertainty ({measure.text}{of}) was measured, and "
        f"{_held_against(source)}; {first}."
    )
    anyway = sum(
        p.status is PointStatus.LABELLED and is_below(asked)
        for key, asked in source.story.asked.items()
        if (p := state.points.get(key)) is not None and not p.analysis
    )
    if anyway:
        number = "One structure was" if anyway == 1 else f"{anyway} structures were"
        yield f"{number} labelled after {al.uncert_not_crossed_limit:g} steps without one above."


def _held_against(source: Source) -> str:
    """Return what the uncertainty is held against, for whom, and whether that stays as it was."""
    state, rules = source.state, source.state.rules
    own = rules.threshold_scope == "geometry" and rules.geometries > 1
    if rules.threshold == "calibrated" and rules.force_error is not None:
        by = "the labels of its geometry so far, where these were enough" if own else (
            "the labels so far"
        )  # fmt: skip
        return (
            f"the error to be expected with it, by {by} {_cite('holt1979')}, was held against "
            f"{rules.force_error:g} {rules.uncertainty_unit}"
        )
    margin = "" if rules.c_x == 0 else f", times {1 + rules.c_x:g}"
    of = " of its geometry" if own else ""
    held = f"it was held against the mean of the last {WINDOW} checks{of}{margin}"
    frozen = [window.frozen for window in memories(state) if window.frozen is not None]
    if not frozen:
        return held
    level = f" at {frozen[0]:.3g} {rules.uncertainty_unit}" if len(frozen) == 1 else ""
    points = f"{rules.freeze_threshold_dataset:g} points of training"
    return f"{held}, which stood still{level} from {points} on"


def _md_time(source: Source) -> str:
    steps = dict.fromkeys(range(source.state.rules.geometries), 0)
    for one in source.state.trajectories:
        steps[one.geometry] += one.step
    picoseconds = sum(
        number * source.settings.md_section(g).timestep / 1000 for g, number in steps.items()
    )
    return f"{picoseconds:.3g} ps"


def _training(source: Source) -> Iterator[str]:
    training, state = source.settings.model.TRAINING, source.state
    name, *keys = _OPTIMIZERS[training.optimizer]
    variant = f"{name} in its AMSGrad variant" if training.amsgrad else name
    cites = _cite(*keys, *(("reddi2018",) if training.amsgrad else ()))
    converged = sum(m.converged and m.converge_epochs > 0 for m in state.members.values())
    share = source.settings.al.valid_ratio
    weights = [f"{weight:g} of {name}" for name, weight in _learnt(source).items()]
    limit = (
        "" if training.clip_grad is None else f", gradient norms of {training.clip_grad:g} at most"
    )
    yield (
        f"Training used {variant} {cites} with a learning rate of {training.lr:g}, a weight decay "
        f"of {training.weight_decay:g}, batches of {training.batch_size}{limit}, and the loss "
        f"named {training.loss} (weights {and_list(weights)}); "
        f"{share:.0%} of the points were for validation."
    )
    if training.ema:
        decay = f"{training.ema_decay:g}"
        yield f"Weights were averaged exponentially, with a decay of {decay}."
    if converged:
        who = "one model was" if converged == 1 else f"{converged} models were"
        yield (
            f"In the end {who} trained to convergence on the whole dataset, with the scheduler "
            f"{_scheduler(training)}{_SECOND if training.swa else ''}."
        )


def _scheduler(training: Training) -> str:
    if training.scheduler == "ExponentialLR":
        return f"ExponentialLR (gamma {training.lr_scheduler_gamma:g})"
    return (
        f"ReduceLROnPlateau (factor {training.lr_factor:g}, patience {training.scheduler_patience})"
    )


def _outcome(source: Source) -> Iterator[str]:
    state, story = source.state, source.story
    done = "were" if state.phase is Phase.FINISHED else "have so far been"
    there = sum(p.from_store and p.status is PointStatus.LABELLED for p in state.points.values())
    store = f", {there} of them by labels that were in the store already" if there else ""
    yield (
        f"In all, {state.labels} structures {done} labelled{store}, which took "
        f"{core_hours_text(state.core_hours)} in {duration_text(story.seconds)}."
    )
    error = held_out_error(state)
    if error is not None:
        yield f"On a held-out set the force MAE is {error:.1f} meV/Å."
