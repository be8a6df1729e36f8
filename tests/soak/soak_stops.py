"""Ctrl-C and SIGTERM at random moments of a run, its start above all; `make soak-stops`.

One time in three the Prefect server holds still (SIGSTOP) until the command has ended. Each time
the command has to end soon, with our line and our exit code, and leave nothing but the server; the
same command then goes on. What else has to hold at the end is as in `soak_kills`.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from flows.runs.exits import STOPPED
from tests.soak.kills import Campaign, campaign_in, judge, tidy

SOON_S = 60.0
"""Within this a stopped run has ended: 30 s are promised, and the machine may be busy."""

NOT_YET_OURS_S = 0.5
"""So long Python itself starts, in which a signal ends it as it ends any Python program."""


STILL = 1 / 3
"""Share of the stops for which the server holds still."""


def stop_once(
    campaign: Campaign, after_s: float, number: signal.Signals, still: bool = False
) -> str:
    """Begin a run, send it a signal, and return how it ended.

    Args:
        campaign: What is run.
        after_s: When the signal is sent, after the command was given (s).
        number: The signal.
        still: Whether the server holds still from then on, until the command has ended.
    """
    said = campaign.directory / "output.txt"
    before = said.stat().st_size if said.exists() else 0
    campaign.begin()
    process = campaign.process
    assert process is not None
    with contextlib.suppress(TimeoutError):
        campaign.wait(after_s)
        return f"ended by itself, code {process.returncode}"
    servers = campaign.processes("server") if still else []
    what = f"{number.name} after {after_s:.2f} s{', no server' if servers else ''}"
    for server in servers:
        server.suspend()
    process.send_signal(number)
    sent = time.monotonic()
    try:
        campaign.wait(SOON_S)
    except TimeoutError:
        campaign.findings.append(f"{what}: still there after {SOON_S:.0f} s")
        return "hangs"
    finally:
        for server in servers:
            server.resume()
    took, printed = time.monotonic() - sent, said.read_bytes()[before:].decode().splitlines()
    line = printed[-1] if printed else ""
    print(f"{what}: code {process.returncode} within {took:.1f} s: {line}", flush=True)
    if process.returncode == 0 and any("campaign is finished" in said for said in printed):
        return "finished"
    if process.returncode != STOPPED or not line.endswith(("stopped", "start again to go on")):
        campaign.findings.append(f"{what}: code {process.returncode}\n" + "\n".join(printed))
        return f"code {process.returncode}"
    return "stopped"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--within", type=float, default=12.0, help="seconds after the start")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patience", type=float, default=600, help="seconds for the last run")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-stops-"))
    rng, ends = np.random.default_rng(asked.seed), Counter[str]()
    with campaign_in(folder, asked.seed, most=30) as campaign:
        for _ in range(asked.stops):
            number = signal.Signals[str(rng.choice(["SIGINT", "SIGINT", "SIGTERM"]))]
            after_s = float(rng.uniform(NOT_YET_OURS_S, asked.within))
            ends[stop_once(campaign, after_s, number, bool(rng.random() < STILL))] += 1
        findings = campaign.findings or judge_so_far(campaign, asked.patience)
    print(f"{dict(ends)}; findings: {len(findings)}", *findings, sep="\n", flush=True)
    tidy(folder, keep=lambda: bool(findings))
    return 1 if findings else 0


def judge_so_far(campaign: Campaign, patience_s: float) -> list[str]:
    """Give the command once more, to its end, and judge the campaign."""
    campaign.begin()
    try:
        campaign.wait(patience_s)
    except TimeoutError:
        return [f"not finished in the end:\n{campaign.told()}"]
    return judge(campaign)


if __name__ == "__main__":
    sys.exit(main())
