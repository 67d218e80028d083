"""Who may do what on a socket, seen by the clients themselves; and presence as they see it."""

import os
import signal

import pytest

from tests.e2e.joining import join
from tests.node import HOCUSPOCUS, Y_WEBSOCKET, NodeDriver
from tests.server import Server

ONE_OF_EACH = ("y-websocket-3", "hocuspocus-2", "hocuspocus-3", "hocuspocus-4")


@pytest.fixture
async def shared(server: Server):
    """Anna's document, and Boris who may only read it."""
    anna, boris = await server.account("Anna"), await server.account("Boris")
    document = await server.document(anna)
    await server.grant(anna, document, boris, "viewer")
    return anna, boris, document


@pytest.mark.parametrize("family", ONE_OF_EACH)
async def test_viewer_receives_and_is_seen_but_changes_nothing(
    node: NodeDriver, server: Server, shared, family: str
) -> None:
    anna, boris, document = shared
    writer = await (await join(node, server, anna, document, "y-websocket-3")).wait_synced()
    viewer = await (await join(node, server, boris, document, family)).wait_synced()
    await writer.insert("text", 0, "читай")
    await viewer.wait_text("text", "читай")
    await viewer.set_awareness({"name": "Борис"})
    await writer.wait_awareness(clientId=viewer.client_id, contains={"name": "Борис"})
    await viewer.insert("text", 0, "EVIL")
    await writer.insert("text", 5, "!")
    await viewer.wait("text", root="text", includes="читай!")
    late = await (await join(node, server, anna, document, "hocuspocus-4")).wait_synced()
    assert await late.text("text") == "читай!"
    assert await writer.text("text") == "читай!"


@pytest.mark.parametrize("family", HOCUSPOCUS)
async def test_hocuspocus_viewer_is_told_its_scope_and_never_acked_for_what_was_refused(
    node: NodeDriver, server: Server, shared, family: str
) -> None:
    _, boris, document = shared
    viewer = await (await join(node, server, boris, document, family)).wait_synced()
    await viewer.wait_saved()  # it brought nothing: nothing is unsaved
    assert (await viewer.state())["authorizedScope"] in ("readonly", None)  # None: provider 2 does not keep it
    await viewer.insert("text", 0, "EVIL")
    other = await (await join(node, server, boris, document, family)).wait_synced()  # a round trip later
    assert (await viewer.state())["hasUnsyncedChanges"]
    assert await other.text("text") == ""


async def test_viewer_of_a_y_websocket_client_is_told_that_its_update_was_refused(
    node: NodeDriver, server: Server, shared
) -> None:
    _, boris, document = shared
    viewer = await (await join(node, server, boris, document, "y-websocket-3")).wait_synced()
    await viewer.insert("text", 0, "EVIL")
    refused = await viewer.wait("refused")
    assert refused["reasons"] == ["read-only"]


@pytest.mark.parametrize("family", Y_WEBSOCKET)
async def test_revoked_session_is_closed_with_4401_and_may_not_come_back(
    node: NodeDriver, server: Server, family: str
) -> None:
    anna = await server.account("Anna")
    document = await server.document(anna)
    client = await (await join(node, server, anna, document, family)).wait_synced()
    await server.api("POST", "/auth/logout", anna)
    await client.wait_closed(4401)
    stranger = await join(node, server, anna, document, family)
    await stranger.wait_closed(4401)
    assert not (await stranger.state())["synced"]


@pytest.mark.parametrize("family", HOCUSPOCUS)
async def test_hocuspocus_provider_with_a_revoked_session_is_denied(
    node: NodeDriver, server: Server, family: str
) -> None:
    anna = await server.account("Anna")
    document = await server.document(anna)
    client = await (await join(node, server, anna, document, family)).wait_synced()
    await server.api("POST", "/auth/logout", anna)
    assert (await client.wait("refused"))["reasons"] == ["unauthenticated"]
    stranger = await join(node, server, anna, document, family)
    assert (await stranger.wait("refused"))["reasons"] == ["unauthenticated"]


async def test_y_websocket_3_1_stops_for_good_at_4403_when_its_member_is_removed(
    node: NodeDriver, server: Server, shared
) -> None:
    anna, boris, document = shared
    client = await (await join(node, server, boris, document, "y-websocket-3")).wait_synced()
    await server.revoke(anna, document, boris)
    await client.wait_closed(4403)
    assert await client.wait("stopped")


async def test_removed_member_is_denied_and_the_other_documents_on_its_socket_go_on(
    node: NodeDriver, server: Server, shared
) -> None:
    anna, boris, document = shared
    own = await server.document(boris, "Mine")
    shared_client = await join(node, server, boris, document, "hocuspocus-4", socket="one")
    own_client = await join(node, server, boris, own, "hocuspocus-4", socket="one")
    await shared_client.wait_synced()
    await own_client.wait_synced()
    await server.revoke(anna, document, boris)
    assert (await shared_client.wait("refused"))["reasons"] == ["role-revoked"]
    await own_client.insert("text", 0, "goes on")
    await own_client.wait_saved()


