"""A push gateway in a process of its own: keeps what it is sent, and answers as the test wants it to.

`python -m tests.push.gateway PORT_FILE`: listens on a free port of 127.0.0.1, which it writes into the file. Beside the
gateway's path, `POST /behave` takes `{"status": …, "rejected": […]}` for what comes next, and `GET /` gives what came.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from attrs import define

from tests.push.children import running, serve

PATH = "/_matrix/push/v1/notify"


@define
class Gateway:
    """The test's side of it."""

    base: str

    @property
    def url(self) -> str:
        return self.base + PATH

    def behave(self, status: int = 200, rejected: tuple[str, ...] = ()) -> None:
        """What it answers from now on."""
        body = json.dumps({"status": status, "rejected": rejected}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.base}/behave", body, method="POST")).read()

    def asked(self, least: int = 0) -> list[dict[str, Any]]:
        """Notifications so far, of which there must be `least` in the end."""
        deadline = time.monotonic() + 60
        while True:
            found: list[dict[str, Any]] = json.load(urllib.request.urlopen(self.base))
            if len(found) >= least:
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.05)


@contextmanager
def running_gateway(directory: Path) -> Iterator[Gateway]:
    with running("tests.push.gateway", directory) as base:
        yield Gateway(base)


def main(port_file: str) -> None:
    asked: list[Any] = []
    behaviour: dict[str, Any] = {"status": 200, "rejected": []}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/behave":
                behaviour.update(told)
                self.answer(200, {})
                return
            asked.append(told["notification"])
            self.answer(behaviour["status"], {"rejected": behaviour["rejected"]})

        def do_GET(self) -> None:
            self.answer(200, asked)

        def answer(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    serve(Handler, port_file)


if __name__ == "__main__":
    main(sys.argv[1])
