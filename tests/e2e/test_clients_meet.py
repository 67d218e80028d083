"""Unmodified clients of every family edit one document together."""

import pytest

from tests.e2e.joining import join
from tests.node import HOCUSPOCUS, Y_WEBSOCKET, NodeClient, NodeDriver, same_content
from tests.server import Account, Server

FAMILIES = (*Y_WEBSOCKET, *HOCUSPOCUS)


@pytest.mark.parametrize("family", FAMILIES)
async def test_two_clients_of_one_family_converge(node: NodeDriver, server: Server, family: str) -> None:
    anna = await server.account("Anna")
    document = await server.document(anna)
    one = await (await join(node, server, anna, document, family)).wait_synced()
    two = await (await join(node, server, anna, document, family)).wait_synced()
    await one.insert("text", 0, "привет 🙂")
    await two.wait_text("text", "привет 🙂")
    await two.insert("text", 0, "да, ")
    await one.wait_text("text", "да, привет 🙂")
    assert await node.errors() == []


async def test_all_families_meet_in_the_same_live_document(node: NodeDriver, server: Server) -> None:
    anna = await server.account("Anna")
    document = await server.document(anna)
    clients = [await join(node, server, anna, document, family) for family in FAMILIES]
    for client in clients:
        await client.wait_synced()
    for number, client in enumerate(clients):
        await client.push("array", client.family)
        await client.set("map", client.family, number)
    expected = {client.family: number for number, client in enumerate(clients)}
    for client in clients:
        await client.wait_content("map", "map", expected)
    assert sorted(await same_content(clients, "array", "array")) == sorted(FAMILIES)
    assert len({await client.digest() for client in clients}) == 1
    assert await node.errors() == []


@pytest.mark.parametrize("family", HOCUSPOCUS)
async def test_hocuspocus_provider_shows_saved_only_after_the_server_said_so(
    node: NodeDriver, server: Server, family: str
) -> None:
    anna = await server.account("Anna")
    document = await server.document(anna)
    client = await (await join(node, server, anna, document, family)).wait_synced()
    await client.wait_saved()
    for n in range(20):
        await client.insert("text", 0, str(n % 10))
    await client.wait_saved()
    assert (await client.state())["unsyncedChanges"] == 0


async def test_y_websocket_client_that_asks_for_acks_gets_them(node: NodeDriver, server: Server) -> None:
    anna = await server.account("Anna")
    document = await server.document(anna)
    client = await join(node, server, anna, document, "y-websocket-3", params={"caps": "ack"})
    await client.wait_synced()
    await client.insert("text", 0, "a")
    await client.wait_saved()


@pytest.mark.parametrize("family", FAMILIES)
async def test_document_outlives_the_last_client(node: NodeDriver, server: Server, family: str) -> None:
    anna = await server.account("Anna")
    document = await server.document(anna)
    one = await (await join(node, server, anna, document, family)).wait_synced()
    other = await (await join(node, server, anna, document, family)).wait_synced()
    await one.insert("text", 0, "осталось")
    await other.wait_text("text", "осталось")  # shown, therefore committed
    await one.destroy()
    await other.destroy()
    await server.kill()
    await server.start()
    late = await (await join(node, server, anna, document, family)).wait_synced()
    await late.wait_text("text", "осталось")


async def test_offline_work_arrives_when_the_client_comes_back(node: NodeDriver, server: Server) -> None:
    anna = await server.account("Anna")
    document = await server.document(anna)
    one = await (await join(node, server, anna, document, "hocuspocus-4")).wait_synced()
    two = await (await join(node, server, anna, document, "y-websocket-3")).wait_synced()
    for client, text in ((one, "A"), (two, "B")):
        await client.disconnect()
        for _ in range(5):
            await client.insert("text", 0, text)
    for client in (one, two):
        await client.reconnect()
        await client.wait_synced()
    await one.wait("text", root="text", length=10)
    await two.wait("text", root="text", length=10)
    assert sorted(await same_content([one, two], "text")) == sorted("AAAAABBBBB")
    await one.wait_saved()


async def test_client_is_back_after_a_crash_of_the_server_and_brings_what_it_typed_meanwhile(
    node: NodeDriver, server: Server
) -> None:
    anna = await server.account("Anna")
    document = await server.document(anna)
    one = await (await join(node, server, anna, document, "hocuspocus-4")).wait_synced()
    two = await (await join(node, server, anna, document, "y-websocket-3")).wait_synced()
    await one.insert("text", 0, "before ")
    await two.wait_text("text", "before ")
    await server.kill()
    await one.insert("text", 0, "during ")
    await server.start()
    await two.wait_text("text", "during before ", timeout=30)
    await one.wait_saved(timeout=30)


