"""A WebSocket client that costs next to nothing: it parses frame headers and hands payloads on.

Enough for a benchmark against servers we trust to frame correctly: no fragments, no compression (none is
offered), pings are answered, a close is remembered.
"""

import asyncio
import base64
import os
from collections.abc import Callable
from contextlib import suppress

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
BINARY, CLOSE, PING = 0x82, 0x88, 0x89


def client_frame(payload: bytes, first: int = BINARY) -> bytes:
    """A frame as clients send it, under a random mask."""
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65_536:
        head = bytes((first, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0x80 | 127)) + size.to_bytes(8, "big")
    mask = os.urandom(4)
    repeated = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ repeated).to_bytes(size, "big")


OnMessage = Callable[["Socket", bytes], None]


class Socket(asyncio.Protocol):
    """One connection. ``on_message`` gets it and each binary payload."""

    def __init__(self, on_message: OnMessage) -> None:
        self.on_message = on_message
        self._rest = b""
        self._upgraded = False
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self.frames = 0
        self.bytes = 0
        self.ended = ""

    @classmethod
    async def open(
        cls, host: str, port: int, path: str, on_message: "Callable[[Socket, bytes], None]"
    ) -> "Socket":
        """Raises ``ConnectionError`` when the server does not upgrade."""
        loop = asyncio.get_running_loop()
        _, socket = await loop.create_connection(lambda: cls(on_message), host, port)
        key = base64.b64encode(os.urandom(16)).decode()
        socket.transport.write(HANDSHAKE.format(path=path, host=host, port=port, key=key).encode())
        async with asyncio.timeout(30):
            await socket._opened
        return socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop has its own class

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        if self._rest:
            data = self._rest + data
        at = 0 if self._upgraded else self._upgrade(data)
        size = len(data)
        while size - at >= 2:
            first, length = data[at], data[at + 1]  # a server's frames carry no mask
            start = at + 2
            if length >= 126:
                start += 2 if length == 126 else 8
                if start > size:
                    break
                length = int.from_bytes(data[at + 2 : start], "big")
            end = start + length
            if end > size:
                break
            if first == BINARY:
                self.frames += 1
                self.on_message(self, data[start:end])
            else:
                self._control(first, data[start:end])
            at = end
        self._rest = data[at:]

    def _upgrade(self, data: bytes) -> int:
        """Where the frames begin."""
        head, found, _ = data.partition(b"\r\n\r\n")
        if not found:
            return 0
        if not head.startswith(b"HTTP/1.1 101"):
            self._opened.set_exception(ConnectionError(data[:300].decode(errors="replace")))
            return len(data)
        self._upgraded = True
        self._opened.set_result(None)
        return len(head) + 4

    def _control(self, first: int, payload: bytes) -> None:
        if first == PING:
            self.transport.write(client_frame(payload, 0x8A))
        elif first == CLOSE:
            self.ended = f"{int.from_bytes(payload[:2], 'big')} {payload[2:].decode(errors='replace')}"
        else:
            self.ended = f"a frame that starts with {first:#x}"

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = self.ended or f"lost: {exc}"
        if not self._opened.done():
            self._opened.set_exception(ConnectionError(self.ended))

    def send(self, payload: bytes) -> None:
        self.transport.write(client_frame(payload))

    def close(self) -> None:
        with suppress(RuntimeError):
            self.transport.write(client_frame(b"\x03\xe8", CLOSE))
            self.transport.close()
