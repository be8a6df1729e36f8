"""A campaign of a minute whose processes are killed; and what has to hold when it has finished."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import psutil
from ase.build import molecule

from aimspax_core.campaign.journal import entries, load
from aimspax_core.campaign.state import CampaignState, Phase, PointStatus
from aimspax_core.errors import LabelFailure
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load as load_settings
from aimspax_core.verification.verify import verify
from tests.conftest import free_port
from tests.soak.counted import COUNTS, NAME, SECONDS, Count, counts, digest
from tests.soak.injected.sitecustomize import POINTS

ROOT = Path(__file__).parents[2]
AIMSPAX = [sys.executable, "-c", "from flows.commands.start import aimspax; aimspax()"]
MARK = "AIMSPAX_TEST_MARK"
"""In the environment of a campaign's processes: its directory."""

PROJECT = """
REFERENCE: {{engine: ase, calculator: tests.soak.counted.Counted}}
INITIAL_DATASET_GENERATION:
  initial_sampling: engine
  sampling_engine: {{engine: tblite, method: GFN2-xTB}}
  n_points_per_sampling_step_idg: 3
  skip_step_initial: 5
  ensemble_size: 2
  intermediate_epochs_idg: 2
  max_initial_epochs: {initial}
ACTIVE_LEARNING:
  num_trajectories: 3
  skip_step_mlff: 4
  c_x: -0.5
  epochs_per_worker: 2
  max_train_set_size: {most}
  max_convergence_epochs: 6
MD: {{stat_ensemble: NVT, temperature: 300, timestep: 0.5, friction: 0.01}}
GATE: {{max_force: 500}}
MISC: {{path_to_geometry: water.xyz}}
CLUSTER: {{type: local, max_workers: {workers}, ml: {{max_workers: 1}}}}
"""
MODEL = """
GENERAL: {{name_exp: {name}, seed: {seed}}}
ARCHITECTURE:
  {{r_max: 3.0, num_channels: 4, max_L: 0, max_ell: 1, correlation: 1, num_interactions: 1,
   radial_MLP: [8]}}
TRAINING: {{batch_size: 2, valid_batch_size: 2}}
"""

SLACK_S = 0.5
"""A label is written so soon after its calculation has ended, if nothing is killed meanwhile."""


@dataclass(frozen=True)
class Kill:
    """Something that is to be killed.

    Attributes:
        kind: `flow`, `worker`, `engine`, `server`, `everything`, or one of `POINTS`, at which a
            process kills itself.
        delay_s: Seconds after the last kill or start; of a point: until it is armed.
        under_way: Whether that time begins only when the journal has grown since.
        passes: How often that point is passed unharmed.
    """

    kind: str
    delay_s: float
    under_way: bool = True
    passes: int = 0


@dataclass(frozen=True)
class Struck:
    """A kill that happened: its kind, when (seconds since the epoch), and what was hit."""

    kind: str
    time: float
    hit: str


