"""The live part of one node, put together and taken apart: log, committer, hub, and the rounds they need."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from collab_server.commit import Committer
from collab_server.hub import Hub
from collab_server.ports import Clock
from collab_server.rounds import Rounds
from collab_server.services.access import Access
from collab_server.services.state import Services
from collab_server.settings import Settings
from collab_server.supervision import supervised
from persistence.database import Database
from persistence.update_log import open_update_log
from schemas.errors import Unauthenticated


@asynccontextmanager
async def running_hub(
    settings: Settings, database: Database, clock: Clock, services: Services
) -> AsyncIterator[Hub]:
    """A hub that flushes, polls, keeps alive and sweeps until the block ends; then it drains."""
    update_log = open_update_log(database)

    async def ask(access: Access) -> Access:
        return await services.access.recheck(access.account_id, access.session_id, access.document_id)

    committer = Committer(
        update_log,
        clock,
        window_seconds=settings.storage_window_seconds,
    )
    hub = Hub(update_log, committer, clock, settings, ask)
    rounds = Rounds(hub, update_log, clock, settings, services.access.ended_sessions)

    def sessions_ended(session_ids: Collection[str]) -> None:
        hub.authority.sessions_ended(session_ids, Unauthenticated())

    services.announcements.access_changed = hub.authority.access_changed
    services.announcements.sessions_ended = sessions_ended

    async def flush() -> None:
        await committer.run(hub.settlement)

    tasks = [
        asyncio.create_task(supervised(name, run), name=name)
        for name, run in {
            "commit": flush,
            "storage poll": rounds.poll_storage,
            "keep-alive": rounds.keep_alive,
            "presence sweep": rounds.sweep_presence,
        }.items()
    ]
    try:
        yield hub
    finally:
        await hub.drain()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
