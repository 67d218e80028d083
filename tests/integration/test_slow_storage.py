"""A crash while the storage is slow: nobody was shown what it takes back, so nobody brings it along."""

import asyncio
import time
from pathlib import Path

from tests.faults.client import Client, ended
from tests.faults.ledger import Ledger
from tests.faults.victim import Victim


async def until(what, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return what()


async def test_writers_whose_unsaved_work_a_crash_takes_come_back_and_lose_nothing(tmp_path: Path) -> None:
    ledger = Ledger()
    server = Victim(tmp_path)
    gate = asyncio.Event()
    gate.set()
    try:
        await server.start("--commit-ms", "60000")
        anna, boris = await server.account("Anna"), await server.account("Boris")
        document = await server.document(anna)
        await server.grant(anna, document, boris, "editor")
        clients = [Client(ledger, server.socket_url, document, lambda who=who: who.token) for who in (anna, boris)]
        tasks = [asyncio.create_task(client.stay(gate)) for client in clients]
        assert await until(lambda: all(client.synced.is_set() for client in clients), 10)
        for client in clients:
            await client.write()
        assert not await until(lambda: any(len(c.replica.tokens()) == 2 for c in clients), 0.5), "shown early"

        await server.kill()
        await server.start()
        came_back = await until(lambda: all(client.quiet for client in clients), 5)
        for client in clients:
            await client.write()
        came_back = await until(lambda: all(client.quiet for client in clients), 5) and came_back

        assert ledger.shut_out == 0
        assert came_back
        for task in tasks:
            await ended(task)
    finally:
        await server.http.aclose()
        await server.kill()
