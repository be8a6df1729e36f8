"""The numbers of the settings that the rules use, as a campaign records them."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from aimspax_core.campaign.record import Record
from aimspax_core.settings.settings import Settings
from aimspax_core.stopping.rule import Rule
from aimspax_core.stopping.table import RULES
from aimspax_core.uncertainty.calibration import SHARE_OF_LINE
from aimspax_core.uncertainty.judged_atoms import UncertaintyOf
from aimspax_core.uncertainty.measures import measure_of


class Rules(Record):
    """The numbers of the settings that the rules use, as they were when the run started.

    They are part of the state, so that a journal gives the same state whenever it is replayed.
    Stopping rules of release 0.1.0 have their limits in fields of their own, named like the rules;
    all later ones have theirs in `limits`, by the rule's name, if they have one.
    """

    tags: tuple[str, ...]
    geometries: int
    seed: int
    points_per_step: int
    initial_epochs: int
    initial_accuracy: float
    max_initial_epochs: float
    max_initial_set_size: float
    initial_valid_ratio: float
    converge_initial: bool
    num_trajectories: int
    epochs_per_round: int
    valid_ratio: float
    desired_acc: float
    max_train_set_size: float
    freeze_threshold_dataset: float
    c_x: float
    max_md_steps: float
    converge_al: bool
    converge_best: bool
    max_segments: int
    distinct_sets: bool = True
    progress_every: int = 10
    train_subset: int | None = None
    valid_subset: int | None = None
    update_checkpoints: bool = True
    limits: dict[str, float] = Field(default_factory=dict)
    uncertainty_unit: str = "eV/Å"
    uncertainty_of: UncertaintyOf = "all"
    points_counted: float = 1.0
    steps_while_training: float = math.inf
    converge_on: Literal["own", "all"] | None = None  # None: begun before there was a choice
    converge_on_analysis: bool = False
    solve_energies: str | None = None  # None: likewise
    samples_ahead: bool = False  # begun since a sampling step goes on beside the round before
    compile_chosen: bool = False  # begun since there is `MISC.compile`, or somebody has named it
    pays_again: bool = False  # begun since core-hours of labels that are computed again count
    counts_ensembles: bool = False  # begun since candidates are told apart by their ensemble
    share_of_line: float = 0.0  # of a curve of calibration; releases before 0.2 mixed none in
    counts_all_costs: bool = False  # begun since those of labels computed again are foreseen
    tells_electrons: bool = False  # begun since models learn of charge and spin of REFERENCE
    electrons: dict[int, dict[str, float]] | None = None  # what they are told; None: not recorded
    tuning_lr: bool = False  # begun since fine-tuning has a learning rate of its own
    architecture: dict[str, Any] = Field(default_factory=dict)  # of what members are tuned from
    assessed: bool = False  # whether there is a held-out set
    threshold_scope: Literal["shared", "geometry"] = "shared"
    threshold: Literal["moving", "calibrated"] = "moving"
    force_error: float | None = None
    candidates: Literal["first", "largest_error"] = "first"
    novelty: float = 0.0
    label_slots: int = 1  # calculations of the reference at once; counts where they are chosen
    random_share: float | None = None  # of the checks, where chance takes structures
    restart_shares: tuple[float, ...] = ()  # by geometry; see `new_beginnings`; none: all 0
    initial_restart_shares: tuple[float, ...] = ()

    @property
    def whose_uncertainty(self) -> str:
        """Of which atoms uncertainty and threshold are, behind their name; empty: of all."""
        return "" if self.uncertainty_of == "all" else " of free atoms"

    def limit(self, rule: Rule) -> float:
        """Return the limit of a stopping rule; its key's `off` if it has none."""
        if rule.name in Rules.model_fields:
            return float(getattr(self, rule.name))
        return self.limits.get(rule.name, rule.key.off)

    @classmethod
    def of(
        cls, settings: Settings, tags: tuple[str, ...], geometries: int, begun: Rules | None = None
    ) -> Rules:
        """Take the numbers from the settings.

        Args:
            settings: The settings in force.
            tags: The members.
            geometries: How many there are.
            begun: Those of the campaign so far: of a choice that it was begun without, it keeps
                what was done then, unless the user names another. None: it begins now.
        """
        idg, al = settings.idg, settings.al
        chosen = begun is None or begun.converge_on or "converge_on" in al.model_fields_set
        subsets = al.replay_strategy == "random_subset"
        limits = _limits(settings)
        return cls(
            tags=tags,
            geometries=geometries,
            seed=settings.model.GENERAL.seed,
            points_per_step=idg.n_points_per_sampling_step_idg,
            initial_epochs=idg.intermediate_epochs_idg,
            initial_valid_ratio=idg.valid_ratio,
            converge_initial=idg.converge_initial,
            num_trajectories=max(al.num_trajectories, geometries),
            epochs_per_round=al.epochs_per_worker,
            points_counted=al.round_points_counted,
            steps_while_training=al.md_steps_while_training,
            threshold_scope=al.threshold_scope,
            threshold=al.threshold,
            force_error=al.force_error,
            candidates=al.candidates,
            novelty=al.novelty,
            label_slots=settings.cluster.labels_at_once if al.candidates != "first" else 1,
            random_share=al.random_share if al.selection == "random" else None,
            restart_shares=al.restart_shares(geometries),
            initial_restart_shares=idg.restart_shares(geometries),
            valid_ratio=al.valid_ratio,
            freeze_threshold_dataset=al.freeze_threshold_dataset,
            c_x=al.c_x,
            converge_al=al.converge_al,
            converge_best=al.converge_best,
            converge_on=al.converge_on if chosen else None,
            solve_energies=_solves(settings, begun),
            samples_ahead=begun is None or begun.samples_ahead,
            pays_again=begun is None or begun.pays_again,
            counts_ensembles=begun is None or begun.counts_ensembles,
            share_of_line=SHARE_OF_LINE if begun is None else begun.share_of_line,
            counts_all_costs=begun is None or begun.counts_all_costs,
            tells_electrons=begun is None or begun.tells_electrons,
            electrons=_electrons(settings, begun),
            compile_chosen=begun is None
            or begun.compile_chosen
            or "compile" in settings.model.MISC.model_fields_set,
            tuning_lr=begun is None or begun.tuning_lr,
            architecture=_pretrained_architecture(settings, begun),
            assessed=settings.misc.test_dataset is not None,
            converge_on_analysis=al.converge_on_analysis,
            max_segments=settings.ml_workers,
            distinct_sets=idg.distinct_model_sets,
            progress_every=idg.progress_dft_update,
            train_subset=al.train_subset_size if subsets else None,
            valid_subset=al.valid_subset_size if subsets else None,
            update_checkpoints=al.update_md_checkpoints,
            uncertainty_unit=measure_of(al.uncertainty_type).unit,
            uncertainty_of=al.uncertainty_of,
            limits={name: at for name, at in limits.items() if name not in cls.model_fields},
            **{name: at for name, at in limits.items() if name in cls.model_fields},
        )