@dataclass
class Campaign:
    """A run directory, its process, and what was done to it.

    Attributes:
        directory: The run directory.
        home: Folder of the campaign's Prefect server, and for temporary files.
        seconds: How long the reference takes.
        struck: The kills so far.
        restarts: How often the command was given again.
        findings: What was not as it should be.
    """

    directory: Path
    home: Path
    seconds: float = 0.3
    struck: list[Struck] = field(default_factory=list)
    restarts: int = 0
    findings: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    port: int = field(default_factory=free_port)

    def write(self, seed: int, most: int, workers: int = 1, initial: int = 4) -> None:
        """Write the settings.

        Args:
            seed: Of the campaign.
            most: Training points at which it ends.
            workers: For labels.
            initial: Epochs at which the initial dataset ends; each sampling step has two.
        """
        self.directory.mkdir(parents=True)
        (self.home / "tmp").mkdir(parents=True)
        name = self.directory.name
        (self.directory / "aimsPAX.yaml").write_text(
            PROJECT.format(most=most, workers=workers, initial=initial)
        )
        (self.directory / "mace.yaml").write_text(MODEL.format(name=name, seed=seed))
        ase.io.write(self.directory / "water.xyz", molecule("H2O"))

    # ---- its processes -----------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        hidden = ("PREFECT_", "AIMSPAX_")
        ours = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        injected = Path(__file__).parent / "injected"
        return ours | {
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_SERVER_API_PORT": str(self.port),
            "AIMSPAX_MISC__SERVER_PASSWORD": "never",  # whoever else can log in here
            "PYTHONPATH": f"{injected}{os.pathsep}{ROOT}",
            "TMPDIR": str(self.home / "tmp"),
            "COLUMNS": "200",
            "AIMSPAX_SOAK_ORDERS": str(self.orders),
            COUNTS: str(self.home / "counts"),
            SECONDS: str(self.seconds),
            MARK: str(self.directory),
        }

    @property
    def orders(self) -> Path:
        """The file that says at which point a process kills itself."""
        return self.home / "orders"

    def aimspax(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*AIMSPAX, *arguments], env=self.environment, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip

    def begin(self) -> None:
        """Give the command that runs the campaign."""
        with (self.directory / "output.txt").open("ab") as output:
            self.process = subprocess.Popen(
                [*AIMSPAX, "run", str(self.directory)], env=self.environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def told(self, lines: int = 15) -> str:
        """Return the last lines that the command printed."""
        return "\n".join((self.directory / "output.txt").read_text().splitlines()[-lines:])

    def processes(self, kind: str = "everything") -> list[psutil.Process]:
        """Return processes of the campaign that live, all or those of a kind."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                ours = process.environ().get(MARK) == str(self.directory)
                alive = ours and process.status() != psutil.STATUS_ZOMBIE
                if alive and kind in ("everything", _kind_of(process)):
                    found.append(process)
        return found

    # ---- what is done to it ------------------------------------------------------------------

    def strike(self, kind: str, rng: np.random.Generator) -> None:
        """Kill a process of a kind, or everything; nothing, if there is no such process now."""
        found = self.processes(kind)
        if not found:
            return
        if kind != "everything":
            found = [found[int(rng.integers(len(found)))]]
        hit = "; ".join(f"{p.pid} {_name_of(p)}" for p in found)
        now = time.time()
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        self._struck(Struck(kind, now, hit))

    def arm(self, point: str, passes: int) -> None:
        """Have the next process that comes to a point kill itself."""
        aside = self.orders.with_suffix(".aside")
        aside.write_text(json.dumps({"point": point, "pass": passes}))
        aside.replace(self.orders)

    def take_hits(self) -> None:
        """Note the kills at points that have happened since."""
        hits = self.orders.with_suffix(".hits")
        if not hits.exists():
            return
        told = [json.loads(line) for line in hits.read_text().splitlines()]
        known = sum(struck.kind in POINTS for struck in self.struck)
        for one in told[known:]:
            who = "a worker" if one["worker"] else "the flow"
            self._struck(Struck(one["point"], one["time"], f"{one['pid']} {who} at {one['path']}"))

    def _struck(self, struck: Struck) -> None:
        self.struck.append(struck)
        print(f"{time.strftime('%H:%M:%S')} {struck.kind}: {struck.hit}", flush=True)

    def lives(self) -> bool:
        """Return whether the command still runs; a run that ended by itself may be a finding."""
        assert self.process is not None
        code = self.process.poll()
        if code is None:
            return True
        self.take_hits()
        if code not in (0, -signal.SIGKILL):
            self.findings.append(f"the run ended by itself, exit code {code}:\n{self.told()}")
        return False

    @property
    def journalled(self) -> int:
        """How many bytes of events there are."""
        journal = self.directory / "aimspax" / "journal.jsonl"
        return journal.stat().st_size if journal.exists() else 0

    @property
    def finished(self) -> bool:
        """Return whether the command has ended with all done."""
        return self.process is not None and self.process.poll() == 0

    def wait(self, seconds: float) -> None:
        """Wait for the command's end.

        Raises:
            TimeoutError: It does not end in that time (s).
        """
        assert self.process is not None
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"it runs for more than {seconds:.0f} s") from error

    def again(self) -> None:
        """Give the same command again."""
        self.restarts += 1
        self.begin()

    def end_all(self) -> None:
        """End what is left of it, with its server."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self.process is not None:
            self.process.wait(30)


def run(
    campaign: Campaign,
    kills: Sequence[Kill],
    rng: np.random.Generator,
    patience_s: float = 600.0,
    point_s: float = 20.0,
) -> None:
    """Run a campaign to its end, with kills; the same command again whenever it has died.

    Args:
        campaign: Its settings are written.
        kills: In this order, as far as the campaign gets.
        rng: Chooses among several processes of a kind.
        patience_s: How long the whole may take.
        point_s: How long to wait until what is to be killed is there, or comes to its point.
    """
    end = time.monotonic() + patience_s
    campaign.begin()
    for kill in kills:
        if kill.under_way:
            _until_it_grows(campaign)
        _alive_until(campaign, time.monotonic() + kill.delay_s)
        if campaign.finished:
            break
        _kill(campaign, kill, rng, point_s)
        if kill.kind == "server" and rng.random() < 0.5:  # a person may start it, and need not
            campaign.aimspax("server", "start")
    while not campaign.finished and time.monotonic() < end:
        _alive_until(campaign, min(end, time.monotonic() + 5.0))
    campaign.take_hits()
    if not campaign.finished:
        campaign.findings.append(f"not finished after {patience_s:.0f} s:\n{campaign.told()}")


def _kill(campaign: Campaign, kill: Kill, rng: np.random.Generator, patience_s: float) -> None:
    """Wait until what is to be killed is there, or comes to its point, and kill it."""
    before, end = len(campaign.struck), time.monotonic() + patience_s
    if kill.kind in POINTS:
        campaign.arm(kill.kind, kill.passes)
    while len(campaign.struck) == before and time.monotonic() < end and not campaign.finished:
        if kill.kind in POINTS:
            campaign.take_hits()
        else:
            campaign.strike(kill.kind, rng)
        _alive_until(campaign, time.monotonic() + 0.1)
    campaign.orders.unlink(missing_ok=True)


def _until_it_grows(campaign: Campaign, patience_s: float = 60.0) -> None:
    """Wait until an event comes that was not there: the campaign is under way."""
    before, end = campaign.journalled, time.monotonic() + patience_s
    while campaign.journalled <= before and time.monotonic() < end and not campaign.finished:
        _alive_until(campaign, time.monotonic() + 0.2)


def _alive_until(campaign: Campaign, moment: float) -> None:
    """Wait until a moment, or the campaign's end; give the command again whenever it dies."""
    while time.monotonic() < moment:
        if not campaign.lives():
            if campaign.finished:
                return
            if len(campaign.findings) > 5:
                raise AssertionError("\n".join(campaign.findings))
            campaign.again()
        time.sleep(0.1)


def _kind_of(process: psutil.Process) -> str:
    command = process.cmdline()
    if NAME in command:
        return "engine"
    if {"prefect", "server"} <= {*command} or any("prefect.server" in w for w in command):
        return "server"
    if any("spawn_main" in word or "forkserver" in word for word in command):
        return "worker"
    return "flow" if command[-2:-1] == ["run"] else "other"


def _name_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return _kind_of(process)
    return "gone"


# ---- what has to hold -----------------------------------------------------------------------


def judge(campaign: Campaign) -> list[str]:
    """Return all that is not as it has to be at the end, besides what was noticed before.

    A campaign that is not at its end is judged by nothing but that.
    """
    if not campaign.finished:
        return campaign.findings
    settings = load_settings(campaign.directory)
    run_dir = RunDir.of(settings)
    report = verify(settings)
    found = [*campaign.findings]
    found += [f"verify: {one.line(run_dir.output)}" for one in report.findings]
    state = load(run_dir)[1]
    assert state is not None
    if state.phase is not Phase.FINISHED:
        found.append(f"it ended with exit code 0 in phase {state.phase}:\n{campaign.told()}")
    found += _unlabelled(state)
    found += list(_computed_again(campaign, run_dir, state))
    found += _arrivals(run_dir, state)
    found += _left_running(campaign)
    scratch = sorted((campaign.home / "tmp").glob("aimspax-*"))
    found += [f"{path.name} is left in the folder of temporary files" for path in scratch]
    return found


def _unlabelled(state: CampaignState) -> list[str]:
    """Find points without a label; that the gate or the engine refuses one is no loss."""
    return [
        f"point {point.key[:8]} has no label: {point.reason or point.status}"
        for point in state.points.values()
        if point.status is not PointStatus.LABELLED
        and point.failure not in _REFUSED
        and _UNCONVERGED not in point.reason
    ]


_UNCONVERGED = "SCF not converged"
"""What tblite says of a molecule that a trajectory has torn apart."""

_REFUSED = (LabelFailure.FORCE, LabelFailure.ENERGY, LabelFailure.STRUCTURE)


def _arrivals(run_dir: RunDir, state: CampaignState) -> list[str]:
    arrived = Counter(
        e.event.key for e in entries(run_dir.journal) if e.event.kind == "label-arrived"
    )
    found = [f"label {key[:8]} was counted {n} times" for key, n in arrived.items() if n > 1]
    stored = {path.stem for path in run_dir.labels.glob("*/[!.]*.json")}
    found += [
        f"label {key[:8]} was written, and is in no set" for key in stored - set(state.points)
    ]
    return found


def _computed_again(campaign: Campaign, run_dir: RunDir, state: CampaignState) -> Iterator[str]:
    """Find calculations that began although the structure's label was there, or unexplained ones.

    A calculation may be repeated if something was killed between its beginning and the moment at
    which its label would have been on the disk.
    """
    written = _written(run_dir)
    refused = {
        _digest_of(json.loads(run_dir.structure(key).read_text()))
        for key, point in state.points.items()
        if point.failure in _REFUSED
    }
    kills = [struck.time for struck in campaign.struck]
    for structure, notes in _by_structure(campaign).items():
        begins = [note.time for note in notes if note.what == "begins"]
        ends = [note.time for note in notes if note.what == "ends"]
        label = written.get(structure)
        if label is None and ends and structure not in refused:
            yield f"structure {structure} was computed, and has no label"
        for begin, following in itertools.pairwise(begins):
            end = next((e for e in ends if begin <= e <= following), following)
            if label is not None and label < following - SLACK_S:
                yield f"structure {structure} was computed again after its label was written"
            elif not any(begin - SLACK_S <= kill <= end + SLACK_S for kill in kills):
                yield f"structure {structure} was computed again, and nothing was killed meanwhile"


def _written(run_dir: RunDir) -> dict[str, float]:
    """Return when the label of each structure was written."""
    found = {}
    for path in run_dir.labels.glob("*/[!.]*.json"):
        structure = json.loads(path.read_text())["structure"]
        found[_digest_of(structure)] = path.stat().st_mtime
    return found


def _digest_of(structure: dict[str, Any]) -> str:
    return digest(structure["numbers"], structure["positions"])


def _by_structure(campaign: Campaign) -> dict[str, list[Count]]:
    found: dict[str, list[Count]] = {}
    for note in counts(campaign.home / "counts"):
        found.setdefault(note.structure, []).append(note)
    return found


def _left_running(campaign: Campaign) -> list[str]:
    """Find processes that outlive the campaign: only the server may."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        left = [p for p in campaign.processes() if _name_of(p) not in ("server", "gone")]
        if not left:
            return []
        time.sleep(0.5)
    return [f"process {p.pid} still runs: {' '.join(p.cmdline())[:200]}" for p in left]


@contextlib.contextmanager
def campaign_in(
    folder: Path, seed: int, most: int, workers: int = 1, initial: int = 4
) -> Iterator[Campaign]:
    """Give a campaign in a folder; what is left of it is ended."""
    made = Campaign(folder / "water", folder / "home")
    made.write(seed, most, workers, initial)
    try:
        yield made
    finally:
        made.end_all()


def tidy(folder: Path, keep: Callable[[], bool]) -> None:
    """Remove a campaign's folder unless somebody should look at it."""
    if not keep():
        shutil.rmtree(folder, ignore_errors=True)
