"""A scheduler of one's own is one file and one row: docs/extending/scheduler.md, done."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.extending import Copy, extended

CHECK = """
from pathlib import Path
from aimspax_core.settings.load import load
from flows.pools.jobs.script_check import scripts

for script in scripts(load(Path("run"))):
    print(script.text, script.taken, script.problem)
"""
CONFORMANCE = """
import sys, pytest
options = ["-q", "-p", "no:cacheprovider", "-k", "background", "test_conformance.py"]
sys.exit(pytest.main(options))
"""
COMPUTE = """
from pathlib import Path
from prefect import flow, task
from aimspax_core.settings.load import load
from flows.pools.open import reference_pool

@task
def square(request):
    return request * request

@flow
def squares():
    with reference_pool(load(Path("run"))) as pool:
        ticket = pool.submit(square, 12, lambda _: None)
        print("it is", ticket.outcome.result(timeout=200), pool.rows)

if __name__ == "__main__":
    squares()
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    found = extended("scheduler.md", tmp_path_factory.mktemp("copy"))
    run = found.folder / "run"
    (run / "mace.yaml").write_text("GENERAL: {name_exp: toy, seed: 1}\n")
    (run / "geometry.in").write_text("atom 0 0 0 H\natom 0 0 0.8 H\n")
    return found


def test_it_takes_one_file_and_one_row(copy: Copy) -> None:
    code = [file for file in copy.files if file.endswith(".py")]
    assert (len(code), copy.rows) == (1, 1)


def test_its_script_can_be_checked(copy: Copy) -> None:
    told = copy.python(CHECK)
    assert "dask_worker" in told
    assert "it would start at once" in told


def test_it_does_what_every_scheduler_does(copy: Copy) -> None:
    shutil.copy(Path(__file__).with_name("test_conformance.py"), copy.folder)
    assert "passed" in copy.python(CONFORMANCE)


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_a_pool_of_its_jobs_computes(copy: Copy) -> None:
    assert "it is 144" in copy.python(COMPUTE)