async def test_promoted_viewer_may_write_without_reconnecting(node: NodeDriver, server: Server, shared) -> None:
    anna, boris, document = shared
    client = await (await join(node, server, boris, document, "hocuspocus-4")).wait_synced()
    await server.change_role(anna, document, boris, "editor")
    await client.wait("authenticated", scope="read-write")
    await client.insert("text", 0, "теперь можно")
    await client.wait_saved()


async def test_demoted_editor_is_told_and_its_next_update_is_refused(
    node: NodeDriver, server: Server, shared
) -> None:
    anna, boris, document = shared
    await server.change_role(anna, document, boris, "editor")
    client = await (await join(node, server, boris, document, "hocuspocus-4")).wait_synced()
    await client.insert("text", 0, "before")
    await client.wait_saved()
    await server.change_role(anna, document, boris, "viewer")
    await client.wait("authenticated", scope="readonly")
    await client.insert("text", 0, "after ")
    fresh = await (await join(node, server, anna, document, "y-websocket-3")).wait_synced()
    assert await fresh.text("text") == "before"
    assert (await client.state())["hasUnsyncedChanges"]


async def test_deleted_document_closes_its_clients_with_4404(node: NodeDriver, server: Server, shared) -> None:
    anna, _, document = shared
    one = await (await join(node, server, anna, document, "y-websocket-3")).wait_synced()
    two = await (await join(node, server, anna, document, "hocuspocus-4")).wait_synced()
    await server.api("DELETE", f"/documents/{document}", anna)
    await one.wait_closed(4404)
    assert (await two.wait("refused"))["reasons"] == ["document-not-found"]


@pytest.mark.parametrize("family", ONE_OF_EACH)
async def test_stranger_finds_no_such_document(node: NodeDriver, server: Server, shared, family: str) -> None:
    _, _, document = shared
    eve = await server.account("Eve")
    for name in (document, "no-such-document"):
        client = await join(node, server, eve, name, family)
        if family in Y_WEBSOCKET:
            assert (await client.wait_closed(4404))[0]["reason"] == "document-not-found"
        else:
            assert (await client.wait("refused"))["reasons"] == ["document-not-found"]


async def test_ticket_opens_one_socket_once(node: NodeDriver, server: Server, shared) -> None:
    anna, _, document = shared
    ticket = await server.ticket(anna, document)
    first = await node.connect("y-websocket", server.ws_url, document, params={"ticket": ticket})
    await first.wait_synced()
    second = await node.connect("y-websocket", server.ws_url, document, params={"ticket": ticket})
    await second.wait_closed(4401)
    other = await server.document(anna, "Other")
    third = await node.connect(
        "y-websocket", server.ws_url, other, params={"ticket": await server.ticket(anna, document)}
    )
    await third.wait_closed(4401)


async def test_ticket_is_a_hocuspocus_token_too(node: NodeDriver, server: Server, shared) -> None:
    anna, _, document = shared
    ticket = await server.ticket(anna, document)
    client = await node.connect("hocuspocus-4", server.collab_url, document, token=ticket)
    await client.wait_synced()


@pytest.mark.parametrize("family", ("y-websocket-1", "y-websocket-3", "hocuspocus-2", "hocuspocus-4"))
async def test_presence_is_seen_by_others_and_removed_when_the_client_leaves(
    node: NodeDriver, server: Server, shared, family: str
) -> None:
    anna, boris, document = shared
    watcher = await (await join(node, server, boris, document, "y-websocket-3")).wait_synced()
    client = await (await join(node, server, anna, document, family)).wait_synced()
    await client.set_awareness({"user": {"name": "Аня 🙂"}, "cursor": 3})
    await watcher.wait_awareness(clientId=client.client_id, contains={"user": {"name": "Аня 🙂"}, "cursor": 3})
    late = await (await join(node, server, anna, document, "hocuspocus-4")).wait_synced()
    await late.wait_awareness(clientId=client.client_id, contains={"cursor": 3})
    await client.disconnect()
    await watcher.wait_awareness(absent=client.client_id)
    await late.wait_awareness(absent=client.client_id)


async def test_presence_set_to_null_is_removed_while_the_client_stays(
    node: NodeDriver, server: Server, shared
) -> None:
    anna, boris, document = shared
    watcher = await (await join(node, server, boris, document, "hocuspocus-3")).wait_synced()
    client = await (await join(node, server, anna, document, "hocuspocus-4")).wait_synced()
    await client.set_awareness({"here": True})
    await watcher.wait_awareness(clientId=client.client_id, contains={"here": True})
    await client.set_awareness(None)
    await watcher.wait_awareness(absent=client.client_id)
    await client.set_awareness({"here": "again"})
    await watcher.wait_awareness(clientId=client.client_id, contains={"here": "again"})


async def test_presence_of_a_killed_client_is_removed(server: Server, shared, node: NodeDriver) -> None:
    anna, boris, document = shared
    watcher = await (await join(node, server, boris, document, "y-websocket-3")).wait_synced()
    async with NodeDriver() as other:
        client = await (await join(other, server, anna, document, "y-websocket-3")).wait_synced()
        await client.set_awareness({"here": True})
        await watcher.wait_awareness(clientId=client.client_id, contains={"here": True})
        os.kill(other.pid, signal.SIGKILL)
        await watcher.wait_awareness(absent=client.client_id)
