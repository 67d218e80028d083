"""Servers with a bug put in: the checker must find every one of them, or it would find nothing else either.

Each is a function that changes the code of the running process, called before the server starts.
"""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

from collab_server import commit, hub, node
from collab_server.compaction import Compactor
from collab_server.live import document as live
from collab_server.live.messages import Update
from collab_server.live.replica import Replica
from collab_server.open_document import OpenBatch, OpenDocument
from schemas.errors import StorageUnavailable
from schemas.records import Committed

LOAD_SECONDS = 1.0


def ack_before_commit() -> None:
    """The ack goes out when an update is accepted."""
    original = OpenDocument.append

    def append(self: OpenDocument, peer: Any, effect: Any) -> bool:
        peer.acknowledge(effect.acks, self.applied)
        return original(self, peer, dataclasses.replace(effect, acks=0))

    OpenDocument.append = append  # type: ignore[method-assign]


def show_before_commit() -> None:
    """The others see an update when it is accepted."""
    original = OpenDocument.append

    def append(self: OpenDocument, peer: Any, effect: Any) -> bool:
        for other in self.peers.values():
            if other is not peer:
                other.send(Update(effect.update))
        return original(self, peer, effect)

    OpenDocument.append = append  # type: ignore[method-assign]


def answer_before_commit() -> None:
    """Who joins is answered at once, with what is not committed yet."""

    def carry_out(self: hub.Hub, document: Any, peer: Any, effects: Any) -> None:
        for effect in effects:
            if isinstance(effect, hub.Reply):
                peer.send(effect.message)
            else:
                original(self, document, peer, [effect])

    original = hub.Hub.carry_out
    hub.Hub.carry_out = carry_out  # type: ignore[method-assign]


def ack_known_at_once() -> None:
    """What brings nothing new is acked at once, also while the first copy of it is not committed."""

    def acknowledge(document: OpenDocument, peer: Any, count: int) -> None:
        if count:
            peer.acknowledge(count, document.applied)

    hub.Hub._acknowledge_after_all = staticmethod(acknowledge)  # type: ignore[method-assign]


def drop_on_unload() -> None:
    """A document goes with its last client, and takes what is unsaved along."""
    original = hub.Hub.leave

    def leave(self: hub.Hub, document: OpenDocument, peer: Any) -> None:
        original(self, document, peer)
        if not document.peers and not document.closed:
            document.gathering = None
            document.closed = True
            self._open.pop(document.id, None)

    hub.Hub.leave = leave  # type: ignore[method-assign]


def swallow_failed_commit() -> None:
    """A commit that the storage refused counts as done. Needs commits that fail."""

    async def append(self: commit.Committer, batches: Any) -> Any:
        try:
            return await self._log.append(batches)
        except StorageUnavailable:
            return [Committed(0) for _ in batches]

    commit.Committer._append_with_retries = append  # type: ignore[method-assign]


def register_before_load() -> None:
    """Who comes while a document is loaded gets an empty one."""
    original = hub.load_replica

    async def load_replica(stored: Any) -> Any:
        whole, size = await original(stored)
        unfinished = Replica()

        async def finish() -> None:
            await asyncio.sleep(LOAD_SECONDS)
            unfinished.load([whole.state_as_update()])
            unfinished.loaded()

        asyncio.get_running_loop().create_task(finish())
        return unfinished, size

    hub.load_replica = load_replica


def skip_causality() -> None:
    """An update is taken although something it builds on is unknown."""
    live.missing = lambda *_: {}  # type: ignore[assignment, misc]


def let_viewers_write() -> None:
    """The role is not asked."""
    original = live.LiveDocument.join

    def join(self: Any, peer: Any, principal: str, *, may_write: bool, wants_acks: bool) -> Any:
        return original(self, peer, principal, may_write=True, wants_acks=wants_acks)

    live.LiveDocument.join = join  # type: ignore[method-assign]


def trust_client_ids() -> None:
    """Anybody may write under anybody's client id."""

    def claims(self: Any, peer: Any, fresh: Any) -> tuple[int, ...]:
        return ()

    live.LiveDocument._claims = claims  # type: ignore[method-assign]


def show_one_of_many() -> None:
    """Of a batch with several updates the others are shown the first."""
    original = OpenDocument.show

    def show(self: OpenDocument, batch: OpenBatch) -> None:
        original(self, dataclasses.replace(batch, entries=batch.entries[:1], senders=batch.senders[:1]))

    OpenDocument.show = show  # type: ignore[method-assign]


def compact_without_the_last() -> None:
    """A checkpoint covers one update that is not in it. Needs rows that are pruned."""
    original = Compactor._in_worker

    async def in_worker(self: Compactor, *work: Any) -> Any:
        return await original(self, *work[:-1], work[-1][:-1])

    Compactor._in_worker = in_worker  # type: ignore[method-assign]


def commit_to_nowhere() -> None:
    """One commit in ten does not happen."""
    original = node.open_update_log
    calls = 0

    def opened(*args: Any, **more: Any) -> Any:
        log = original(*args, **more)
        append = log.append

        async def sometimes(batches: Any) -> Any:
            nonlocal calls
            calls += 1
            return [Committed(0) for _ in batches] if calls % 10 == 0 else await append(batches)

        log.append = sometimes
        return log

    node.open_update_log = opened  # type: ignore[assignment]


MUTANTS: dict[str, Callable[[], None]] = {
    mutant.__name__.replace("_", "-"): mutant
    for mutant in (
        ack_before_commit,
        show_before_commit,
        answer_before_commit,
        ack_known_at_once,
        drop_on_unload,
        swallow_failed_commit,
        register_before_load,
        skip_causality,
        let_viewers_write,
        trust_client_ids,
        show_one_of_many,
        compact_without_the_last,
        commit_to_nowhere,
    )
}
