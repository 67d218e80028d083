"""The fast protocol does what the stock one does: same bytes in, same messages and close codes out."""

import asyncio
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.utils import apply_mask

from collab_server.fast_socket import EXTENSION, server_frame
from collab_server.transport.fast_websocket import FastWebSocketProtocol, supported

REQUEST = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
DEFLATE = REQUEST[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
MAX_SIZE = 70_000


class Wire(asyncio.Transport):
    """A transport that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.out = b""
        self.closed = False
        self.reading = True

    def write(self, data: Any) -> None:
        if not self.closed:
            self.out += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Server:
    """One connection of one protocol class, and what its application got."""

    def __init__(self, protocol: type[WebSocketsSansIOProtocol], *, fast: bool, deflate: bool = False) -> None:
        self.got: list[bytes | str] = []
        self.ended: int | None = None
        self.fast = fast
        self.accept = asyncio.Event()
        self.accept.set()
        config = Config(
            self.app,
            interface="asgi3",
            ws_max_size=MAX_SIZE,
            ws_per_message_deflate=deflate,
            ws_ping_interval=None,
            log_config=None,
        )
        config.load()
        self.protocol = protocol(config, ServerState(), {})
        self.wire = Wire()
        self.protocol.connection_made(self.wire)
        self.on_message: Callable[[bytes], object] = self.got.append

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope, self.send = scope, send
        await receive()
        await self.accept.wait()
        await send({"type": "websocket.accept"})
        if self.fast:
            scope["extensions"][EXTENSION]["receive_with"](lambda message: self.on_message(message))
        while (event := await receive())["type"] == "websocket.receive":
            self.got.append(event["bytes"] if event.get("bytes") is not None else event["text"])
        self.ended = event["code"]

    @property
    def extension(self) -> Any:
        return self.scope["extensions"][EXTENSION]

    async def feed(self, *chunks: bytes) -> None:
        for chunk in chunks:
            if not self.wire.closed:
                self.protocol.data_received(chunk)
            await settle()

    async def connect(self, request: bytes = REQUEST) -> "Server":
        await self.feed(request)
        self.head, self.wire.out = self.wire.out, b""
        assert self.head.startswith(b"HTTP/1.1 101")
        return self


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


MASK = b"\x5a\x01\xf0\x7f"


def client(opcode: Opcode, data: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A frame under one mask, so that a seed gives the same bytes again."""
    size = len(data)
    first = bytes((fin << 7 | rsv1 << 6 | opcode,))
    if size < 126:
        head = bytes((0x80 | size,))
    elif size < 65_536:
        head = b"\xfe" + size.to_bytes(2, "big")
    else:
        head = b"\xff" + size.to_bytes(8, "big")
    return first + head + MASK + apply_mask(data, MASK)


def binary(data: bytes) -> bytes:
    return client(Opcode.BINARY, data)


CLOSE = client(Opcode.CLOSE, struct.pack("!H", 1000) + b"bye")
TOO_LONG = b"\x82\xff" + (MAX_SIZE + 1).to_bytes(8, "big")
STREAMS: dict[str, list[bytes]] = {
    "one message": [binary(b"one")],
    "an empty message": [binary(b""), binary(b"x")],
    "every length code": [binary(b"a" * 125), binary(b"b" * 126), binary(b"c" * 65_535), binary(b"d" * 65_536)],
    "a padded length": [b"\x82\xfe\x00\x03\x00\x00\x00\x00abc", binary(b"x")],
    "text between": [binary(b"1"), client(Opcode.TEXT, "два".encode()), binary(b"3")],
    "pings between": [
        binary(b"1"),
        client(Opcode.PING, b"p"),
        binary(b"2"),
        client(Opcode.PONG, b"q"),
        binary(b"3"),
    ],
    "fragments": [
        client(Opcode.BINARY, b"a", fin=False),
        client(Opcode.PING, b"p"),
        client(Opcode.CONT, b"b", fin=False),
        client(Opcode.CONT, b"c"),
        binary(b"whole"),
    ],
    "a message inside of fragments": [client(Opcode.BINARY, b"a", fin=False), binary(b"b")],
    "a continuation of nothing": [binary(b"1"), client(Opcode.CONT, b"c")],
    "fragments beyond the limit": [
        client(Opcode.BINARY, b"a" * 60_000, fin=False),
        client(Opcode.CONT, b"b" * 20_000),
    ],
    "a close": [binary(b"1"), CLOSE],
    "more after a close": [binary(b"1"), CLOSE, binary(b"2")],
    "an empty close": [client(Opcode.CLOSE)],
    "too long a message": [binary(b"1"), TOO_LONG],
    "no mask": [binary(b"1"), b"\x82\x01x"],
    "a reserved bit": [binary(b"1"), client(Opcode.BINARY, b"x", rsv1=True)],
    "an unknown opcode": [binary(b"1"), b"\x83\x80\x00\x00\x00\x00"],
    "a long ping": [binary(b"1"), b"\x89\xfe\x00\x80\x00\x00\x00\x00" + bytes(128)],
    "text that is not UTF-8": [binary(b"1"), client(Opcode.TEXT, b"\xff")],
}


async def compare(chunks: list[bytes], request: bytes = REQUEST, *, deflate: bool = False) -> Server:
    """What was received and sent and how it ended must be the same. The stock class is fed byte by byte: of a
    chunk with an error it would drop what was good in it, and judge the last error before the first."""
    stock = await Server(WebSocketsSansIOProtocol, fast=False, deflate=deflate).connect(request)
    for byte in b"".join(chunks):
        if not stock.wire.closed:
            stock.protocol.data_received(bytes((byte,)))
    await settle()
    fast = await Server(FastWebSocketProtocol, fast=True, deflate=deflate).connect(request)
    plain = await Server(FastWebSocketProtocol, fast=False, deflate=deflate).connect(request)
    for server in (fast, plain):
        await server.feed(*chunks)
        assert server.ended == stock.ended
        assert server.wire.out == stock.wire.out
        assert server.wire.closed == stock.wire.closed
        for kind in (bytes, str):  # text takes the long way
            assert of(kind, server) == of(kind, stock)
    assert plain.got == stock.got
    return fast


def of(kind: type, server: Server) -> list[bytes | str]:
    return [message for message in server.got if isinstance(message, kind)]


@pytest.fixture(params=STREAMS)
def frames(request: pytest.FixtureRequest) -> list[bytes]:
    return STREAMS[request.param]


async def test_the_same_frame_by_frame(frames: list[bytes]) -> None:
    await compare(frames)


async def test_the_same_byte_by_byte(frames: list[bytes]) -> None:
    stream = b"".join(frames)
    step = max(1, len(stream) // 500)
    await compare([stream[at : at + step] for at in range(0, len(stream), step)])


async def test_the_same_at_once(frames: list[bytes]) -> None:
    await compare([b"".join(frames)])


@pytest.mark.parametrize("seed", range(150))
async def test_the_same_however_it_is_cut(seed: int) -> None:
    dice = random.Random(seed)
    await compare(list(cut(dice, random_stream(dice))))


@pytest.mark.parametrize("seed", range(150))
async def test_the_same_when_bytes_are_damaged(seed: int) -> None:
    dice = random.Random(1000 + seed)
    stream = bytearray(random_stream(dice))
    for _ in range(dice.randint(1, 4)):
        stream[dice.randrange(len(stream))] ^= 1 << dice.randrange(8)
    await compare(list(cut(dice, bytes(stream))))


def random_stream(dice: random.Random) -> bytes:
    names = [name for name in STREAMS if "65" not in name and "every" not in name]
    stream = b""
    for _ in range(dice.randint(1, 6)):
        if dice.random() < 0.7:
            stream += b"".join(binary(dice.randbytes(dice.choice((0, 3, 20, 125, 126, 300)))) for _ in range(4))
        else:
            stream += b"".join(STREAMS[dice.choice(names)])
    return stream


def cut(dice: random.Random, stream: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(stream):
        size = dice.choice((1, 2, 5, 7, 30, 200, 5000))
        yield stream[at : at + size]
        at += size


async def test_compressed_messages_stay_with_the_stock_parser() -> None:
    from websockets.extensions.permessage_deflate import PerMessageDeflate

    squeeze = PerMessageDeflate(True, True, 12, 12)
    packed = client(Opcode.BINARY, bytes(squeeze.encode(Frame(Opcode.BINARY, b"squeezed " * 50)).data), rsv1=True)
    server = await compare([packed, binary(b"raw"), packed[:10], packed[10:]], DEFLATE, deflate=True)
    assert server.got == [b"squeezed " * 50, b"raw", b"squeezed " * 50]


async def test_messages_before_the_callback_come_first() -> None:
    server = Server(FastWebSocketProtocol, fast=False)
    await server.connect()
    server.got.clear()
    server.protocol.receive = None  # type: ignore[assignment]  # the application is busy elsewhere
    server.protocol.queue._queue.clear()  # type: ignore[attr-defined]
    server.protocol.queue.put_nowait({"type": "websocket.receive", "bytes": b"0"})
    server.extension["receive_with"](server.got.append)
    server.protocol.data_received(binary(b"1"))
    assert server.got == [b"0", b"1"]


async def test_a_callback_that_fails_closes_with_1011() -> None:
    server = await Server(FastWebSocketProtocol, fast=True).connect()

    def fail(message: bytes) -> None:
        raise ValueError

    server.on_message = fail
    await server.feed(binary(b"1"), binary(b"2"))
    assert server.ended == 1011
    assert server.wire.closed
    assert server.wire.out == b"\x88\x02" + struct.pack("!H", 1011)


async def test_messages_after_our_close_are_dropped_and_the_answer_is_heard() -> None:
    server = await Server(FastWebSocketProtocol, fast=True).connect()
    server.extension["pause_reading"]()
    assert not server.wire.reading
    await server.send({"type": "websocket.close", "code": 4403})
    assert server.wire.reading
    await server.feed(binary(b"late"), CLOSE)
    assert server.got == []
    assert server.ended == 4403
    assert server.wire.closed


async def test_reading_pauses_and_goes_on() -> None:
    server = await Server(FastWebSocketProtocol, fast=True).connect()
    assert server.wire.reading
    server.extension["pause_reading"]()
    server.extension["pause_reading"]()
    assert not server.wire.reading
    server.extension["resume_reading"]()
    assert server.wire.reading


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 100_000])
async def test_a_prebuilt_frame_is_what_the_stock_class_sends(size: int) -> None:
    stock = await Server(WebSocketsSansIOProtocol, fast=False).connect()
    await stock.send({"type": "websocket.send", "bytes": bytes(size)})
    fast = await Server(FastWebSocketProtocol, fast=True).connect()
    assert fast.extension["write"](server_frame(bytes(size)))
    assert fast.wire.out == stock.wire.out


async def test_a_full_transport_takes_nothing_until_it_is_drained() -> None:
    server = await Server(FastWebSocketProtocol, fast=True).connect()
    server.protocol.pause_writing()
    assert not server.extension["write"](server_frame(b"x"))
    assert server.wire.out == b""
    waiting = asyncio.create_task(server.extension["drained"]())
    await settle()
    assert not waiting.done()
    server.protocol.resume_writing()
    await waiting
    assert server.extension["write"](server_frame(b"x"))


async def test_nothing_is_written_after_a_close_of_either_side() -> None:
    ours = await Server(FastWebSocketProtocol, fast=True).connect()
    await ours.send({"type": "websocket.close", "code": 1001})
    theirs = await Server(FastWebSocketProtocol, fast=True).connect()
    await theirs.feed(CLOSE)
    lost = await Server(FastWebSocketProtocol, fast=True).connect()
    lost.protocol.connection_lost(None)
    for server in (ours, theirs, lost):
        with pytest.raises(ClientDisconnected):
            server.extension["write"](server_frame(b"x"))
        with pytest.raises(ClientDisconnected):
            await server.extension["drained"]()


async def test_a_watcher_hears_of_every_pause_and_of_every_end() -> None:
    async def ours(server: Server) -> None:
        await server.send({"type": "websocket.close", "code": 1001})

    async def theirs(server: Server) -> None:
        await server.feed(CLOSE)

    async def garbage(server: Server) -> None:
        await server.feed(b"\x82\x01x")

    async def silence(server: Server) -> None:
        server.protocol.keepalive_timeout()

    async def shutdown(server: Server) -> None:
        server.protocol.shutdown()

    async def loss(server: Server) -> None:
        server.protocol.connection_lost(ConnectionResetError())

    for end in (ours, theirs, garbage, silence, shutdown, loss):
        server = await Server(FastWebSocketProtocol, fast=True).connect()
        told: list[bool] = []
        server.extension["watch"](told.append)
        server.protocol.pause_writing()
        server.protocol.resume_writing()
        await end(server)
        server.protocol.pause_writing()
        server.protocol.resume_writing()
        await settle()
        assert told == [True, False, True, False], end.__name__


async def test_a_frame_of_the_transport_itself_is_the_same() -> None:
    server = await Server(FastWebSocketProtocol, fast=True).connect()
    server.extension["transport_write"](server_frame(b"x"))
    assert server.wire.out == b"\x82\x01x"


async def test_nothing_is_written_before_the_handshake_is_answered() -> None:
    server = Server(FastWebSocketProtocol, fast=True)
    server.accept.clear()
    await server.feed(REQUEST)
    with pytest.raises(RuntimeError):
        server.extension["write"](server_frame(b"x"))


def test_this_uvicorn_is_the_one_it_was_written_for() -> None:
    assert supported()