def _pretrained_architecture(settings: Settings, begun: Rules | None) -> dict[str, Any]:
    """Return the keys of ARCHITECTURE that a pretrained model has decided, if one has."""
    if begun is not None:
        return begun.architecture
    if not settings.model.TRAINING.perform_finetuning:
        return {}
    section = settings.model.ARCHITECTURE
    return {key: getattr(section, key) for key in settings.model.family.pretrained_keys}


def _electrons(settings: Settings, begun: Rules | None) -> dict[int, dict[str, float]] | None:
    """Return what structures of each geometry are told of charge and spin, from now on.

    None if the campaign was begun before there was such a thing.
    """
    if begun is not None and (begun.electrons is not None or not begun.tells_electrons):
        return begun.electrons
    return {index: dict(told) for index, told in settings.electrons.items()}


def _limits(settings: Settings) -> dict[str, float]:
    """Return the limits of the stopping rules; of those without a field of `Rules`, what is set."""
    sections = {
        "initial": settings.idg,
        "active": settings.al,
        "campaign": settings.project.BUDGET,
    }
    limits = {rule: rule.limit(sections[rule.stage]) for rule in RULES}
    return {
        rule.name: limit
        for rule, limit in limits.items()
        if rule.name in Rules.model_fields or limit != rule.key.off
    }


def _solves(settings: Settings, begun: Rules | None) -> str | None:
    """Return `ARCHITECTURE.solve_energies`; None if the campaign was begun before there was one."""
    architecture = settings.model.ARCHITECTURE
    named = "solve_energies" in architecture.model_fields_set
    if begun is not None and begun.solve_energies is None and not named:
        return None
    return getattr(architecture, "solve_energies", "never")  # families may have no such energies
