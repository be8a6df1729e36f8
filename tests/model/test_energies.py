"""Energies that are solved for: the constant goes, forces stay to the bit, tasks may be cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from aimspax_core.model import energies
from aimspax_core.model.committee import Committee
from aimspax_core.model.energies import Moves, moves, renew, settle_energies, solved
from aimspax_core.model.family import family_of
from aimspax_core.model.mace import graphs as mace_graphs
from aimspax_core.model.mace.steps import MaceSteps
from aimspax_core.model.member import Member
from aimspax_core.model.residuals import Residuals
from aimspax_core.model.schedule import Stage
from aimspax_core.model.trained import trained_model
from aimspax_core.settings.model import ModelSettings
from tests.model.test_member import ELEMENTS, TINY

NAMES = ("CH3OH", "H2O", "CO2", "CH4", "H2")
TRUE = {1: -13.6, 6: -1029.5, 8: -2041.2}


def settings(
    dtype: str = "float64", architecture: dict[str, Any] | None = None, **misc: Any
) -> ModelSettings:
    return ModelSettings.model_validate(
        {
            "GENERAL": {"name_exp": "tiny", "default_dtype": dtype},
            "ARCHITECTURE": TINY | (architecture or {}),
            "TRAINING": {"batch_size": 3},
            "MISC": misc,
        }
    )


def structures(names: tuple[str, ...] = NAMES, count: int = 10, seed: int = 0) -> list[Atoms]:
    """Molecules with the labels of springs between all atoms, and of true free atoms."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        ideal = molecule(names[index % len(names)])
        atoms = ideal.copy()
        atoms.positions += rng.normal(scale=0.06, size=atoms.positions.shape)
        energy = sum(TRUE[z] for z in atoms.numbers) - 3.0 * len(atoms)
        forces = np.zeros((len(atoms), 3))
        for i in range(len(atoms)):
            for j in range(i):
                away = atoms.positions[i] - atoms.positions[j]
                far = float(np.linalg.norm(away))
                off = far - ideal.get_distance(i, j)
                energy += 2.0 * off**2
                forces[i] -= 4.0 * off * away / far
                forces[j] += 4.0 * off * away / far
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = energy, forces
        made.append(atoms)
    return made


def graphs(made: list[Atoms], chosen: ModelSettings) -> list[Any]:
    return mace_graphs.graphs(made, ELEMENTS, chosen)


def member(chosen: ModelSettings, made: list[Atoms]) -> Member:
    return Member.create(chosen, ELEMENTS, "tiny-1", 1, graphs(made, chosen))


def errors_of(model: torch.nn.Module, made: list[Atoms], chosen: ModelSettings) -> np.ndarray:
    """Prediction minus label an atom (eV), of copies that the evaluator may take."""
    committee = Committee(family_of(chosen).evaluator([family_of(chosen).copy(model)]))
    found = committee.evaluate(made)
    off = [one.energy - atoms.info["REF_energy"] for one, atoms in zip(found, made, strict=True)]
    return np.array(off) / np.array([len(atoms) for atoms in made])


def without_constant(off: np.ndarray, made: list[Atoms]) -> np.ndarray:
    """What is left of errors an atom when energies of atoms may move."""
    shares = np.array([[(a.numbers == z).mean() for z in ELEMENTS] for a in made])
    return off - shares @ np.linalg.lstsq(shares, off, rcond=None)[0]


# ---- what is solved -------------------------------------------------------------------------


def test_energies_of_atoms_follow_from_what_is_missed() -> None:
    counts = np.array([[4.0, 1, 0], [2, 0, 1], [0, 1, 2], [2, 0, 0]])
    missed = counts @ np.array([0.25, -1.5, 3.0])
    found = solved({1: -13.0, 6: -1000.0, 8: -2000.0}, Residuals(counts, missed))
    assert found == pytest.approx({1: -12.75, 6: -1001.5, 8: -1997.0}, abs=1e-10)


