"""Many hands on a few documents: what a server has to bear while it is killed.

Some stay and write; some come, write and leave at once; some read; some do what they must not: viewers that
write, impostors under somebody else's client id, replicas that send what builds on something they never sent.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from random import Random

from websockets.exceptions import WebSocketException

from tests.faults.client import Client, ended, joined
from tests.faults.ledger import TOKEN, Ledger
from tests.faults.replay import in_fresh_process
from tests.faults.victim import Victim
from tests.server import Account

DIALECTS = ("y-websocket", "hocuspocus")
GONE = (OSError, WebSocketException, TimeoutError)
REST_SECONDS = 20.0
CONVERGE_SECONDS = 5.0
LOGIN_AGAIN_SECONDS = 300.0


class Workload:
    """Everybody, against one server. ``online`` lets them connect, ``writing`` lets them write."""

    def __init__(
        self,
        server: Victim,
        ledger: Ledger,
        random: Random,
        *,
        per_second: float = 20.0,
        guests: bool = True,
    ) -> None:
        self.server = server
        self.ledger = ledger
        self.random = random
        self.online = asyncio.Event()
        self.writing = asyncio.Event()
        self.crashes = 0
        self.first_ack_ms: list[float] = []
        self.documents: list[str] = []
        self.residents: list[Client] = []
        self._per_second = per_second
        self._guests = guests  # those who come and go
        self._tasks: list[asyncio.Task[None]] = []
        self._visits = 0
        self._people: dict[str, Account] = {}
        self._signed_in = 0.0

    # -- setting up ----------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """The accounts; then ``new_documents``."""
        for name in ("owner", "first", "second", "viewer"):
            self._people[name] = await self.server.account(name.title())
        self._signed_in = time.monotonic()
        await self.new_documents()

    async def new_documents(self) -> None:
        """Leave the old documents alone and go to work on fresh ones."""
        await self.stop()
        await self.sign_in_again()
        self.documents = [await self._document() for _ in range(3)]
        busy, quiet, lonely = self.documents
        self.residents = [
            *(self._client(busy, who, dialect) for who in ("first", "second") for dialect in DIALECTS),
            *(
                self._client(quiet, who, dialect)
                for who, dialect in zip(("owner", "first"), DIALECTS, strict=True)
            ),
        ]
        readers = [self._client(busy, "viewer", dialect) for dialect in DIALECTS]
        for client in (*self.residents, *readers):
            self._start(client.stay(self.online))
        for number, client in enumerate(self.residents):
            times = 2 if number % 3 == 0 else 1  # every third says everything twice
            self._start(client.keep_writing(self.writing, self._per_second, times=times))
        self.residents += readers
        victim = self.residents[0]
        for act in (
            *(lambda d=dialect: self._leave_at_once(lonely, d) for dialect in DIALECTS),
            *(lambda d=dialect: self._trespass(busy, d) for dialect in DIALECTS),
            lambda: self._visit(busy),
            lambda: self._visit(quiet),
            lambda: self._visit(lonely),
            lambda: self._skip_one(quiet),
            lambda: self._impersonate(busy, victim),
        ):
            if self._guests:
                self._start(self._again_and_again(act))

    async def stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        left = set(tasks)
        while left:  # again and again: a cancellation that races with a timeout is swallowed by it
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=1)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    def token(self, who: str) -> str:
        """An access token of the ``owner``, the editors ``first`` and ``second``, or the ``viewer``."""
        return self._people[who].token

    async def _document(self) -> str:
        owner = self._people["owner"]
        document = await self.server.document(owner, "Faults")
        for name, role in (("first", "editor"), ("second", "editor"), ("viewer", "viewer")):
            await self.server.grant(owner, document, self._people[name], role)
        return document

    async def sign_in_again(self) -> None:
        if time.monotonic() - self._signed_in > LOGIN_AGAIN_SECONDS:
            for name, person in self._people.items():
                self._people[name] = await self.server.login(person.email, name=person.name, id=person.id)
            self._signed_in = time.monotonic()

    def _client(
        self, document: str, who: str, dialect: str = "y-websocket", client_id: int | None = None
    ) -> Client:
        return Client(
            self.ledger,
            self.server.socket_url,
            document,
            lambda: self.token(who),
            dialect=dialect,
            client_id=client_id,
            random=Random(self.random.random()),
        )

    def _start(self, work: Awaitable[None]) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    # -- those who come and go -----------------------------------------------------------------------------

    async def _again_and_again(self, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self.writing.wait()
            self._visits += 1
            try:
                with contextlib.suppress(*GONE):
                    await act()
            finally:
                self._visits -= 1
            await asyncio.sleep(self.random.uniform(0.02, 0.3))

    @contextlib.asynccontextmanager
    async def _guest(self, client: Client):
        session = await joined(client)
        try:
            yield
            await client.close()
        finally:
            await asyncio.wait([session], timeout=2)
            await ended(session)

    async def _leave_at_once(self, document: str, dialect: str) -> None:
        """Write and go: in good order, or without a word."""
        client, crashes, tokens = self._client(document, "first", dialect), self.crashes, []
        async with self._guest(client):
            for _ in range(self.random.randint(1, 5)):
                tokens.append(await client.write())
            if self.random.random() < 0.3:
                client.vanish()
        if client.close_code in (1000, 1001) and crashes == self.crashes:
            self.ledger.leave(tokens)

    async def _visit(self, document: str) -> None:
        """Join, which must show everything that was promised before, and go."""
        client = self._client(document, "viewer", self.random.choice(DIALECTS))
        promised, crashes = self.ledger.promised(document), self.crashes
        async with self._guest(client):
            present = client.replica.tokens()
        if crashes == self.crashes:
            self.ledger.check(document, present | (self._all_of(document) - promised & self._all_of(document)))

    def _all_of(self, document: str) -> set[str]:
        return {
            t for t, entry in self.ledger.entries.items() if entry.document == document and not entry.forbidden
        }

    async def _trespass(self, document: str, dialect: str) -> None:
        """A viewer writes."""
        client = self._client(document, "viewer", dialect)
        async with self._guest(client):
            await client.write(forbidden=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client.refused.wait(), 0.5)

    async def _skip_one(self, document: str) -> None:
        """Send what builds on something that is never sent: it must not be acked."""
        client = self._client(document, "first", self.random.choice(DIALECTS))
        async with self._guest(client):
            client.answers = False
            client.write_unsent()
            await client.send_update(*client.write_unsent())
            await asyncio.sleep(0.3)
            client.vanish()

    async def _impersonate(self, document: str, victim: Client) -> None:
        """Write under the client id of somebody else. Before they have used it, it is nobody's."""
        if not victim.known:
            return
        client = self._client(document, "second", client_id=victim.replica.doc.client_id)
        async with self._guest(client):
            await client.write(forbidden=True)
            await asyncio.sleep(0.2)

    # -- looking -------------------------------------------------------------------------------------------

    async def replayed(self) -> dict[str, str]:
        return await in_fresh_process(self.server.database_url, self.documents)

    async def fetched(self, document: str) -> str:
        """What a client that knows nothing is given."""
        client = self._client(document, "viewer", self.random.choice(DIALECTS))
        async with asyncio.timeout(REST_SECONDS):
            while True:
                with contextlib.suppress(*GONE):
                    async with self._guest(client):
                        return client.replica.content()
                await asyncio.sleep(0.05)

    async def states(self) -> list[bytes]:
        """The whole state of each document, as a client that knows nothing is given it."""
        states = []
        for document in self.documents:
            client = self._client(document, "viewer")
            async with self._guest(client):
                states.append(client.replica.doc.get_update())
        return states

    async def copies(self, replayed: dict[str, str] | None = None) -> list[dict[str, str]]:
        """What a replay and a client that knows nothing have of each document."""
        fetched = await asyncio.gather(*map(self.fetched, self.documents))
        return [replayed or await self.replayed(), dict(zip(self.documents, fetched, strict=True))]

    def look(self, copies: list[dict[str, str]], *, at_rest: bool = False) -> None:
        """Hold the copies against the ledger. Nobody may have written since they were made."""
        for copy in copies:
            for document, content in copy.items():
                self.ledger.check(document, TOKEN.findall(content), at_rest=at_rest)

    async def crashed(self, *flags: str, look: bool = True) -> None:
        """Kill the server, start it, and look before anybody comes back who could repair what it lost."""
        self.online.clear()
        self.writing.clear()
        await self.server.kill()
        self.crashes += 1
        self.ledger.crash()
        while any(client.connected for client in self.residents):
            await asyncio.sleep(0.01)
        replayed, _ = await asyncio.gather(self.replayed(), self.server.start(*flags))
        if look:
            self.look(await self.copies(replayed))
        await self.back()

    async def back(self) -> None:
        """Let everybody in again and wait for the first ack."""
        opened = time.monotonic()
        self.online.set()
        self.writing.set()
        while self.ledger.last_ack < opened and time.monotonic() - opened < REST_SECONDS:
            if not self.server.alive:  # a crash point was reached at once
                return
            await asyncio.sleep(0.002)
        self.first_ack_ms.append((time.monotonic() - opened) * 1000)

    async def rest(self) -> None:
        """Stop writing, wait until all is said, and compare every copy there is."""
        self.writing.clear()
        self.online.set()
        deadline = time.monotonic() + REST_SECONDS
        while time.monotonic() < deadline and (self._visits or not all(client.quiet for client in self.residents)):
            await asyncio.sleep(0.02)
        self.ledger.never_acked += sum(not client.quiet for client in self.residents)
        copies = await self.copies()
        deadline = time.monotonic() + CONVERGE_SECONDS
        while (different := self._different(copies)) and time.monotonic() < deadline:
            await asyncio.sleep(0.3)
            copies = await self.copies()
        self.ledger.divergent += different
        self.look(copies, at_rest=True)
        self.writing.set()

    def _different(self, copies: list[dict[str, str]]) -> int:
        """How many copies are not what a replay of the database gives."""
        replayed, fetched = copies
        clients = [(client.document, client.replica.content()) for client in self.residents]
        return sum(replayed[document] != content for document, content in (*fetched.items(), *clients))
