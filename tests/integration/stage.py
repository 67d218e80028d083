"""A hub on a real database, with peers whose sockets are lists, and a log that can be held, broken and watched."""

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from pycrdt import Doc, Text

from collab_server.clock import SystemClock
from collab_server.commit import Committer
from collab_server.dialects.hocuspocus import Hocuspocus
from collab_server.dialects.y_websocket import YWebSocket
from collab_server.hub import Hub
from collab_server.live.messages import SyncStep1, SyncStep2, Update
from collab_server.open_document import OpenDocument
from collab_server.outbox import Outbox
from collab_server.peers import Peer
from collab_server.services.access import Access
from collab_server.settings import Settings
from persistence.database import Database
from persistence.tables import documents
from persistence.update_log import open_update_log
from schemas.errors import CollabError
from schemas.ids import Principal
from schemas.records import Batch, Outcome
from schemas.roles import Role

WAIT_SECONDS = 10
_client_ids = itertools.count(1000)  # Yjs draws them at random: never the same for two replicas


class WatchedLog:
    """The real log of a database, with a hand on its commits."""

    def __init__(self, database: Database) -> None:
        self._real = open_update_log(database)
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: list[Exception] = []
        self.started = asyncio.Event()
        self.loads = 0

    async def append(self, batches: Sequence[Batch]) -> list[Outcome]:
        self.started.set()
        if self.failures:
            raise self.failures.pop(0)
        await self.gate.wait()
        return await self._real.append(batches)

    async def load(self, document_id: str) -> Any:
        self.loads += 1
        return await self._real.load(document_id)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Client:
    """A Yjs replica with a peer in the hub. What the server sent is in ``frames``."""

    def __init__(self, hub: Hub, access: Access, codec: Any, client_id: int) -> None:
        self.frames: list[bytes] = []
        self.ended: list[CollabError] = []
        self._news = asyncio.Event()
        self._hub = hub
        outbox = Outbox(self._send, 1 << 20, self.ended.append)
        self.peer = Peer(access, codec, outbox, self._end)
        self.doc = Doc(client_id=client_id)
        self.text = self.doc.get("text", type=Text)
        self.document: OpenDocument | None = None

    async def _send(self, message: dict) -> None:
        self.frames.append(message["bytes"])
        self._news.set()

    def _end(self, _: Peer, error: CollabError) -> None:
        self.ended.append(error)
        self._news.set()

    async def join(self) -> "Client":
        self.document = await self._hub.join(self.peer)
        return self

    def say(self, message: Any) -> None:
        assert self.document is not None
        self._hub.receive(self.document, self.peer, message)

    def type(self, what: str) -> bytes:
        """Type locally and send the update."""
        before = self.doc.get_state()
        self.text += what
        update = self.doc.get_update(before)
        self.say(Update(update))
        return update

    def sync(self) -> None:
        self.say(SyncStep1(self.doc.get_state()))

    def bring(self) -> None:
        self.say(SyncStep2(self.doc.get_update()))

    def leave(self) -> None:
        assert self.document is not None
        self._hub.leave(self.document, self.peer)

    def take(self) -> str:
        """Apply every content frame received so far; the text."""
        for frame in self.frames:
            body = frame.removeprefix(self.peer.codec.prefix)
            if body[:2] in (b"\x00\x01", b"\x00\x02"):
                self.doc.apply_update(_payload(body))
        return str(self.text)

    @property
    def acks(self) -> int:
        return sum(frame.removeprefix(self.peer.codec.prefix) == b"\x08\x01" for frame in self.frames)

    async def until(self, condition: Any) -> None:
        """Wait until ``condition()`` holds; looked at whenever something arrives."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():
                self._news.clear()
                await self._news.wait()


def _payload(body: bytes) -> bytes:
    at, shift, size = 2, 0, 0
    while True:
        size |= (body[at] & 0x7F) << shift
        shift += 7
        at += 1
        if body[at - 1] < 0x80:
            return body[at : at + size]


class Stage:
    """One node. ``roles`` is what a recheck finds; a missing account has lost its role."""

    def __init__(self, database: Database, **settings: Any) -> None:
        self.database = database
        self.settings = Settings.model_construct(**{**Settings().model_dump(), **settings})
        self.log = WatchedLog(database)
        clock = SystemClock()
        self.committer = Committer(
            self.log,
            clock,
            window_seconds=self.settings.storage_window_seconds,
        )
        self.roles: dict[str, Role | CollabError] = {}
        self.hub = Hub(self.log, self.committer, clock, self.settings, self._recheck)

    def start_flusher(self) -> None:
        self._flusher = asyncio.create_task(self.committer.run(self.hub.settlement))

    async def kill_flusher(self) -> None:
        self._flusher.cancel()
        await asyncio.gather(self._flusher, return_exceptions=True)

    async def _recheck(self, access: Access) -> Access:
        async with self.database.read() as connection:
            version = (
                await connection.execute(
                    documents.select()
                    .with_only_columns(documents.c.acl_version)
                    .where(documents.c.id == access.document_id)
                )
            ).scalar_one()
        role = self.roles[access.account_id]
        if isinstance(role, CollabError):
            raise role
        return dataclasses.replace(access, role=role, acl_version=version)

    async def client(
        self, name: str, role: Role = Role.EDITOR, *, hocuspocus: bool = False, document: str = "doc", **more: Any
    ) -> Client:
        self.roles.setdefault(name, role)
        principal = Principal(f"account:{name}")
        version = more.pop("acl_version", 1)
        access = Access(name, name, f"session-{name}", document, role, principal, version, None)
        codec = more.pop("codec", None) or (Hocuspocus(document) if hocuspocus else YWebSocket(acks=True))
        return await Client(self.hub, access, codec, more.pop("client_id", next(_client_ids))).join()

    async def stored_text(self, document: str = "doc") -> str:
        """What a fresh process would find."""
        stored = await open_update_log(self.database).load(document)
        doc = Doc()
        for piece in stored.checkpoint.pieces if stored.checkpoint else ():
            doc.apply_update(piece)
        for row in stored.rows:
            for entry in row.entries:
                doc.apply_update(entry.update)
        return str(doc.get("text", type=Text))

    async def rows(self, document: str = "doc") -> int:
        return (await open_update_log(self.database).load(document)).head_seq

    async def change_access(self, document: str = "doc") -> None:
        """A grant changed: as the services do it, in the database."""
        async with self.database.write() as connection:
            await connection.execute(
                documents.update()
                .where(documents.c.id == document)
                .values(acl_version=documents.c.acl_version + 1)
            )


async def nobody_signed_out(_: Collection[str]) -> set[str]:
    """For ``Rounds``: all sessions go on."""
    return set()


@asynccontextmanager
async def stage(database: Database, *, make: bool = True, **settings: Any) -> AsyncIterator[Stage]:
    if make:
        async with database.write() as connection:
            now = datetime.now(UTC)
            await connection.execute(
                documents.insert().values(id="doc", kind="document", title="Doc", created_at=now, updated_at=now)
            )
    node = Stage(database, **settings)
    node.start_flusher()
    yield node
    node.log.gate.set()
    await node.hub.drain()
    await node.kill_flusher()
