"""The command line: serve, migrate, user create, doctor."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, NoReturn, TypeVar

import typer
import uvicorn
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sqlalchemy import update
from uvicorn.supervisors import Multiprocess

from collab_server.logs import configure_logging
from collab_server.secrets_file import jwt_secret
from collab_server.settings import Settings
from collab_server.transport.fast_websocket import FastWebSocketProtocol, supported
from persistence import inspection, migrate
from persistence.database import Database
from persistence.sqlite import Sqlite
from persistence.stored_log import StoredLog
from persistence.tables import accounts
from schemas.errors import CollabError, ConfigurationError, InvalidForm, Restarting, StorageUnavailable
from schemas.forms.accounts import Registration

T = TypeVar("T")

EX_CONFIG = 78  # sysexits.h: something for the operator to change; a supervisor should not simply restart
PING_SECONDS = 20  # y-websocket 4 leaves after 45 s of silence
GRACE_SECONDS = 20  # for connections, on SIGTERM; supervisors usually kill after 30
GOODBYE_SECONDS = 5.0  # for close frames to be sent before uvicorn cuts what is left
UNREAD_MILLISECONDS = 20_000  # until the kernel gives up on bytes that a peer does not take

cli = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="A server for Yjs clients."
)
user = typer.Typer(no_args_is_help=True, help="Accounts.")
cli.add_typer(user, name="user")
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on, instead of COLLAB_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port, instead of COLLAB_PORT; 0 picks a free one.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; more than one need Redis.")] = 1,
    migrations: Annotated[bool, typer.Option("--migrate/--no-migrate", help="Migrate the database first.")] = True,
) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    if host is not None:
        os.environ["COLLAB_HOST"] = host  # also for the worker processes, which read the settings again
    if port is not None:
        os.environ["COLLAB_PORT"] = str(port)
    settings = _settings()
    _refuse_workers(settings, workers)
    configure_logging(settings)
    jwt_secret(settings)  # refuse before anything is created
    if migrations:
        _run(_migrate(settings))
    with _listen(settings.host, settings.port) as listening:
        where = _address(listening)
        config = _uvicorn(settings, workers)
        if workers > 1:
            out.print(f"Serving on {where} with {workers} processes")
            Multiprocess(config, sockets=[listening]).run()
            return
        with contextlib.suppress(KeyboardInterrupt):
            _Node(config, where).run(sockets=[listening])


@cli.command(name="migrate")
def migrate_command() -> None:
    """Bring the database to the newest revision."""
    settings = _settings()
    configure_logging(settings)
    done = _run(_migrate(settings))
    out.print(f"Ran {', '.join(done)}." if done else f"Nothing to do: the database is at {migrate.head()}.")


@user.command(name="create")
def create_user(
    email: Annotated[str, typer.Option(prompt="E-mail address", help="What the account signs in with.")],
    name: Annotated[str, typer.Option(prompt="Name", help="What others see.")],
    password: Annotated[
        str, typer.Option(prompt=True, confirmation_prompt=True, hide_input=True, help="Asked for when absent.")
    ],
    staff: Annotated[bool, typer.Option("--staff", help="May administer the server.")] = False,
) -> None:
    """Create an account."""
    settings = _settings()
    configure_logging(settings)
    account_id = _run(_create_user(settings, email, name, password, staff))
    out.print(f"Created account {account_id}.")


@cli.command()
def doctor() -> None:
    """Check the settings, the database and every stored byte. Exits with 1 when something is wrong."""
    settings = _settings()
    configure_logging(settings)
    raise typer.Exit(1 if _run(_doctor(settings)) else 0)


def main() -> None:
    """Entry point of ``collab-server`` and ``python -m collab_server``."""
    try:
        cli()
    except ConfigurationError as error:
        _fail(str(error), EX_CONFIG)
    except StorageUnavailable as error:
        reason = f" ({error.__cause__})" if error.__cause__ else ""
        _fail(f"The database cannot be used: check that it runs and that COLLAB_DATABASE_URL is right.{reason}", 1)
    except CollabError as error:
        details = " ".join(field.detail for field in error.errors)
        _fail(f"{error.detail} {details}".strip(), 1)


class _Node(uvicorn.Server):
    """Says where it serves once it does, and drains before it goes."""

    def __init__(self, config: uvicorn.Config, where: str) -> None:
        super().__init__(config)
        self._where = where

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            out.print(f"Serving on {self._where}")
            sys.stdout.flush()  # for whoever waits for the line at the other end of a pipe

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn would close every socket first: what they sent last would be saved and never acked."""
        state = self.lifespan.state
        if "hub" in state:
            await state["hub"].drain()
            await state["sockets"].close_all(Restarting(), GOODBYE_SECONDS)
        await super().shutdown(sockets)


def application() -> Any:
    """For uvicorn, in each process that serves."""
    from collab_server.app import create_app  # pulls in everything: the other commands start without it

    settings = _settings()
    configure_logging(settings)
    return create_app(settings)


