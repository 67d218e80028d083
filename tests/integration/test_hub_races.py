"""Races and bounds of the live part. That nothing happens can only be shown by waiting a while."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from collab_server.clock import SystemClock
from collab_server.connections.hocuspocus import HocuspocusConnection
from collab_server.connections.socket import Socket
from collab_server.dialects.y_sweet import YSweet
from collab_server.live.document import LiveDocument
from collab_server.live.effects import Append, Close
from collab_server.live.lib0 import write_var_string, write_var_uint
from collab_server.live.messages import SaveQuery, SyncStep1, SyncStep2, Update
from collab_server.live.presence import Presence
from collab_server.live.replica import Replica
from collab_server.rounds import Rounds
from collab_server.services.access import Access
from collab_server.transport.problems import close_for
from persistence.database import Database
from schemas.errors import (
    CollabError,
    DocumentReset,
    Malformed,
    Restarting,
    RoleRevoked,
    StorageUnavailable,
    TooLarge,
    Unauthenticated,
)
from schemas.ids import Principal
from schemas.roles import Role
from tests.integration.stage import Client, Stage, _payload, nobody_signed_out, stage


async def a_while(seconds: float = 0.15) -> None:
    await asyncio.sleep(seconds)


def hold_recheck(node: Stage, who: str) -> tuple[asyncio.Event, asyncio.Event]:
    """The recheck of ``who`` reads, then waits for the second event."""
    reached, go = asyncio.Event(), asyncio.Event()
    real = node.hub.authority.ask

    async def held(access: Any) -> Any:
        fresh = await real(access)
        if access.account_id == who:
            reached.set()
            await go.wait()
        return fresh

    node.hub.authority.ask = held
    return reached, go


async def answer(client: Client) -> None:
    """The handshake of a stock client: step 1, then step 2 for the server's step 1."""
    client.sync()
    questions: list[bytes] = []

    def asked() -> bool:
        bodies = [frame.removeprefix(client.peer.codec.prefix) for frame in client.frames]
        questions.extend(body for body in bodies if body[:2] == b"\x00\x00")
        return bool(questions)

    await client.until(asked)
    client.say(SyncStep2(client.doc.get_update(_payload(questions[-1]))))


# -- I13 ------------------------------


async def types_at_once(node: Stage, name: str) -> None:
    """Admitted under the first list of grants; joins and writes now, unless the door is shut."""
    with contextlib.suppress(RoleRevoked):
        (await node.client(name, hocuspocus=True, acl_version=1)).type("EVIL")
    await a_while(0.5)


async def test_i13_revoked_between_admission_and_join_writes_nothing(node: Stage) -> None:
    await node.client("bob", acl_version=1)
    await node.change_access()
    node.roles["mallory"] = RoleRevoked()
    node.hub.authority.access_changed("doc")
    await a_while()
    assert node.hub.documents[0].acl_version == 2
    await types_at_once(node, "mallory")
    assert await node.stored_text() == ""


async def test_i13_revoked_during_a_load_writes_nothing(node: Stage) -> None:
    await node.change_access()  # while the document is loaded, say
    node.roles["mallory"] = RoleRevoked()
    await types_at_once(node, "mallory")
    assert await node.stored_text() == ""


async def test_i13_who_joins_during_a_recheck_is_rechecked_as_well(node: Stage) -> None:
    await node.client("alice")
    reached, go = hold_recheck(node, "alice")
    node.roles["mallory"] = RoleRevoked()
    await node.change_access()
    node.hub.authority.access_changed("doc")
    await reached.wait()
    mallory = await node.client("mallory", hocuspocus=True, acl_version=1)
    go.set()
    await a_while()
    await Rounds(node.hub, node.log, SystemClock(), node.settings, nobody_signed_out).poll_once()
    mallory.type("EVIL")
    await a_while(0.5)
    assert await node.stored_text() == ""
    assert mallory.ended


