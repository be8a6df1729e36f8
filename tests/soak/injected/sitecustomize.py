"""Python imports this first where its folder is in PYTHONPATH: a process kills itself on order.

Python's audit events tell of a file just before it is opened, renamed or removed. If the file of
orders names the point at which that happens, the process writes down that it was hit, and sends
itself SIGKILL. Nothing of aimspax is imported or changed.
"""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

ORDERS = os.environ.get("AIMSPAX_SOAK_ORDERS", "")

LABEL = r"/labels/../[0-9a-f]{64}\.json$"

# Name of a point: audit event, pattern of the file (where it is renamed: of its new name), and
# whether it must be the flow's process (True), a worker (False) or either (None).
POINTS = {
    "label, before its rename": ("os.rename", LABEL, None),
    "label, before its folder is synced": ("open", r"/labels/..$", None),
    "label written, not journalled": ("open", LABEL, True),
    "snapshot, before its rename": ("os.rename", r"/snapshot\.json$", True),
    "checkpoint, before its rename": ("os.rename", r"/checkpoints/.*\.pt$", None),
    "MD state, before its rename": ("os.rename", r"/aimspax/trajectories/.*\.json$", None),
    "structure, before its rename": ("os.rename", r"/structures/.*\.json$", None),
    "sets of a round, before their rename": ("os.rename", r"/aimspax/datasets/.*\.json$", True),
    "dataset, before its rename": ("os.rename", r"/(data|results)/.*\.xyz$", None),
    "model, before its rename": ("os.rename", r"/(model|results)/[^/]*\.model$", None),
    "obsolete file, before its removal": ("os.remove", r"/(checkpoints|trajectories)/", True),
}
EVENTS = {event for event, _, _ in POINTS.values()}
PATTERNS = {name: re.compile(pattern) for name, (_, pattern, _) in POINTS.items()}
WORKER = any("forkserver" in word for word in sys.orig_argv)


def watch(event, arguments):
    if event not in EVENTS or _busy:
        return
    path = arguments[1 if event == "os.rename" else 0]
    if not isinstance(path, (str, bytes, os.PathLike)):
        return
    path = os.fsdecode(path)
    for name, (when, _, in_flow) in POINTS.items():
        if when == event and in_flow in (None, not WORKER) and PATTERNS[name].search(path):
            _busy.append(name)
            try:
                _obey(name, path)
            finally:
                _busy.clear()


_busy = []  # what `_obey` opens is no point


def _obey(point, path):
    """End this process if that is the order; who renames the order away first is hit, alone."""
    orders = Path(ORDERS)
    try:
        order = json.loads(orders.read_text(encoding="utf-8"))
        if order["point"] != point:
            return
        if order["pass"] > 0:
            order["pass"] -= 1
            aside = Path(f"{ORDERS}.{os.getpid()}")
            aside.write_text(json.dumps(order), encoding="utf-8")
            aside.replace(orders)
            return
        orders.rename(f"{ORDERS}.taken")
    except (OSError, ValueError, KeyError):
        return
    hit = {"point": point, "path": path, "pid": os.getpid(), "time": time.time()}
    with Path(f"{ORDERS}.hits").open("a", encoding="utf-8") as file:
        file.write(json.dumps({**hit, "worker": WORKER}) + "\n")
    os.kill(os.getpid(), signal.SIGKILL)


if ORDERS:
    sys.addaudithook(watch)
