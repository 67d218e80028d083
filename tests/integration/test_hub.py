"""The path of an update on a real database: what is shown, acked and stored, and in which order."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from collab_server import commit
from collab_server.clock import ManualClock, SystemClock
from collab_server.dialects.y_sweet import YSweet
from collab_server.dialects.y_websocket import YWebSocket
from collab_server.live.messages import SaveQuery, Update
from collab_server.live.replica import merged
from collab_server.rounds import Rounds
from persistence.database import Database
from persistence.tables import client_ids, documents
from schemas.errors import (
    ClientIdOwned,
    DocumentNotFound,
    Restarting,
    RoleRevoked,
    StorageFull,
    StorageUnavailable,
    TokenExpired,
    Unauthenticated,
)
from schemas.roles import Role
from tests.integration.stage import Stage, nobody_signed_out, stage


async def test_nothing_is_shown_or_acked_before_the_commit(node: Stage) -> None:
    alice = await node.client("alice", hocuspocus=True)
    bob, viewer = await node.client("bob"), await node.client("eve", Role.VIEWER)
    node.log.gate.clear()
    alice.type("секрет")
    await node.log.started.wait()
    assert (alice.acks, bob.frames, viewer.frames) == (0, [], [])
    assert await node.stored_text() == ""
    node.log.gate.set()
    await alice.until(lambda: alice.acks == 1)
    assert bob.take() == viewer.take() == "секрет"
    assert await node.stored_text() == "секрет"


async def test_joiner_is_shown_what_is_being_committed_only_after_the_commit(node: Stage) -> None:
    alice, bob = await node.client("alice"), await node.client("bob")
    node.log.gate.clear()
    alice.type("a")
    await node.log.started.wait()
    bob.sync()
    assert bob.frames == []
    node.log.gate.set()
    await bob.until(lambda: len(bob.frames) >= 2)
    assert bob.take() == "a"


async def test_ack_for_nothing_new_waits_for_what_is_being_committed(node: Stage) -> None:
    alice, bob = await node.client("alice"), await node.client("bob", hocuspocus=True)
    node.log.gate.clear()
    update = alice.type("a")
    await node.log.started.wait()
    bob.say(Update(update))
    assert bob.acks == 0
    node.log.gate.set()
    await bob.until(lambda: bob.acks == 1)


async def test_what_arrives_during_a_commit_becomes_one_row_and_one_frame(node: Stage) -> None:
    alice, bob = await node.client("alice", hocuspocus=True), await node.client("bob")
    node.log.gate.clear()
    alice.type("0")
    await node.log.started.wait()
    for digit in "123456789":
        alice.type(digit)
    node.log.gate.set()
    await alice.until(lambda: alice.acks == 10)
    assert len(bob.frames) == 2
    assert bob.take() == "0123456789"
    assert await node.rows() == 2


async def test_sender_is_not_sent_its_own_update_back(node: Stage) -> None:
    alice = await node.client("alice")
    alice.type("a")
    await alice.until(lambda: alice.frames)
    assert alice.frames == [bytes((101, 1, 1))]


async def test_sender_that_asked_for_an_echo_gets_its_own_update_after_the_commit(node: Stage) -> None:
    alice = await node.client("alice", codec=YWebSocket(echo=True))
    node.log.gate.clear()
    update = alice.type("a")
    await node.log.started.wait()
    assert alice.frames == []
    node.log.gate.set()
    await alice.until(lambda: alice.frames)
    assert alice.frames == [b"\x00\x02" + bytes((len(update),)) + update]


async def test_update_of_a_client_that_leaves_at_once_is_stored(node: Stage) -> None:
    alice = await node.client("alice")
    alice.type("last words")
    alice.leave()
    bob = await node.client("bob")
    bob.sync()
    await bob.until(lambda: bob.take() == "last words")
    assert await node.stored_text() == "last words"


async def test_slow_commit_shows_nothing_to_anybody_and_keeps_y_sweet_clients_company(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "SLOW_SECONDS", 0.01)
    async with stage(database) as node:
        alice, bob = await node.client("alice", hocuspocus=True), await node.client("bob")
        sweet = await node.client("sweet", codec=YSweet())
        node.log.gate.clear()
        alice.type("a")
        sweet.say(SaveQuery(b"\x01"))
        await sweet.until(lambda: len(sweet.frames) > 3)
        assert set(sweet.frames) == {b"\x01\x01\x00"}
        assert (alice.acks, bob.frames) == (0, [])
        node.log.gate.set()
        await sweet.until(lambda: sweet.frames[-1] == b"\x66\x01\x01")
        assert (alice.acks, bob.take()) == (1, "a")


async def test_failed_commit_is_tried_again_and_acked_once(node: Stage) -> None:
    node.log.failures = [StorageUnavailable(), StorageUnavailable(), RuntimeError("unforeseen")]
    alice = await node.client("alice", hocuspocus=True)
    alice.type("a")
    await alice.until(lambda: alice.acks)
    assert (alice.acks, await node.stored_text(), await node.rows()) == (1, "a", 1)


async def test_storage_that_stays_away_closes_the_clients_and_never_acks(database: Database) -> None:
    async with stage(database, storage_window_seconds=0.05) as node:
        alice, bob = await node.client("alice", hocuspocus=True), await node.client("bob")
        node.log.failures = [StorageFull()] * 100
        alice.type("a")
        await alice.until(lambda: alice.ended)
        assert isinstance(alice.ended[0], StorageFull)
        assert isinstance(bob.ended[0], StorageUnavailable)
        assert alice.acks == 0
        node.log.failures.clear()
        again = await node.client("alice", hocuspocus=True)
        again.doc.apply_update(alice.doc.get_update())
        again.bring()  # a client sends what was never acked again
        await again.until(lambda: again.acks == 1)
        assert await node.stored_text() == "a"


async def test_flusher_that_dies_half_way_loses_nothing_when_it_is_started_again(node: Stage) -> None:
    alice, bob = await node.client("alice", hocuspocus=True), await node.client("bob")
    node.log.gate.clear()
    alice.type("a")
    await node.log.started.wait()
    await node.kill_flusher()
    alice.type("b")
    node.log.gate.set()
    node.start_flusher()
    await alice.until(lambda: alice.acks == 2)
    assert bob.take() == "ab"
    assert await node.stored_text() == "ab"


async def test_update_of_a_revoked_editor_that_waited_for_its_commit_is_not_stored(node: Stage) -> None:
    mallory, bob = await node.client("mallory", hocuspocus=True), await node.client("bob")
    bob.type("before ")
    await mallory.until(lambda: mallory.take() == "before ")
    await node.change_access()
    node.roles["mallory"] = RoleRevoked()
    mallory.type("after")  # the hub has not heard of the revocation: the log has
    await mallory.until(lambda: mallory.ended)
    assert isinstance(mallory.ended[0], RoleRevoked)
    assert mallory.acks == 0
    await bob.until(lambda: bob.ended)
    assert isinstance(bob.ended[0], Restarting)
    assert await node.stored_text() == "before "
    again = await node.client("bob", acl_version=2)
    again.sync()
    await again.until(lambda: again.take() == "before ")


async def test_grant_to_somebody_else_in_the_middle_of_typing_costs_nobody_anything(node: Stage) -> None:
    alice, bob = await node.client("alice", hocuspocus=True), await node.client("bob")
    await node.change_access()
    for letter in "abc":
        alice.type(letter)
    await alice.until(lambda: alice.acks == 3)
    assert bob.take() == "abc"
    assert (alice.ended, bob.ended) == ([], [])


async def test_revoked_editor_who_typed_behind_an_honest_one_is_not_stored(node: Stage) -> None:
    alice, mallory = await node.client("alice", hocuspocus=True), await node.client("mallory", hocuspocus=True)
    node.log.gate.clear()
    alice.type("a")
    await node.log.started.wait()
    await node.change_access()
    node.roles["mallory"] = RoleRevoked()
    mallory.type("EVIL")  # gathers while alice's batch is refused for its old access version
    node.log.gate.set()
    await mallory.until(lambda: mallory.ended)
    assert "EVIL" not in await node.stored_text()
    assert mallory.acks == 0


async def test_downgraded_editor_is_told_and_stays(node: Stage) -> None:
    bob = await node.client("bob", hocuspocus=True)
    node.roles["bob"] = Role.VIEWER
    await node.change_access()
    node.hub.authority.access_changed("doc")
    await bob.until(lambda: bob.frames)
    assert bob.frames == [b"\x03doc\x02\x02\x08readonly"]
    assert bob.ended == []
    bob.type("no")
    await bob.until(lambda: len(bob.frames) == 2)
    assert bob.frames[1] == b"\x03doc\x08\x00"
    assert await node.stored_text() == ""


async def test_client_id_that_another_node_bound_first_is_refused_at_the_commit(node: Stage) -> None:
    mallory, bob = await node.client("mallory", client_id=42, hocuspocus=True), await node.client("bob")
    async with node.database.write() as connection:
        await connection.execute(
            client_ids.insert().values(document_id="doc", client_id=42, principal="account:victim", first_seq=1)
        )
    mallory.type("spoof")
    await mallory.until(lambda: mallory.ended)
    assert isinstance(mallory.ended[0], ClientIdOwned)
    assert isinstance(bob.ended[0], Restarting)
    assert await node.stored_text() == ""


async def test_deleted_document_ends_its_clients_at_the_next_commit(node: Stage) -> None:
    alice, bob = await node.client("alice"), await node.client("bob")
    async with node.database.write() as connection:
        await connection.execute(documents.update().values(state="deleted"))
    alice.type("too late")
    await alice.until(lambda: alice.ended)
    assert isinstance(alice.ended[0], DocumentNotFound)
    assert isinstance(bob.ended[0], DocumentNotFound)


async def test_many_who_open_a_document_at_once_load_it_once(node: Stage) -> None:
    clients = await asyncio.gather(*(node.client(f"c{n}") for n in range(20)))
    assert node.log.loads == 1
    assert len({id(client.document) for client in clients}) == 1


async def test_failed_load_is_an_error_for_all_who_wait_and_never_an_empty_document(node: Stage) -> None:
    results = await asyncio.gather(
        *(node.client(f"c{n}", document="missing") for n in range(5)), return_exceptions=True
    )
    assert all(isinstance(result, DocumentNotFound) for result in results)
    assert node.hub.documents == ()


async def test_document_is_unloaded_when_nobody_is_in_it_and_all_is_saved(database: Database) -> None:
    async with stage(database, unload_after_seconds=0) as node:
        alice = await node.client("alice", hocuspocus=True)
        node.log.gate.clear()
        alice.type("a")
        alice.leave()
        node.hub.unload_idle()
        assert len(node.hub.documents) == 1, "what is unsaved keeps it"
        node.log.gate.set()
        document = alice.document
        async with asyncio.timeout(5):
            await node.hub.settled(document)
        node.hub.unload_idle()
        assert node.hub.documents == ()
        bob = await node.client("bob")
        bob.sync()
        await bob.until(lambda: bob.take() == "a")


async def test_two_nodes_on_one_database_converge_with_nothing_else_between_them(
    node: Stage, database: Database
) -> None:
    async with stage(database, make=False) as other:
        alice, bob = await node.client("alice", hocuspocus=True), await other.client("bob", hocuspocus=True)
        for n in range(5):
            alice.type(f"a{n}")
            bob.type(f"b{n}")
        await alice.until(lambda: alice.acks == 5)
        await bob.until(lambda: bob.acks == 5)
        for one in (node, other):
            await Rounds(one.hub, one.log, SystemClock(), one.settings, nobody_signed_out).poll_once()
        await alice.until(lambda: len(alice.take()) == 20)
        await bob.until(lambda: len(bob.take()) == 20)
        assert alice.take() == bob.take() == await node.stored_text()


async def test_drain_saves_what_is_open_and_sends_everybody_elsewhere(database: Database) -> None:
    async with stage(database) as node:
        alice = await node.client("alice", hocuspocus=True)
        alice.type("a")
        await node.hub.drain()
        assert alice.acks == 1
        assert isinstance(alice.ended[0], Restarting)
        assert await node.stored_text() == "a"
        with pytest.raises(Restarting):
            await node.client("bob")


async def test_client_is_asked_for_a_new_token_before_the_old_one_ends_and_ended_without_one(node: Stage) -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    rounds = Rounds(node.hub, node.log, clock, node.settings, nobody_signed_out)
    alice, bob = await node.client("alice", hocuspocus=True), await node.client("bob", hocuspocus=True)
    for client in (alice, bob):
        client.peer.access = replace(client.peer.access, expires_at=clock.now() + timedelta(seconds=90))
    rounds.expire_credentials()
    assert alice.frames == []
    clock.advance(40)
    rounds.expire_credentials()
    rounds.expire_credentials()
    assert alice.frames == [b"\x03doc\x02\x00"], "asked once"
    node.hub.authority.renew(
        alice.document, alice.peer, replace(alice.peer.access, expires_at=clock.now() + timedelta(hours=1))
    )
    clock.advance(60)
    rounds.expire_credentials()
    assert alice.ended == []
    assert isinstance(bob.ended[0], TokenExpired)
    bob.say(Update(b"\x00\x00"))  # too late: nobody listens
    assert len(node.hub.documents[0].peers) == 1


async def test_row_of_another_node_with_a_cut_emoji_is_shown_as_it_was_received(
    node: Stage, database: Database
) -> None:
    async with stage(database, make=False) as other:
        alice, bob = await node.client("alice", hocuspocus=True), await other.client("bob")
        whole = b"\x01\x01\x05\x00\x04\x01\x04text\x06a\xf0\x9f\x99\x82b\x00"
        between = b"\x01\x01\x06\x00\xc4\x05\x01\x05\x02\x01x\x00"
        alice.say(Update(whole))
        alice.say(Update(between))
        await alice.until(lambda: alice.acks == 2)
        await Rounds(other.hub, other.log, SystemClock(), other.settings, nobody_signed_out).poll_once()
        await bob.until(lambda: bob.frames)
        late = await other.client("late", hocuspocus=True)
        late.sync()
        assert other.hub.documents[0].live.replica.state_as_update() == merged([whole, between])
    async with stage(database, make=False) as third:
        await third.client("carol")
        assert third.hub.documents[0].live.replica.state_as_update() == merged([whole, between])


async def test_session_that_ended_on_another_node_is_noticed_by_the_poll(node: Stage) -> None:
    alice, bob = await node.client("alice"), await node.client("bob")

    async def ended(session_ids: Collection[str]) -> set[str]:
        return {"session-alice"} & set(session_ids)

    await Rounds(node.hub, node.log, SystemClock(), node.settings, ended).end_sessions()
    assert isinstance(alice.ended[0], Unauthenticated)
    assert bob.ended == []