async def test_i13_recheck_that_failed_for_one_peer_is_repeated(node: Stage) -> None:
    await node.client("alice")
    mallory = await node.client("mallory", hocuspocus=True)
    node.roles["mallory"] = StorageUnavailable()
    await node.change_access()
    await Rounds(node.hub, node.log, SystemClock(), node.settings, nobody_signed_out).poll_once()
    node.roles["mallory"] = RoleRevoked()
    await Rounds(node.hub, node.log, SystemClock(), node.settings, nobody_signed_out).poll_once()
    mallory.type("EVIL")
    await a_while(0.5)
    assert await node.stored_text() == ""
    assert mallory.ended


async def test_i13_revoked_who_types_while_others_are_rechecked_after_a_refused_batch(node: Stage) -> None:
    alice, mallory = await node.client("alice", hocuspocus=True), await node.client("mallory", hocuspocus=True)
    real, calls = node.hub.authority.ask, 0

    async def recheck(access: Any) -> Any:
        nonlocal calls
        calls += 1
        fresh = await real(access)
        if calls == 2:  # the first was of alice as an author, this is of alice as a peer
            mallory.type("EVIL")
            await a_while()
        return fresh

    node.hub.authority.ask = recheck
    node.roles["mallory"] = RoleRevoked()
    await node.change_access()
    alice.type("a")
    await a_while(0.6)
    assert "EVIL" not in await node.stored_text()


async def test_i13_older_answer_of_a_recheck_does_not_undo_a_newer_one(node: Stage) -> None:
    bob = await node.client("bob", hocuspocus=True)
    await node.change_access()
    reached, go = hold_recheck(node, "bob")
    node.hub.authority.access_changed("doc")  # reads: editor at 2
    await reached.wait()
    node.roles["bob"] = Role.VIEWER
    await node.change_access()
    go2 = asyncio.Event()
    go2.set()
    node.hub.authority.ask = node._recheck
    await node.hub.authority.recheck(bob.document)  # reads: viewer at 3
    go.set()
    await a_while()
    bob.type("no")
    await a_while(0.3)
    assert await node.stored_text() == ""


async def test_i13_renewed_credential_read_before_a_downgrade_does_not_undo_it(node: Stage) -> None:
    bob = await node.client("bob", hocuspocus=True)
    old = bob.peer.access
    node.roles["bob"] = Role.VIEWER
    await node.change_access()
    await node.hub.authority.recheck(bob.document)
    node.hub.authority.renew(bob.document, bob.peer, old)
    bob.type("no")
    await a_while(0.3)
    assert await node.stored_text() == ""


# -- what a peer that left is still sent ------------------------------


async def test_revoked_peer_is_not_sent_an_answer_that_waited_for_a_commit(node: Stage) -> None:
    alice, mallory = await node.client("alice"), await node.client("mallory", hocuspocus=True)
    node.log.gate.clear()
    alice.type("secret")
    await node.log.started.wait()
    mallory.sync()
    node.hub.authority.deny(mallory.document, mallory.peer, RoleRevoked())  # its socket stays open: Hocuspocus
    node.log.gate.set()
    await a_while(0.3)
    assert mallory.take() == ""


async def test_ack_of_a_peer_that_left_does_not_reach_its_successor_at_the_same_address(node: Stage) -> None:
    """Detach and attach again on one socket: the new provider counts from 1 and takes the old ack for its own."""
    alice = await node.client("alice", hocuspocus=True)
    node.log.gate.clear()
    alice.type("a")
    await node.log.started.wait()
    alice.leave()
    node.log.gate.set()
    await a_while(0.3)
    assert alice.acks == 0


# -- several nodes ------------------------------


async def test_writer_who_moves_to_a_node_that_lags_behind_is_let_in(node: Stage, database: Database) -> None:
    async with stage(database, make=False) as other:
        carol = await other.client("carol")
        alice, bob = await node.client("alice"), await node.client("bob")
        alice.type("a")
        await bob.until(lambda: bob.take() == "a")  # committed
        moved = await other.client("bob", hocuspocus=True)  # before the other node's next poll
        moved.doc.apply_update(bob.doc.get_update())
        await answer(moved)
        await a_while(0.4)
        assert [type(e) for e in moved.ended] == []
        assert [type(e) for e in carol.ended] == []


