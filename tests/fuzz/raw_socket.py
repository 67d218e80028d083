"""A WebSocket client that checks nothing and may break every rule (RFC 6455), because it is fast and hostile.

Frames are masked with zeros, which costs nothing and is legal.
"""

import asyncio
import base64
import os

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASKED = 0x80
NO_MASK = bytes(4)
LOST = 1006  # the connection ended without a close frame


def frame(payload: bytes, opcode: int = BINARY, *, head: int = 0x80, masked: bool = True) -> bytes:
    """One frame; ``head`` holds FIN and the reserved bits."""
    size, mask = len(payload), MASKED if masked else 0
    first = bytes((head | opcode,))
    if size < 126:
        first += bytes((mask | size,))
    elif size < 65_536:
        first += bytes((mask | 126,)) + size.to_bytes(2, "big")
    else:
        first += bytes((mask | 127,)) + size.to_bytes(8, "big")
    return first + (NO_MASK if masked else b"") + payload


class RawSocket:
    """One connection. ``receive`` gives binary messages until the server closes: then ``code`` says how."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.code: int | None = None

    @classmethod
    async def open(cls, port: int, path: str) -> "RawSocket":
        """Raises ``ConnectionError`` when the server does not switch protocols."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        writer.write(request.encode())
        try:
            answer = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("no answer to the handshake") from error
        if b" 101 " not in answer.split(b"\r\n", 1)[0]:
            writer.close()
            raise ConnectionError(answer.decode("latin-1"))
        return cls(reader, writer)

    def send(self, data: bytes) -> None:
        """Bytes as they are: whole frames, or not."""
        self._writer.write(data)

    async def receive(self) -> bytes | None:
        """The next binary message; None when the connection is over."""
        message = b""
        while self.code is None:
            try:
                head = await self._reader.readexactly(2)
                size = head[1] & 0x7F
                if size >= 126:
                    size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
                payload = await self._reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                self.code = LOST
                break
            opcode = head[0] & 0x0F
            if opcode == CLOSE:
                self.code = int.from_bytes(payload[:2], "big") if payload else 1005
            elif opcode == PING:
                self.send(frame(payload, PONG))
            elif opcode in (BINARY, CONTINUATION):
                message += payload
                if head[0] & 0x80:
                    return message
        return None

    async def close(self) -> None:
        """End it, politely when the server said goodbye."""
        if self.code not in (None, LOST):
            self.send(frame((self.code or 1000).to_bytes(2, "big"), CLOSE))
        self._writer.close()
        try:
            async with asyncio.timeout(5):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()
