"""All live documents of this node, and the one interpreter of the core's effects."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from collab_server.commit import Committer
from collab_server.compaction import Compactor
from collab_server.live.document import DocumentLimits, LiveDocument
from collab_server.live.effects import Ack, Append, Close, Effect, Poisoned, PresenceChanged, Reply
from collab_server.live.messages import EMPTY_AWARENESS, Inbound
from collab_server.live.presence import Presence, PresenceLimits
from collab_server.live.replica import EngineFailure
from collab_server.loading import load_replica
from collab_server.open_document import OpenDocument
from collab_server.peers import Peer
from collab_server.ports import Clock, UpdateLog
from collab_server.services.access import Access
from collab_server.settings import Settings
from collab_server.supervision import BackgroundTasks
from schemas.errors import (
    ClientIdOwned,
    CollabError,
    DocumentDamaged,
    ReadOnly,
    Restarting,
    StorageUnavailable,
)
from schemas.records import AccessChanged, ClaimConflict, Committed, Outcome, Refused

log = structlog.get_logger(__name__)
Recheck = Callable[[Access], Awaitable[Access]]


class Hub:
    """Opens, runs and closes live documents. Everything that touches one is synchronous, so nothing can
    come between an update's check, its application and its place in the open batch."""

    def __init__(
        self, update_log: UpdateLog, committer: Committer, clock: Clock, settings: Settings, recheck: Recheck
    ) -> None:
        self._log = update_log
        self._committer = committer
        self._clock = clock
        self._settings = settings
        self._recheck = recheck
        self._open: dict[str, OpenDocument] = {}
        self._loading: dict[str, asyncio.Task[OpenDocument]] = {}
        self._tasks = BackgroundTasks()
        self._compactor = Compactor(update_log, clock, settings.keep_rows_hours)
        self._room = asyncio.Event()  # set whenever a batch was settled
        self._unsaved_bytes = 0  # in the batches of all documents
        self.draining = False

    @property
    def documents(self) -> tuple[OpenDocument, ...]:
        return tuple(self._open.values())

    # -- opening -------------------------------------------------------------------------------------------

    async def join(self, peer: Peer) -> OpenDocument:
        """Bring the peer's document to life if need be, and the peer into it.

        Raises ``DocumentNotFound``, ``DocumentDamaged``, ``StorageUnavailable``, ``Restarting``. A failed load
        is an error for everybody who waited, never an empty document.
        """
        while True:
            document = await self._document(peer.access.document_id)
            if not document.closed:
                break
        document.peers[peer.id] = peer
        access = peer.access
        self._carry_out(
            document,
            peer,
            document.live.join(
                peer.id,
                access.principal,
                may_write=access.role.may_write,
                wants_acks=peer.codec.wants_acks,
            ),
        )
        if access.acl_version != document.acl_version:  # granted under an older or newer list than we know
            self._tasks.start("recheck", self.recheck(document))
        return document

    async def _document(self, document_id: str) -> OpenDocument:
        if self.draining:
            raise Restarting
        document = self._open.get(document_id)
        if document is not None:
            return document
        loading = self._loading.get(document_id)
        if loading is None:
            loading = asyncio.get_running_loop().create_task(self._load(document_id))
            self._loading[document_id] = loading
            loading.add_done_callback(lambda _: self._loading.pop(document_id, None))
        return await asyncio.shield(loading)  # one waiter who goes away does not take the load with it

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
        )
        document = OpenDocument(document_id, live, stored.head_seq, stored.acl_version)
        document.rows_since_checkpoint = len(stored.rows)
        document.idle_since = self._clock.monotonic()
        self._open[document_id] = document
        log.debug("a document was opened", document_id=document_id, seq=stored.head_seq)
        return document

    # -- running -------------------------------------------------------------------------------------------

    def receive(self, document: OpenDocument, peer: Peer, message: Inbound) -> None:
        """One message of a peer that has joined ``document``. One synchronous step."""
        if peer.id in document.peers:
            self._carry_out(document, peer, document.live.receive(peer.id, message))

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

    def _carry_out(self, document: OpenDocument, peer: Peer, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Append():
                    self._unsaved_bytes += len(effect.update)
                    if document.append(peer, effect):
                        self._committer.dirty(document)
                case Ack(_, count):
                    self._acknowledge_after_all(document, peer, count)
                case Reply(_, message, shows_content, promises):
                    newest = document.newest_batch if shows_content or promises else None
                    frame = peer.codec.encode(message)
                    if newest is not None and frame is not None:
                        (newest.promises if promises else newest.held).append((peer, frame))
                    elif frame is not None:
                        peer.outbox.push(frame)
                case PresenceChanged():
                    self._schedule_presence(document)
                case Close(_, error):
                    self.leave(document, peer)
                    peer.end(error)
                case Poisoned(_, reason):
                    log.error("the engine failed on an update", document_id=document.id, error=reason)
                    self.close(document, Restarting(), but=peer)

    @staticmethod
    def _acknowledge_after_all(document: OpenDocument, peer: Peer, count: int) -> None:
        """I7: an ack for "nothing new" may be about something that is still being committed."""
        if count == 0:
            return
        newest = document.newest_batch
        if newest is None:
            peer.acknowledge(count, document.applied)
        else:
            newest.acks[peer] = newest.acks.get(peer, 0) + count

    def _schedule_presence(self, document: OpenDocument) -> None:
        if not document.presence_scheduled:
            document.presence_scheduled = True
            delay = self._settings.awareness_tick_ms / 1000
            asyncio.get_running_loop().call_later(delay, document.show_presence)

    def leave(self, document: OpenDocument, peer: Peer) -> None:
        """The peer is gone. What it sent stays in the open batch: nothing that persists is its child."""
        if document.peers.pop(peer.id, None) is None:
            return
        self._carry_out(document, peer, document.live.leave(peer.id))
        if not document.peers:
            document.idle_since = self._clock.monotonic()

    # -- what became of a batch ----------------------------------------------------------------------------

    def settle(self, document: OpenDocument, outcome: Outcome) -> None:
        """The committing batch of ``document`` has this outcome."""
        if document.closed:  # abandoned meanwhile: whoever opened it again has to hear of the row
            self._unsaved_bytes -= document.committing.bytes if document.committing else 0
            document.committing = None
            self.access_changed(document.id)
            return
        match outcome:
            case Committed(seq):
                self._committed(document, seq)
            case AccessChanged(acl_version):
                self._tasks.start("recheck authors", self._recheck_authors(document, acl_version))
            case ClaimConflict(owners):
                self._refuse_claims(document, set(owners))
            case Refused(error):
                self._abandon(document, error)
        self._room.set()

    def _committed(self, document: OpenDocument, seq: int) -> None:
        batch, document.committing = document.committing, None
        assert batch is not None, "I1: only what was being committed can be committed"
        self._unsaved_bytes -= batch.bytes
        document.mark_applied(seq)
        document.show(batch)
        for peer, count in batch.acks.items():
            peer.acknowledge(count, seq)
        for peer, frame in batch.promises:
            peer.outbox.push(frame)
        if document.applied < seq:
            self._tasks.start("catch up", self.catch_up(document))
        document.rows_since_checkpoint += 1
        if document.rows_since_checkpoint >= self._settings.compact_after_updates:
            document.rows_since_checkpoint = 0
            self._tasks.start("compact", self._compactor.compact(document.id))

    async def _recheck_authors(self, document: OpenDocument, acl_version: int) -> None:
        """The grants changed before the commit: only who may still write is written (I13)."""
        batch = document.committing
        checked: set[str] = set()
        while batch is not None and document.committing is batch:
            authors = batch.authors | (document.gathering.authors if document.gathering else {})
            author = next((a for name, a in authors.items() if name not in checked), None)
            if author is None:
                document.acl_version = acl_version
                document.unseal()
                self._committer.dirty(document)
                break
            try:
                access = await self._recheck(author)
                if not access.role.may_write:
                    raise ReadOnly
            except StorageUnavailable as error:
                self.give_up(document, error)
                return
            except CollabError:
                log.info("a revoked author's unsaved updates are dropped", document_id=document.id)
                await self.recheck(document)  # ends those who lost their access, each with its own reason
                self._abandon(document, Restarting())  # the others come back to a document without it
                return
            checked.add(author.principal)
        await self.recheck(document)

    def _refuse_claims(self, document: OpenDocument, clients: set[int]) -> None:
        """Another node's writer was first with these client ids; ours lose."""
        batch = document.committing
        assert batch is not None
        losers = {principal for client, principal in batch.claims.items() if client in clients}
        for peer in tuple(document.peers.values()):
            if peer.access.principal in losers:
                self.leave(document, peer)
                peer.end(ClientIdOwned())
        self._abandon(document, Restarting())

    def still_waiting(self, document: OpenDocument) -> None:
        """The storage is slow. Nothing is shown before its commit, to nobody: whoever saw what a crash then
        takes back would bring it along as somebody else's work. But a y-sweet client leaves after three
        silent seconds."""
        for batch in (document.committing, document.gathering):
            for peer, _ in batch.promises if batch else ():
                peer.send(EMPTY_AWARENESS)

    def give_up(self, document: OpenDocument, error: StorageUnavailable) -> None:
        """Nothing in the document's batches was acked: its clients still have it and will bring it again."""
        self._abandon(document, error)

    def _abandon(self, document: OpenDocument, error: CollabError) -> None:
        self._unsaved_bytes -= document.unsaved_bytes
        document.committing = document.gathering = None
        self.close(document, error)
        self._room.set()

    # -- news from storage and from the accounts -------------------------------------------------------------

    async def catch_up(self, document: OpenDocument) -> None:
        """Apply and show the rows another node has written."""
        if document.catching_up or document.closed:
            return
        document.catching_up = True
        try:
            rows = await self._log.rows_after(document.id, document.applied)
            for row in rows:
                if row.seq in document.ahead or row.seq <= document.applied:
                    continue
                for entry in row.entries:
                    document.live.merge_committed(entry.update, entry.principal)
                    document.show_committed_elsewhere(entry.update)
                document.mark_applied(row.seq)
        except (EngineFailure, CollabError) as failure:
            log.warning("a document cannot catch up", document_id=document.id, error=str(failure))
            if not isinstance(failure, StorageUnavailable) or isinstance(failure, DocumentDamaged):
                self._abandon(document, Restarting())
        finally:
            document.catching_up = False

    async def recheck(self, document: OpenDocument) -> None:
        """Ask again what each peer may do here; those who may nothing are ended with the reason."""
        versions: list[int] = []
        for peer in tuple(document.peers.values()):
            try:
                access = await self._recheck(peer.access)
            except StorageUnavailable:
                continue  # no authority to decide: the poll will ask again
            except CollabError as error:
                self.deny(document, peer, error)
                continue
            versions.append(access.acl_version)
            changed = access.role.may_write != peer.access.role.may_write
            peer.access = access
            if changed and peer.id in document.peers:
                effects = document.live.set_may_write(peer.id, access.role.may_write)
                self._carry_out(document, peer, effects)
        # What is still unsaved was accepted under the older grants: only its refusal by the log, which knows
        # the newer ones, may lead to a new look at its authors. So the version moves only when all is saved.
        if document.clean and versions:
            document.acl_version = max(document.acl_version, min(versions))

    def renew(self, document: OpenDocument, peer: Peer, access: Access) -> None:
        """The peer brought a new credential: it is told what it may do, as after the first."""
        if peer.id in document.peers:
            peer.access = access
            peer.asked_for_credential = False
            self._carry_out(document, peer, document.live.set_may_write(peer.id, access.role.may_write))

    def deny(self, document: OpenDocument, peer: Peer, error: CollabError) -> None:
        """End a peer that may not be here (any more)."""
        if peer.id in document.peers:
            self.leave(document, peer)
            peer.end(error)

    def access_changed(self, document_id: str) -> None:
        """A grant of this document changed, or the document was deleted."""
        document = self._open.get(document_id)
        if document is not None:
            self._tasks.start("recheck", self.recheck(document))

    def sessions_ended(self, session_ids: set[str], error: CollabError) -> None:
        for document in self.documents:
            for peer in tuple(document.peers.values()):
                if peer.access.session_id in session_ids:
                    self.deny(document, peer, error)

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

    def unload_idle(self) -> None:
        """Forget documents that nobody has open and that are wholly saved."""
        now = self._clock.monotonic()
        for document in self.documents:
            idle = not document.peers and document.clean and not document.catching_up
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
        await self._tasks.cancel()
        self._compactor.close()