# -- closed documents, room, counters ------------------------------


async def test_document_that_is_closed_with_unsaved_bytes_leaves_nothing_in_the_nodes_count(node: Stage) -> None:
    alice = await node.client("alice", hocuspocus=True)
    node.log.gate.clear()
    alice.type("a")
    await node.log.started.wait()
    alice.type("b")
    node.hub.close(alice.document, Restarting())  # as after a panic
    again = await node.client("alice", hocuspocus=True)
    again.type("c")
    node.log.gate.set()
    await again.until(lambda: again.acks == 1)
    await a_while()
    assert node.hub._unsaved_bytes == 0


async def test_socket_that_waits_for_room_is_released_when_its_document_is_closed(database: Database) -> None:
    async with stage(database, document_window_bytes=10) as node:
        alice = await node.client("alice")
        node.log.gate.clear()
        alice.type("much more than ten bytes")
        waiting = asyncio.create_task(node.hub.room(alice.document))
        await a_while()
        node.hub.close(alice.document, Restarting())
        await a_while()
        done = waiting.done()
        waiting.cancel()
        assert done


async def test_socket_that_waits_for_the_node_is_released_by_a_closed_documents_commit(database: Database) -> None:
    async with stage(database, storage_window_bytes=10) as node:
        alice = await node.client("alice")
        node.log.gate.clear()
        alice.type("much more than ten bytes")
        await node.log.started.wait()
        async with database.write() as connection:
            from persistence.tables import documents

            row = (await connection.execute(documents.select())).one()._asdict()
            await connection.execute(documents.insert().values(**(row | {"id": "two", "head_seq": 0})))
        bob = await node.client("bob", document="two")
        waiting = asyncio.create_task(node.hub.room(bob.document))
        await a_while()
        node.hub.close(alice.document, Restarting())
        node.log.gate.set()
        await a_while(0.4)
        assert not node.hub.congested(bob.document)
        done = waiting.done()
        waiting.cancel()
        assert done


async def test_recheck_of_authors_that_fails_unforeseen_leaves_no_stuck_document(node: Stage) -> None:
    alice = await node.client("alice", hocuspocus=True)
    real, failures = node.hub.authority.ask, [RuntimeError("unforeseen")]

    async def recheck(access: Any) -> Any:
        if failures:
            raise failures.pop()
        return await real(access)

    node.hub.authority.ask = recheck
    await node.change_access()
    alice.type("a")
    await a_while(0.5)
    await Rounds(node.hub, node.log, SystemClock(), node.settings, nobody_signed_out).poll_once()
    alice.type("b")
    await a_while(0.5)
    assert alice.acks == 2 or alice.ended


async def test_poll_of_the_others_goes_on_when_one_document_fails_unforeseen(
    node: Stage, database: Database
) -> None:
    from persistence.tables import documents

    async with database.write() as connection:
        row = (await connection.execute(documents.select())).one()._asdict()
        await connection.execute(documents.insert().values(**(row | {"id": "two", "head_seq": 0})))
    await node.client("alice")
    mallory = await node.client("mallory", document="two")
    node.roles["alice"] = RuntimeError("unforeseen")  # type: ignore[assignment]
    node.roles["mallory"] = RoleRevoked()
    real = node.hub.authority.ask

    async def recheck(access: Any) -> Any:
        if access.account_id == "alice":
            raise RuntimeError("unforeseen")
        return await real(access)

    node.hub.authority.ask = recheck
    await node.change_access()
    await node.change_access("two")
    for _ in range(3):
        with contextlib.suppress(RuntimeError):
            await Rounds(node.hub, node.log, SystemClock(), node.settings, nobody_signed_out).poll_once()
    assert mallory.ended


# -- bounds ------------------------------


