"""The options of sbatch: their names, which have a value, and which a job of a pool cannot have.

Source: sbatch's manual of Slurm 22.05, and what later versions add.
"""

from __future__ import annotations

_NO_VALUE_NAMES = (
    "contiguous help hold ignore-pbs no-requeue overcommit oversubscribe parsable quiet reboot "
    "requeue spread-job stepmgr test-only usage use-min-nodes verbose version wait "
    "consolidate-segments spread-segments"
)
_MAY_HAVE_VALUE_NAMES = "exclusive get-user-env nice no-kill oom-kill-step propagate resv-ports"
_HAS_VALUE_NAMES = (
    "account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters comment "
    "constraint container container-id context core-spec cores-per-socket cpu-freq cpus-per-gpu "
    "cpus-per-task deadline delay-boot dependency distribution error exclude export export-file "
    "extra extra-node-info gid gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket gpus-per-task "
    "gres gres-flags hint input job-name kill-on-invalid-dep licenses mail-type mail-user "
    "mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network nodefile nodelist nodes ntasks "
    "ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket ntasks-per-tres open-mode "
    "output partition power prefer priority profile qos reservation segment signal "
    "sockets-per-node switches thread-spec threads-per-core time time-min tmp tres-bind "
    "tres-per-node tres-per-task uid wait-all-nodes wckey wrap"
)
NO_VALUE = frozenset(_NO_VALUE_NAMES.split())
MAY_HAVE_VALUE = frozenset(_MAY_HAVE_VALUE_NAMES.split())
HAS_VALUE = frozenset(_HAS_VALUE_NAMES.split())
ALIASES = {"cluster": "clusters", "tasks-per-node": "ntasks-per-node"}
NAMES = frozenset({*NO_VALUE, *MAY_HAVE_VALUE, *HAS_VALUE, *ALIASES})
"""The long options of sbatch, of 22.05 and of later versions."""

SHORT = dict(
    **{"a": "array", "A": "account", "b": "begin", "B": "extra-node-info", "c": "cpus-per-task"},
    **{"C": "constraint", "d": "dependency", "D": "chdir", "e": "error", "F": "nodefile"},
    **{"G": "gpus", "h": "help", "H": "hold", "i": "input", "J": "job-name", "k": "no-kill"},
    **{"L": "licenses", "m": "distribution", "M": "clusters", "n": "ntasks", "N": "nodes"},
    **{"o": "output", "O": "overcommit", "p": "partition", "q": "qos", "Q": "quiet"},
    **{"s": "oversubscribe", "S": "core-spec", "t": "time", "v": "verbose", "V": "version"},
    **{"w": "nodelist", "W": "wait", "x": "exclude"},
)

_OWN_JOBS = "the pool starts as many jobs as it needs (see blocks)"
_NO_NUMBER = "sbatch would not tell the pool the job's number alone"
REFUSED = {
    "array": _OWN_JOBS,
    "wrap": "the pool writes the job script itself",
    "export-file": "exports belong into worker_str",
    "test-only": "no job would start",
    "hold": "nobody would release the jobs",
    "wait": "the campaign would wait for the end of its first job",
    "parsable": _NO_NUMBER,
    "quiet": _NO_NUMBER,
    "clusters": "the pool asks one cluster for its jobs; to name another one, `export "
    "SLURM_CLUSTERS=…` before aimspax starts",
    **dict.fromkeys(("help", "usage", "version"), "no job would start"),
}
"""Options that a job of a pool cannot have, and why."""

HETJOB = "a job of several different parts is not available; one kind of node a job"
COUNTS = (
    *("ntasks", "ntasks-per-node", "cpus-per-task", "mincpus", "cpus-per-gpu"),
    *("sockets-per-node",),
)
GPUS = ("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket")
SIZES = ("mem", "mem-per-cpu", "mem-per-gpu", "tmp")
TIMES = ("time", "time-min")
ALLOWED = {
    **dict.fromkeys(COUNTS, "a whole number of at least 1"),
    **dict.fromkeys(GPUS, "a number of GPUs, perhaps with their type: a100:2"),
    **dict.fromkeys(SIZES, "a whole number of MB, or one with K, M, G or T: 64G"),
    **dict.fromkeys(
        TIMES,
        "minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes, "
        "days-hours:minutes:seconds or UNLIMITED",
    ),
}
