"""What leaves the process in a log line, and what does not."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from collab_server.logs import REDACTED, configure_logging
from collab_server.settings import Settings


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def configure(lines: io.StringIO, **settings: Any) -> None:
    configure_logging(Settings(_env_file=None, **settings), lines)


def events(lines: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_production_logs_are_one_json_object_per_line(lines: io.StringIO) -> None:
    configure(lines, environment="production")
    structlog.get_logger("ours").info("saved", document_id="d-1", seq=7, title="Черновик")
    logging.getLogger("uvicorn.error").warning("started %s", "well", extra={"color_message": "\x1b[36m"})
    ours, theirs = events(lines)
    assert ours.items() >= {"event": "saved", "seq": 7, "level": "info", "logger": "ours"}.items()
    assert ours["timestamp"].endswith("Z")
    assert "Черновик" in lines.getvalue()
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("started well", "warning", "uvicorn.error")


def test_development_logs_are_for_people(lines: io.StringIO) -> None:
    configure(lines)
    structlog.get_logger("ours").info("saved", seq=7)
    assert "saved" in lines.getvalue()
    assert "seq=7" in lines.getvalue()
    assert not lines.getvalue().startswith("{")


def test_events_carry_the_request_they_belong_to(lines: io.StringIO) -> None:
    configure(lines, log_format="json")
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger().info("ours")
        logging.getLogger("library").warning("theirs")
    structlog.get_logger().info("after")
    assert [event.get("request_id") for event in events(lines)] == ["r-1", "r-1", None]


@pytest.mark.parametrize(
    "key", ["token", "access_token", "refreshToken", "ticket", "password", "jwt_secret", "Authorization", "cookie"]
)
def test_the_value_of_a_telling_key_is_not_logged(lines: io.StringIO, key: str) -> None:
    configure(lines, log_format="json")
    structlog.get_logger().info("x", **{key: "hunter2"})
    structlog.get_logger().info("x", headers={key: "hunter2"}, list=[{key: b"hunter2"}])
    assert "hunter2" not in lines.getvalue()
    assert events(lines)[0][key] == REDACTED


def test_ids_and_counts_of_secrets_are_no_secrets(lines: io.StringIO) -> None:
    configure(lines, log_format="json")
    structlog.get_logger().info("x", ticket_id="t-1", token_seconds=600)
    (event,) = events(lines)
    assert (event["ticket_id"], event["token_seconds"]) == ("t-1", 600)


@pytest.mark.parametrize(
    "text",
    [
        "GET /ws/notes?ticket=hunter2&x=1 HTTP/1.1",
        '"WebSocket /ws/notes?token=hunter2" [accepted]',
        "https://example.org/d/1?key=hunter2#top",
        "postgresql+asyncpg://collab:hunter2@db/collab",
        "redis://:hunter2@cache:6379/0",
        "Authorization: Bearer hunter2",
        "the ticket tkt_hunter2_hunter2 was used before",
        "the refresh token rft_session_hunter2-hunter2_x",
        "bad token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.hunter2",
    ],
)
def test_secrets_inside_a_text_are_not_logged(lines: io.StringIO, text: str) -> None:
    configure(lines, log_format="json")
    logging.getLogger("uvicorn.error").info("%s", text)
    structlog.get_logger().info("x", path=text, deep={"url": [text]})
    try:
        raise ValueError(text)
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "hunter2" not in lines.getvalue()
    assert "ValueError" in lines.getvalue()


def test_a_question_is_not_a_query(lines: io.StringIO) -> None:
    configure(lines, log_format="json")
    structlog.get_logger().info("Is it saved? Yes.")
    assert events(lines)[0]["event"] == "Is it saved? Yes."


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_nobody_can_forge_a_line_or_move_the_cursor(lines: io.StringIO, log_format: str) -> None:
    configure(lines, log_format=log_format)
    nasty = "a\nb\r\x1b[2Jc\x9bd\u2028e\u202ef\x00"
    structlog.get_logger().info("x", name=nasty, nested=[{nasty: nasty}])
    logging.getLogger("library").warning(nasty)
    text = lines.getvalue()
    assert text.count("\n") == 2
    assert not {"\r", "\x1b", "\x9b", "\u2028", "\u202e", "\x00"} & set(text)
    if log_format == "json":
        assert events(lines)[0]["name"].startswith(r"a\nb\r\x1b[2J")


def test_uvicorn_does_not_tell_of_requests_a_second_time(lines: io.StringIO) -> None:
    configure(lines, log_format="json")
    logging.getLogger("uvicorn.access").info("GET / 200")
    assert not logging.getLogger("uvicorn.access").hasHandlers()
    assert events(lines) == []


def test_text_frame_that_is_not_utf8_is_no_error_of_ours(lines: io.StringIO) -> None:
    configure(lines, log_format="json")
    try:
        b"\xff".decode()
    except UnicodeDecodeError:
        logging.getLogger("uvicorn.error").exception("Invalid UTF-8 sequence received from client.")
    (event,) = events(lines)
    assert event["event"] == "Invalid UTF-8 sequence received from client."
    assert "exception" not in event


def test_quiet_events_are_dropped_by_level(lines: io.StringIO) -> None:
    configure(lines, log_format="json", log_level="warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [event["event"] for event in events(lines)] == ["loud"]
