"""A pool of Slurm jobs on a real Slurm: as many as there is work for, whatever befalls them."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextvars import Context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client
from distributed.security import Security

from aimspax_core.labels.tries import Fate
from aimspax_core.settings.load import load
from flows.pools.batch import batch_pool
from flows.pools.jobs import fleet as fleet_module
from flows.pools.pool import Pool
from flows.pools.ticket import Ticket
from flows.pools.workers import WorkerLostError
from flows.server import Server
from tests.flows.hosting import ROOT, Landed, Nap, evaluate, in_a_flow, inside, lines, nap, wait_for
from tests.slurm.machine import Slurm

PROJECT = """
REFERENCE: {engine: tblite}
INITIAL_DATASET_GENERATION: {n_points_per_sampling_step_idg: 5, desired_acc: 0.1}
ACTIVE_LEARNING: {num_trajectories: 8, desired_acc: 0.1}
MD: {stat_ensemble: NVT}
"""
JOB = "#SBATCH --partition=debug --ntasks=1 --mem=600 --time=10"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def context(prefect_server: Server) -> Iterator[Context]:
    with in_a_flow() as found:
        yield found


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks more often than is good for a real Slurm."""
    monkeypatch.setattr(fleet_module, "LOOK_S", 1.0)
    monkeypatch.setattr(fleet_module, "SOON_S", 1.0)


@dataclass
class Fleet:
    """A pool of Slurm jobs, and what a test asks of it."""

    pool: Pool
    slurm: Slurm
    directory: Path
    landed: Landed = field(default_factory=Landed)

    @property
    def journal(self) -> Path:
        return self.directory / "journal"

    @property
    def go(self) -> Path:
        """What naps wait for."""
        return self.directory / "go"

    def nap(self, name: str, wait: bool = True) -> Ticket:
        """Submit a nap, which waits for `go`."""
        request = Nap(self.journal, name, until=self.go if wait else None)
        return self.pool.submit(nap, request, self.landed)

    def ask(self, expression: str) -> Any:
        """What an expression is on a worker."""
        answers = Landed()
        self.pool.submit(evaluate, expression, answers)
        return answers.wait(1)[0].result()

    def naps(self, number: int) -> list[Ticket]:
        """Submit so many naps; return when they run."""
        tickets = [self.nap(str(each)) for each in range(number)]
        wait_for(lambda: len(lines(self.journal, "begin")) >= number, "they run")
        return tickets

    def trouble(self) -> str:
        """What it says it cannot do."""
        wait_for(lambda: bool(self.pool.trouble), "it says so")
        return self.pool.trouble

    @property
    def running(self) -> list[int]:
        return [job.id for job in self.slurm.jobs() if job.state == "RUNNING"]


@dataclass
class Port:
    """Starts fleets."""

    slurm: Slurm
    directory: Path
    context: Context
    stack: contextlib.ExitStack

    def fleet(self, job: str = JOB, kind: str = "reference", **cluster: Any) -> Fleet:
        """A pool of jobs, which start in a folder with `flows/` and `tasks/` of its own."""
        decoys = self.directory / "decoys"
        for name in ("flows", "tasks", "aimspax_core"):
            (decoys / name).mkdir(parents=True)
            (decoys / name / "__init__.py").write_text("raise RuntimeError('not this one')")
        header = f"{job}\n#SBATCH --chdir={decoys}"
        own: dict[str, Any] = {"idle_time": 600.0, "worker_str": _worker_str(), **cluster}
        if kind == "ml":
            section = {"ml": {"slurm_str": header, "worker_str": own.pop("worker_str")}, **own}
        else:
            section = {"type": "slurm", "slurm_str": header, **own}
        (self.directory / "aimsPAX.yaml").write_text(PROJECT)
        (self.directory / "mace.yaml").write_text("GENERAL: {name_exp: fleet, seed: 1}\n")
        (self.directory / "geometry.in").write_text("atom 0 0 0 H\n")
        settings = load(self.directory, {"CLUSTER": section})
        both = (settings.cluster.reference_jobs, settings.cluster.ml_jobs)
        jobs = both[kind == "ml"]
        assert jobs is not None
        pool = self.stack.enter_context(inside(self.context, batch_pool(kind, jobs, settings)))
        return Fleet(pool, self.slurm, self.directory)


