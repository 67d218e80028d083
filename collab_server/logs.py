"""Logs: readable lines in development, one JSON object per line in production.

Everything goes one way, our own events, uvicorn's and the libraries'. Bind ``request_id`` or
``connection_id`` with ``structlog.contextvars`` and every event inside carries it. Two threats are met here
and not where events are written: secrets (values of telling keys, query strings, passwords in URLs, tokens
anywhere) and forged lines (control characters from a client).
"""

import logging
import re
import sys
from collections.abc import Mapping
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from collab_server.settings import Settings

REDACTED = "[redacted]"
MAX_DEPTH = 6  # of containers in one event

_SECRET_KEY = re.compile(
    r"token|ticket|password|passwd|secret|authorization|cookie|api_?key|credential|private_key", re.IGNORECASE
)
_HARMLESS_KEY = re.compile(r"(_(id|count|seconds|bytes|limit|days))$", re.IGNORECASE)
_SECRETS_IN_TEXT = (
    (re.compile(r"(?<=[\w/~.\-%])\?[^\s\"'<>\\)\]]+"), "?" + REDACTED),  # a query: tickets travel there
    (re.compile(r"(?<=://)([^\s:/@\"']*):[^\s/@\"']+@"), r"\1:" + REDACTED + "@"),
    (re.compile(r"\b(?:tkt|rft)_[\w-]{8,}"), REDACTED),  # a ticket, a refresh token
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), REDACTED),  # a JWT
    (re.compile(r"(\bbearer\s+)[^\s\"',]+", re.IGNORECASE), r"\1" + REDACTED),
)
# C0, DEL and C1 (a terminal obeys them), line and paragraph separators, and the bidi controls that make a
# line read as another.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROL_BUT_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_TRACEBACKS = ("exception", "stack")


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Route all logging of this process to ``stream`` (standard error). Call once, at the start."""
    json = settings.log_format == "json" or (settings.log_format is None and settings.environment == "production")
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: Processor = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    if not json:
        render = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.StackInfoRenderer(),
                structlog.processors.format_exc_info,
                redact,
                escape,
                render,
            ],
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    _route_standard_library(handler, settings.log_level.upper())


def _without_client_noise(record: logging.LogRecord) -> bool:
    """uvicorn logs a text frame that is not UTF-8 as an error with a traceback: any client could fill the log."""
    if record.msg == "Invalid UTF-8 sequence received from client.":
        record.exc_info, record.levelno, record.levelname = None, logging.INFO, "INFO"
    return True


def redact(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """A structlog processor: secrets do not leave the process."""
    return {key: _redacted(key, value, MAX_DEPTH) for key, value in event.items()}


def escape(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """A structlog processor: one event is one line, whatever a client put into it."""
    return {
        str(_escaped(key)): _traceback(value) if key in _TRACEBACKS else _escaped(value)
        for key, value in event.items()
    }


def _route_standard_library(handler: logging.Handler, level: str) -> None:
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    handler.addFilter(_without_client_noise)
    root.addHandler(handler)
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"  # our middleware tells of requests, without their queries
    # Below these levels they tell about themselves: every statement, every frame.
    for name in ("aiosqlite", "asyncio", "sqlalchemy", "alembic", "websockets", "multipart", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(max(logging.getLevelName(level), logging.WARNING))
    logging.captureWarnings(True)


def _redacted(key: str, value: object, depth: int) -> object:
    if isinstance(key, str) and _SECRET_KEY.search(key) and not _HARMLESS_KEY.search(key) and value is not None:
        return REDACTED
    if isinstance(value, str):
        for pattern, instead in _SECRETS_IN_TEXT:
            value = pattern.sub(instead, value)
        return value
    if depth and isinstance(value, Mapping):
        return {name: _redacted(name, inner, depth - 1) for name, inner in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_redacted("", inner, depth - 1) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return _redacted("", str(value), 0)


def _escaped(value: object) -> object:
    if isinstance(value, str):
        return _CONTROL.sub(_code, value)
    if isinstance(value, Mapping):
        return {_escaped(name): _escaped(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_escaped(inner) for inner in value]
    return value


def _traceback(value: object) -> object:
    return _CONTROL_BUT_LINES.sub(_code, value) if isinstance(value, str) else value


def _code(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode()
