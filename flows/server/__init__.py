"""The Prefect server of a run: the configured one, or a local one that outlives the run.

`ensure` points this process and its children at the server. Nothing here imports Prefect, which
takes seconds.
"""

from flows.server.api import ServerError
from flows.server.current import (
    CLIENT_VARIABLES,
    Server,
    ServerStatus,
    ensure,
    keep_untracked,
    read_again,
    status,
    stop,
)

__all__ = [
    "CLIENT_VARIABLES",
    "Server",
    "ServerError",
    "ServerStatus",
    "ensure",
    "keep_untracked",
    "read_again",
    "status",
    "stop",
]