def _worker_str(*lines: str) -> str:
    """Shell lines of a job, whose worker finds the tasks of the tests."""
    return "\n".join([*lines, f"export PYTHONPATH='{ROOT}'"])


@pytest.fixture
def port(slurm: Slurm, tmp_path: Path, context: Context) -> Iterator[Port]:
    with contextlib.ExitStack() as stack:
        yield Port(slurm, tmp_path, context, stack)


def _lost(ticket: Ticket) -> WorkerLostError:
    with pytest.raises(WorkerLostError) as caught:
        ticket.result()
    return caught.value


def _stays(condition: Callable[[], bool], seconds: float = 4.0) -> bool:
    """Whether something holds for some looks of the fleet."""
    end = time.monotonic() + seconds
    while condition():
        if time.monotonic() > end:
            return True
        time.sleep(0.1)
    return False


# How many there are


def test_it_grows_to_its_most_and_shrinks_to_its_least(port: Port) -> None:
    fleet = port.fleet(blocks={"min_blocks": 1, "max_blocks": 3}, idle_time=1.0)
    wait_for(lambda: len(port.slurm.jobs()) == 1, "it begins with one job")
    tickets = fleet.naps(3)
    tickets += [fleet.nap(str(number)) for number in range(3, 8)]
    assert _stays(lambda: len(port.slurm.jobs()) == 3)
    assert len({ticket.address for ticket in tickets[:3]}) == 3
    fleet.go.touch()
    fleet.landed.wait(8)
    assert sorted(ticket.result() for ticket in tickets) == [*"01234567"]
    wait_for(lambda: len(port.slurm.jobs()) == 1, "idle jobs are given back")
    assert _stays(lambda: len(port.slurm.jobs()) == 1)
    assert not fleet.pool.trouble


def test_with_nothing_to_do_none_is_left(port: Port) -> None:
    fleet = port.fleet(blocks={"max_blocks": 1}, idle_time=1.0)
    fleet.nap("0", wait=False)
    fleet.landed.wait(1)
    wait_for(lambda: not port.slurm.jobs(), "it is given back")
    fleet.nap("1", wait=False)
    assert fleet.landed.wait(2)[1].result() == "1"  # and one comes when there is work again


def test_jobs_that_nothing_needs_any_more_do_not_wait_in_the_queue(port: Port) -> None:
    port.slurm.node_down()
    fleet = port.fleet(blocks={"max_blocks": 3}, idle_time=1.0)
    for number in range(3):
        fleet.nap(str(number))
    wait_for(lambda: len(port.slurm.jobs()) == 3, "three wait")
    fleet.pool.hold()
    wait_for(lambda: not port.slurm.jobs(), "none waits")
    assert not fleet.pool.trouble


# What befalls them


def test_a_cancelled_job_costs_its_task_and_is_replaced(port: Port) -> None:
    fleet = port.fleet(blocks={"max_blocks": 2})
    lost, other = fleet.naps(2)
    jobs = {row["job"] for row in fleet.pool.rows}
    victim = min(map(int, jobs))
    port.slurm.cancel(victim)
    (first,) = fleet.landed.wait(1)
    assert first in (lost, other)
    assert _lost(first).fate is Fate.INTERRUPTED
    assert f"Slurm job {victim} was cancelled" in str(_lost(first))
    fleet.nap("again")
    wait_for(lambda: "again" in lines(fleet.journal, "begin"), "a new job has it")
    fleet.go.touch()
    fleet.landed.wait(3)
    assert all(ticket.result() for ticket in fleet.landed.tickets[1:])
    assert victim not in fleet.running


def test_a_requeued_job_costs_its_task_and_comes_again(port: Port) -> None:
    fleet = port.fleet(blocks={"max_blocks": 1})
    (ticket,) = fleet.naps(1)
    (job,) = fleet.running
    port.slurm.requeue(job)
    fleet.landed.wait(1)
    assert _lost(ticket).fate is Fate.INTERRUPTED
    assert "requeued" in str(_lost(ticket))
    again = fleet.nap("again", wait=False)
    fleet.landed.wait(2)
    assert again.result() == "again"
    assert fleet.running == [job]
    assert lines(fleet.journal, "begin") == ["0", "again"]


