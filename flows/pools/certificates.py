"""What Prefect's clients on workers read of certificates: one, where they need none."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path

from distributed import Worker

from flows.server.api import URL, on_loopback, setting

FILE = "PREFECT_API_SSL_CERT_FILE"
"""Prefect's setting of the file with the certificates that its clients trust."""


def read_one(worker: Worker, near: bool) -> None:
    """Have Prefect's clients on a worker read the pool's own certificate instead of hundreds.

    Prefect makes two clients for each task, and each reads all authorities that there are: 20 ms of
    CPU time, also for a connection without encryption, which uses none of them.

    What the user has set holds before that. So does what is usual for servers that are not ours,
    nor on this machine: they may send clients on to an address with encryption.

    Args:
        worker: Of a pool.
        near: Whether the API is that of a server of ours.
    """
    api = os.environ.get(URL, "")
    plain = urllib.parse.urlsplit(api).scheme == "http" and (near or on_loopback(api))
    if not plain or setting(FILE) is not None:
        return
    certificate = worker.security.get_tls_config_for_role("worker")["ca_file"]
    if certificate is None:
        return
    if "\n" in certificate:  # as Dask has those that are in memory only
        file = Path(worker.local_directory) / "pool.pem"
        file.write_text(certificate, encoding="utf-8")
        certificate = str(file)
    os.environ[FILE] = certificate
