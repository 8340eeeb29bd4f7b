"""Files in an S3-compatible store. boto3 is large, so it is loaded when the first file is asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from attrs import define, field

from config import S3
from homeserver.media.store.port import NotStored, StoreFailed

ADDRESS_SECONDS = 300
"""For how long an address given out by `address` is good."""
MOST_AT_ONCE = 1000
"""Objects that one request may delete."""
PART_BYTES = 16 * 1024 * 1024
MISSING = frozenset({"NoSuchKey", "404", "NotFound"})


@define(eq=False)
class ObjectReading:
    """Implements `Reading` on the body of an answer of the store."""

    _body: Any

    def read(self, size: int) -> bytes:
        with _told():
            data: bytes = self._body.read(size)
            return data

    def read_ready(self, size: int) -> bytes | None:
        return None

    def close(self) -> None:
        self._body.close()


@define(eq=False)
class S3Store:
    """Implements `Store`."""

    _settings: S3
    _incoming: Path
    """A folder for files on their way."""
    _client: Any = field(default=None, init=False)
    _making: Lock = field(factory=Lock, init=False)

    def put(self, name: str, file: Path) -> None:
        from boto3.s3.transfer import TransferConfig

        # Threads of its own would let a few uploads take all of the machine.
        transfer = TransferConfig(use_threads=False, multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES)
        with _told():
            self.client.upload_file(str(file), self._settings.bucket, self._key(name), Config=transfer)
        file.unlink()

    def open(self, name: str, start: int, length: int) -> ObjectReading:
        with _told():
            # An empty range can't be written down; an empty file has only the whole of it.
            wanted = {"Range": f"bytes={start}-{start + length - 1}"} if length else {}
            answer = self.client.get_object(Bucket=self._settings.bucket, Key=self._key(name), **wanted)
            return ObjectReading(answer["Body"])

    @contextmanager
    def as_file(self, name: str) -> Iterator[Path]:
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._incoming) as copy:
            with _told():
                self.client.download_fileobj(self._settings.bucket, self._key(name), copy)
            copy.flush()
            yield Path(copy.name)

    def delete(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), MOST_AT_ONCE):
            keys = [{"Key": self._key(name)} for name in names[start : start + MOST_AT_ONCE]]
            with _told():
                answer = self.client.delete_objects(
                    Bucket=self._settings.bucket, Delete={"Objects": keys, "Quiet": True}
                )
            if failed := answer.get("Errors"):
                raise StoreFailed(f"{failed[0].get('Key')}: {failed[0].get('Message')}")

    def names(self) -> Iterator[str]:
        with _told():
            pages = self.client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._settings.bucket, Prefix=self._settings.prefix):
                for entry in page.get("Contents", ()):
                    yield entry["Key"].removeprefix(self._settings.prefix)

    def address(self, name: str, headers: Mapping[str, str]) -> str | None:
        if not self._settings.redirect or self._client is None:
            return None  # making the client takes a while: the first is served by ourselves, and makes it
        parameters = {
            "Bucket": self._settings.bucket,
            "Key": self._key(name),
            "ResponseContentType": headers["Content-Type"],
            "ResponseContentDisposition": headers["Content-Disposition"],
            "ResponseCacheControl": headers["Cache-Control"],
        }
        found: str = self._client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=ADDRESS_SECONDS)
        return found

    @property
    def client(self) -> Any:
        """boto3's client, which threads may share."""
        with self._making:
            if self._client is None:
                self._client = _make_client(self._settings)
            return self._client

    def _key(self, name: str) -> str:
        return self._settings.prefix + name


def _make_client(settings: S3) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        config=Config(
            signature_version="s3v4",
            connect_timeout=10,
            read_timeout=30,
            retries={"max_attempts": 3, "mode": "standard"},
            # Stores other than Amazon's stumble over the checksums that boto3 adds otherwise.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


@contextmanager
def _told() -> Iterator[None]:
    """What boto3 raises, as what the port promises."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        kind = NotStored if told.get("Code") in MISSING else StoreFailed
        raise kind(f"{error.operation_name}: {told.get('Code')} {told.get('Message')}") from error
    except (Boto3Error, BotoCoreError) as error:
        raise StoreFailed(str(error)) from error
