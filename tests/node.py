"""Real Yjs clients for tests: one Node process (``tests/js/driver.mjs``) that holds any number of them.

    async with NodeDriver() as node:
        anna = await node.connect("hocuspocus-4", url, document, token=token)
        await anna.insert("text", 0, "привет")
        await anna.wait_saved()
        await boris.wait_text("text", "привет")

Every wait is answered by the client's own events, not by polling, and fails with the client's whole state.
Indices count UTF-16 code units, as Yjs does. The families: y-websocket (3.1), y-websocket-1, y-websocket-2,
hocuspocus-2, hocuspocus-3, hocuspocus-4 (alias: hocuspocus), y-sweet.
"""

import asyncio
import itertools
import json
import signal
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, Self

from collab_server.web.build import find_node, install

CLIENTS = Path(__file__).parent / "js"
PEERS = Path(__file__).parent / "bench" / "peers"
ANSWER_BYTES = 64 * 1024 * 1024  # one answer is one line, and a document may be in it
START_SECONDS = 60.0
STOP_SECONDS = 5.0

Y_WEBSOCKET = ("y-websocket-1", "y-websocket-2", "y-websocket-3")
HOCUSPOCUS = ("hocuspocus-2", "hocuspocus-3", "hocuspocus-4")
Y_SWEET = ("y-sweet",)

Family = Literal[
    "y-websocket",
    "y-websocket-1",
    "y-websocket-2",
    "y-websocket-3",
    "hocuspocus",
    "hocuspocus-2",
    "hocuspocus-3",
    "hocuspocus-4",
    "y-sweet",
]
RootType = Literal["text", "map", "array", "xml", "delta"]


class NodeError(AssertionError):
    """The driver refused a command, or what a test waited for did not happen."""


class NodeDriver:
    """One Node process. Commands may overlap; each waits for its own answer."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count(1)
        self._names = itertools.count(1)

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(install, CLIENTS)
        self._process = await asyncio.create_subprocess_exec(
            find_node(),
            CLIENTS / "driver.mjs",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=ANSWER_BYTES,
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        process, reader = self._process, self._reader
        assert process is not None
        assert process.stdin is not None
        assert reader is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
        await reader
        process._transport.close()  # type: ignore[attr-defined]  # else its pipes warn when the loop is gone

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def call(self, op: str, **arguments: Any) -> Any:
        """Send one command and return its result; raises ``NodeError`` with the driver's sentence."""
        assert self._process is not None, "the driver is not running"
        assert self._process.stdin is not None
        if self._reader is None or self._reader.done():
            raise NodeError(f"{op}: the driver has ended")
        number = next(self._ids)
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": number, "op": op, **arguments})
        try:
            self._process.stdin.write(line.encode() + b"\n")
            await self._process.stdin.drain()
        except ConnectionError as error:
            self._answers.pop(number, None)
            raise NodeError(f"{op}: the driver has ended") from error
        answer = await future
        if not answer["ok"]:
            raise NodeError(f"{op}: {answer['error']}")
        return answer["result"]

    async def connect(
        self, family: Family, url: str, document: str, *, name: str | None = None, **options: Any
    ) -> "NodeClient":
        """Start a client. It connects by itself; ``await client.wait_synced()`` says when it is there.

        ``url``: ws://host:port/ws (y-websocket), …/collab (hocuspocus), ws://host:port (y-sweet).
        Options for all: ``clientId``, ``awareness=False``, ``connect=False``, ``gc=False``, ``origin``,
        ``update`` (base64: what the device has stored), ``updateLog=True``, ``frames=True``.
        y-websocket: ``params`` (the query), ``protocols``, ``maxBackoffTime``, ``resyncInterval``.
        hocuspocus: ``token``, ``socket="name"`` (share one connection); 4 only: ``sessionAware=True``,
        ``flushDelay``. y-sweet: ``token``.
        """
        name = name or f"{family}#{next(self._names)}"
        result = await self.call("connect", client=name, family=family, url=url, document=document, **options)
        return NodeClient(self, name, family, result["clientId"])

    async def raw(self, url: str, **options: Any) -> "RawSocket":
        """A bare WebSocket. Options: ``protocols``, ``headers``, ``origin``. See ``RawSocket.opened``."""
        name = f"raw#{next(self._names)}"
        return RawSocket(self, name, await self.call("raw-open", socket=name, url=url, **options))

    async def errors(self) -> list[str]:
        """Exceptions which a client library threw into the void."""
        return await self.call("errors")

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                answer = json.loads(line)
                future = self._answers.pop(answer["id"], None)
                if future is not None and not future.done():
                    future.set_result(answer)
        finally:
            for future in self._answers.values():
                if not future.done():
                    future.set_result({"ok": False, "error": "the driver has ended"})


