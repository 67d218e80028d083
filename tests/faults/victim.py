"""The server under test: a process that may be started with something broken, and that may die by itself."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.server import Server

ROOT = Path(__file__).parent.parent.parent

SETTINGS = {
    "log_level": "warning",
    "access_token_seconds": 900,
    "compact_after_updates": 25,
    "keep_rows_hours": 0,
    "poll_seconds": 0.25,
    "unload_after_seconds": 0.2,
}


class Victim(Server):
    """``start(*flags)`` passes the flags to tests/faults/crashing_server.py; without any, the server is
    started as people start it."""

    def __init__(self, data_dir: Path, database_url: str = "", **settings: Any) -> None:
        more = {"database_url": database_url} if database_url else {}
        super().__init__(data_dir, **{**SETTINGS, **more, **settings})
        self.database_url = database_url or f"sqlite+aiosqlite:///{data_dir / 'collab.db'}"
        self.flags: tuple[str, ...] = ()
        self.start_seconds = 0.0

    async def start(self, *flags: str) -> None:
        self.flags = flags
        started = time.monotonic()
        await super().start()
        self.start_seconds = time.monotonic() - started

    def _program(self) -> list[str]:
        return ["tests.faults.crashing_server", *self.flags] if self.flags else super()._program()

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "PYTHONPATH": str(ROOT)}  # it runs in its data directory

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def dead_within(self, seconds: float) -> bool:
        """Whether the process ends by itself."""
        deadline = time.monotonic() + seconds
        while self.alive and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return not self.alive

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)
