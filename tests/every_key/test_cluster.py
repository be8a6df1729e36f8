"""Keys and what changes with them: Slurm jobs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from aimspax_core.settings.cluster import BatchJobs, Cluster
from aimspax_core.settings.load import load
from aimspax_core.settings.settings import Settings
from flows.pools import batch
from flows.pools import open as opening
from tests.every_key.base import PROJECT, Asked

HEADER = "#SBATCH --ntasks-per-node=8 --mem=8G --tmp=8G"
LABELS: list[tuple[str, Any]] = [
    ("type", "local"),
    ("project_name", "water"),
    ("tasks_per_node", 8),
    ("cores_per_job", 2),
    ("memory_per_job", 4096),
    ("disk_per_job", 2048),
    ("slurm_str", f"{HEADER} --time=60"),
    ("worker_str", "module load x"),
    ("python", "/opt/bin/python"),
    ("blocks", {"nodes_per_block": 2}),
    ("blocks", {"init_blocks": 0}),
    ("blocks", {"min_blocks": 1}),
    ("blocks", {"max_blocks": 2}),
    ("blocks", {"label": "water"}),
]
ML: list[tuple[str, Any]] = [
    ("max_workers", 5),
    ("slurm_str", "#SBATCH -G 2"),
    ("worker_str", "module load x"),
    ("blocks", {"init_blocks": 0, "min_blocks": 0}),
    ("blocks", {"min_blocks": 0}),
    ("blocks", {"max_blocks": 2}),
    ("blocks", {"label": "water"}),
]


def _labels(**content: Any) -> BatchJobs | None:
    start = "" if "tasks_per_node" in content else HEADER
    return Cluster.model_validate(
        {"type": "slurm", "slurm_str": start or "#SBATCH --time=5", **content}
    ).reference_jobs


def _ml(**content: Any) -> BatchJobs | None:
    return Cluster.model_validate({"ml": {"slurm_str": HEADER, **content}}).ml_jobs


@pytest.mark.key(
    "Blocks", *(key for each, content in LABELS if each == "blocks" for key in content)
)
@pytest.mark.key("Cluster", *(key for key, _ in LABELS))
@pytest.mark.parametrize(("key", "value"), LABELS)
def test_jobs_of_labels_follow_the_key(key: str, value: Any) -> None:
    assert _labels(**{key: value}) != _labels()


@pytest.mark.key("MlBlocks", *(key for each, content in ML if each == "blocks" for key in content))
@pytest.mark.key("MlPool", *(key for key, _ in ML))
@pytest.mark.parametrize(("key", "value"), ML)
def test_jobs_of_training_follow_the_key(key: str, value: Any) -> None:
    assert _ml(**{key: value}) != _ml()


def _on_slurm(folder: Path, more: str) -> Settings:
    cluster = f"CLUSTER: {{type: slurm, slurm_str: '{HEADER}', {more}}}"
    (folder / "aimsPAX.yaml").write_text(PROJECT + cluster, encoding="utf-8")
    return load(folder)


@pytest.fixture
def begun(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A pool of Slurm jobs up to its first job; what it gives to those who start them."""

    def fleet(*given: Any) -> None:
        raise Asked(*given)

    def begin(settings: Settings) -> tuple[Any, ...]:
        with pytest.raises(Asked) as caught, opening.reference_pool(settings):
            pass
        return caught.value.args

    monkeypatch.setattr(batch, "cleaned_up", lambda *_: contextlib.nullcontext(folder))
    monkeypatch.setattr(batch, "Fleet", fleet)
    return begin


@pytest.mark.key("Cluster", "idle_time", "queue_notice")
def test_a_pool_of_jobs_is_as_patient_as_asked(folder: Path, begun: Any) -> None:
    policy, *_ = begun(_on_slurm(folder, "host: localhost, idle_time: 7, queue_notice: 9"))
    assert (policy.idle_s, policy.notice_s) == (7, 9)


@pytest.mark.key("Cluster", "interface", "host")
@pytest.mark.parametrize(
    ("more", "address"),
    [("host: 127.0.0.2", "127.0.0.2"), ("interface: lo", "127.0.0.1")],
)
def test_jobs_reach_the_flow_where_they_are_asked_to(
    folder: Path, begun: Any, more: str, address: str
) -> None:
    _, _, cluster, *_ = begun(_on_slurm(folder, more))
    assert cluster.scheduler_address.startswith(f"tls://{address}:")
