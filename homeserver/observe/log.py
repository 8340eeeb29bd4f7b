"""Logs: one structured record per thing that happened, for people (console) or collectors (JSON).

Everywhere in the house:

    import structlog
    log = structlog.get_logger()
    log.info("room created", room_id=room_id)

The first word group is a constant, so that records can be counted; what varies goes into named values. Secrets,
tokens and what people write to each other never go into a record. `request_id` is added by itself to everything
that happens on behalf of one request.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner
from zope.interface import implementer

from homeserver.lean import absent

if TYPE_CHECKING:
    from config import Logging


# Its tracebacks are not wanted in logs, and its import is 80 ms of each start.
with absent("rich"):
    import structlog

__all__ = ["FromTwisted", "capture_twisted", "configure_logging", "request_id", "structlog"]

#: The id of the request being answered, set at the HTTP edge; None for work that nobody asked for.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logging(settings: Logging, stream: TextIO | None = None, *, final: bool = False) -> None:
    """Send all logs of the process to `stream` (standard error when None), in the form that the settings ask for.

    Includes what Python's own `logging` has to say. May be called again, until a call says that it is `final`: from
    then on loggers keep what they looked up, which makes a record that is below the level nearly free.
    """
    stream = stream if stream is not None else sys.stderr
    level = _LEVELS[settings.level]
    structlog.configure(
        processors=[
            _add_request_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            *(_json_processors() if settings.format == "json" else _console_processors(stream)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=final,
    )
    root = logging.getLogger()
    root.handlers = [_FromStandardLibrary()]
    root.setLevel(max(level, logging.INFO))


def _add_request_id(_logger: object, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if (current := request_id.get()) is not None:
        record.setdefault("request_id", current)
    return record


def _json_processors() -> list[structlog.typing.Processor]:
    import orjson

    def dumps(record: object, **_options: object) -> str:
        return orjson.dumps(record, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()

    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=dumps)]


def _console_processors(stream: TextIO) -> list[structlog.typing.Processor]:
    render = structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
    )

    def line(logger: object, method: str, record: MutableMapping[str, Any]) -> str:
        return str(render(logger, method, record))

    return [line]


class _FromStandardLibrary(logging.Handler):
    """Passes records of Python's `logging` (asyncio, libraries) on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger()
        values = {"source": record.name, "exc_info": record.exc_info}
        logger.log(record.levelno, record.getMessage(), **{key: value for key, value in values.items() if value})


@implementer(ILogObserver)
class FromTwisted:
    """Passes on what Twisted logs. Its news of starting factories and closing ports is kept for those who debug."""

    def __call__(self, event: LogEvent) -> None:
        wanted = event.get("log_level", LogLevel.info)
        name = {"info": "debug", "warn": "warning"}.get(wanted.name, wanted.name)
        values: dict[str, Any] = {"source": event.get("log_namespace", "twisted")}
        if (failure := event.get("log_failure")) is not None:
            values["exc_info"] = (failure.type, failure.value, failure.getTracebackObject())
        text = formatEvent(event) or "failure that nobody handled"
        structlog.get_logger().log(_LEVELS.get(name, logging.ERROR), text, **values)


def capture_twisted() -> None:
    """Pass on what Twisted logs, above all failures that nobody handled. Call once, when the server starts."""
    globalLogBeginner.beginLoggingTo([FromTwisted()], redirectStandardIO=False, discardBuffer=True)