def test_one_molecule_moves_energies_as_little_as_can_be() -> None:
    counts = np.array([[2.0, 1.0], [2.0, 1.0]])
    old = {1: -13.0, 8: -2000.0}
    found = solved(old, Residuals(counts, np.array([0.4, 0.6])))
    change = np.array([found[z] - old[z] for z in old])
    assert counts[0] @ change == pytest.approx(0.5, abs=1e-10)
    assert change == pytest.approx(0.5 * counts[0] / (counts[0] @ counts[0]), abs=1e-10)


def test_an_element_that_no_structure_has_keeps_its_energy() -> None:
    found = solved({1: -13.0, 6: -1000.0}, Residuals(np.array([[2.0, 0.0]]), np.array([1.0])))
    assert found == pytest.approx({1: -12.5, 6: -1000.0}, abs=1e-10)


@pytest.mark.parametrize("kernel", ["lean", "mace"])
def test_heavy_atoms_are_solved_for_in_double_precision(kernel: str) -> None:
    """Total energies of half a million eV an atom are 31 meV apart in single precision."""
    chosen = settings("float32", kernel=kernel)
    made = structures()
    begun = member(chosen, made)
    heavy = {1: -500_000.123, 6: -510_000.456, 8: -535_000.789}
    bound = begun.learner.steps.interaction_energies(begun.model, graphs(made, chosen))  # type: ignore[attr-defined]
    for atoms, energy in zip(made, bound, strict=True):
        atoms.info["REF_energy"] = float(energy) + sum(heavy[z] for z in atoms.numbers)
    begun.constants = type(begun.constants)(
        **vars(begun.constants) | {"atomic_energies": {z: e + 0.05 for z, e in heavy.items()}}
    )
    family = begun.family
    assert family.misses is not None
    found = family.misses(begun.learner.steps, begun.model, graphs(made, chosen), begun.constants)
    after = solved(begun.constants.atomic_energies, found)
    assert after == pytest.approx(heavy, abs=1e-4)


# ---- members --------------------------------------------------------------------------------


def trained(chosen: ModelSettings, made: list[Atoms], valid: list[Atoms], epochs: int) -> Member:
    """One round, as its task does it."""
    one = member(chosen, made)
    train = graphs(made, chosen)
    renew(one, train, "set")
    last = one.train(train, graphs(valid, chosen), epochs=epochs, valid_skip=1, scheduler=False)
    settle_energies(one, train, graphs(valid, chosen), last[-1])
    return one


@pytest.mark.parametrize("names", [NAMES, ("CH3OH",), ("H2O", "CO2")], ids="-".join)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_constant_is_gone_on_structures_that_were_not_seen(
    names: tuple[str, ...], dtype: str
) -> None:
    chosen = settings(dtype)
    made, test = structures(names, 30), structures(names, 30, seed=7)
    one = trained(chosen, made, structures(names, 5, seed=3), epochs=4)
    off = errors_of(one.averaged_model(), test, chosen)
    left = np.abs(without_constant(off, test)).mean()
    assert np.abs(off).mean() < 1.5 * left + 2e-5  # single precision of the energies themselves


def test_training_alone_leaves_a_constant() -> None:
    made, test = structures(("H2O", "CO2"), 12), structures(("H2O", "CO2"), 12, seed=7)
    constant = {}
    for wish in ("auto", "never"):
        chosen = settings(architecture={"solve_energies": wish})
        one = trained(chosen, made, test, epochs=2)
        off = errors_of(one.averaged_model(), made, chosen)
        constant[wish] = np.abs(off - without_constant(off, made)).mean()
    assert constant["never"] > 1e-3 > 1e-8 > constant["auto"]