async def test_session_aware_providers_share_one_socket_and_one_document(node: NodeDriver, server: Server) -> None:
    anna = await server.account("Anna")
    first, second = await server.document(anna, "One"), await server.document(anna, "Two")
    clients = [
        await join(node, server, anna, document, "hocuspocus-4", socket="shared", sessionAware=True)
        for document in (first, second, first)
    ]
    for client in clients:
        await client.wait_synced()
    await clients[0].insert("text", 0, "first")
    await clients[1].insert("text", 0, "second")
    await clients[2].wait_text("text", "first")
    assert await clients[1].text("text") == "second"


async def test_emoji_that_somebody_cut_in_two_leaves_the_document_readable_for_everybody(
    node: NodeDriver, tmp_path
) -> None:
    """The engine encodes such a document as bytes on which every JavaScript client throws."""
    async with Server(tmp_path / "data", compact_after_updates=5) as server:
        anna = await server.account("Anna")
        document = await server.document(anna)
        one = await (await join(node, server, anna, document, "hocuspocus-4")).wait_synced()
        two = await (await join(node, server, anna, document, "y-websocket-3")).wait_synced()
        await one.insert("text", 0, "a🙂b🙃c")
        await two.wait_text("text", "a🙂b🙃c")
        await two.insert("text", 2, "между")  # between the two halves of the first emoji
        await one.wait("text", root="text", includes="между")
        await one.delete("text", 9, 1)
        for n in range(10):
            await one.insert("text", 0, str(n))
            await one.wait_saved()
        text = await one.text("text")
        await two.wait_text("text", text)
        for family in ("y-websocket-1", "hocuspocus-2"):
            fresh = await (await join(node, server, anna, document, family)).wait_synced()
            assert await fresh.text("text") == text
        await server.restart()
        late = await (await join(node, server, anna, document, "hocuspocus-3")).wait_synced()
        assert await late.text("text") == text
        await late.insert("text", 0, "ещё ")
        await two.wait_text("text", "ещё " + text, timeout=20)
        assert await node.errors() == []


async def test_server_that_is_told_to_stop_saves_acks_and_says_come_back(node: NodeDriver, server: Server) -> None:
    anna = await server.account("Anna")
    document = await server.document(anna)
    one = await (await join(node, server, anna, document, "hocuspocus-4")).wait_synced()
    two = await (await join(node, server, anna, document, "y-websocket-3")).wait_synced()
    for n in range(50):
        await one.insert("text", 0, str(n % 10))
    await server.stop()
    assert (await one.wait_closed(1012))[0]["reason"] == "restarting"
    assert (await two.wait_closed(1012))[0]["reason"] == "restarting"
    await server.start()
    await one.wait_synced(timeout=30)
    await two.wait_text("text", await one.text("text"), timeout=30)
    assert len(await two.text("text")) == 50


async def y_sweet(node: NodeDriver, server: Server, who: Account, document: str) -> NodeClient:
    return await node.connect("y-sweet", server.socket_url, document, token=who.token)


async def test_y_sweet_client_meets_the_others_and_shows_saved_truthfully(
    node: NodeDriver, server: Server
) -> None:
    anna = await server.account("Anna")
    document = await server.document(anna)
    other = await (await join(node, server, anna, document, "hocuspocus-4")).wait_synced()
    sweet = await (await y_sweet(node, server, anna, document)).wait_synced()
    await sweet.insert("text", 0, "сладко")
    await sweet.wait_saved()
    await other.wait_text("text", "сладко")
    await server.kill()
    await sweet.insert("text", 0, "offline ")
    assert not (await sweet.state())["saved"]
    await server.start()
    await sweet.wait_saved(timeout=30)
    await server.kill()  # what it calls saved is saved
    await server.start()
    late = await (await join(node, server, anna, document, "y-websocket-3")).wait_synced()
    assert await late.text("text") == "offline сладко"


async def test_y_sweet_viewer_is_never_told_that_its_change_was_saved(node: NodeDriver, server: Server) -> None:
    anna, boris = await server.account("Anna"), await server.account("Boris")
    document = await server.document(anna)
    await server.grant(anna, document, boris, "viewer")
    viewer = await (await y_sweet(node, server, boris, document)).wait_synced()
    await viewer.wait_saved()
    await viewer.insert("text", 0, "EVIL")
    writer = await (await y_sweet(node, server, anna, document)).wait_synced()
    await writer.insert("text", 0, "a")
    await viewer.wait("text", root="text", includes="a")
    assert not (await viewer.state())["saved"]
    assert await writer.text("text") == "a"
