"""The wheel has what runs, and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

import aimspax_core

ROOT = Path(__file__).parents[2]
PACKAGES = ("aimspax_core", "flows", "tasks")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of a wheel that is built of a copy."""
    copy = tmp_path_factory.mktemp("copy")
    for name in (*PACKAGES, "deployments", "docs", "examples", "tests/soak"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=copy, capture_output=True, text=True, check=True
    )
    return {*zipfile.ZipFile(copy / done.stdout.splitlines()[-1]).namelist()}


def test_all_code_is_in_it(names: set[str]) -> None:
    wanted = {
        path.relative_to(ROOT).as_posix() for one in PACKAGES for path in (ROOT / one).rglob("*.py")
    }
    assert wanted <= names


def test_what_the_code_reads_is_in_it(names: set[str]) -> None:
    """Types, deployments, and whatever else lies between the modules."""
    wanted = {
        path.relative_to(ROOT).as_posix()
        for one in PACKAGES
        for path in (ROOT / one).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert "flows/deployments/local.yaml" in wanted
    assert wanted <= names


def test_nothing_else_is_in_it(names: set[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    about = f"{project['name']}-{project['version']}.dist-info"
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, about}
    assert f"{about}/licenses/LICENSE" in names


def test_package_citation_and_changelog_name_the_same_release() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text())
    released = re.findall(r"^## \[(\d[^\]]*)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert aimspax_core.__version__ == project["version"] == citation["version"]
    assert released[0] == (citation["version"], citation["date-released"])


def test_what_is_pinned_installs_on_every_python_that_is_said_to_do() -> None:
    """On 3.11.2 of Debian 12, say: some releases want a later patch release than their fellows."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if re.match(r"\w.*==", line)]
    pinned = {canonicalize_name(name): version for name, version in pins}
    wants = {
        canonicalize_name(one.name): one.metadata.get("Requires-Python")
        for one in distributions()
        if one.version == pinned.get(canonicalize_name(one.name))
    }
    assert len(wants) > len(pinned) / 2
    oldest = "3.11.0"
    refuse = {
        name: want for name, want in wants.items() if not SpecifierSet(want or "").contains(oldest)
    }
    assert not refuse
