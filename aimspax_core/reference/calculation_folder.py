"""The folder in which one calculation writes its files, and lines in them on convergence."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from ase import Atoms

from aimspax_core.structures import digest, encode

FAILED = "failed.txt"
"""The file with the error, in the folder of a failed calculation."""

_NOT_CONVERGED = re.compile(
    b"|".join(
        (
            rb"convergence NOT achieved",  # Quantum ESPRESSO
            # In its input: then it says that it has converged, whether or not.
            rb"scf_must_converge\s*=\s*\.false\.",
            rb"SCF run NOT converged",  # CP2K
            rb"Calculation failed to converge",  # NWChem
            rb"SCF NOT CONVERGED AFTER",  # ORCA
            rb"Wavefunction not fully converged",  # ORCA, beside the energy
            rb"SCC is NOT converged",  # DFTB+
            rb"Convergence failure -- run terminated",  # Gaussian
        )
    )
)
"""What codes write when their self-consistency cycle has not converged, or may not have."""


_held: ContextVar[list[Path] | None] = ContextVar("held", default=None)
"""Folders of good calculations whose labels are not stored yet."""


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Remove the folders of good calculations only after the block, which stores their labels.

    If the block fails the folders stay, so that no result is lost.
    """
    folders: list[Path] = []
    token = _held.set(folders)
    try:
        yield
    except Exception as error:
        for folder in folders:
            _note_failure(folder, error)
        raise
    finally:
        _held.reset(token)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def calculation_folder(parent: Path, atoms: Atoms, clean: bool) -> Iterator[Path]:
    """Make a folder that no other calculation has; if the calculation fails, it stays.

    Args:
        parent: Where the folder lies; made if it is not there.
        atoms: The structure, which gives the folder its name.
        clean: Remove the folder after a good calculation; see `held`.

    Yields:
        The folder. An error of the calculation gets a note that names it, and is written there.
    """
    parent.mkdir(parents=True, exist_ok=True)
    name = f"{atoms.get_chemical_formula()}-{digest(encode(atoms))[:8]}-"
    folder = Path(tempfile.mkdtemp(prefix=name, dir=parent))
    (folder / FAILED).write_text("interrupted: its worker was stopped\n", encoding="utf-8")
    try:
        yield folder
        (folder / FAILED).unlink(missing_ok=True)
    except Exception as error:
        _note_failure(folder, error)
        raise
    kept = _held.get()
    if clean and kept is not None:
        kept.append(folder)
    elif clean:
        shutil.rmtree(folder, ignore_errors=True)


def _note_failure(folder: Path, error: Exception) -> None:
    """Write an error into the folder, and note in the error where the folder is."""
    error.add_note(f"its files are in {folder}")
    with contextlib.suppress(OSError):  # a full disk may be what the error is about
        (folder / FAILED).write_text(f"{type(error).__name__}: {error}\n", encoding="utf-8")


def not_converged(folder: Path) -> str | None:
    """Return the line of a calculation's output that says it has not converged, or None.

    Args:
        folder: Where the output is; binary files and folders in it are passed over.
    """
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            if b"\0" in file.read(4096):
                continue
            file.seek(0)
            line = next((line for line in file if _NOT_CONVERGED.search(line)), None)
        if line is not None:
            return f"{path.name}: {line.decode(errors='replace').strip().strip(' *')}"
    return None
