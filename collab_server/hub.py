"""All live documents of this node, and the one interpreter of the core's effects."""

import asyncio

import structlog

from collab_server.authority import Ask, Authority
from collab_server.commit import Committer
from collab_server.compaction import Compactor
from collab_server.live.document import DocumentLimits, LiveDocument
from collab_server.live.effects import Ack, Append, Close, Effect, Poisoned, PresenceChanged, Reply
from collab_server.live.messages import Inbound
from collab_server.live.presence import Presence, PresenceLimits
from collab_server.live.replica import EngineFailure
from collab_server.loading import load_replica
from collab_server.open_document import MAX_HELD_ANSWERS, OpenBatch, OpenDocument
from collab_server.peers import Peer
from collab_server.ports import Clock, UpdateLog
from collab_server.settings import Settings
from collab_server.settlement import Settlement
from collab_server.supervision import BackgroundTasks
from schemas.errors import (
    CollabError,
    DocumentDamaged,
    DocumentNotFound,
    RateLimited,
    Restarting,
    StorageUnavailable,
)

log = structlog.get_logger(__name__)


class Hub:
    """Opens, runs and closes live documents. Everything that touches one is synchronous, so nothing can
    come between an update's check, its application and its place in the open batch."""

    def __init__(
        self, update_log: UpdateLog, committer: Committer, clock: Clock, settings: Settings, ask: Ask
    ) -> None:
        self.committer = committer
        self.tasks = BackgroundTasks()
        self.authority = Authority(self, ask)
        self.settlement = Settlement(self)
        self.draining = False
        self._log = update_log
        self._clock = clock
        self._settings = settings
        self._open: dict[str, OpenDocument] = {}
        self._loading: dict[str, asyncio.Task[OpenDocument]] = {}
        self._compactor = Compactor(update_log, clock, settings.keep_rows_hours)
        self._room = asyncio.Event()  # set whenever something that was unsaved no longer is
        self._unsaved_bytes = 0  # in the batches of all documents

    @property
    def documents(self) -> tuple[OpenDocument, ...]:
        return tuple(self._open.values())

    def find(self, document_id: str) -> OpenDocument | None:
        return self._open.get(document_id)

    # -- opening -------------------------------------------------------------------------------------------

    async def join(self, peer: Peer) -> OpenDocument:
        """Bring the peer's document to life if need be, and the peer into it.

        Raises ``DocumentNotFound``, ``DocumentDamaged``, ``StorageUnavailable``, ``Restarting``. A failed load
        is an error for everybody who waited, never an empty document.
        """
        while True:
            document = self._open.get(peer.access.document_id)
            if document is None:
                document = await self._loaded(peer.access.document_id)
            else:  # whoever comes from another node may bring what that one committed a moment ago
                heads = await self._log.heads([document.id])
                if document.id in heads and heads[document.id].head_seq > document.applied:
                    await self.catch_up(document)
            if self.draining:
                raise Restarting
            if not document.closed:
                break
        access = peer.access
        document.peers[peer.id] = peer
        effects = document.live.join(
            peer.id, access.principal, may_write=access.role.may_write, wants_acks=peer.codec.wants_acks
        )
        self.carry_out(document, peer, effects)
        document.acl_version = max(document.acl_version, access.acl_version)
        if access.acl_version < document.acl_version:  # let in under grants that have changed since
            self.tasks.start("recheck", self.authority.recheck(document))
        return document

    async def _loaded(self, document_id: str) -> OpenDocument:
        if self.draining:
            raise Restarting
        loading = self._loading.get(document_id)
        if loading is None:
            loading = asyncio.get_running_loop().create_task(self._load(document_id))
            self._loading[document_id] = loading
            loading.add_done_callback(lambda done: self._loaded_or_not(document_id, done))
        return await asyncio.shield(loading)  # one waiter who goes away does not take the load with it

    def _loaded_or_not(self, document_id: str, done: asyncio.Task[OpenDocument]) -> None:
        self._loading.pop(document_id, None)
        if not done.cancelled():
            done.exception()  # it is for those who wait; when they have all gone away, for nobody

    async def _load(self, document_id: str) -> OpenDocument:
        stored = await self._log.load(document_id)
        try:
            replica, stored_bytes = await load_replica(stored)
        except EngineFailure as failure:
            log.error("a stored document cannot be loaded", document_id=document_id, error=str(failure))
            raise DocumentDamaged from None
        settings = self._settings
        live = LiveDocument(
            replica,
            stored.client_owners,
            presence=Presence(PresenceLimits(settings.max_awareness_bytes, settings.max_awareness_state_bytes)),
            limits=DocumentLimits(
                settings.max_update_bytes, settings.max_frame_bytes, settings.max_document_bytes
            ),
            stored_bytes=stored_bytes,
            strict_client_ids=settings.client_id_ownership == "strict",
        )
        document = OpenDocument(document_id, live, stored.head_seq, stored.acl_version)
        document.rows_since_checkpoint = len(stored.rows)
        document.idle_since = self._clock.monotonic()
        if self.draining:
            raise Restarting
        self._open[document_id] = document
        log.debug("a document was opened", document_id=document_id, seq=stored.head_seq)
        return document

    # -- running -------------------------------------------------------------------------------------------

    def receive(self, document: OpenDocument, peer: Peer, message: Inbound) -> None:
        """One message of a peer that has joined ``document``. One synchronous step.

        A node that drains takes nothing more: what it would take now might not be saved before it goes, and
        its clients bring it again elsewhere.
        """
        if peer.id in document.peers and not self.draining:
            self.carry_out(document, peer, document.live.receive(peer.id, message))

    def congested(self, document: OpenDocument) -> bool:
        """Whether so much is unsaved that sockets should not be read (I9)."""
        settings = self._settings
        return (
            document.unsaved_bytes > settings.document_window_bytes
            or self._unsaved_bytes > settings.storage_window_bytes
        )

    async def room(self, document: OpenDocument) -> None:
        """Wait while it is congested; its socket is not read meanwhile, and TCP slows the client down."""
        while self.congested(document) and not document.closed:
            self._room.clear()
            await self._room.wait()

    def carry_out(self, document: OpenDocument, peer: Peer, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Append():
                    self._unsaved_bytes += len(effect.update)
                    if document.append(peer, effect):
                        self.committer.dirty(document)
                case Ack(_, count):
                    self._acknowledge_after_all(document, peer, count)
                case Reply():
                    self._reply(document, peer, effect)
                case PresenceChanged():
                    self._schedule_presence(document)
                case Close(_, error):
                    self.leave(document, peer)
                    peer.end(error)
                case Poisoned(_, reason):
                    log.error("the engine failed on an update", document_id=document.id, error=reason)
                    self.close(document, Restarting(), but=peer)

    def _reply(self, document: OpenDocument, peer: Peer, reply: Reply) -> None:
        frame = peer.codec.encode(reply.message)
        newest = document.newest_batch
        if frame is None:
            return
        if newest is None or not (reply.shows_content or reply.promises):
            peer.outbox.push(frame)
        elif reply.promises:
            newest.promises[peer] = frame  # a newer one says more
        elif not newest.hold(peer, frame):
            error = RateLimited(f"{MAX_HELD_ANSWERS} answers wait for a commit already.")
            self.authority.deny(document, peer, error)

    @staticmethod
    def _acknowledge_after_all(document: OpenDocument, peer: Peer, count: int) -> None:
        """I7: an ack for "nothing new" may be about something that is still being committed."""
        if count == 0:
            return
        newest = document.newest_batch
        if newest is None:
            peer.acknowledge(count, document.applied)
        else:
            newest.owe(peer, count)

    def _schedule_presence(self, document: OpenDocument) -> None:
        if not document.presence_scheduled:
            document.presence_scheduled = True
            delay = self._settings.awareness_tick_ms / 1000
            asyncio.get_running_loop().call_later(delay, document.show_presence)

    def leave(self, document: OpenDocument, peer: Peer) -> None:
        """The peer is gone. What it sent stays in the open batch: nothing that persists is its child."""
        if document.peers.pop(peer.id, None) is None:
            return
        self.carry_out(document, peer, document.live.leave(peer.id))
        if not document.peers:
            document.idle_since = self._clock.monotonic()

    # -- batches -------------------------------------------------------------------------------------------

    def saved(self, document: OpenDocument) -> OpenBatch | None:
        """The committing batch is unsaved no longer."""
        batch, document.committing = document.committing, None
        self._unsaved_bytes -= batch.size if batch else 0
        self._room.set()
        return batch

    def abandon(self, document: OpenDocument, error: CollabError) -> None:
        """Forget what is unsaved, which nobody was shown or acked, and everything that was built on it."""
        self._unsaved_bytes -= document.unsaved_bytes
        document.committing = document.gathering = None
        self.close(document, error)

    def consider_compaction(self, document: OpenDocument) -> None:
        if document.rows_since_checkpoint >= self._settings.compact_after_updates:
            document.rows_since_checkpoint = 0
            self.tasks.start("compact", self._compactor.compact(document.id))

    async def catch_up(self, document: OpenDocument) -> None:
        """Apply and show the rows another node has written. One at a time; who comes meanwhile waits for it."""
        async with document.catching_up:
            if not document.closed:
                await self._catch_up(document)

    async def _catch_up(self, document: OpenDocument) -> None:
        try:
            for row in await self._log.rows_after(document.id, document.applied):
                if row.seq in document.ahead or row.seq <= document.applied:
                    continue
                for entry in row.entries:
                    document.live.merge_committed(entry.update, entry.principal)
                    document.show_committed_elsewhere(entry.update)
                document.mark_applied(row.seq)
        except (EngineFailure, CollabError) as failure:
            log.warning("a document cannot catch up", document_id=document.id, error=str(failure))
            if isinstance(failure, DocumentNotFound):
                self.abandon(document, failure)
            elif not isinstance(failure, StorageUnavailable) or isinstance(failure, DocumentDamaged):
                self.abandon(document, Restarting())

    # -- closing -------------------------------------------------------------------------------------------

    def close(self, document: OpenDocument, error: CollabError, *, but: Peer | None = None) -> None:
        """Forget the document at once and end its peers: for when memory must not be trusted any more."""
        document.closed = True
        if self._open.get(document.id) is document:
            del self._open[document.id]
        for peer in tuple(document.peers.values()):
            if peer is not but:
                document.peers.pop(peer.id, None)
                peer.end(error)
        self._room.set()

    def unload_idle(self) -> None:
        """Forget documents that nobody has open and that are wholly saved."""
        now = self._clock.monotonic()
        for document in self.documents:
            idle = not document.peers and document.clean and not document.catching_up.locked()
            if idle and now - document.idle_since >= self._settings.unload_after_seconds:
                document.closed = True
                del self._open[document.id]
                log.debug("an idle document was unloaded", document_id=document.id)

    async def settled(self, document: OpenDocument) -> None:
        """Wait until nothing of the document is in memory alone."""
        while not document.clean:
            self._room.clear()
            await self._room.wait()

    async def drain(self) -> None:
        """Save what is open, then end everybody so that they reconnect elsewhere."""
        self.draining = True
        try:
            async with asyncio.timeout(self._settings.drain_seconds):
                for document in self.documents:
                    await self.settled(document)
        except TimeoutError:
            log.warning("shutting down with unsaved updates: they were not acked and stay with their clients")
        for document in self.documents:
            self.close(document, Restarting())
        await self.tasks.cancel()
        self._compactor.close()
