"""The rounds a node makes: what stands in storage, who is still here, whose credential ends."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta

import structlog

from collab_server.hub import Hub
from collab_server.live.messages import EMPTY_AWARENESS, CredentialWanted
from collab_server.open_document import OpenDocument
from collab_server.ports import Clock, UpdateLog
from collab_server.settings import Settings
from schemas.errors import DocumentNotFound, StorageUnavailable, TokenExpired, Unauthenticated
from schemas.records import Head

log = structlog.get_logger(__name__)
EndedSessions = Callable[[Collection[str]], Awaitable[set[str]]]
ASK_BEFORE_EXPIRY = timedelta(seconds=60)


class Rounds:
    """Each method is one endless round, to be run under supervision."""

    def __init__(
        self, hub: Hub, update_log: UpdateLog, clock: Clock, settings: Settings, ended_sessions: EndedSessions
    ) -> None:
        self._hub = hub
        self._log = update_log
        self._clock = clock
        self._settings = settings
        self._ended_sessions = ended_sessions

    async def poll_storage(self) -> None:
        """One question for everything open: other nodes' rows, changed grants, deleted documents. So nodes
        converge and revocations arrive even with nothing but the database between them."""
        while True:
            await asyncio.sleep(self._settings.poll_seconds)
            try:
                await self.poll_once()
                await self.end_sessions()
            except StorageUnavailable as error:
                log.warning("the storage poll failed", error=error.detail)
            self.expire_credentials()
            self._hub.unload_idle()

    async def poll_once(self) -> None:
        documents = self._hub.documents
        if not documents:
            return
        heads = await self._log.heads([document.id for document in documents])
        for document in documents:
            try:
                await self._look_at(document, heads.get(document.id))
            except Exception:  # one document's trouble must not hide the news of all others
                log.exception("the poll of a document failed", document_id=document.id)

    async def _look_at(self, document: OpenDocument, head: Head | None) -> None:
        if document.closed:
            return
        if head is None:
            self._hub.close(document, DocumentNotFound())
            return
        if head.head_seq > document.applied and document.clean:
            await self._hub.catch_up(document)
        if self._hub.authority.is_stale(document, head.acl_version):
            await self._hub.authority.recheck(document)

    async def end_sessions(self) -> None:
        """Signed out on another node, expired, or the account disabled: a socket does not outlive it."""
        present = {peer.access.session_id for d in self._hub.documents for peer in d.peers.values()}
        if present and (over := await self._ended_sessions(present)):
            self._hub.authority.sessions_ended(over, Unauthenticated())

    def expire_credentials(self) -> None:
        """Ask for a new credential a minute before the old one ends; without one, end the peer with it."""
        now = self._clock.now()
        for document in self._hub.documents:
            for peer in tuple(document.peers.values()):
                expires_at = peer.access.expires_at
                if expires_at is None:
                    continue
                if expires_at <= now:
                    self._hub.authority.deny(document, peer, TokenExpired())
                elif expires_at - ASK_BEFORE_EXPIRY <= now and not peer.asked_for_credential:
                    peer.asked_for_credential = True
                    peer.send(CredentialWanted())

    async def keep_alive(self) -> None:
        """Yjs clients give up on a socket that is silent for 30 seconds; WebSocket pings are invisible to
        them. Whoever was told nothing for a round gets an empty awareness message."""
        while True:
            await asyncio.sleep(self._settings.keepalive_seconds)
            for document in self._hub.documents:
                for peer in document.peers.silent_ones():
                    peer.send(EMPTY_AWARENESS)
                for peer in tuple(document.peers.values()):
                    peer.outbox.silent = True

    async def sweep_presence(self) -> None:
        """Clients renew their state every 15 seconds; whoever did not for a whole round is gone."""
        while True:
            await asyncio.sleep(self._settings.awareness_expiry_seconds)
            for document in self._hub.documents:
                if document.live.presence.sweep():
                    document.show_presence()