def test_a_lost_node_costs_the_tasks_on_it(port: Port) -> None:
    fleet = port.fleet(job=f"{JOB} --no-requeue", blocks={"max_blocks": 1})
    (ticket,) = fleet.naps(1)
    port.slurm.node_down()
    fleet.landed.wait(1)
    assert _lost(ticket).fate is Fate.INTERRUPTED
    assert "node" in str(_lost(ticket)).lower()
    fleet.nap("again", wait=False)
    port.slurm.node_up()
    assert fleet.landed.wait(2)[1].result() == "again"


def test_a_job_at_its_time_limit_is_told_as_such(port: Port) -> None:
    fleet = port.fleet(blocks={"max_blocks": 1})
    (ticket,) = fleet.naps(1)
    (job,) = fleet.running
    port.slurm.time_out(job)
    fleet.landed.wait(1)
    assert _lost(ticket).fate is Fate.OUT_OF_TIME
    assert f"Slurm job {job} came to its time limit (10 min)" in str(_lost(ticket))


def test_a_worker_that_dies_in_its_job_is_told_as_such(port: Port) -> None:
    fleet = port.fleet(blocks={"max_blocks": 1})
    (ticket,) = fleet.naps(1)
    os.kill(fleet.pool._scheduler.workers[ticket.address].pid, 9)
    fleet.landed.wait(1)
    assert _lost(ticket).fate is Fate.DIED


def test_a_silent_controller_costs_nothing(port: Port) -> None:
    fleet = port.fleet(blocks={"max_blocks": 1})
    (first,) = fleet.naps(1)
    (job,) = fleet.running
    later = fleet.nap("later")
    with port.slurm.controller_frozen():
        time.sleep(12)  # Slurm's commands give up after 10 s
        fleet.go.touch()
        fleet.landed.wait(1)
        assert first.result() == "0"
    fleet.landed.wait(2)
    assert later.result() == "later"
    assert fleet.running == [job]


# What does not start


def test_jobs_that_end_before_their_worker_starts_are_told_with_what_they_print(
    port: Port,
) -> None:
    told = _worker_str("echo 'no module called anaconda' >&2", "exit 1")
    fleet = port.fleet(worker_str=told)
    fleet.nap("never")
    trouble = fleet.trouble()
    assert "3 Slurm jobs in a row ended before their worker started" in trouble
    assert "no module called anaconda" in trouble


def test_what_slurm_refuses_is_told_in_its_words(port: Port) -> None:
    fleet = port.fleet(job=JOB.replace("debug", "nope"))
    trouble = fleet.trouble()
    assert "Slurm refuses the jobs of the reference pool" in trouble
    assert "invalid partition specified: nope" in trouble


def test_a_worker_with_other_versions_is_told_with_both(port: Port) -> None:
    other = port.directory / "site"
    (other / "ase-1.2.3.dist-info").mkdir(parents=True)
    (other / "ase-1.2.3.dist-info" / "METADATA").write_text("Name: ase\nVersion: 1.2.3\n")
    fleet = port.fleet(worker_str=f"export PYTHONPATH='{other}':'{ROOT}'")
    fleet.nap("never")
    trouble = fleet.trouble()
    assert "ase is 1.2.3 there, 3." in trouble
    assert not lines(fleet.journal, "begin")


# What runs in them


def test_workers_take_no_code_from_where_they_start(port: Port) -> None:
    fleet = port.fleet()
    assert Path(fleet.ask("__import__('os').getcwd()")).name == "decoys"
    assert Path(fleet.ask("__import__('flows').__file__")).parents[1] == ROOT
    assert Path(fleet.ask("__import__('tasks').__file__")).parents[1] == ROOT


def test_calculations_of_a_job_run_side_by_side(port: Port) -> None:
    job = "#SBATCH --partition=debug --ntasks-per-node=4 --mem=1200 --time=10"
    fleet = port.fleet(job, cores_per_job=2)
    step = (
        "__import__('subprocess').run(['srun', 'sh', '-c', 'touch {0}.$SLURM_PROCID; "
        "until [ -e {1}.1 ]; do sleep 0.1; done'], timeout=60, capture_output=True).returncode"
    )  # each waits until the other one's second process is there
    a, b = fleet.directory / "a", fleet.directory / "b"
    for own, other in ((a, b), (b, a)):
        fleet.pool.submit(evaluate, step.format(own, other), fleet.landed)
    assert [ticket.result() for ticket in fleet.landed.wait(2)] == [0, 0]
    assert {file.name for file in fleet.directory.glob("[ab].*")} == {"a.0", "a.1", "b.0", "b.1"}
    assert len(port.slurm.jobs()) == 1