class NodeClient:
    """One published client with its own Y.Doc."""

    def __init__(self, node: NodeDriver, name: str, family: str, client_id: int) -> None:
        self.node = node
        self.name = name
        self.family = family
        self.client_id = client_id

    def __repr__(self) -> str:
        return f"<{self.name}>"

    async def call(self, op: str, **arguments: Any) -> Any:
        return await self.node.call(op, client=self.name, **arguments)

    # -- editing ---------------------------------------------------------------------------------

    async def edit(self, *edits: dict[str, Any], separately: bool = False) -> None:
        """Run edits in one transaction (or one each). ``tests/js/content.mjs`` lists them."""
        await self.call("edit", edits=edits, separately=separately)

    async def insert(self, root: str, index: int, text: str, **more: Any) -> None:
        await self.edit({"op": "insert", "root": root, "index": index, "text": text, **more})

    async def delete(self, root: str, index: int, length: int, **more: Any) -> None:
        await self.edit({"op": "delete", "root": root, "index": index, "length": length, **more})

    async def set(self, root: str, key: str, value: Any, **more: Any) -> None:
        """Set a key of a map. ``{"$map": {}}``, ``{"$array": []}``, ``{"$text": ""}`` make shared types."""
        await self.edit({"op": "set", "root": root, "key": key, "value": value, **more})

    async def unset(self, root: str, key: str, **more: Any) -> None:
        await self.edit({"op": "unset", "root": root, "key": key, **more})

    async def push(self, root: str, *items: Any, **more: Any) -> None:
        await self.edit({"op": "push", "root": root, "items": items, **more})

    async def xml(self, root: str, *nodes: Any, **more: Any) -> None:
        """Append nodes: a string, or ``{"tag": "p", "attributes": {}, "children": []}``."""
        await self.edit({"op": "xml-insert", "root": root, "nodes": nodes, **more})

    async def type(
        self,
        root: str,
        *,
        patches: Sequence[tuple[int, int, str]] | None = None,
        file: Path | None = None,
        start: int = 0,
        count: int | None = None,
        pace: float = 0,
    ) -> dict[str, Any]:
        """Type keystrokes (position, deleted, inserted), one transaction each, from ``patches`` or from an
        editing trace (.json or .json.gz); ``pace`` in ms. Gives keystrokes, length, milliseconds."""
        source = {"file": str(file)} if patches is None else {"patches": patches}
        limit = {} if count is None else {"count": count}
        return await self.call("type", root=root, **source, **limit, **{"from": start}, pace=pace)

    async def apply(self, update: bytes) -> None:
        """Apply a Yjs update to the client's document as a local change."""
        await self.call("apply", update=b64encode(update).decode())

    # -- looking ---------------------------------------------------------------------------------

    async def text(self, root: str, **more: Any) -> str:
        return await self.content(root, "text", **more)

    async def content(self, root: str, type: RootType, **more: Any) -> Any:
        return await self.call("content", root=root, type=type, **more)

    async def state(self) -> dict[str, Any]:
        """status, synced, unsyncedChanges, hasUnsyncedChanges, saved, authorizedScope, authenticated,
        opens, closes [{code, reason}], httpRefusals, refusals, documentCloses, stopped, authentications,
        tokenAsks, statuses, stateless, acks [{count, seq}], framesReceived, framesSent,
        remoteUpdates, errors, driverErrors."""
        return await self.call("state")

    async def encode(self, state_vector: bytes | None = None) -> tuple[bytes, bytes]:
        """The document as (update, state vector)."""
        since = {} if state_vector is None else {"stateVector": b64encode(state_vector).decode()}
        found = await self.call("encode", **since)
        return b64decode(found["update"]), b64decode(found["stateVector"])

    async def digest(self) -> str:
        """Equal for two clients that know the same insertions and deletions."""
        return await self.call("digest")

    async def update_log(self) -> list[tuple[bool, bytes]]:
        """Every update event as (local, update); needs ``updateLog=True``."""
        return [(item["local"], b64decode(item["update"])) for item in await self.call("update-log")]

    async def frames(self) -> list[tuple[str, bytes]]:
        """Every frame as ("in" or "out", bytes); needs ``frames=True``."""
        return [(item["way"], bytes.fromhex(item["hex"])) for item in await self.call("frames")]

    # -- presence --------------------------------------------------------------------------------

    async def awareness(self) -> dict[int, Any]:
        return {int(key): state for key, state in (await self.call("awareness")).items()}

    async def set_awareness(self, state: dict[str, Any] | None) -> None:
        await self.call("awareness", set=state)

    async def set_awareness_field(self, field: str, value: Any) -> None:
        await self.call("awareness", field=field, value=value)

    # -- the connection --------------------------------------------------------------------------

    async def disconnect(self) -> None:
        """Close in good order and stay away."""
        await self.call("disconnect")

    async def reconnect(self) -> None:
        await self.call("reconnect")

    async def drop(self) -> None:
        """Cut the connection with no close frame; the client comes back by itself."""
        await self.call("drop")

    async def destroy(self) -> None:
        await self.call("destroy")

    async def configure(self, **options: Any) -> None:
        """``token`` (hocuspocus, y-sweet) or ``params`` (y-websocket) for the next connection."""
        await self.call("configure", **options)

    async def send_token(self) -> None:
        await self.call("send-token")

    async def send_stateless(self, payload: str) -> None:
        await self.call("send-stateless", payload=payload)

    # -- waiting ---------------------------------------------------------------------------------

    async def wait(self, what: str, *, timeout: float = 10.0, **details: Any) -> Any:
        """Wait for one of the conditions in ``tests/js/driver.mjs``; ``timeout`` in seconds."""
        return await self.call("wait", **{"for": what}, timeout=round(timeout * 1000), **details)

    async def wait_synced(self, *, timeout: float = 10.0) -> Self:
        await self.wait("synced", timeout=timeout)
        return self

    async def wait_saved(self, *, timeout: float = 10.0) -> None:
        """Until the client itself believes that everything is saved (y-websocket: needs params caps=ack)."""
        await self.wait("saved", timeout=timeout)

    async def wait_text(self, root: str, equals: str, *, timeout: float = 10.0, **more: Any) -> None:
        await self.wait("text", root=root, equals=equals, timeout=timeout, **more)

    async def wait_content(
        self, root: str, type: RootType, equals: Any, *, timeout: float = 10.0, **more: Any
    ) -> None:
        await self.wait("content", root=root, type=type, equals=equals, timeout=timeout, **more)

    async def wait_awareness(self, *, timeout: float = 10.0, **details: Any) -> Any:
        """``contains={…}`` (with ``clientId=`` or of anybody), ``count=n`` or ``absent=clientId``."""
        return await self.wait("awareness", timeout=timeout, **details)

    async def wait_closed(
        self, code: int | None = None, *, count: int = 1, timeout: float = 10.0
    ) -> list[dict[str, Any]]:
        """Until the socket was closed ``count`` times (with ``code`` among them); all closes so far."""
        details = {} if code is None else {"code": code}
        return await self.wait("closed", count=count, timeout=timeout, **details)


