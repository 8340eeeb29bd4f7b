"""Logs: their forms, the request's id, and what other libraries have to say."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from twisted.logger import Logger, LogPublisher

from config import Logging
from homeserver.observe.log import FromTwisted, configure_logging, request_id


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers, root.level, structlog.get_config())
    yield
    root.handlers = before[0]
    root.setLevel(before[1])
    structlog.configure(**before[2])


def _records(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_is_one_object_a_line() -> None:
    stream = io.StringIO()
    configure_logging(Logging(format="json"), stream)
    structlog.get_logger().info("room created", room_id="!a", odd={1: b"x"}, text="two\nlines")
    (record,) = _records(stream)
    assert record["event"] == "room created"
    assert record["level"] == "info"
    assert record["room_id"] == "!a"
    assert record["text"] == "two\nlines"
    assert str(record["timestamp"]).endswith("Z")


def test_exceptions_are_part_of_the_record() -> None:
    stream = io.StringIO()
    configure_logging(Logging(format="json"), stream)
    try:
        raise KeyError("lost")
    except KeyError:
        structlog.get_logger().exception("failed")
    (record,) = _records(stream)
    assert record["level"] == "error"
    assert "KeyError: 'lost'" in str(record["exception"])


def test_console_is_for_people() -> None:
    stream = io.StringIO()
    configure_logging(Logging(format="console"), stream)
    structlog.get_logger().info("room created", room_id="!a")
    assert "room created" in stream.getvalue()
    assert "room_id=!a" in stream.getvalue()
    assert "\x1b" not in stream.getvalue(), "colours belong to terminals"


def test_the_level_is_heeded() -> None:
    stream = io.StringIO()
    configure_logging(Logging(format="json", level="warning"), stream)
    structlog.get_logger().info("chatter")
    logging.getLogger("lib").info("chatter")
    structlog.get_logger().warning("news")
    assert [record["event"] for record in _records(stream)] == ["news"]


def test_records_carry_the_id_of_their_request() -> None:
    stream = io.StringIO()
    configure_logging(Logging(format="json"), stream)
    token = request_id.set("r-17")
    try:
        structlog.get_logger().info("inside")
    finally:
        request_id.reset(token)
    structlog.get_logger().info("outside")
    assert [record.get("request_id") for record in _records(stream)] == ["r-17", None]


def test_the_standard_library_is_passed_on() -> None:
    stream = io.StringIO()
    configure_logging(Logging(format="json"), stream)
    logging.getLogger("lib.part").warning("%s of %s", 1, 2)
    (record,) = _records(stream)
    assert (record["event"], record["source"], record["level"]) == ("1 of 2", "lib.part", "warning")


def test_twisted_is_passed_on() -> None:
    stream = io.StringIO()
    configure_logging(Logging(format="json"), stream)
    log = Logger("twisted.part", observer=LogPublisher(FromTwisted()))
    log.info("Starting factory {name}", name="x")
    log.warn("odd {what}", what="thing")
    try:
        raise ValueError("oops")
    except ValueError:
        log.failure("broken")
    odd, broken = _records(stream)
    assert (odd["event"], odd["level"], odd["source"]) == ("odd thing", "warning", "twisted.part")
    assert (broken["event"], broken["level"]) == ("broken", "error")
    assert "ValueError: oops" in str(broken["exception"])
