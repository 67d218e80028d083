"""Compaction: log rows merged into one stored state, verified before any row goes.

Built from storage and not from the live ``Doc``, in a worker process: a merge holds the interpreter's lock
for as long as it takes, and a crash there costs a task, not the node.
"""

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import timedelta

import structlog

from collab_server.live.bytes_replica import BytesReplica
from collab_server.live.guard import inspect_own_state
from collab_server.live.replica import UPDATES_PER_TRANSACTION, EngineFailure, Replica
from collab_server.ports import Clock, UpdateLog
from schemas.errors import CollabError
from schemas.records import Checkpoint

log = structlog.get_logger(__name__)
Merge = Callable[[tuple[bytes, ...], list[bytes]], bytes]


def merged_state(pieces: tuple[bytes, ...], updates: list[bytes]) -> bytes:
    """One update that stands for all of them. Raises ``EngineFailure`` unless a fresh replica made from it
    alone holds the same structs and deletions. Bytes prove nothing here: the engine joins neighbours when it
    loads, and orders clients as it likes. Runs in the worker process."""
    source = Replica()
    for piece in pieces:
        source.load([piece])
    for at in range(0, len(updates), UPDATES_PER_TRANSACTION):
        source.load(updates[at : at + UPDATES_PER_TRANSACTION])
    state = source.state_as_update()
    copy = Replica()
    copy.load([state])
    if _held(copy) != _held(source):
        raise EngineFailure("the merged state does not reproduce itself")
    return state


def merged_bytes(pieces: tuple[bytes, ...], updates: list[bytes]) -> bytes:
    """As ``merged_state``, for a document that the engine cannot hold: nothing is interpreted or dropped."""
    source = BytesReplica([*pieces, *updates])
    state = source.state_as_update()
    if BytesReplica([state]).clocks != source.clocks:
        raise EngineFailure("the merged bytes do not reproduce themselves")
    return state


def _held(replica: Replica) -> tuple[dict[int, int], Mapping[int, tuple[tuple[int, int], ...]]]:
    """The clocks and the deletions of each client."""
    replica.loaded()
    deletions = inspect_own_state(replica.state_as_update(replica.state_vector())).deletes
    return dict(replica.clocks), deletions


def _end_with_parent() -> None:
    """Runs in the worker. It holds both ends of the queue it waits on, so it would outlive a killed server."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Compactor:
    """One worker process at most, started when first needed."""

    def __init__(self, update_log: UpdateLog, clock: Clock, keep_rows_hours: float) -> None:
        self._log = update_log
        self._clock = clock
        self._keep = timedelta(hours=keep_rows_hours)
        self._pool: ProcessPoolExecutor | None = None
        self._busy: set[str] = set()
        self._turn = asyncio.Semaphore(1)  # one document in memory at a time

    async def compact(self, document_id: str) -> None:
        """Store a checkpoint of everything committed so far, then drop rows that two checkpoints cover and
        that are older than history keeps. Failing changes nothing: the rows are all still there."""
        if document_id in self._busy:
            return
        self._busy.add(document_id)
        try:
            async with self._turn:
                await self._compact(document_id)
        except (CollabError, EngineFailure, BrokenProcessPool) as failure:
            log.warning("a compaction failed; the log is as it was", document_id=document_id, error=str(failure))
            if isinstance(failure, BrokenProcessPool):
                self._pool = None
        finally:
            self._busy.discard(document_id)

    async def _compact(self, document_id: str) -> None:
        stored = await self._log.load(document_id)
        if not stored.rows:
            return
        updates = [entry.update for row in stored.rows for entry in row.entries]
        pieces = stored.checkpoint.pieces if stored.checkpoint else ()
        bytes_only = stored.bytes_only
        state = await self._in_worker(merged_bytes if bytes_only else merged_state, pieces, updates)
        await self._log.add_checkpoint(document_id, Checkpoint(stored.head_seq, (state,), bytes_only))
        pruned = await self._log.prune(document_id, rows_older_than=self._clock.now() - self._keep)
        log.info("compacted", document_id=document_id, rows=len(stored.rows), pruned=pruned, bytes=len(state))

    async def _in_worker(self, merge: Merge, pieces: tuple[bytes, ...], updates: list[bytes]) -> bytes:
        if self._pool is None:
            # A fresh interpreter: a fork would copy our sockets, our locks and the database connections.
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=_end_with_parent)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, merge, pieces, updates)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
