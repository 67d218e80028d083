"""S1: one document, one writer, N receivers. At 50 keystrokes a second, and as fast as the server takes them.

Every receiver checks every frame it is sent. A server that merges keystrokes into one frame is not asked for
more frames: a receiver is done when the content it can build is the whole content, and the latency of a
keystroke is the time until a receiver has a frame whose state includes it.
"""

import asyncio
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
from pycrdt import Doc, Text

from tests.bench.contenders import Contender
from tests.bench.cpu import cpu_seconds
from tests.bench.keystrokes import CLIENT_ID, ROOT, Session
from tests.bench.rooms import EMPTY_STEP_2, STEP_1, STEP_2, UPDATE, Room, read_varuint
from tests.bench.sockets import Socket, client_frame

PACE = 1 / 50
WINDOW = 200  # keystrokes in flight when saturated
WARM_UP = 300  # keystrokes before anything is measured: Node compiles, caches fill
SETTLE_SECONDS = 0.3
PATIENCE_SECONDS = 30.0
CONNECTING_AT_ONCE = 25


class Incomplete(Exception):
    """A receiver does not have what was typed."""


@dataclass(frozen=True)
class Figures:
    """Of one phase of one run."""

    updates: int
    seconds: float
    cpu_seconds: float
    generator_share: float  # of its core: near 1 it would be the bottleneck
    frames: int  # that all receivers got
    latencies: array = field(repr=False)  # seconds


class Arrivals:
    """What frames mean. Receivers of one document get the same bytes: each is decoded once."""

    def __init__(self, room: Room, session: Session) -> None:
        self.room = room
        self.session = session
        self.known: dict[bytes, int] = {}
        self.payloads: list[bytes] = []
        self.reached: list[int] = []  # by payload: keystrokes that are there once it is applied
        self.sent_at = array("d", bytes(8 * len(session.updates)))
        self.now = time.perf_counter
        self._watcher: Doc = Doc()

    def number(self, payload: bytes) -> int:
        number = self.known.get(payload)
        if number is None:
            number = self.known[payload] = len(self.payloads)
            self.payloads.append(payload)
            self._watcher.apply_update(self.room.update_in(payload))
            self.reached.append(bisect_right(self.session.clocks, self._clock()))
        return number

    def _clock(self) -> int:
        state = self._watcher.get_state()
        count, at = read_varuint(state, 0)
        for _ in range(count):
            client, at = read_varuint(state, at)
            clock, at = read_varuint(state, at)
            if client == CLIENT_ID:
                return clock
        return 0