def _uvicorn(settings: Settings, workers: int) -> uvicorn.Config:
    return uvicorn.Config(
        "collab_server.__main__:application",
        factory=True,
        workers=workers,
        loop="auto",  # uvloop where there is one
        http="httptools",
        ws=FastWebSocketProtocol if supported() else "websockets-sansio",  # both bounded on compressed bombs
        ws_max_size=settings.max_frame_bytes,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        ws_per_message_deflate=False,  # CPU and memory per socket for frames of 60 bytes
        access_log=False,
        server_header=False,
        log_config=None,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _settings() -> Settings:
    try:
        return Settings.model_validate({})
    except ValidationError as error:
        wrong = _problems(error, "COLLAB_")
        raise ConfigurationError(f"Change these settings (environment or .env): {wrong}.") from None


def _problems(error: ValidationError, prefix: str = "") -> str:
    return "; ".join(
        f"{(prefix + '.'.join(map(str, problem['loc']))).upper()}: {problem['msg']}"
        for problem in error.errors(include_input=False)
    )


def _refuse_workers(settings: Settings, workers: int) -> None:
    if workers == 1:
        return
    if settings.redis_url is None:
        raise ConfigurationError(
            "Several processes tell each other of changes through Redis: set COLLAB_REDIS_URL or use --workers 1."
        )
    if settings.database.startswith("sqlite"):
        raise ConfigurationError(
            "An SQLite database belongs to one process: set COLLAB_DATABASE_URL to Postgres or use --workers 1."
        )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {host} port {port} ({error.strerror}): choose another with --host and --port."
        ) from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted sockets inherit it
        # A peer that stopped reading keeps what was written to it in our memory; closing does not drop it.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MILLISECONDS)
    listening.set_inheritable(True)
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _migrate(settings: Settings) -> list[str]:
    database = await Database.open(settings.database)
    try:
        return await migrate.upgrade(database)
    finally:
        await database.close()


async def _create_user(settings: Settings, email: str, name: str, password: str, staff: bool) -> str:
    from collab_server.app import create_app

    form = _registration(email, name, password)
    await _migrate(settings)
    app = create_app(settings)
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        account = await state["services"].accounts.register(form.email, form.password, form.name)
    if staff:
        database = await Database.open(settings.database)
        try:
            async with database.write() as connection:
                await connection.execute(update(accounts).where(accounts.c.id == account.id).values(is_staff=True))
        finally:
            await database.close()
    return str(account.id)


def _registration(email: str, name: str, password: str) -> Registration:
    try:
        return Registration(email=email, name=name, password=password)
    except ValidationError as error:
        raise InvalidForm(_problems(error)) from None


async def _doctor(settings: Settings) -> int:
    """Returns the number of things that are wrong."""
    database = await _open_for_doctor(settings)
    try:
        waiting = await migrate.pending(database)
        if waiting:
            out.print(f"The database needs a migration: run collab-server migrate ({', '.join(waiting)}).")
            return 1
        inspections = await _inspect_all(database)
        broken = await inspection.inspect_file(database)
    finally:
        await database.close()
    rows, size = sum(seen.rows for seen in inspections), sum(seen.bytes for seen in inspections)
    out.print(
        f"{len(inspections)} documents, {rows} rows, {sum(seen.checkpoints for seen in inspections)} checkpoints, "
        f"{size} bytes looked at in {database.dialect} at revision {migrate.head()}."
    )
    findings = [(seen.document_id, what) for seen in inspections for what in seen.findings]
    findings += [("the file", what) for what in broken]
    if not findings:
        out.print("Nothing is wrong.")
        return 0
    table = Table("Document", "What is wrong")
    for document_id, what in findings:
        table.add_row(document_id, what)
    out.print(table)
    out.print(f"{len(findings)} things are wrong: restore these documents from a backup before they are opened.")
    return len(findings)


async def _open_for_doctor(settings: Settings) -> Database:
    if settings.environment == "production":
        jwt_secret(settings)
    if settings.redis_url is not None:
        try:
            async with Redis.from_url(settings.redis_url.get_secret_value(), socket_timeout=5) as redis:
                await redis.ping()
        except (RedisError, OSError, ValueError) as error:
            raise ConfigurationError(f"Redis does not answer: check COLLAB_REDIS_URL ({error}).") from None
    database = await Database.open(settings.database, read_only=True)
    if isinstance(database.backend, Sqlite) and database.backend.locked_by() is not None:
        out.print("A server is running on this database: looking at it read-only beside that.")
    return database


async def _inspect_all(database: Database) -> list[inspection.Inspection]:
    from collab_server.live.guard import inspect_own_state, inspect_update

    total = await inspection.count_documents(database)
    columns = (TextColumn("Looking at documents"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    inspections: list[inspection.Inspection] = []
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("", total=total)
        async for document_id in StoredLog(database).document_ids():
            inspections.append(
                await inspection.inspect_document(
                    database, document_id, check_update=inspect_update, check_piece=inspect_own_state
                )
            )
            progress.advance(task)
    return inspections


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def _fail(sentence: str, code: int) -> NoReturn:
    err.print(sentence, style="red", markup=False)
    sys.exit(code)


if __name__ == "__main__":
    main()
