"""The services of `docker/compose.yaml`, started without containers: what it says, on this machine.

Commands, settings, order and health checks are read from the file. What differs is what containers
bring: names of hosts, ports and folders are replaced by this machine's, and PostgreSQL is started
as its official image does it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

from tests.conftest import free_port

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker" / "compose.yaml"
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]  # Debian's package
SETTING = re.compile(r"\$\{(\w+):-([^}]*)\}")


def read() -> dict[str, Any]:
    """Return the file with the defaults of what comes from the environment."""
    text = SETTING.sub(lambda found: found.group(2), FILE.read_text())
    content: dict[str, Any] = YAML(typ="safe").load(text)
    return content


@dataclass
class Compose:
    """Services that were started, and where.

    Attributes:
        folder: Holds what volumes hold in containers, and what the services print.
        more: Settings of a service besides those of the file, by service: they only save time.
    """

    folder: Path
    more: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.services: dict[str, Any] = read()["services"]
        self.secrets = self.folder / "secrets"
        self.secrets.mkdir()
        # Not in pytest's own folders, which are closed to the user that PostgreSQL runs as.
        self._data = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
        self._ports = {port: free_port() for port in ("5432", "4200", "8080")}
        self.api_url = f"http://127.0.0.1:{self._ports['4200']}/api"

    def up(self) -> None:
        """Start all services in the order of what they depend on, as conditions say."""
        started: list[str] = []
        while left := [name for name in self.services if name not in started]:
            ready = [name for name in left if self._needs(name) <= set(started)]
            assert ready, f"a circle: {left}"
            for name in ready:
                self.start(name)
                started.append(name)
        for name in started:
            if "healthcheck" in self.services[name]:
                self.wait_until_healthy(name)

    def start(self, name: str) -> None:
        """Start a service once what it depends on is as it must be; wait for one that is to end."""
        for other, how in self.services[name].get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                self.wait_until_healthy(other)
            else:
                assert how["condition"] == "service_completed_successfully"
                assert self.processes[other].wait(timeout=120) == 0, self.printed(other)
        if name == "database":
            command = self._database()
        else:
            command = [str(ROOT / "docker" / "entrypoint.sh"), *self._here(name, "command")]
        with self.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder,
                env=self.environment(name), start_new_session=True,
            )  # fmt: skip

    def run(self, name: str, *command: str) -> str:
        """Run another command with the settings of a service; return what it printed."""
        done = subprocess.run(
            [str(ROOT / "docker" / "entrypoint.sh"), *command],
            env=self.environment(name), cwd=ROOT, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of a service: the file's, and this machine's without Prefect's."""
        said = self.services[name].get("environment", {})
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "AIMSPAX_"))}
        paths = [Path(sys.executable).parent, ROOT / "docker", *POSTGRES]
        return {
            **kept,
            "PATH": ":".join([*map(str, paths), kept["PATH"]]),
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(self.folder / f"home-{name}"),  # that of a container
            **{key: self._replaced(str(value)) for key, value in said.items()},
            **self.more.get(name, {}),
        }

    def wait_until_healthy(self, name: str) -> None:
        """Repeat a service's health check until it succeeds, so often as the file says."""
        check = self.services[name]["healthcheck"]
        command = [self._replaced(part) for part in check["test"][1:]]
        environment = self.environment(name)
        if name == "database":
            environment |= {"PGHOST": "127.0.0.1", "PGPORT": str(self._ports["5432"])}
        patience_s = float(check["interval"][:-1]) * check["retries"]
        end = time.monotonic() + patience_s
        while True:
            found = subprocess.run(
                command, env=environment, capture_output=True, timeout=30, check=False
            )
            if found.returncode == 0:
                return
            gone = self.processes[name].poll() is not None
            assert time.monotonic() < end and not gone, (
                f"{name}: {found.stderr.decode()}\n{self.printed(name)}"
            )
            time.sleep(0.3)

    def log(self, name: str) -> Path:
        """Where a service prints."""
        return self.folder / f"{name}.log"

    def printed(self, name: str) -> str:
        """Return the end of what a service printed."""
        return self.log(name).read_text(errors="replace")[-6000:]

    def stop(self, name: str) -> int:
        """Stop a service as `docker compose stop` does, and kill it if that takes too long."""
        patience_s = float(self.services[name].get("stop_grace_period", "10s")[:-1])
        process = self.processes[name]
        process.terminate()
        try:
            return process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            self.kill(name)
            raise

    def kill(self, name: str) -> None:
        """Kill a service and everything that it started, at once."""
        process = psutil.Process(self.processes[name].pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self.processes[name].wait()

    def down(self) -> None:
        """Stop all services, last first."""
        for name in reversed(self.processes):
            process = self.processes[name]
            if process.poll() is not None:
                continue
            left = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)  # to postgres: end its sessions
            try:
                process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                self.kill(name)
            for one in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        shutil.rmtree(self._data)

    def _needs(self, name: str) -> set[str]:
        return set(self.services[name].get("depends_on", {}))

    def _here(self, name: str, key: str) -> list[str]:
        return [self._replaced(part) for part in self.services[name][key]]

    def _replaced(self, text: str) -> str:
        """Replace what only containers have: hosts, ports, the folder of secrets."""
        text = re.sub(r"//server\b", "//127.0.0.1", re.sub(r"^database$", "127.0.0.1", text))
        text = re.sub(r"^0\.0\.0\.0$", "127.0.0.1", text.replace("/secrets", str(self.secrets)))
        for inside, here in self._ports.items():
            text = re.sub(rf"\b{inside}\b", str(here), text)
        return text

    def _database(self) -> list[str]:
        """Do what the image of PostgreSQL does at its first start; return the server's command.

        It refuses to run as root: it then runs as the user that Debian's package has made.
        """
        said, data = self.environment("database"), self._data / "database"
        as_other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
        who = as_other if os.geteuid() == 0 else []
        if not data.exists():
            secret = self._data / "secret"
            secret.write_text(Path(said["POSTGRES_PASSWORD_FILE"]).read_text())
            if who:
                for path in (self._data, secret):
                    shutil.chown(path, "postgres", "postgres")
            subprocess.run(
                [*who, str(POSTGRES[0] / "initdb"), "--pgdata", str(data), "--no-sync",
                 "--username", said["POSTGRES_USER"], "--pwfile", str(secret),
                 "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8"],
                check=True, capture_output=True, cwd="/",
            )  # fmt: skip
            with (data / "postgresql.conf").open("a") as conf:
                conf.write("fsync = off\n")  # saves seconds of the test
            self._create_database(who, data, said["POSTGRES_DB"])
        return [
            *who, str(POSTGRES[0] / "postgres"), "-D", str(data), "-k", "", "-h", "127.0.0.1",
            "-p", str(self._ports["5432"]),
        ]  # fmt: skip

    @staticmethod
    def _create_database(who: list[str], data: Path, name: str) -> None:
        """Make the database of the file, as long as nobody else is connected."""
        subprocess.run(
            [*who, str(POSTGRES[0] / "postgres"), "--single", "-D", str(data), "postgres"],
            input=f"CREATE DATABASE {name}\n".encode(), check=True, capture_output=True, cwd="/",
        )  # fmt: skip


@contextlib.contextmanager
def running(folder: Path, more: Mapping[str, Mapping[str, str]]) -> Iterator[Compose]:
    """Have all services run while the block runs."""
    compose = Compose(folder, more)
    try:
        compose.up()
        yield compose
    finally:
        compose.down()