class RawSocket:
    """A bare WebSocket for frames that no published client would send."""

    def __init__(self, node: NodeDriver, name: str, opened: dict[str, Any]) -> None:
        self.node = node
        self.name = name
        self.opened = opened
        """{"open": True, "protocol": …} or {"open": False, "status": 401 or None, "close": …, "error": …}"""

    async def call(self, op: str, **arguments: Any) -> Any:
        return await self.node.call(op, socket=self.name, **arguments)

    async def send(self, frame: bytes | str) -> None:
        """Bytes as a binary frame, a string as a text frame."""
        if isinstance(frame, str):
            await self.call("raw-send", text=frame)
        else:
            await self.call("raw-send", hex=frame.hex())

    async def expect(self, begins: bytes = b"", *, timeout: float = 5.0) -> bytes | str:
        """The next frame that begins so; frames before it are dropped."""
        found = await self.call("raw-expect", hex=begins.hex() or None, timeout=round(timeout * 1000))
        return bytes.fromhex(found["hex"]) if "hex" in found else found["text"]

    async def wait_closed(self, *, timeout: float = 5.0) -> tuple[int, str]:
        """(code, reason) as the server sent it; 1006 when there was no close frame."""
        found = await self.call("raw-closed", timeout=round(timeout * 1000))
        return found["code"], found["reason"]

    async def state(self) -> dict[str, Any]:
        """open, inbox, received, close, status, error, unsent."""
        return await self.call("raw-state")

    async def pause(self) -> None:
        """Stop reading, as a peer does that cannot keep up."""
        await self.call("raw-pause")

    async def resume(self) -> None:
        await self.call("raw-resume")

    async def close(self, code: int = 1000, *, abruptly: bool = False) -> None:
        await self.call("raw-close", code=code, abruptly=abruptly)


async def same_content(clients: Sequence[NodeClient], root: str, type: RootType = "text") -> Any:
    """The content all clients have in common; fails when they differ."""
    contents = [await client.content(root, type) for client in clients]
    for client, content in zip(clients, contents, strict=True):
        assert content == contents[0], f"{client} has {content!r}, {clients[0]} has {contents[0]!r}"
    return contents[0]


@asynccontextmanager
async def peer_server(script: str, *arguments: str) -> AsyncIterator[int]:
    """A published server of ``tests/bench/peers`` ("hocuspocus" or "y-websocket-server"); gives its port."""
    await asyncio.to_thread(install, PEERS)
    process = await asyncio.create_subprocess_exec(
        find_node(), PEERS / f"{script}.mjs", "0", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        assert line.startswith(b"ready "), f"{script} did not start: {line!r}"
        yield int(line.split()[1])
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        process._transport.close()  # type: ignore[attr-defined]  # else its pipes warn when the loop is gone
