"""A web site on this machine, for tests that have a server fetch something: pages by path, and who asked for what."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from attrs import define, field, frozen


@frozen
class PageOf:
    """What is at a path."""

    body: bytes
    type: str = "text/html; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)


@define
class Site:
    """Pages may be added at any time."""

    base: str
    pages: dict[str, PageOf] = field(factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(factory=list)
    """Path and headers of each request, names in lower case."""

    def put(self, path: str, body: bytes | str, kind: str = "text/html; charset=utf-8", **headers: str) -> str:
        """Add a page; its URL."""
        data = body.encode() if isinstance(body, str) else body
        self.pages[path] = PageOf(data, kind, headers={name.replace("_", "-"): text for name, text in headers.items()})
        return self.base + path

    def redirect(self, path: str, target: str) -> str:
        self.pages[path] = PageOf(b"", status=302, headers={"Location": target})
        return self.base + path

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@contextlib.contextmanager
def running_site() -> Iterator[Site]:
    """A site on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            page = site.pages.get(self.path.partition("?")[0], PageOf(b"nothing here", status=404))
            self.send_response(page.status)
            for name, value in {
                "Content-Type": page.type,
                "Content-Length": str(len(page.body)),
                **page.headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):  # whoever asked has enough
                self.wfile.write(page.body)

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Site(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