async def test_answers_that_wait_for_a_commit_are_bounded(node: Stage) -> None:
    alice, eve = await node.client("alice", hocuspocus=True), await node.client("eve", Role.VIEWER)
    alice.type("x" * 500_000)
    await alice.until(lambda: alice.acks == 1)
    node.log.gate.clear()
    node.log.started.clear()
    alice.type("y")
    await node.log.started.wait()
    for _ in range(100):
        eve.say(SyncStep1(b"\x00"))
    held = sum(len(frame) for frame in eve.document.newest_batch.held.get(eve.peer, []))
    assert held <= 8 * 1024 * 1024, f"{held} bytes for 100 frames of 4 bytes"


def entry(client: int, clock: int, state: str = "{}") -> bytes:
    return write_var_uint(client) + write_var_uint(clock) + write_var_string(state)


def test_one_frame_gives_a_peer_one_presence_and_leaves_none_behind() -> None:
    table = Presence()
    table.receive(1, "account:mallory", write_var_uint(5000) + b"".join(entry(n, 1) for n in range(5000)))
    assert len(table.states()) == 1
    table.leave(1)
    assert table.states() == {}


def test_peer_that_repeated_who_had_just_left_may_still_show_itself() -> None:
    """y-websocket and old providers repeat what they hear; this one had no state of its own yet."""
    table = Presence()
    table.receive(1, "account:alice", b"\x01" + entry(7, 1))
    table.leave(1)
    table.receive(2, "account:bob", b"\x01" + entry(7, 1))  # said before it heard that she left
    table.sweep()
    table.sweep()
    assert table.receive(2, "account:bob", b"\x01" + entry(8, 1))


# -- the engine and the guard's tables ------------------------------


class Panic(BaseException):
    """As PyO3's."""


async def test_panic_while_a_state_is_encoded_drops_the_doc(node: Stage) -> None:
    alice = await node.client("alice")

    class Engine:
        def __getattr__(self, name: str) -> Any:
            raise Panic

    alice.document.live.replica._doc = Engine()
    try:
        alice.say(SyncStep1(b"\x00"))
    except BaseException as failure:
        pytest.fail(f"{type(failure).__name__} escapes; the document is still open: {not alice.document.closed}")
    assert alice.document.closed


def live() -> LiveDocument:
    document = LiveDocument(Replica(), {})
    document.join(1, "account:mallory", may_write=True, wants_acks=False)
    return document


def update(client: int, clock: int, *structs: bytes) -> Update:
    return Update(
        b"\x01"
        + write_var_uint(len(structs))
        + write_var_uint(client)
        + write_var_uint(clock)
        + b"".join(structs)
        + b"\x00"
    )


# info bytes: content 4 = string, 8 = any; 0x20 has a key, 0x40 right origin, 0x80 origin
def in_map(root: str, key: str, text: str) -> bytes:
    return b"\x28\x01" + write_var_string(root) + write_var_string(key) + b"\x01\x77" + write_var_string(text)


def in_list(root: str, text: str) -> bytes:
    return b"\x04\x01" + write_var_string(root) + write_var_string(text)


def under(client: int, clock: int, text: str) -> bytes:
    return b"\x04\x00" + write_var_uint(client) + write_var_uint(clock) + write_var_string(text)


def text_before(right: tuple[int, int], left: tuple[int, int], text: str) -> bytes:
    ids = b"".join(write_var_uint(n) for n in (*left, *right))
    return b"\xc4" + ids + write_var_string(text)


def test_refused_update_leaves_nothing_in_the_tables_of_the_structure() -> None:
    """Left behind, they let a text through whose right neighbour is an entry of a map."""

    def prepared(*, refused: bool) -> LiveDocument:
        document = live()
        assert isinstance(document.receive(1, update(8, 0, in_list("t", "z")))[0], Append)
        if refused:
            entries = in_map("m", "a", "v"), in_list("t", "wxyz"), in_map("m", "b", "v")
            [close] = document.receive(1, update(7, 0, *entries, under(7, 1, "q")))
            assert isinstance(close, Close)
            assert isinstance(close.error, Malformed)
        assert isinstance(document.receive(1, update(7, 0, in_list("t", "a")))[0], Append)
        assert isinstance(document.receive(1, update(7, 1, in_map("m", "c", "v")))[0], Append)
        return document

    mixing = update(7, 2, text_before((7, 1), (8, 0), "x"))
    for refused in (False, True):
        [effect] = prepared(refused=refused).receive(1, mixing)
        assert isinstance(effect, Close), "a text whose right neighbour is an entry of a map reached the engine"
        assert isinstance(effect.error, Malformed)


