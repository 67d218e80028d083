"""Our write path alone, in this process and without a socket: where the microseconds of a keystroke go.

Each step's share is the difference between two loops, one with and one without it. Best of the rounds: the
work is the same every time, and everything else on the machine only adds.
"""

import asyncio
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.progress import Progress
from rich.table import Table
from sqlalchemy import insert

from collab_server.dialects.hocuspocus import decode as decode_hocuspocus
from collab_server.dialects.y_websocket import YWebSocket
from collab_server.hub import Hub
from collab_server.live.document import LiveDocument
from collab_server.live.guard import advance, fresh_clients, inspect_update, missing
from collab_server.live.messages import Update
from collab_server.live.replica import Replica
from collab_server.open_document import OpenDocument
from collab_server.outbox import Outbox
from collab_server.peers import Peer
from collab_server.ports import UpdateLog
from collab_server.services.access import Access
from collab_server.settings import Settings
from persistence.database import Database
from persistence.tables import documents
from persistence.update_log import open_update_log
from schemas.ids import Principal, new_id
from schemas.records import Batch, Entry
from schemas.roles import Role
from tests.backends import NoBackend, PostgresServer, migrated_sqlite
from tests.bench.keystrokes import CLIENT_ID, Session
from tests.bench.rooms import hocuspocus_room, y_websocket_room

KEYSTROKES = 5_000
BATCHES = (1, 10, 100)
COMMITS = 60  # in a round
STEPS = {
    "decode": "frame to message (y-websocket)",
    "guard": "guard: every byte checked",
    "causality": "dependencies known, whose client ids",
    "apply": "the engine, and the Doc's state vector",
    "rules": "the document's rules and effects",
    "append": "hub: into the open batch",
    "total": "frame to open batch",
    "decode_hocuspocus": "frame to message (Hocuspocus)",
}


def measure(session: Session, progress: Progress, *, rounds: int) -> dict[str, float]:
    """All figures, in microseconds of this process' CPU per keystroke."""
    task = progress.add_task("Write path: a keystroke", total=3)
    numbers = {f"write_path.{step}_us": value for step, value in _steps(session, rounds).items()}
    progress.advance(task)
    progress.update(task, description="Write path: commits on SQLite")
    numbers |= _commits("sqlite", session, rounds)
    progress.advance(task)
    progress.update(task, description="Write path: commits on Postgres")
    try:
        numbers |= _commits("postgres", session, rounds)
    except NoBackend as missing_server:
        progress.console.print(f"No Postgres: {missing_server}")
    progress.advance(task)
    return numbers


# -- up to the open batch ----------------------------------------------------------------------------------


def _steps(session: Session, rounds: int) -> dict[str, float]:
    updates = session.updates[:KEYSTROKES]
    room = y_websocket_room(0, "")
    frames = [room.update_frame(update) for update in updates]
    elsewhere = hocuspocus_room(0, "", new_id(), "")
    hocuspocus = [elsewhere.update_frame(update) for update in updates]
    runs = [_one_round(updates, frames, hocuspocus) for _ in range(rounds)]
    best = {name: min(run[name] for run in runs) for name in runs[0]}
    found = {
        "decode": best["decode"],
        "guard": best["guard"],
        "causality": best["checked"] - best["guard"],
        "apply": best["applied"] - best["checked"],
        "rules": best["received"] - best["applied"],
        "append": best["total"] - best["received"] - best["decode"],
        "total": best["total"],
        "decode_hocuspocus": best["decode_hocuspocus"],
    }
    return {name: max(0.0, value) for name, value in found.items()}


def _one_round(updates: list[bytes], frames: list[bytes], hocuspocus: list[bytes]) -> dict[str, float]:
    decode = YWebSocket().decode
    clocks: dict[int, int] = {}

    def checked(update: bytes) -> None:
        footprint = inspect_update(update)
        missing(footprint, clocks)
        fresh_clients(footprint, clocks)
        advance(footprint, clocks)

    replica = Replica()
    live = LiveDocument(Replica(), {})
    live.join(1, "anna", may_write=True, wants_acks=False)
    messages = [Update(update) for update in updates]
    return {
        "decode": _timed(decode, frames),
        "decode_hocuspocus": _timed(decode_hocuspocus, hocuspocus),
        "guard": _timed(inspect_update, updates),
        "checked": _timed(checked, updates),
        "applied": _timed(lambda update: _apply(replica, update), updates),
        "received": _timed(lambda message: live.receive(1, message), messages),
        "total": _whole(frames),
    }


def _apply(replica: Replica, update: bytes) -> None:
    footprint = inspect_update(update)
    missing(footprint, replica.clocks)
    fresh_clients(footprint, replica.clocks)
    replica.apply(update, footprint)


