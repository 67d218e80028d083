from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from persistence.database import Database
from tests.integration.stage import Stage, stage
from tests.integration.world import World, running


@pytest.fixture(scope="session", autouse=True)
def _plain_tracebacks() -> None:
    """structlog's own default prints every local variable of every frame: minutes for one error."""
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, plain])


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """The app on either database."""
    async with running(database_url, tmp_path) as world:
        yield world


@pytest.fixture
async def small_world(sqlite_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """The app on SQLite only, for what has nothing to do with the database."""
    async with running(sqlite_url, tmp_path) as world:
        yield world


@pytest.fixture
async def node(database: Database) -> AsyncIterator[Stage]:
    """A hub on either database."""
    async with stage(database) as running:
        yield running
