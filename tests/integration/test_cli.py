"""The command line: what it says, and how it ends."""

import asyncio
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from sqlalchemy import insert, select, text
from typer.testing import CliRunner

from collab_server.__main__ import cli, main
from persistence import migrate
from persistence.database import Database
from persistence.tables import accounts, documents
from persistence.update_log import open_update_log
from schemas.records import Batch, Checkpoint, Entry
from tests.backends import run_aside

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HELLO = bytes.fromhex("010101000401017402686900")  # an update of Yjs: "hi" at the start of the text "t"
PASSWORD = "three quiet otters"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run a command in this process; keyword arguments are settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLLAB_LOG_LEVEL", "error")
    monkeypatch.setenv("COLUMNS", "300")
    for name in ("COLLAB_HOST", "COLLAB_PORT"):  # the command sets them: put back what was there
        monkeypatch.setenv(name, os.environ.get(name, "127.0.0.1" if name == "COLLAB_HOST" else "0"))
    monkeypatch.setenv("COLLAB_PASSWORD_HASH_MEMORY_KIB", "1024")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*arguments: str, **settings: str) -> Done:
        for name, value in settings.items():
            monkeypatch.setenv(f"COLLAB_{name.upper()}", value)
        monkeypatch.setattr(sys, "argv", ["collab-server", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        said = capsys.readouterr()
        code = exit_.value.code
        return Done(code if isinstance(code, int) else 0, said.out, said.err)

    yield run
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def in_database(url: str, work: Callable[[Database], Any]) -> Any:
    async def open_and_work() -> Any:
        database = await Database.open(url)
        try:
            return await work(database)
        finally:
            await database.close()

    return run_aside(open_and_work)


async def write_document(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(
            insert(documents).values(id="a", kind="document", title="", created_at=NOW, updated_at=NOW)
        )
    log = open_update_log(database)
    for number in range(3):
        await log.append([Batch("a", bytes([number] * 16), 1, (Entry("account:alice", HELLO),))])
    await log.add_checkpoint("a", Checkpoint(2, (HELLO,)))


# Settings


def test_a_wrong_setting_ends_with_78_and_names_it(run: Run) -> None:
    done = run("doctor", port="http")
    assert done.code == 78
    assert "COLLAB_PORT" in done.err
    assert "Traceback" not in done.err


def test_a_wrong_setting_is_not_repeated_as_it_may_be_a_secret(run: Run) -> None:
    done = run("doctor", max_body_bytes="hunter2")
    assert "hunter2" not in done.err


# serve


@pytest.mark.parametrize("redis_url, missing", [("", "COLLAB_REDIS_URL"), ("redis://localhost", "Postgres")])
def test_several_processes_are_refused_without_what_they_share(run: Run, redis_url: str, missing: str) -> None:
    done = run("serve", "--workers", "2", **({"redis_url": redis_url} if redis_url else {}))
    assert done.code == 78
    assert missing in done.err


def test_a_taken_port_ends_with_78_and_a_sentence(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve", "--port", str(taken.getsockname()[1]))
    assert done.code == 78
    assert "choose another with --host and --port" in done.err


def test_serve_says_where_migrates_answers_and_goes_when_asked(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COLLAB_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "collab_server", "serve", "--port", "0"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        where = re.fullmatch(r"Serving on (http://127\.0\.0\.1:\d+)\n", process.stdout.readline())
        assert where is not None
        response = httpx.get(where[1] + "/healthz", trust_env=False)
        assert response.status_code == 200
        assert "server" not in response.headers
        second = subprocess.run(
            [sys.executable, "-m", "collab_server", "serve", "--port", "0"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 78
        assert f"in use by process {process.pid}" in second.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.communicate()
    assert (tmp_path / "data" / "collab.db").exists()


def test_two_processes_serve_one_address(tmp_path: Path, empty_postgres_url: str, redis_url: str) -> None:
    environment = os.environ | {"COLLAB_DATABASE_URL": empty_postgres_url, "COLLAB_REDIS_URL": redis_url}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "collab_server", "serve", "--port", "0", "--workers", "2"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        where = re.fullmatch(r"Serving on (http://\S+) with 2 processes\n", process.stdout.readline())
        assert where is not None
        deadline = time.monotonic() + 60
        while (tmp_path / "log").read_text().count("Application startup complete") < 2:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        for _ in range(10):
            assert httpx.get(where[1] + "/readyz", trust_env=False).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.terminate()
        process.communicate()


# migrate


def test_migrate_runs_what_is_missing_and_then_nothing(run: Run, empty_database_url: str) -> None:
    first = run("migrate", database_url=empty_database_url)
    assert (first.code, first.out.split()[0]) == (0, "Ran")
    second = run("migrate")
    assert (second.code, second.out) == (0, f"Nothing to do: the database is at {migrate.head()}.\n")


# user create


def test_a_created_user_is_an_account_and_staff_when_asked(run: Run, sqlite_url: str) -> None:
    done = run(
        "user", "create", "--email", "Anna@Example.com", "--name", "Anna", "--password", PASSWORD, "--staff",
        database_url=sqlite_url,
    )  # fmt: skip
    assert done.code == 0, done.err

    async def stored(database: Database) -> Any:
        async with database.read() as connection:
            return (await connection.execute(select(accounts))).mappings().one()

    account = in_database(sqlite_url, stored)
    assert account["id"] in done.out
    assert (account["email"], account["name"], account["is_staff"]) == ("anna@example.com", "Anna", True)
    assert PASSWORD not in account["password_hash"]


def test_what_is_not_given_is_asked_for_and_the_password_is_not_shown(run: Run, sqlite_url: str) -> None:
    answers = ("anna@example.com", "Anna", PASSWORD, PASSWORD)
    done = CliRunner().invoke(
        cli, ["user", "create"], input="\n".join(answers) + "\n", env={"COLLAB_DATABASE_URL": sqlite_url}
    )
    assert done.exit_code == 0, done.output
    assert "Created account" in done.output
    assert PASSWORD not in done.output


@pytest.mark.parametrize(
    "email, password, said",
    [("anna", PASSWORD, "must have an @-sign"), ("anna@example.com", "short", "at least 12 characters")],
)
def test_a_user_that_cannot_be_is_refused_with_a_sentence(
    run: Run, sqlite_url: str, email: str, password: str, said: str
) -> None:
    done = run(
        "user", "create", "--email", email, "--name", "Anna", "--password", password, database_url=sqlite_url
    )
    assert done.code == 1
    assert said in done.err
    assert password not in done.err


def test_an_address_is_taken_once(run: Run, sqlite_url: str) -> None:
    arguments = ("user", "create", "--email", "anna@example.com", "--name", "Anna", "--password", PASSWORD)
    assert run(*arguments, database_url=sqlite_url).code == 0
    done = run(*arguments)
    assert (done.code, "exists already" in done.err) == (1, True)


# doctor


def test_the_doctor_finds_nothing_wrong_with_a_healthy_database(run: Run, database_url: str) -> None:
    in_database(database_url, write_document)
    done = run("doctor", database_url=database_url)
    assert done.code == 0, done.out
    assert "1 documents, 3 rows, 1 checkpoints" in done.out
    assert "Nothing is wrong." in done.out


@pytest.mark.parametrize(
    "damage, found",
    [
        ("UPDATE updates SET crc32 = 1 WHERE seq = 2", "row 2 fails its checksum"),
        ("DELETE FROM updates WHERE seq = 2", "rows 2 to 2 are missing"),
        ("DELETE FROM updates WHERE seq = 1", "rows 1 to 1 are missing"),
        ("DELETE FROM updates WHERE seq = 3", "rows 3 to 3 are missing"),
        ("DELETE FROM updates", "rows 1 to 3 are missing"),
        ("UPDATE documents SET head_seq = 2", "rows stand after the head 2"),
        ("UPDATE checkpoints SET payload = sha256", "checkpoint 2 fails its checksum"),
        ("UPDATE checkpoints SET seq = 9", "checkpoint 9 is newer than the head 3"),
    ],
)
def test_the_doctor_names_the_document_and_what_is_wrong(
    run: Run, database_url: str, damage: str, found: str
) -> None:
    async def spoil(database: Database) -> None:
        await write_document(database)
        async with database.write() as connection:
            await connection.execute(text(damage))

    in_database(database_url, spoil)
    done = run("doctor", database_url=database_url)
    assert done.code == 1
    assert re.search(rf"\ba\b.*{found}", done.out)


def test_the_doctor_finds_an_update_no_engine_should_see(run: Run, database_url: str) -> None:
    async def spoil(database: Database) -> None:
        await write_document(database)
        await open_update_log(database).append([Batch("a", b"x" * 16, 1, (Entry("account:eve", b"\x01"),))])

    in_database(database_url, spoil)
    done = run("doctor", database_url=database_url)
    assert (done.code, "row 4 cannot be read" in done.out) == (1, True)


def test_the_doctor_asks_for_missing_migrations(run: Run, empty_postgres_url: str) -> None:
    done = run("doctor", database_url=empty_postgres_url)
    assert (done.code, "run collab-server migrate" in done.out) == (1, True)


def test_the_doctor_looks_beside_a_running_server_and_says_so(run: Run, sqlite_url: str) -> None:
    async def off_the_loop(database: Database) -> Done:
        await write_document(database)
        return await asyncio.to_thread(run, "doctor", database_url=sqlite_url)

    done = in_database(sqlite_url, off_the_loop)
    assert done.code == 0, done.err
    assert "A server is running" in done.out
    assert "Nothing is wrong." in done.out


def test_the_doctor_says_when_there_is_no_database(run: Run) -> None:
    done = run("doctor")
    assert done.code == 78
    assert "There is no database at data/collab.db" in done.err


@pytest.mark.parametrize(
    "setting, url, code",
    [
        ("database_url", "postgresql://x:hunter2@127.0.0.1:1/x", 1),
        ("redis_url", "redis://:hunter2@127.0.0.1:1", 78),
        ("database_url", "mysql://x:hunter2@localhost/x", 78),
    ],
)
def test_a_server_that_does_not_answer_is_named_without_its_password(
    run: Run, setting: str, url: str, code: int
) -> None:
    done = run("doctor", **{setting: url})
    assert done.code == code
    assert "COLLAB_" in done.err or "not supported" in done.err
    assert "hunter2" not in done.err
    assert "Traceback" not in done.err


def test_the_doctor_reaches_postgres_and_redis(run: Run, postgres_url: str, redis_url: str) -> None:
    assert run("doctor", database_url=postgres_url, redis_url=redis_url).code == 0
