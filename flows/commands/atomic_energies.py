"""`aimspax atomic-energies`: the isolated atoms of a campaign by its own reference.

Prefect is imported late: the address of its API must be known first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase.data import atomic_numbers

from aimspax_core.errors import AimspaxError, SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.labels.store import LabelStore
from aimspax_core.reference.registry import kind_of
from aimspax_core.reference.single_atoms import GroundState, ground_state
from aimspax_core.safe_files import write_text
from aimspax_core.settings.engines import Gate
from aimspax_core.settings.known_engines import EngineSettings
from flows.commands.exit_codes import DONE, USER, console
from flows.commands.run import server_for

FILE = "atomic_energies.yaml"
"""The file that is written, in the output folder."""

NEXT = (
    "next: put these lines into mace.yaml before `aimspax run`, in its section ARCHITECTURE if it "
    "has one; a campaign that has begun keeps the energies that it began with"
)


@dataclass(frozen=True)
class _Answer:
    """The energy of an atom (eV), or why there is none."""

    state: GroundState
    energy: float | None
    reason: str = ""


def atomic_energies(
    directory: Path, overrides: Mapping[str, Any], elements: Sequence[str] = ()
) -> int:
    """Print the energies of isolated atoms, ready for mace.yaml, and write them to a file.

    Args:
        directory: The run directory.
        overrides: Values that replace those of the files.
        elements: Chemical symbols; none: those of the start geometries.

    Returns:
        The exit code: `USER` if an atom has no energy.

    Raises:
        AimspaxError: There are mistakes in the run directory, or no server can be had.
    """
    # Those in the file may lack an element, which is what this is for.
    without = {**overrides, "ARCHITECTURE.atomic_energies": None}
    inputs = Inputs.read(directory, without, "any", moves=False)
    reference = inputs.settings.reference_of(0)
    numbers = _numbers(elements) or inputs.elements
    states = [ground_state(number, reference) for number in numbers]
    if reference.heeds_spin is None:
        console.print(
            "note: each atom has its spin as an initial magnetic moment and as info['spin'] "
            f"(2S+1); whether {reference.method_text} heeds them is for you to know",
            style="yellow", markup=False,
        )  # fmt: skip
    answers = _answers(states, reference, inputs)
    for answer in answers:
        if answer.energy is None:
            console.print(f"✗ {answer.state.symbol}: {answer.reason}", style="red", markup=False)
    found = [answer for answer in answers if answer.energy is not None]
    if found:
        text = "\n".join(_lines(found, _method(reference))) + "\n"
        file = inputs.run.output / FILE
        write_text(file, text)
        console.print(text, end="", markup=False)
        console.print(f"written: {file}", markup=False)
        console.print(NEXT, markup=False)
    return DONE if len(found) == len(answers) else USER


def _numbers(elements: Sequence[str]) -> tuple[int, ...]:
    """Return atomic numbers of symbols, sorted.

    Raises:
        SettingsError: A symbol is not that of an element.
    """
    found = {name: atomic_numbers.get(name.capitalize(), 0) for name in elements}
    unknown = [name for name, number in found.items() if not number]
    if unknown:
        raise SettingsError(f"--elements: found {', '.join(unknown)}; allowed: chemical symbols")
    return tuple(sorted({*found.values()}))


def _answers(
    states: Sequence[GroundState], reference: EngineSettings, inputs: Inputs
) -> list[_Answer]:
    """Label all atoms; those that the engine does not accept without a cell get a large one."""
    box = reference.atoms_in_cell
    answers = _labelled(states, reference, inputs, box is True)
    periodic = any(atoms.pbc.any() for atoms in inputs.geometries)
    failed = [answer.state for answer in answers if answer.energy is None]
    if box is None and periodic and failed:
        console.print("without a cell it fails; once more in a large one", markup=False)
        again = {a.state: a for a in _labelled(failed, reference, inputs, box=True)}
        answers = [again.get(answer.state, answer) for answer in answers]
    return answers


def _labelled(
    states: Sequence[GroundState], reference: EngineSettings, inputs: Inputs, box: bool
) -> list[_Answer]:
    server_for(inputs.settings)
    from flows.loops.few_labels import Wanted, label_all

    settings, run = inputs.settings, inputs.run
    wanted, in_vacuum = [], kind_of(reference).in_vacuum
    for state in states:
        engine = in_vacuum(reference, settings.directory, run.state / "atoms", state.multiplicity)
        wanted.append(Wanted(state.atoms(box), engine, Gate()))
    store = LabelStore(run.labels)
    answers = []
    name = f"atoms of {settings.directory.name}"
    for state, outcome in zip(states, label_all(name, wanted, run, settings), strict=True):
        if isinstance(outcome, AimspaxError):
            answers.append(_Answer(state, None, str(outcome)))
            continue
        stored = store.get(outcome.key)
        energy = None if stored is None else stored.label.energy
        answers.append(_Answer(state, energy, "" if stored else "its label is gone from the store"))
    return answers


def _lines(answers: Sequence[_Answer], method: str) -> Iterator[str]:
    yield f"# Isolated atoms (eV) by {method}, for mace.yaml"
    yield "ARCHITECTURE:"
    yield "  atomic_energies:"
    for answer in answers:
        state = answer.state
        spin = f"{state.name} (2S+1 = {state.multiplicity})"
        yield f"    {state.number}: {answer.energy:.8f}  # {state.symbol}, {spin}"


def _method(reference: EngineSettings) -> str:
    known = ", which knows no spin" if reference.heeds_spin is False else ""
    return f"{reference.engine_text}{known}"
