"""The Prefect server of a run: the configured one, or a local one that outlives the run.

`ensure` must be called before Prefect is imported; nothing in this room imports it.
"""

from flows.server.api import ServerError
from flows.server.current import CLIENT_VARIABLES, Server, ServerStatus, ensure, status, stop

__all__ = ["CLIENT_VARIABLES", "Server", "ServerError", "ServerStatus", "ensure", "status", "stop"]
