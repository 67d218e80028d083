"""The faults, one after the other, each followed by the same look at everything that was promised."""

import asyncio
import contextlib
import signal
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from tests.backends import PostgresServer
from tests.faults.crashing_server import BREAKS, CRASH_POINTS
from tests.faults.ledger import Ledger
from tests.faults.victim import Victim
from tests.faults.workload import Workload
from tests.reports import percentile

DOCUMENTS_LAST = 10  # crashes; then fresh ones, so that the ledger's copies stay small
COMPACTION_EVERY, COMPACTION_SECONDS = 5, 3.0  # so long a life is needed now and then for a worker to start
CRASH_SECONDS = 12.0
SPEEDS = ((), ("--commit-ms", "30"), ("--commit-ms", "600"))
LOCKED_SECONDS = 3.0
Note = Callable[[str], None]


class Campaign:
    """Everything that is done to one server on one database."""

    def __init__(self, workload: Workload, postgres: PostgresServer | None, note: Note) -> None:
        self.workload = workload
        self.server = workload.server
        self.ledger = workload.ledger
        self.random = workload.random
        self.kills = self.faults = self.points_missed = 0
        self.start_ms: list[float] = []
        self.recovery_ms: list[float] = []
        self._postgres = postgres
        self._note = note

    async def kill(self, *flags: str) -> None:
        """SIGKILL at a random moment under load; the next life runs with ``flags``."""
        await asyncio.sleep(self.random.uniform(0.05, 1.0))
        await self._crashed(*flags)

    async def kills_at_random(self, count: int) -> None:
        """Two of three lives have a slow disk, or a very slow one, so that there is always something between
        received and saved."""
        for number in range(count):
            if number % COMPACTION_EVERY == 0:
                await asyncio.sleep(COMPACTION_SECONDS)
            await self.kill(*SPEEDS[number % len(SPEEDS)])
            self._note(f"kill {number + 1} of {count}")
            if number % DOCUMENTS_LAST == DOCUMENTS_LAST - 1:
                await self.workload.rest()
                await self.workload.new_documents()
        await self.workload.rest()

    async def crash_points(self, rounds: int = 1) -> None:
        for _ in range(rounds):
            for point in CRASH_POINTS:
                await self._reach(point)
                self._note(f"died {point}")
            await self.workload.rest()

    async def _reach(self, point: str) -> None:
        hits = self.random.randint(1, 3 if point.startswith("compaction") else 40)
        if point == "while-draining":
            hits = 1
        elif point == "while-loading":
            hits = self.random.randint(1, 8)
        await self._crashed("--crash", point, "--hit", str(hits), tolerant=True)
        if point == "while-draining":
            self.server.signal(signal.SIGTERM)
        if not await self.server.dead_within(CRASH_SECONDS):
            self.points_missed += 1
            self._note(f"never came to {point}")
        await self._crashed()

    async def _crashed(self, *flags: str, tolerant: bool = False) -> None:
        """``tolerant``: the next life may end at any moment, so nobody looks before."""
        self.kills += 1
        await self.workload.crashed(*flags, look=not tolerant)
        self.start_ms.append(self.server.start_seconds * 1000)

    # -- what does not end the process ---------------------------------------------------------------------

    async def break_something(self) -> None:
        for kind in BREAKS:
            hits = self.random.randint(5, 40)
            await self._crashed("--break", kind, "--hit", str(hits), tolerant=True)
            await asyncio.sleep(2)
            self.faults += 1
            await self.workload.rest()
            self._note(f"survived {kind}")
        await self._crashed()

    async def storage_faults(self) -> None:
        faults = [self._paused, self._restarted_gently]
        faults += [self._locked] if self._postgres is None else [self._postgres_restarted, self._backends_ended]
        for fault in faults:
            await asyncio.sleep(0.3)
            await fault()
            healed = time.monotonic()
            while self.ledger.last_ack < healed and time.monotonic() - healed < CRASH_SECONDS:
                await asyncio.sleep(0.005)
            self.recovery_ms.append((time.monotonic() - healed) * 1000)
            self.faults += 1
            await asyncio.sleep(0.5)
            await self.workload.rest()
            self._note(f"survived {fault.__name__.strip('_')}")

    async def _locked(self) -> None:
        """Another program holds SQLite's write lock."""

        def hold() -> None:
            with contextlib.closing(sqlite3.connect(self.server.data_dir / "collab.db")) as connection:
                connection.execute("BEGIN IMMEDIATE")
                time.sleep(LOCKED_SECONDS)
                connection.rollback()

        await asyncio.to_thread(hold)

    async def _postgres_restarted(self) -> None:
        """``pg_ctl stop -m immediate``, and a start."""
        assert self._postgres is not None
        await asyncio.to_thread(self._postgres.crash)
        await asyncio.sleep(1)
        await asyncio.to_thread(self._postgres.resume)

    async def _backends_ended(self) -> None:
        assert self._postgres is not None
        for _ in range(5):
            await self._postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            await asyncio.sleep(0.3)

    async def _paused(self) -> None:
        self.server.signal(signal.SIGSTOP)
        await asyncio.sleep(2)
        self.server.signal(signal.SIGCONT)

    async def _restarted_gently(self) -> None:
        """SIGTERM: what is open is saved first."""
        await self.server.stop()
        await self.server.start()

    # -- figures -------------------------------------------------------------------------------------------

    def figures(self) -> dict[str, float]:
        first = self.workload.first_ack_ms
        return {
            "kills": self.kills,
            "other_faults": self.faults,
            "crash_points_not_reached": self.points_missed,
            **self.ledger.figures(),
            "t_start_after_kill_ms_p50": round(percentile(self.start_ms, 0.5), 1),
            "t_start_after_kill_ms_max": round(max(self.start_ms, default=0), 1),
            "t_first_ack_after_restart_ms_p50": round(percentile(first, 0.5), 1),
            "t_first_ack_after_restart_ms_max": round(max(first, default=0), 1),
            "t_first_ack_after_fault_ms_max": round(max(self.recovery_ms, default=0), 1),
        }


@asynccontextmanager
async def campaign(
    database: str,
    seed: int,
    note: Note = lambda _: None,
    *flags: str,
    per_second: float = 20.0,
    **settings: object,
) -> AsyncIterator[Campaign]:
    """A server on ``sqlite`` or ``postgres`` with everybody at work."""
    with tempfile.TemporaryDirectory(prefix="collab-faults-") as folder:
        postgres = await asyncio.to_thread(PostgresServer.start, own=True) if database == "postgres" else None
        url = await asyncio.to_thread(postgres.create, migrated=False) if postgres else ""
        server = Victim(Path(folder) / "data", url, **settings)
        workload = Workload(server, Ledger(), Random(seed), per_second=per_second)
        try:
            await server.start(*flags)
            await workload.prepare()
            await workload.back()
            yield Campaign(workload, postgres, note)
        finally:
            await workload.stop()
            await server.http.aclose()
            await server.kill()
            if postgres is not None:
                await asyncio.to_thread(postgres.stop)