def test_each_worker_of_a_job_has_a_gpu(port: Port) -> None:
    job = "#SBATCH --partition=gpu --gres=gpu:2 --ntasks=2 --mem=1200 --time=10"
    fleet = port.fleet(job, kind="ml")
    seen = (
        "[open({0!r}, 'w').close(), __import__('tests.flows.hosting', fromlist=['x'])"
        ".wait_for(__import__('pathlib').Path({1!r}).exists, 'the other one', 60), "
        "__import__('os').environ['CUDA_VISIBLE_DEVICES']][2]"
    )
    a, b = str(fleet.directory / "a"), str(fleet.directory / "b")
    for own, other in ((a, b), (b, a)):
        fleet.pool.submit(evaluate, seen.format(own, other), fleet.landed)
    assert sorted(ticket.result() for ticket in fleet.landed.wait(2)) == ["0", "1"]


# Others on this machine and the network


def test_without_the_key_nobody_gets_an_answer(port: Port) -> None:
    fleet = port.fleet(blocks={"max_blocks": 1})
    fleet.naps(1)
    foreign = Security.temporary()
    scheduler = fleet.pool._scheduler.address
    assert scheduler.startswith("tls://")
    place = scheduler.removeprefix("tls://")
    with pytest.raises(OSError):
        Client(f"tcp://{place}", timeout=3, set_as_default=False)
    with pytest.raises(OSError):
        Client(f"tls://{place}", security=foreign, timeout=3, set_as_default=False)
    fleet.go.touch()
    assert fleet.landed.wait(1)[0].result() == "0"  # and it has not minded


def test_all_that_listens_on_the_network_asks_for_the_key(port: Port) -> None:
    fleet = port.fleet(blocks={"max_blocks": 1})
    fleet.naps(1)
    flow, job = psutil.Process(), fleet.pool._scheduler.workers
    processes = [flow, *(psutil.Process(state.pid) for state in job.values())]
    open_ = {place for process in processes for place in _listening(process)}
    addresses = [fleet.pool._scheduler.address, *job]
    assert open_ >= {int(address.rpartition(":")[2]) for address in addresses}
    host = addresses[0].removeprefix("tls://").rpartition(":")[0]
    for number in open_:
        assert _says(host, number, b"GET / HTTP/1.0\r\n\r\n", encrypted=False)[:1] in (b"", b"\x15")
        assert _says(host, number, b"GET / HTTP/1.0\r\n\r\n", encrypted=True) == b""
    fleet.go.touch()
    fleet.landed.wait(1)


def test_the_dashboard_is_there_for_those_who_know_its_name(port: Port) -> None:
    fleet = port.fleet()
    place = fleet.pool.dashboard
    assert place.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(place, timeout=30) as answer:
        assert answer.status == 200
    root = "/".join(place.split("/")[:3])
    for page in ("", "/status", "/info/main/workers.html", "/metrics", "/json/identity.json"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{root}{page}", timeout=30)
        assert caught.value.code in (403, 404)


def test_nobody_else_can_read_what_workers_are_told(port: Port) -> None:
    port.fleet()
    (folder,) = (port.directory).glob("**/aimspax/slurm/reference-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    secret = [*folder.glob("*.pem"), folder / "orders.json"]
    assert len(secret) == 4
    assert {file.stat().st_mode & 0o777 for file in secret} == {0o600}


def _listening(process: psutil.Process) -> set[int]:
    """Ports of a process that others than this machine may reach."""
    rows = process.net_connections("tcp")
    local = ("127.", "::1", "::ffff:127.")
    return {
        row.laddr.port
        for row in rows
        if row.status == psutil.CONN_LISTEN and not row.laddr.ip.startswith(local)
    }


def _says(host: str, port: int, told: bytes, encrypted: bool) -> bytes:
    """What a port answers to somebody without a key."""
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), 10) as plain:
            plain.settimeout(5)
            with anyone.wrap_socket(plain) if encrypted else plain as connection:
                connection.sendall(told)
                return connection.recv(4096)
    except (ssl.SSLError, ConnectionError):
        return b""
