"""Migrations without a configuration file, so that the installed package brings its own.

A new one is a file in ``migrations/versions``; a test compares what they build with ``tables.py``.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from persistence.database import Database
from persistence.faults import StorageRefused
from persistence.sqlite import Sqlite

_LOCK = 0x636F6C6C6162  # "collab": two nodes that start together migrate one after the other


def head() -> str:
    """The newest revision this program knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


async def upgrade(database: Database) -> list[str]:
    """Bring the schema to the newest revision, in one transaction; returns what was run, oldest first.

    Raises ``StorageRefused`` when the database is newer than this program.
    """
    async with _without_foreign_keys(database), database.write() as connection:
        if database.dialect == "postgresql":
            await connection.execute(text("SET LOCAL lock_timeout = '60s'"))
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        missing = await connection.run_sync(_missing)
        if missing:
            await connection.run_sync(_run(command.upgrade, "head"))
        if database.dialect == "sqlite":
            broken = (await connection.execute(text("PRAGMA foreign_key_check"))).all()
            assert not broken, f"a migration broke references: {broken[:3]}"
    return missing


async def current(database: Database) -> str | None:
    """The revision the database is at; None before the first."""
    async with database.read() as connection:
        return await connection.run_sync(_revision)


async def pending(database: Database) -> list[str]:
    """The revisions ``upgrade`` would run, oldest first. Raises as ``upgrade`` does."""
    async with database.read() as connection:
        return await connection.run_sync(_missing)


@asynccontextmanager
async def _without_foreign_keys(database: Database) -> AsyncIterator[None]:
    """SQLite changes a table by copying and dropping it, and a drop would cascade into its children.
    The switch does nothing inside a transaction, so it stands around it."""
    backend = database.backend
    if not isinstance(backend, Sqlite):
        yield
        return
    await backend.run(lambda connection: connection.execute("PRAGMA foreign_keys=OFF").close())
    try:
        yield
    finally:
        await backend.run(lambda connection: connection.execute("PRAGMA foreign_keys=ON").close())


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _run(what: Callable[[Config, str], Any], revision: str) -> Callable[[Connection], None]:
    def run(connection: Connection) -> None:
        what(_config(connection), revision)

    return run


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _missing(connection: Connection) -> list[str]:
    at = _revision(connection)
    script = ScriptDirectory.from_config(_config())
    known = [revision.revision for revision in script.walk_revisions()]  # newest first
    if at is None:
        return known[::-1]
    if at not in known:
        raise StorageRefused(
            f"The database is at revision {at}, which this version does not know: "
            "install the version that made it, or a newer one."
        )
    return known[: known.index(at)][::-1]