class Receiver:
    """Notes which frames came and how long each keystroke took."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._prefix = len(arrivals.room.prefix)
        self.synced = asyncio.get_running_loop().create_future()
        self.got = array("I")
        self.has = 0
        self.latencies: array | None = None
        self.socket: Socket
        self.on_progress: Callable[[], None] | None = None

    async def join(self, room: Room) -> None:
        self.socket = await Socket.open("127.0.0.1", room.port, room.path, self.receive)
        for frame in room.greeting:
            self.socket.send(frame)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.synced

    def receive(self, socket: Socket, payload: bytes) -> None:
        kind = payload[self._prefix : self._prefix + 2]
        if kind == UPDATE:
            number = self._arrivals.number(payload)
            self.got.append(number)
            reached = self._arrivals.reached[number]
            if reached > self.has:
                if self.latencies is not None:
                    self._measure(reached)
                self.has = reached
                if self.on_progress is not None:
                    self.on_progress()
        elif kind == STEP_2:
            if not self.synced.done():
                self.synced.set_result(None)
        elif kind == STEP_1:
            socket.send(self._arrivals.room.prefix + EMPTY_STEP_2)

    def _measure(self, reached: int) -> None:
        """Only keystrokes that insert: a deletion moves no clock, so nobody can tell when it is included."""
        assert self.latencies is not None
        now, session, sent_at = self._arrivals.now(), self._arrivals.session, self._arrivals.sent_at
        for index in range(self.has, reached):
            if session.inserts(index):
                self.latencies.append(now - sent_at[index])


class Run:
    """One fresh document of one server, a writer and ``count`` receivers."""

    def __init__(self, contender: Contender, session: Session, count: int) -> None:
        self._contender = contender
        self._session = session
        self._count = count
        self._sent = 0

    async def open(self) -> None:
        self._room = room = await self._contender.room()
        self._arrivals = Arrivals(room, self._session)
        self._frames = [client_frame(room.update_frame(update)) for update in self._session.updates]
        self._writer = Receiver(self._arrivals)  # what it hears of itself is not looked at
        await self._writer.join(room)
        self._writer.socket.on_message = lambda socket, payload: None
        self._receivers = [Receiver(self._arrivals) for _ in range(self._count)]
        for start in range(0, self._count, CONNECTING_AT_ONCE):
            group = self._receivers[start : start + CONNECTING_AT_ONCE]
            await asyncio.gather(*(receiver.join(room) for receiver in group))
        await self._saturate(self._session.last_insert_before(WARM_UP), time.perf_counter() + PATIENCE_SECONDS)

    async def paced(self, updates: int) -> Figures:
        end = self._session.last_insert_before(self._sent + updates)
        return await self._measured(lambda: self._type(end), self._receivers)

    async def saturated(self, seconds: float) -> Figures:
        last = self._session.last_insert_before(len(self._frames))
        sample = [self._receivers[0], self._receivers[-1]]  # every delivery would keep the generator busy
        return await self._measured(lambda: self._saturate(last, time.perf_counter() + seconds), sample)

    async def close(self) -> None:
        for receiver in (self._writer, *self._receivers):
            receiver.socket.close()
        await asyncio.sleep(SETTLE_SECONDS)

    async def _measured(self, phase: Callable, sample: list[Receiver]) -> Figures:
        await asyncio.sleep(SETTLE_SECONDS)
        generator = psutil.Process()
        for receiver in sample:
            receiver.latencies = array("d")
        first, frames = self._sent, sum(len(receiver.got) for receiver in self._receivers)
        cpu, own = cpu_seconds(self._contender.pid), sum(generator.cpu_times()[:2])
        started = time.perf_counter()
        await phase()
        seconds = time.perf_counter() - started
        cpu, own = cpu_seconds(self._contender.pid) - cpu, sum(generator.cpu_times()[:2]) - own
        latencies = array("d")
        for receiver in sample:
            assert receiver.latencies is not None
            latencies.extend(receiver.latencies)
            receiver.latencies = None
        frames = sum(len(receiver.got) for receiver in self._receivers) - frames
        return Figures(self._sent - first, seconds, cpu, own / seconds, frames, latencies)

    async def _type(self, end: int) -> None:
        loop = asyncio.get_running_loop()
        start, first = loop.time(), self._sent
        while self._sent < end:
            await asyncio.sleep(max(0.0, start + (self._sent - first) * PACE - loop.time()))
            self._send(self._sent + 1)
        await self._everybody_has(end)

    async def _saturate(self, last: int, until: float) -> None:
        """``WINDOW`` keystrokes ahead of the receiver that is served last."""
        slowest = self._receivers[-1]
        moved = asyncio.Event()
        slowest.on_progress = moved.set
        while self._sent < last and time.perf_counter() < until:
            ahead = min(last, slowest.has + WINDOW)
            if ahead > self._sent:
                self._send(ahead)
            moved.clear()
            if slowest.has + WINDOW <= self._sent:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await moved.wait()
        slowest.on_progress = None
        while not self._session.inserts(self._sent - 1):
            self._send(self._sent + 1)
        await self._everybody_has(self._sent)

    def _send(self, end: int) -> None:
        now = time.perf_counter()
        for index in range(self._sent, end):
            self._arrivals.sent_at[index] = now
        self._writer.socket.transport.write(b"".join(self._frames[self._sent : end]))
        self._sent = end

    async def _everybody_has(self, end: int) -> None:
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while any(receiver.has < end for receiver in self._receivers):
            ended = [
                receiver.socket.ended for receiver in (self._writer, *self._receivers) if receiver.socket.ended
            ]
            if ended or time.perf_counter() > deadline:
                behind = sum(receiver.has < end for receiver in self._receivers)
                raise Incomplete(f"{self._contender.title}: {behind} receivers lack content; ended: {ended[:3]}")
            await asyncio.sleep(0.002)

    def verify(self) -> None:
        """Every receiver's frames, and nothing else, make the text that was typed."""
        expected = self._session.text(self._sent)
        for sequence in {receiver.got.tobytes() for receiver in self._receivers}:
            doc: Doc = Doc()
            numbers = array("I", sequence)
            for start in range(0, len(numbers), 100):
                with doc.transaction():
                    for number in numbers[start : start + 100]:
                        doc.apply_update(self._room.update_in(self._arrivals.payloads[number]))
            if str(doc.get(ROOT, type=Text)) != expected:
                raise Incomplete(f"{self._contender.title}: a receiver has another text than was typed")