# -- a Hocuspocus socket ------------------------------


class Wire:
    """The connection of a provider on a hub, with a door in the test's hand."""

    def __init__(self, node: Stage, **settings: Any) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.answers: dict[str, asyncio.Future[Access | CollabError]] = {}
        self.node = node
        self.settings = node.settings.model_copy(update=settings)

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    async def by_token(self, token: str, document_id: str) -> Access:
        answer = await self.answers.setdefault(token, asyncio.get_running_loop().create_future())
        if isinstance(answer, CollabError):
            raise answer
        return answer

    async def run(self) -> None:
        socket = Socket(self.incoming.get, self._send, 1 << 20, close_for)
        self.socket = socket
        await HocuspocusConnection(socket, self.node.hub, cast(Any, self), self.settings).run()

    def say(self, frame: bytes) -> None:
        self.incoming.put_nowait({"type": "websocket.receive", "bytes": frame})

    def token(self, token: str) -> None:
        self.say(b"\x03doc\x02\x00" + write_var_string(token) + write_var_string("4.8.0"))

    def decide(self, token: str, answer: Access | CollabError) -> None:
        self.answers.setdefault(token, asyncio.get_running_loop().create_future()).set_result(answer)

    @property
    def frames(self) -> list[bytes]:
        return [message["bytes"] for message in self.sent if "bytes" in message]

    @property
    def code(self) -> int | None:
        return next((message["code"] for message in self.sent if message["type"] == "websocket.close"), None)


def editor(name: str) -> Access:
    return Access(name, name, "session", "doc", Role.EDITOR, Principal(f"account:{name}"), 1, None)


@pytest.fixture
async def wire(node: Stage) -> AsyncIterator[Wire]:
    wire = Wire(node, auth_deadline_seconds=0.3)
    running = asyncio.create_task(wire.run())
    await asyncio.sleep(0)
    yield wire
    wire.incoming.put_nowait({"type": "websocket.disconnect"})
    await running


async def test_denial_of_an_attempt_that_was_detached_is_not_told_to_the_next_one(wire: Wire) -> None:
    wire.token("old")
    await a_while(0.05)
    wire.say(b"\x03doc\x07")
    wire.token("new")
    await a_while(0.05)
    wire.decide("old", Unauthenticated())
    await a_while(0.05)
    assert wire.frames == []
    wire.decide("new", editor("alice"))
    await a_while(0.05)
    assert wire.frames == [b"\x03doc\x02\x02\x0aread-write"]


async def test_grant_of_an_attempt_that_was_detached_is_not_told_to_the_next_one(wire: Wire) -> None:
    wire.token("old")
    await a_while(0.05)
    wire.say(b"\x03doc\x07")
    wire.token("new")
    await a_while(0.05)
    wire.decide("old", editor("alice"))
    await a_while(0.05)
    assert wire.frames == []