@pytest.mark.parametrize("kernel", ["lean", "mace"])
@pytest.mark.parametrize("given", [None, TRUE], ids=["fitted", "given"])
def test_forces_do_not_change_by_a_bit(kernel: str, given: dict[int, float] | None) -> None:
    wish = {"solve_energies": "always", "atomic_energies": given}
    chosen = settings("float32", wish, kernel=kernel)
    made = structures()
    one = member(chosen, made)
    before = family_of(chosen).copy(one.averaged_model())
    raw = [weight.detach().clone() for weight in one.model.parameters()]
    energies.solve(one, graphs(made, chosen), energies._moves(one))
    assert all(torch.equal(a, b) for a, b in zip(raw, one.model.parameters(), strict=True))
    found = [
        Committee(family_of(chosen).evaluator([model], kernel=kernel)).evaluate(made)
        for model in (before, one.averaged_model())
    ]
    for then, now in zip(*found, strict=True):
        assert (then.member_forces == now.member_forces).all()
        assert then.energy != now.energy


def test_a_validation_after_it_has_the_errors_of_what_is_published(tmp_path: Path) -> None:
    chosen = settings()
    made, valid = structures(), structures(count=5, seed=3)
    train, tested = graphs(made, chosen), graphs(valid, chosen)
    one = trained(chosen, made, valid, epochs=2)
    one.enter(Stage.CONVERGE)
    renew(one, train, "set")
    _, done = one.converge(train, tested, max_epochs=5, patience=9, margin=0.0)
    assert done and one.best_metrics is not None
    raw = [weight.detach().clone() for weight in one.model.parameters()]
    found = settle_energies(one, train, tested, one.best_metrics)
    assert found.metrics == one.best_metrics
    assert all(torch.equal(a, b) for a, b in zip(raw, one.model.parameters(), strict=True))
    one.save(tmp_path / "converged.pt")
    model = trained_model(tmp_path / "converged.pt", chosen)
    off = errors_of(model, valid, chosen)
    assert np.abs(off).mean() == pytest.approx(found.metrics.mae_e_per_atom, rel=1e-6)
    on_training = without_constant(errors_of(model, made, chosen), made)
    assert errors_of(model, made, chosen) == pytest.approx(on_training, abs=1e-8)


def test_training_that_is_cut_solves_once(tmp_path: Path) -> None:
    chosen = settings()
    made, valid = structures(), structures(count=5, seed=3)
    train, tested = graphs(made, chosen), graphs(valid, chosen)
    found = []
    for parts in ((4,), (1, 3)):
        one = member(chosen, made)
        for number, epochs in enumerate(parts):
            renew(one, train, "set")
            asked = {"valid_skip": 9, "scheduler": False}
            last = one.train(train, tested, epochs=epochs, **asked)  # type: ignore[arg-type]
            one.save(tmp_path / f"{number}.pt")
            one = Member.load(tmp_path / f"{number}.pt", chosen)
        found.append(
            (settle_energies(one, train, tested, last[-1]).metrics.valid_loss, one.constants)
        )
    assert found[0] == found[1]


def test_a_set_that_grows_moves_energies_from_where_they_were() -> None:
    chosen = settings()
    made = structures(("H2O",), 6)
    one = trained(chosen, made, made[:2], epochs=2)
    before = one.constants.atomic_energies
    renew(one, graphs(made, chosen), "set")
    assert one.constants.atomic_energies == before
    renew(one, graphs([*made, *structures(("H2O",), 2, seed=9)], chosen), "grown")
    change = np.array([one.constants.atomic_energies[z] - before[z] for z in ELEMENTS])
    assert change[0] == pytest.approx(2 * change[2], rel=1e-6)  # along H2O, nowhere else
    assert change[1] == pytest.approx(0.0, abs=1e-10)


