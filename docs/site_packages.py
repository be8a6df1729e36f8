"""Prints what the extra `docs` needs: to build the site, aimspax itself need not be installed."""

import tomllib
from pathlib import Path

if __name__ == "__main__":
    pyproject = Path(__file__).resolve().parents[1] / "pyproject.toml"
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    print(*project["optional-dependencies"]["docs"], sep="\n")
