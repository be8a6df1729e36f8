"""Which files of a folder `results/` are its models: what else a user keeps there is none of it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from aimspax_core.errors import ModelError

TABLE = "errors.csv"


@dataclass(frozen=True)
class Files:
    """The model files of a campaign's results, by the tags of their members.

    Attributes:
        all: Those that `errors.csv` names.
        averaged: Whose mean energy and forces are.
        ensemble: Whose spread is their uncertainty.
    """

    all: dict[str, Path]
    averaged: dict[str, Path]
    ensemble: dict[str, Path]


def files_of(results: Path) -> Files:
    """Return the files of the models in a folder; see `CommitteeCalculator` for which is which.

    Raises:
        ModelError: There are no models, no table, or a model that it names is gone.
    """
    if next(results.glob("*.model"), None) is None:
        raise ModelError(f"{results}: there are no models; allowed: the folder results/ of a run")
    state = states(results)
    found = {tag: results / f"{tag}.model" for tag in sorted(state)}
    for path in found.values():
        if not path.is_file():
            raise ModelError(f"{results}: {path.name} is gone, which {TABLE} names")
    converged = {tag: path for tag, path in found.items() if state[tag] == "converged"}
    if not converged or len(converged) == len(found):
        return Files(found, found, found)
    last = results / "last_ensemble"
    before = {tag: last / path.name for tag, path in converged.items()}
    ensemble = found | {tag: path for tag, path in before.items() if path.is_file()}
    return Files(found, converged, ensemble)


def states(results: Path) -> dict[str, str]:
    """Return the state of each member by its tag, as `errors.csv` has it.

    Raises:
        ModelError: It is not there, or is no such table.
    """
    table = results / TABLE
    try:
        with table.open(encoding="utf-8", newline="") as file:
            found = {row["member"]: row["state"] for row in csv.DictReader(file)}
    except FileNotFoundError as error:
        raise ModelError(f"{table} is not there, which says which models have converged") from error
    except (KeyError, UnicodeDecodeError) as error:
        raise ModelError(f"{table} is not the table of a campaign's results ({error!r})") from error
    if not found:
        raise ModelError(f"{table} names no model")
    return found
