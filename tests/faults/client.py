"""A client that keeps the book: the raw protocol in either dialect, with reconnects, and nothing forgiven."""

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Collection
from random import Random

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.faults.ledger import Ledger, tokens_in
from tests.faults.replica import TokenDoc
from tests.faults.wire import AUTH, SAVED, STEP1, STEP2, SYNC, SYNC_STATUS, UPDATE, Dialect, sync

OPEN_SECONDS = 10.0
FINAL = range(4400, 4500)  # y-websocket does not come back
Credential = Callable[[], str]
_numbers = itertools.count(1)


class Client:
    """One replica of one document."""

    def __init__(
        self,
        ledger: Ledger,
        socket_url: str,
        document: str,
        credential: Credential,
        *,
        dialect: str = "y-websocket",
        random: Random | None = None,
        client_id: int | None = None,
    ) -> None:
        self.number = next(_numbers)
        self.document = document
        self.random = random or Random(self.number)
        self.replica = TokenDoc(self.random, client_id)
        self.ledger = ledger
        self.synced = asyncio.Event()
        self.refused = asyncio.Event()
        self.close_code: int | None = None
        self.answers = True  # the server's questions
        self.known = False  # something of ours was acked: the server knows whose client id it is
        self._credential = credential
        self._socket_url = socket_url
        self._wire = Dialect(dialect, document)
        self._socket: ClientConnection | None = None
        self._unacked: deque[list[str]] = deque()  # what each message awaiting an ack holds
        self._own: dict[str, None] = {}  # tokens of ours that nobody has acked
        self._answered = False

    @property
    def connected(self) -> bool:
        return self._socket is not None

    @property
    def quiet(self) -> bool:
        """In sync, and nothing of ours is unacked."""
        return self.synced.is_set() and not self._own

    # -- the socket ----------------------------------------------------------------------------------------

    async def session(self) -> None:
        """Connect, sync, and read until the connection ends. Raises ``OSError`` or ``WebSocketException``
        when there is none to be had."""
        token = self._credential()
        address = self._wire.address(self._socket_url, token)
        options = {"compression": None, "max_size": None, "ping_interval": None, "proxy": None}
        async with connect(address, open_timeout=OPEN_SECONDS, close_timeout=1, **options) as socket:
            self._unacked.clear()
            self._answered = False
            for frame in self._wire.greeting(token):
                await socket.send(frame)
            self._socket = socket
            try:
                await self._send(sync(STEP1, self.replica.doc.get_state()))
                async for frame in socket:
                    assert isinstance(frame, bytes), "the server sent a text frame"
                    await self._receive(frame)
            finally:
                self._socket = None
                self.synced.clear()
                self.close_code = socket.close_code

    async def stay(self, gate: asyncio.Event) -> None:
        """Come back for ever, whenever ``gate`` is open, as Yjs clients do."""
        while True:
            await gate.wait()
            self.close_code = None
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                await self.session()
            self.ledger.shut_out += self.close_code in FINAL
            await asyncio.sleep(self.random.uniform(0.01, 0.1))

    async def close(self) -> None:
        """Leave in good order: what was sent before has reached the server."""
        if self._socket is not None:
            await self._socket.close()

    def vanish(self) -> None:
        """Leave without a word."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def _send(self, body: bytes) -> None:
        if self._socket is not None:
            await self._socket.send(self._wire.prefix + body)

    async def _receive(self, frame: bytes) -> None:
        received = self._wire.read(frame)
        if received is None:
            return
        match received.kind:
            case kind if kind == SYNC and received.step == STEP1:
                await self._answer(received.payload)
            case kind if kind == SYNC:
                self.ledger.see(self.document, self.number, tokens_in(received.payload))
                try:
                    self.replica.apply(received.payload)
                except RuntimeError:
                    self.ledger.unreadable += 1
                if received.step == STEP2:
                    self.synced.set()
            case kind if kind == SAVED:
                for _ in range(received.step):
                    self._acked(self._unacked.popleft())
            case kind if kind == SYNC_STATUS:
                self.ledger.refusals += 1
                self.refused.set()
            case kind if kind == AUTH and received.step == 1:
                self.refused.set()

    async def _answer(self, state_vector: bytes) -> None:
        """The server counts the answer to the first question of a connection among what it acks."""
        if not self.answers:
            return
        if not self._answered:
            self._unacked.append(list(self._own))
            self._answered = True
        await self._send(sync(STEP2, self.replica.doc.get_update(state_vector)))

    def _acked(self, tokens: Collection[str]) -> None:
        self.ledger.ack(tokens)
        self.known = self.known or bool(tokens)
        self.ledger.last_ack = time.monotonic()
        for token in tokens:
            self._own.pop(token, None)

    # -- writing -------------------------------------------------------------------------------------------

    def write_unsent(self, *, forbidden: bool = False) -> tuple[str, bytes]:
        """Write into our replica only."""
        token = self.ledger.write(self.document, self.number, forbidden=forbidden)
        if not forbidden:
            self._own[token] = None
        return token, self.replica.write(token)

    async def send_update(self, token: str, update: bytes) -> None:
        if self._socket is not None:
            self._unacked.append([token])
            await self._send(sync(UPDATE, update))

    async def write(self, *, times: int = 1, forbidden: bool = False) -> str:
        """Write a token and send it, ``times`` times; offline it goes with the next sync."""
        token, update = self.write_unsent(forbidden=forbidden)
        with contextlib.suppress(OSError, WebSocketException):
            for _ in range(times):
                await self.send_update(token, update)
        return token

    async def keep_writing(self, gate: asyncio.Event, per_second: float, *, times: int = 1) -> None:
        """Write at this rate on average, also while offline."""
        while True:
            await gate.wait()
            await self.write(times=times)
            await asyncio.sleep(self.random.expovariate(per_second))

    async def until_acked(self, seconds: float = 5.0) -> bool:
        """Whether everything we wrote was acked in time."""
        deadline = time.monotonic() + seconds
        while self._own and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        return not self._own


async def joined(client: Client) -> asyncio.Task[None]:
    """Run one session of ``client`` aside; return when it is in sync. Cancel it, or close the client."""
    session = asyncio.get_running_loop().create_task(client.session())
    session.add_done_callback(lambda task: task.cancelled() or task.exception())  # is heard of
    waiting = asyncio.get_running_loop().create_task(client.synced.wait())
    try:
        await asyncio.wait([session, waiting], timeout=OPEN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not client.synced.is_set():
            raise ConnectionError(f"no sync: closed with {client.close_code}")
    except BaseException:
        await ended(session)
        raise
    finally:
        waiting.cancel()
    return session


async def ended(session: asyncio.Task[None]) -> None:
    """End a session, whatever it is doing. How a connection ends is no error; everything else is."""
    session.cancel()
    (result,) = await asyncio.gather(session, return_exceptions=True)
    if isinstance(result, Exception) and not isinstance(result, OSError | WebSocketException):
        raise result
