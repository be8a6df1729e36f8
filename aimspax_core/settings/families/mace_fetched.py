"""Where MACE keeps a foundation model that it knows by name, found without importing MACE."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

_SOURCE = Path("calculators") / "foundations_models.py"
_TABLE = "mace_mp_urls"


def fetched(model: str) -> Path | None:
    """Return the file of a foundation model on this machine.

    Args:
        model: A name that MACE knows.

    Returns:
        The file in which MACE has kept it; None if it has not been fetched here, or if it is no
        such name.
    """
    url = _addresses().get(model)
    if url is None:
        return None
    # As `mace.calculators.foundations_models.download_mace_mp_checkpoint` names it.
    name = "".join(c for c in url.rpartition("/")[2] if c.isalnum() or c == "_")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    path = cache / "mace" / name
    return path if path.is_file() else None


@lru_cache(maxsize=1)
def _addresses() -> Mapping[str, str]:
    """Return where MACE fetches each model from, from MACE's source: to import it takes torch."""
    found = find_spec("mace")
    for folder in (found and found.submodule_search_locations) or ():
        file = Path(folder) / _SOURCE
        if not file.is_file():
            continue
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == _TABLE:
                table: Mapping[str, str] = ast.literal_eval(node.value)
                return table
    return {}
