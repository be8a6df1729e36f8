"""Campaigns whose processes are killed at random, one seed after the other; `make soak-kills`.

Each campaign is given the same command until it has finished; then `aimspax verify` must find
nothing, and no label may have been computed twice but those in flight at a kill.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.soak.injected.sitecustomize import POINTS
from tests.soak.kills import Kill, campaign_in, judge, run, tidy

KINDS = {"flow": 4, "worker": 4, "engine": 2, "server": 1, "everything": 2, "point": 9}
"""What is killed, and how often compared with the others; `point`: one of `POINTS`."""

DELAY_S = (0.0, 6.0)
"""From one kill, or the first event after it, to the next."""

AT_ONCE = 0.2
"""How many of the kills do not wait for that event: they hit a start."""

KILLS = (4, 12)
"""Kills of one campaign."""


@dataclass
class Tally:
    """What all campaigns together came to."""

    campaigns: int = 0
    restarts: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the tally for a reader."""
        kinds = "".join(f"\n  {count:4d} {kind}" for kind, count in self.kills.most_common())
        lines = "".join(f"\n  {finding.splitlines()[0]}" for finding in self.findings)
        return (
            f"{self.campaigns} campaigns, {self.kills.total()} kills, {self.restarts} restarts, "
            f"{len(self.findings)} findings\nkills:{kinds}\nfindings:{lines or ' none'}"
        )


def drawn(rng: np.random.Generator) -> list[Kill]:
    """Draw what is done to a campaign."""
    weights = np.array([*KINDS.values()], dtype=float)
    found = []
    for _ in range(int(rng.integers(*KILLS, endpoint=True))):
        kind = str(rng.choice([*KINDS], p=weights / weights.sum()))
        passes = int(rng.integers(0, 4))
        if kind == "point":
            kind = str(rng.choice([*POINTS]))
        under_way = bool(rng.random() > AT_ONCE)
        found.append(Kill(kind, float(rng.uniform(*DELAY_S)), under_way, passes))
    return found


def one(folder: Path, seed: int, tally: Tally, patience_s: float) -> None:
    """Run the campaign of a seed, and add it to the tally."""
    rng = np.random.default_rng(seed)
    print(f"seed {seed}, in {folder}", flush=True)
    before = len(tally.findings)
    most, workers = int(rng.integers(14, 30)), int(rng.integers(1, 3))
    with campaign_in(folder, seed, most, workers) as campaign:
        try:
            run(campaign, drawn(rng), rng, patience_s)
            found = judge(campaign)
        except AssertionError as error:
            found = [*campaign.findings, str(error)]
        tally.campaigns += 1
        tally.restarts += campaign.restarts
        tally.kills.update(struck.kind for struck in campaign.struck)
    tally.findings += [f"seed {seed}: {finding}" for finding in found]
    for finding in tally.findings[before:]:
        print(f"FINDING {finding}", flush=True)
    tidy(folder, keep=lambda: len(tally.findings) > before)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--campaigns", type=int, default=0, help="at most so many; 0: no limit")
    parser.add_argument("--patience", type=float, default=600, help="seconds for a campaign")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-kills-"))
    until, tally = time.monotonic() + 60 * asked.minutes, Tally()
    for seed in itertools.count(asked.seed):
        one(folder / f"seed-{seed}", seed, tally, asked.patience)
        print(tally.text(), flush=True)
        if time.monotonic() >= until or tally.campaigns == asked.campaigns:
            break
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
