"""Prefect may be imported while its server still starts: what is known later counts."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import logging, os, threading
def load():
    import flows.pipeline
thread = threading.Thread(target=load)
thread.start()
thread.join()
os.environ["PREFECT_API_URL"] = "http://127.0.0.1:4999/api"
os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
os.environ["PREFECT_LOGGING_INTERNAL_LEVEL"] = "CRITICAL"
from flows.server import read_again
read_again()
from prefect.client.orchestration import get_client
levels = [h.level for h in logging.getLogger("prefect").handlers]
levels.append(logging.getLogger("prefect._internal").level)
print(get_client(sync_client=True).api_url, {*levels} == {logging.CRITICAL})
"""


def test_prefect_takes_the_address_and_the_levels_that_are_set_after_its_import() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["http://127.0.0.1:4999/api/", "True"], done.stderr