# ---- energies that are given ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "given", "kept", "model", "what"),
    [
        ("auto", None, False, "ScaleShiftMACE", Moves.ELEMENTS),
        ("auto", TRUE, False, "ScaleShiftMACE", Moves.NOTHING),
        ("auto", None, True, "ScaleShiftMACE", Moves.SHIFT),
        ("auto", None, True, "MACE", Moves.NOTHING),
        ("always", None, False, "ScaleShiftMACE", Moves.ELEMENTS),
        ("always", TRUE, False, "ScaleShiftMACE", Moves.SHIFT),
        ("always", None, True, "ScaleShiftMACE", Moves.SHIFT),
        ("always", TRUE, False, "MACE", Moves.ELEMENTS),
        ("never", None, False, "ScaleShiftMACE", Moves.NOTHING),
    ],
)
def test_what_is_solved_for_follows_from_the_key_and_from_what_is_given(
    wish: str, given: dict[int, float] | None, kept: bool, model: str, what: Moves
) -> None:
    asked = {"solve_energies": wish, "atomic_energies": given, "model": model}
    chosen = settings(architecture=asked)
    assert moves(chosen, family_of(chosen), kept) is what


def test_given_energies_stay_and_the_constant_is_told_by_composition() -> None:
    chosen = settings(architecture={"atomic_energies": TRUE})
    made = structures()
    one = member(chosen, made)
    train = graphs(made, chosen)
    renew(one, train, "set")
    last = one.train(train, train, epochs=1, valid_skip=1, scheduler=False)
    found = settle_energies(one, train, train, last[-1])
    assert one.constants.atomic_energies == TRUE and found.metrics is last[-1]
    off = errors_of(one.averaged_model(), made, chosen)
    for name, formula in (("H2O", "H2O"), ("CH3OH", "CH4O")):
        kind = str(molecule(name).symbols)
        mine = [e for e, a in zip(off, made, strict=True) if str(a.symbols) == kind]
        assert found.offsets[formula] == pytest.approx(-np.mean(mine), abs=1e-8)
    assert len(found.offsets) == len(NAMES)


def test_always_moves_the_shift_where_energies_are_given() -> None:
    chosen = settings(architecture={"atomic_energies": TRUE, "solve_energies": "always"})
    made = structures()
    one = trained(chosen, made, made[:3], epochs=1)
    assert one.constants.atomic_energies == TRUE
    assert errors_of(one.averaged_model(), made, chosen).mean() == pytest.approx(0.0, abs=1e-8)


def test_always_is_told_where_energies_are_given() -> None:
    from aimspax_core.settings.families.mace import MACE

    for model, word in (("ScaleShiftMACE", "shift"), ("MACE", "move")):
        asked = {"atomic_energies": TRUE, "solve_energies": "always", "model": model}
        (note,) = MACE.notes(settings(architecture=asked))
        assert "ARCHITECTURE.solve_energies" in note and word in note
    assert not list(MACE.notes(settings(architecture={"atomic_energies": TRUE})))


def test_the_energies_of_free_atoms_are_in_place_again_after_a_failure() -> None:
    chosen = settings(kernel="mace")
    one = member(chosen, structures())
    steps = one.learner.steps
    assert isinstance(steps, MaceSteps)
    model: Any = one.model
    before = model.atomic_energies_fn.atomic_energies.clone()
    broken = graphs(structures(), chosen)
    broken[0].positions = None
    with pytest.raises((TypeError, AttributeError, KeyError, RuntimeError)):
        steps.interaction_energies(model, broken)
    assert torch.equal(model.atomic_energies_fn.atomic_energies, before)


@pytest.mark.parametrize(("size", "largest"), [(2, 2), (100, 16)])
def test_no_more_structures_at_once_than_in_a_validation(
    size: int, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(kernel="mace")
    chosen = chosen.model_copy(
        update={"TRAINING": chosen.TRAINING.model_copy(update={"valid_batch_size": size})}
    )
    made = structures(count=18)
    one = member(chosen, made)
    seen: list[int] = []
    one.model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0]["ptr"]) - 1))
    found = one.learner.steps.interaction_energies(one.model, graphs(made, chosen))  # type: ignore[attr-defined]
    assert len(found) == sum(seen) == 18
    assert max(seen) == largest
