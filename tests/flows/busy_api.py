"""A Prefect API that is busy at first: some calls fail, all others are passed on to a real one."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

RESET = 0
"""In place of a code: the connection is closed without an answer."""


@contextlib.contextmanager
def busy_at_first(api_url: str, times: int, code: int = 503) -> Iterator[str]:
    """The address of an API that fails the first calls, as one whose database is locked.

    Args:
        api_url: Whom it asks afterwards.
        times: How many calls fail.
        code: How they are answered, or `RESET`.
    """
    left = iter(range(times))
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with lock:
                busy = next(left, None) is not None
            if busy and code == RESET:
                self.connection.shutdown(socket.SHUT_RDWR)
            elif busy:
                self.send_response(code)
                self.send_header("Retry-After", "0")  # else Prefect waits for seconds
                self.end_headers()
            else:
                self.pass_on(body)

        def pass_on(self, body: bytes) -> None:
            kept = {
                name: self.headers[name]
                for name in ("Content-Type", "Authorization")
                if name in self.headers
            }
            url = api_url.removesuffix("/api") + self.path
            answer = httpx.request(self.command, url, content=body, headers=kept, timeout=60)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

        def log_message(self, *_: Any) -> None:
            """Keep the test's output short."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}/api"
        proxy.shutdown()
