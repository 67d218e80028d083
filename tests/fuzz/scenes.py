"""Hostile connections that a single frame cannot be: floods before the credential, broken WebSocket frames,
slices, strangers. They are played beside the frames, and counted apart: most of a flood is never read."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from random import Random
from typing import Protocol

from tests.faults.victim import Victim
from tests.faults.wire import AUTH, STEP1, STEP2, SYNC, UPDATE, Dialect, awareness, sized, sync
from tests.faults.workload import Workload
from tests.fuzz import updates as u
from tests.fuzz.frames import BAD_TEXT, MALFORMED, PROTOCOL_ERROR, RATE, RESTART, TOO_BIG
from tests.fuzz.raw_socket import BINARY, CLOSE, CONTINUATION, PING, TEXT, RawSocket, frame

UNAUTHENTICATED, NOT_FOUND, TIMEOUT = 4401, 4404, 4508
PATIENCE_SECONDS = 5.0
FIN, OPEN = 0x80, 0x00
STRANGER = "00000000-0000-4000-8000-000000000000"  # no such document
MANY = 1500


class Findings(Protocol):
    totals: dict[str, int]

    def found(self, figure: str, what: str) -> None:
        """Something is wrong."""


class Scenes:
    """``next`` plays one after the other, for ever."""

    def __init__(self, server: Victim, workload: Workload, findings: Findings) -> None:
        self._server = server
        self._workload = workload
        self._findings = findings
        self._random = Random()
        document = workload.documents[0]
        self._y = Dialect("y-websocket", document)
        self._hocuspocus = Dialect("hocuspocus", document)
        scenes = self._all()
        self._random.shuffle(scenes)
        self._scenes = itertools.cycle(scenes)

    async def next(self) -> None:
        name, scene = next(self._scenes)
        try:
            await scene()
        except (OSError, TimeoutError) as error:
            self._findings.found("hangs", f"{name}: {error!r}")

    def _all(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        size = 256 * 1024
        valid = sync(UPDATE, u.update())
        broken = {
            "no mask": (frame(valid, masked=False), PROTOCOL_ERROR),
            "a reserved bit": (frame(valid, head=FIN | 0x40), PROTOCOL_ERROR),
            "a reserved opcode": (frame(valid, 3), PROTOCOL_ERROR),
            "a long ping": (frame(bytes(126), PING), PROTOCOL_ERROR),
            "a fragmented ping": (frame(b"", PING, head=OPEN), PROTOCOL_ERROR),
            "a continuation of nothing": (frame(valid, CONTINUATION), PROTOCOL_ERROR),
            "two beginnings": (frame(valid, head=OPEN) + frame(valid), PROTOCOL_ERROR),
            "half a close code": (frame(b"\x03", CLOSE), PROTOCOL_ERROR),
            "text": (frame(b'{"hello":1}', TEXT), MALFORMED),
            "text that is none": (frame(b"\xff\xfe", TEXT), BAD_TEXT),
            "a frame too big": (frame(bytes(size + 1)), TOO_BIG),
            "a frame that claims to be huge": (b"\x82\xff" + (2**40).to_bytes(8, "big") + bytes(4), TOO_BIG),
            "fragments without end": (
                frame(bytes(60_000), head=OPEN) + frame(bytes(60_000), CONTINUATION, head=OPEN) * 9,
                TOO_BIG,
            ),
        }
        scenes: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        for name, (data, code) in broken.items():
            for wire in (self._y, self._hocuspocus):
                scenes.append((name, lambda n=name, w=wire, d=data, c=code: self._broken(n, w, d, c)))
        return [
            *scenes,
            ("slices", self._slices),
            ("fragments", self._fragments),
            ("half a frame", self._half),
            ("no credential", lambda: self._stranger(self._y.document, "", UNAUTHENTICATED)),
            ("a wrong credential", lambda: self._stranger(self._y.document, "eyJ.a.b", UNAUTHENTICATED)),
            ("an unknown document", lambda: self._stranger(STRANGER, self._token(), NOT_FOUND)),
            ("no document at all", lambda: self._stranger("%00%ff", self._token(), NOT_FOUND)),
            ("silence", self._silence),
            ("an update before anything", self._update_first),
            ("strange addresses", self._addresses),
            ("a denied address", self._denied),
            ("a flood before the answer", self._flood),
            ("an address without end", self._long_address),
        ]

    def _token(self) -> str:
        return self._workload.token("second")

    # -- broken WebSocket frames ---------------------------------------------------------------------------

    async def _inside(self, wire: Dialect) -> RawSocket:
        """Admitted and answered once."""
        token = self._token()
        socket = await RawSocket.open(self._server.port, wire.address("", token))
        socket.send(b"".join(map(frame, wire.greeting(token))))
        await self._asks(socket, wire)
        return socket

    async def _asks(self, socket: RawSocket, wire: Dialect) -> bool:
        """Whether our question is answered."""
        socket.send(frame(wire.prefix + sync(STEP1, b"\x00")))
        return await self._answered(socket, wire)

    async def _answered(self, socket: RawSocket, wire: Dialect) -> bool:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (message := await socket.receive()) is not None:
                received = wire.read(message) if message.startswith(wire.prefix) else None
                if received is not None and received.kind == SYNC and received.step == STEP2:
                    return True
        return False

    async def _ends(self, name: str, socket: RawSocket, *codes: int, frames: int = 1, within: float = 0) -> None:
        """The connection ends with one of ``codes``."""
        self._findings.totals["scene_frames"] += frames
        async with asyncio.timeout(PATIENCE_SECONDS + within):
            while await socket.receive() is not None:
                pass
        if socket.code not in codes:
            self._findings.found("wrong_codes", f"{socket.code} after {name}")
        await socket.close()

    async def _goes_on(self, name: str, socket: RawSocket, wire: Dialect, frames: int = 1) -> None:
        self._findings.totals["scene_frames"] += frames
        if not await self._asks(socket, wire):
            self._findings.found("wrong_codes", f"{socket.code} after {name}")
        await socket.close()

    async def _broken(self, name: str, wire: Dialect, data: bytes, code: int) -> None:
        socket = await self._inside(wire)
        socket.send(data)
        await self._ends(name, socket, code)

    async def _slices(self) -> None:
        """One byte at a time is slow, and allowed."""
        socket = await self._inside(self._y)
        for byte in frame(sync(UPDATE, u.update())):
            socket.send(bytes((byte,)))
            await asyncio.sleep(0)
        await self._goes_on("slices", socket, self._y)

    async def _fragments(self) -> None:
        socket = await self._inside(self._y)
        body = sync(UPDATE, u.update())
        parts = [frame(body[:1], head=OPEN)]
        parts += [frame(body[at : at + 1], CONTINUATION, head=OPEN) for at in range(1, len(body) - 1)]
        socket.send(b"".join(parts) + frame(b"", PING) + frame(body[-1:], CONTINUATION))
        await self._goes_on("fragments", socket, self._y, len(body))

    async def _half(self) -> None:
        """Gone in the middle of a frame: nobody hears of it, and nothing stays behind."""
        socket = await self._inside(self._hocuspocus)
        socket.send(frame(self._hocuspocus.prefix + awareness(9, 1, "{}"))[:-3])
        self._findings.totals["scene_frames"] += 1
        await socket.close()

    # -- strangers -----------------------------------------------------------------------------------------

    async def _stranger(self, document: str, token: str, code: int) -> None:
        socket = await RawSocket.open(self._server.port, f"/ws/{document}?token={token}")
        socket.send(frame(sync(UPDATE, u.update()), BINARY) * 200)
        await self._ends(f"a stranger's flood, {code} expected", socket, code, frames=200)

    async def _silence(self) -> None:
        socket = await RawSocket.open(self._server.port, "/collab")
        await self._ends("silence", socket, TIMEOUT, frames=0, within=4)

    async def _update_first(self) -> None:
        socket = await RawSocket.open(self._server.port, "/collab")
        socket.send(frame(self._hocuspocus.prefix + sync(UPDATE, u.update())))
        await self._ends("an update before the credential", socket, RESTART)

    async def _addresses(self) -> None:
        """Presence for documents nobody has entered, beside one that is."""
        socket = await self._inside(self._hocuspocus)
        for number in range(MANY):
            address = sized(f"{STRANGER}\0{number}".encode())
            socket.send(frame(address + self._random.choice((b"\x03", awareness(number, 1, "{}"), b"\x05\x00"))))
        await self._goes_on("strange addresses", socket, self._hocuspocus, MANY)

    async def _denied(self) -> None:
        """A wrong credential for one document leaves the other alone."""
        socket = await self._inside(self._hocuspocus)
        address = sized(f"{self._hocuspocus.document}\0again".encode())
        socket.send(frame(address + bytes((AUTH, 0)) + sized(b"eyJ.wrong.token")))
        socket.send(frame(address + sync(UPDATE, u.update())) * 100)
        await self._goes_on("a denied address", socket, self._hocuspocus, 101)

    async def _flood(self) -> None:
        """Everything at once, before the credential can have been looked up."""
        socket = await RawSocket.open(self._server.port, "/collab")
        wire = self._hocuspocus
        greeting = b"".join(map(frame, wire.greeting(self._token())))
        socket.send(greeting + frame(wire.prefix + sync(UPDATE, u.update())) * MANY)
        await self._ends("a flood before the answer", socket, RATE, frames=MANY)

    async def _long_address(self) -> None:
        socket = await RawSocket.open(self._server.port, "/collab")
        socket.send(frame(sized(b"a" * 100_000) + sync(UPDATE, u.update())))
        await self._ends("an address without end", socket, MALFORMED)
