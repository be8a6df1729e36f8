"""The warm parent of the workers on this machine, and what they import."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.pools.warm_parent import common_modules
from tests.settings_files import SettingsFiles

# In a process of its own: a process has one parent, which keeps what it imported first.
SCRIPT = """
import json, os, resource, signal, sys, time
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import psutil

from aimspax_core.settings.load import load
from flows.pools import warm_parent
from tasks.warm_up import build_engine, import_modules

LOOKED_FOR = ("torch", "mace", "prefect", "pandas", "matplotlib", "pyscf", "tblite", "tasks.label")


def pages_given():
    # How often the kernel gave a page while 100 arrays of 1 MiB were made and freed.
    import numpy
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        numpy.ones(2**17)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def state():
    import numpy
    names = ("OMP_NUM_THREADS", "CAME", "LEFT", "PREFECT_API_URL", "PYTHONSAFEPATH")
    files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
    return {
        "modules": [name for name in LOOKED_FOR if name in sys.modules],
        "environment": {name: os.environ[name] for name in names if name in os.environ},
        "url": sys.modules["prefect"].settings.PREFECT_API_URL.value(),
        "random": numpy.random.rand(),
        "pages_given": pages_given(),
        "imported_here": [file for file in files if "started_in" in file],
    }


def forked():
    return "forkserver" in " ".join(psutil.Process().parent().cmdline())


def parent():
    (found,) = [p for p in psutil.Process().children() if "forkserver" in " ".join(p.cmdline())]
    return found


def main(directory, settings):
    os.environ["LEFT"] = "1"
    modules = ("breaks", *warm_parent.common_modules(settings))
    warm_parent.begin(modules)
    del os.environ["LEFT"]
    os.environ["CAME"] = "1"
    os.environ["PREFECT_API_URL"] = "http://127.0.0.1:9/api"
    from flows.pools.dask_settings import scratch_folder
    from flows.pools.local import runner_here
    found = {}
    with scratch_folder() as folder, runner_here("ml", 2, (), "", folder, modules) as runner:
        client = runner.client
        found["forked"] = list(client.run(state).values())
        found["threads"] = parent().num_threads()
        client.run(partial(build_engine, settings.reference, directory))
        found["built"] = list(client.run(state).values())
        before = set(client.run(os.getpid).values())
        os.kill(parent().pid, signal.SIGKILL)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.1)
            now = set(client.run(os.getpid, on_error="ignore").values())
            if len(now) == 2 and not now & before:
                break
        found["anew"] = list(client.run(state).values())
    with scratch_folder() as folder, runner_here("ml", 1, (), "", folder, (), gpu=True) as runner:
        found["fewer"] = list(runner.client.run(forked).values())
    print(json.dumps(found))


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    main(directory, load(directory))
"""


PROGRAM = {"engine": "ase", "calculator": "ase.calculators.emt.EMT", "arguments": "{}"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What workers say of themselves: forked, with their engine, and after their parent died.

    One of the modules that the parent imports cannot be imported, and the folder it all is started
    in has modules with the names of others.
    """
    folder = tmp_path_factory.mktemp("run")
    files = SettingsFiles(folder)
    files.project["REFERENCE"] = PROGRAM
    files.write()
    script = folder / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    (folder / "breaks.py").write_text("raise OSError('libcudart.so.12: no such file')")
    (folder / "started_in").mkdir()
    for name in ("ase", "queue"):
        (folder / "started_in" / f"{name}.py").touch()
    path = os.pathsep.join((str(folder), *filter(None, sys.path)))
    done = subprocess.run(
        [sys.executable, script, folder],
        cwd=folder / "started_in",
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_a_worker_that_starts_programs_imports_neither_torch_nor_what_belongs_to_models(
    found: dict[str, Any],
) -> None:
    for worker in (*found["forked"], *found["built"]):
        assert worker["modules"] == ["prefect", "tasks.label"]


def test_workers_are_forked_where_there_is_one_thread(found: dict[str, Any]) -> None:
    assert found["threads"] == 1
    assert all(worker["environment"]["OMP_NUM_THREADS"] == "1" for worker in found["forked"])


def test_workers_have_the_environment_of_the_flow_as_it_is_when_the_pool_starts(
    found: dict[str, Any],
) -> None:
    for worker in (*found["forked"], *found["anew"]):
        assert worker["environment"]["CAME"] == "1"
        assert "LEFT" not in worker["environment"]
        assert worker["url"] == worker["environment"]["PREFECT_API_URL"] == "http://127.0.0.1:9/api"


def test_random_numbers_of_workers_differ(found: dict[str, Any]) -> None:
    one, other = (worker["random"] for worker in found["forked"])
    assert one != other


def test_workers_keep_memory_that_they_free_for_what_comes_next(found: dict[str, Any]) -> None:
    one_array = 2**20 // mmap.PAGESIZE
    for worker in (*found["forked"], *found["anew"]):
        assert worker["pages_given"] < 10 * one_array


def test_workers_come_back_when_their_parent_is_killed(found: dict[str, Any]) -> None:
    assert [worker["modules"] for worker in found["anew"]] == 2 * [["prefect", "tasks.label"]]


def test_no_worker_imports_what_lies_where_the_run_was_started(found: dict[str, Any]) -> None:
    for worker in (*found["forked"], *found["built"], *found["anew"]):
        assert worker["imported_here"] == []
        assert "PYTHONSAFEPATH" not in worker["environment"]  # programs of the user's have theirs


def test_workers_with_a_gpu_are_not_forked_if_the_parent_imports_more_than_they_may_have(
    found: dict[str, Any],
) -> None:
    assert found["fewer"] == [False]


def parent_imports(files: SettingsFiles) -> bool:
    """Whether the parent of these settings imports what models need."""
    return "aimspax_core.model.member" in common_modules(files.load())


@pytest.mark.parametrize(
    ("reference", "cluster", "device", "expected"),
    [
        (PROGRAM, {}, "cpu", False),
        ({"engine": "mace", "model_path": "t.model"}, {}, "cpu", True),
        ({"engine": "mace", "model_path": "t.model"}, {}, "cuda", False),
        ({"engine": "mace", "model_path": "t.model", "device": "cuda"}, {}, "cpu", False),
        (PROGRAM, {"type": "slurm", "slurm_str": "'#SBATCH -n 1'"}, "cpu", True),
    ],
)
def test_the_parent_imports_torch_where_all_its_workers_need_it_on_the_cpu(
    tmp_path: Path, reference: dict[str, str], cluster: dict[str, str], device: str, expected: bool
) -> None:
    files = SettingsFiles(tmp_path)
    (tmp_path / "t.model").touch()
    files.project["REFERENCE"] = reference
    if cluster:
        files.project["CLUSTER"] = cluster
    files.plant("mace.yaml", "MISC", "device", device)
    assert parent_imports(files) is expected