def _whole(frames: list[bytes]) -> float:
    """From the frame's bytes to its place in the open batch, as the y-websocket loop does it."""
    codec = YWebSocket()
    committer: Any = SimpleNamespace(dirty=lambda document: None)
    nothing: Any = SimpleNamespace()
    hub = Hub(nothing, committer, nothing, Settings.model_construct(), nothing)
    document = OpenDocument("document", LiveDocument(Replica(), {}), 0, 1)
    access = Access("anna", "Anna", "s", "document", Role.EDITOR, Principal("anna"), 1, None)
    peer = Peer(access, codec, Outbox(nothing, 1 << 20, nothing), nothing)
    document.peers[peer.id] = peer
    document.live.join(peer.id, "anna", may_write=True, wants_acks=False)

    def receive(frame: bytes) -> None:
        hub.receive(document, peer, codec.decode(frame))
        hub.congested(document)

    spent = _timed(receive, frames)
    batch = document.gathering
    assert batch is not None
    assert len(batch.entries) == len(frames)
    return spent


def _timed(function: Callable[[Any], object], arguments: Sequence[Any]) -> float:
    started = time.process_time_ns()
    for argument in arguments:
        function(argument)
    return (time.process_time_ns() - started) / 1000 / len(arguments)


# -- the commit --------------------------------------------------------------------------------------------


def _commits(dialect: str, session: Session, rounds: int) -> dict[str, float]:
    with _database(dialect) as url:
        return asyncio.run(_commit_costs(dialect, url, session, min(rounds, 5)))


@contextmanager
def _database(dialect: str) -> Iterator[str]:
    """The URL of a migrated database: a file on the disk, or a real Postgres server."""
    if dialect == "sqlite":
        folder = Path(tempfile.mkdtemp(prefix="collab-bench-"))
        try:
            migrated_sqlite(folder / "collab.db")
            yield f"sqlite+aiosqlite:///{folder / 'collab.db'}"
        finally:
            shutil.rmtree(folder)
        return
    server = PostgresServer.start()
    try:
        yield server.create()
    finally:
        server.stop()


async def _commit_costs(dialect: str, url: str, session: Session, rounds: int) -> dict[str, float]:
    database = await Database.open(url)
    try:
        log = open_update_log(database)
        async with database.write() as connection:
            now = datetime.now(UTC)
            row = {"id": "a", "kind": "document", "title": "", "created_at": now, "updated_at": now}
            await connection.execute(insert(documents).values(**row))
        spent: dict[int, list[tuple[float, float]]] = {size: [] for size in BATCHES}
        await _commit_some(log, session.updates[:1], {CLIENT_ID: "account:anna"})
        for _ in range(rounds):
            for size in BATCHES:
                spent[size].append(await _commit_some(log, session.updates[:size], {}))
        numbers: dict[str, float] = {}
        for size, rounds_of_it in spent.items():
            name = f"write_path.commit.{dialect}.{size}"
            numbers[f"{name}.cpu_us_per_keystroke"] = min(cpu for cpu, _ in rounds_of_it) * 1e6 / size
            numbers[f"{name}.ms_per_commit"] = statistics.median(wall for _, wall in rounds_of_it) * 1000
        return numbers
    finally:
        await database.close()


async def _commit_some(log: UpdateLog, updates: list[bytes], claims: dict[int, str]) -> tuple[float, float]:
    """CPU and wall seconds of one commit of these updates."""
    entries = tuple(Entry("account:anna", update) for update in updates)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(COMMITS):
        await log.append([Batch("a", os.urandom(16), 1, entries, claims)])
    return (time.process_time() - cpu) / COMMITS, (time.perf_counter() - wall) / COMMITS


def tables(numbers: dict[str, float]) -> list[Table]:
    """Nothing when the write path was not measured."""
    if "write_path.total_us" not in numbers:
        return []
    steps = Table("step", "CPU µs", title="Write path: one keystroke, in process, warm")
    for step, what in STEPS.items():
        steps.add_row(what, f"{numbers[f'write_path.{step}_us']:.2f}", style="bold" if step == "total" else None)
    commits = Table("storage", "keystrokes", "CPU µs / keystroke", "ms / commit", title="Write path: one commit")
    for dialect in ("sqlite", "postgres"):
        for size in BATCHES:
            name = f"write_path.commit.{dialect}.{size}"
            if f"{name}.ms_per_commit" in numbers:
                cpu, wall = numbers[f"{name}.cpu_us_per_keystroke"], numbers[f"{name}.ms_per_commit"]
                commits.add_row(dialect, str(size), f"{cpu:.1f}", f"{wall:.2f}")
    return [steps, commits]
