"""What the tests notify: servers in processes of their own, so that nothing of them is in the way of what is tested."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.fixtures_server import ROOT


@contextmanager
def running(module: str, directory: Path) -> Iterator[str]:
    """Run a module that writes into the file it is given at which port of 127.0.0.1 it listens; its base URL."""
    port_file = directory / f"{module}.port"
    process = subprocess.Popen([sys.executable, "-m", module, str(port_file)], cwd=ROOT)
    try:
        while not (port_file.exists() and (text := port_file.read_text())):
            assert process.poll() is None
            time.sleep(0.02)
        yield f"http://127.0.0.1:{int(text)}"
    finally:
        process.terminate()
        process.wait()


class Listener(ThreadingHTTPServer):
    request_queue_size = 128  # five callers at once are soon there, and the next is sent away


def serve(handler: type[BaseHTTPRequestHandler], port_file: str) -> None:
    """The other end of `running`, in the process itself."""
    server = Listener(("127.0.0.1", 0), handler)
    written = Path(port_file + ".new")
    written.write_text(str(server.server_address[1]))
    written.rename(port_file)
    server.serve_forever()
