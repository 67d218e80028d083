"""The servers that are compared, each a process of its own on the servers' core, as published and by default."""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from collab_server.web.build import find_node, install
from tests.bench.cpu import pinned
from tests.bench.rooms import Room, hocuspocus_room, y_websocket_room
from tests.node import PEERS, START_SECONDS, STOP_SECONDS
from tests.server import Server

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Contender:
    """``room()`` makes a fresh document; ``durability`` is what has happened to an update others can see."""

    name: str
    title: str
    durability: str
    pid: int
    room: Callable[[], Awaitable[Room]]


@asynccontextmanager
async def contenders(names: list[str], core: int, folder: Path) -> AsyncIterator[list[Contender]]:
    """Start those of ``NAMES`` that are asked for."""
    async with AsyncExitStack() as stack:
        started: list[Contender] = []
        ours: list[Contender] | None = None
        for name in names:
            if name.startswith("ours"):
                ours = ours or await stack.enter_async_context(_ours(core, folder))
                started += [contender for contender in ours if contender.name == name]
            else:
                started.append(await stack.enter_async_context(_PEERS[name](core, folder)))
        yield started


@asynccontextmanager
async def _ours(core: int, folder: Path) -> AsyncIterator[list[Contender]]:
    server = Server(folder / "ours", access_token_seconds=900)
    with pinned(core):
        await server.start()
    try:
        anna = await server.account("Anna")

        async def y_websocket() -> Room:
            document = await server.document(anna, "Benchmark")
            return y_websocket_room(server.port, f"/ws/{document}?token={anna.token}")

        async def hocuspocus() -> Room:
            document = await server.document(anna, "Benchmark")
            return hocuspocus_room(server.port, "/collab", document, anna.token)

        durability = "committed and fsynced (SQLite, synchronous=FULL)"
        yield [
            Contender("ours", "collab-server", durability, server.pid, y_websocket),
            Contender("ours-hocuspocus", "collab-server (hocuspocus)", durability, server.pid, hocuspocus),
        ]
    finally:
        await server.http.aclose()
        await server.stop()


@asynccontextmanager
async def _hocuspocus(core: int, folder: Path) -> AsyncIterator[Contender]:
    async with _node("hocuspocus", core, str(folder / "hocuspocus.db")) as (pid, port):

        async def room() -> Room:
            return hocuspocus_room(port, "/", f"benchmark-{next(_numbers)}", "token")

        durability = "in memory only; stored 2 to 10 s later (SQLite)"
        yield Contender("hocuspocus", "@hocuspocus/server", durability, pid, room)


@asynccontextmanager
async def _y_websocket_server(core: int, folder: Path) -> AsyncIterator[Contender]:
    async with _node("y-websocket-server-memory", core) as (pid, port):

        async def room() -> Room:
            return y_websocket_room(port, f"/benchmark-{next(_numbers)}")

        yield Contender("y-websocket-server", "@y/websocket-server", "never stored", pid, room)


@asynccontextmanager
async def _y_websocket_leveldb(core: int, folder: Path) -> AsyncIterator[Contender]:
    async with _node("y-websocket-server", core, str(folder / "leveldb")) as (pid, port):

        async def room() -> Room:
            return y_websocket_room(port, f"/benchmark-{next(_numbers)}")

        durability = "handed to LevelDB, not fsynced"
        yield Contender("y-websocket-leveldb", "@y/websocket-server + leveldb", durability, pid, room)


_PEERS = {
    "hocuspocus": _hocuspocus,
    "y-websocket-server": _y_websocket_server,
    "y-websocket-leveldb": _y_websocket_leveldb,
}
NAMES = ("ours", "ours-hocuspocus", *_PEERS)
DEFAULT = ("ours", "y-websocket-server", "ours-hocuspocus", "hocuspocus")


@asynccontextmanager
async def _node(script: str, core: int, *arguments: str) -> AsyncIterator[tuple[int, int]]:
    """The process id and the port of a script in ``peers``."""
    await asyncio.to_thread(install, PEERS)
    with pinned(core):
        process = await asyncio.create_subprocess_exec(
            find_node(), PEERS / f"{script}.mjs", "0", *arguments, stdout=asyncio.subprocess.PIPE
        )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        if not line.startswith(b"ready "):
            raise RuntimeError(f"{script} did not start: {line!r}")
        yield process.pid, int(line.split()[1])
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