async def test_socket_whose_only_document_was_detached_during_admission_does_not_stay_for_ever(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collab_server.connections.hocuspocus.IDLE_SECONDS", 0.2)
    wire.token("old")
    await a_while(0.05)
    wire.say(b"\x03doc\x07")
    await a_while(0.05)
    wire.decide("old", editor("alice"))
    await a_while(0.6)
    assert wire.code == 4508


@pytest.mark.parametrize("error", [DocumentReset(), TooLarge()])
async def test_what_will_be_the_same_after_a_reconnect_does_not_close_the_other_documents(
    wire: Wire, error: CollabError
) -> None:
    """No close code is final for a Hocuspocus provider: it comes back every second with the same content."""
    wire.decide("t", editor("alice"))
    wire.token("t")
    await a_while(0.05)
    [document] = wire.node.hub.documents
    [peer] = document.peers.values()
    wire.node.hub.authority.deny(document, peer, error)
    await a_while(0.05)
    assert wire.code is None


async def test_socket_that_goes_away_while_it_waits_for_room_takes_its_presence_along(
    node: Stage, wire: Wire
) -> None:
    wire.decide("t", editor("alice"))
    wire.token("t")
    await a_while(0.05)
    wire.say(b"\x03doc\x01" + bytes((6,)) + b"\x01\x07\x01\x02{}"[:6])
    await a_while(0.05)
    [document] = node.hub.documents
    node.hub._settings = node.hub._settings.model_copy(update={"document_window_bytes": 1})
    node.log.gate.clear()
    bob = await node.client("bob")
    bob.type("much")
    wire.say(b"\x03doc\x03")
    await a_while(0.05)
    wire.incoming.put_nowait({"type": "websocket.disconnect"})
    await a_while(0.3)
    gone = len(document.peers) == 1
    node.log.gate.set()
    await a_while(0.3)
    assert gone


# -- more ------------------------------


async def test_document_that_was_loading_during_the_drain_takes_nobody_in(database: Database) -> None:
    async with stage(database) as node:
        go, real = asyncio.Event(), node.log.load

        async def load(document_id: str) -> Any:
            stored = await real(document_id)
            await go.wait()
            return stored

        node.log.load = load  # type: ignore[method-assign]
        joining = asyncio.create_task(node.client("alice"))
        await a_while(0.1)
        await node.hub.drain()
        go.set()
        with pytest.raises(Restarting):
            await joining


async def test_drain_does_not_wait_for_who_goes_on_typing(database: Database) -> None:
    async with stage(database, drain_seconds=3) as node:
        alice, real = await node.client("alice"), node.log.append

        async def append(batches: Any) -> Any:
            await asyncio.sleep(0.02)
            return await real(batches)

        node.log.append = append  # type: ignore[method-assign]

        async def type_on() -> None:
            while True:
                alice.type("a")
                await asyncio.sleep(0.002)

        typing = asyncio.create_task(type_on())
        await a_while(0.1)
        before = asyncio.get_running_loop().time()
        await node.hub.drain()
        took = asyncio.get_running_loop().time() - before
        typing.cancel()
        assert took < 1


async def test_credential_that_was_renewed_during_a_recheck_stays_renewed(node: Stage) -> None:
    bob = await node.client("bob", hocuspocus=True)
    old = SystemClock().now()
    bob.peer.access = replace(bob.peer.access, expires_at=old)
    reached, go = hold_recheck(node, "bob")
    node.hub.authority.access_changed("doc")
    await reached.wait()
    later = old + timedelta(hours=1)
    node.hub.authority.renew(bob.document, bob.peer, replace(bob.peer.access, expires_at=later))
    go.set()
    await a_while()
    assert bob.peer.access.expires_at == later


def test_half_open_connection_that_dies_does_not_take_its_successor_along() -> None:
    """A page that hid itself (null), lost its network and came back under the same client id."""
    table = Presence()
    table.receive(1, "account:alice", b"\x01" + entry(7, 1))
    table.receive(1, "account:alice", b"\x01" + entry(7, 1, "null"))
    table.receive(2, "account:alice", b"\x01" + entry(7, 2))
    table.leave(1)
    assert table.states() == {7: {}}


def test_questions_that_are_never_answered_are_bounded() -> None:
    document = live()
    for _ in range(10_000):
        document.receive(1, SyncStep1(b"\x00"))
    assert len(document._peers[1].asked) <= 1000 if 1 in document._peers else True


async def test_promises_that_wait_for_a_commit_are_bounded_and_one_sign_of_life_is_enough(node: Stage) -> None:
    alice, eve = await node.client("alice"), await node.client("eve")
    eve.peer.codec = YSweet()
    node.log.gate.clear()
    alice.type("y")
    await node.log.started.wait()
    for n in range(1000):
        eve.say(SaveQuery(bytes((n % 100,))))
    node.hub.settlement.still_waiting(eve.document)
    assert len(eve.document.newest_batch.promises) <= 1
    assert len(eve.frames) <= 1
