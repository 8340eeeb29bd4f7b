"""A real S3 server for tests: versitygw on a folder, one per test process, with a bucket for whoever wants one.

`tests/tools/need_s3.sh` builds it; where nobody has called that yet, a test that wants it fails and says so.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from config import S3
from tests.fixtures_server import free_port

TOOL = Path(__file__).parent / "tools/need_s3.sh"
START_TIMEOUT_S = 60
REGION = "us-east-1"


@define
class S3Server:
    """An S3 server, and who may do everything there."""

    directory: Path
    port: int
    access_key: str = "guildhall"
    secret_key: str = "the-secret-of-the-tests"
    _process: subprocess.Popen[bytes] | None = None
    _buckets: Iterator[int] = field(factory=lambda: itertools.count(1))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        environ = {**os.environ, "ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key}
        command = [program(), "--port", f"127.0.0.1:{self.port}", "--quiet", "posix", str(self.directory)]
        self._process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.client().list_buckets()
                return
            except Exception:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait(30)

    def client(self) -> Any:
        """boto3's client, for tests that look behind the scenes."""
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=30),
        )

    def bucket(self, **settings: Any) -> S3:
        """Settings with an empty bucket of one's own."""
        name = f"bucket{next(self._buckets)}"
        self.client().create_bucket(Bucket=name)
        return S3(
            bucket=name,
            endpoint_url=self.url,
            region=REGION,
            access_key=self.access_key,
            secret_key=self.secret_key,
            **settings,
        )

    def names(self, settings: S3) -> list[str]:
        """What is in a bucket."""
        found = self.client().list_objects_v2(Bucket=settings.bucket)
        return [entry["Key"] for entry in found.get("Contents", ())]


def program() -> str:
    """Where the server's program is. Building it takes minutes, which no test has."""
    version = next(line for line in TOOL.read_text().splitlines() if line.startswith("version=")).partition("=")[2]
    found = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "guildhall" / f"versitygw-{version}"
    if not found.exists():
        pytest.fail(f"there is no S3 server at {found}: run tests/tools/need_s3.sh once, as `make test` does")
    return str(found)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"), free_port())
    server.start()
    yield server
    server.stop()
