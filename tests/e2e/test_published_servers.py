"""The driver and its clients, held against the servers they were published with."""

import pytest

from tests.node import HOCUSPOCUS, Y_WEBSOCKET, NodeDriver, NodeError, peer_server, same_content

pytestmark = pytest.mark.node


@pytest.mark.parametrize("family", Y_WEBSOCKET)
async def test_two_y_websocket_clients_meet_on_the_published_server(node, family):
    async with peer_server("y-websocket-server") as port:
        anna = await node.connect(family, f"ws://127.0.0.1:{port}", "doc", updateLog=True)
        boris = await node.connect(family, f"ws://127.0.0.1:{port}", "doc", clientId=77)
        await they_write_together_and_see_each_other(anna, boris)
        assert any(not local for local, _ in await anna.update_log())


async def test_y_sweet_clients_sync_with_a_server_that_ignores_their_own_messages(node):
    async with peer_server("y-websocket-server") as port:
        anna = await node.connect("y-sweet", f"ws://127.0.0.1:{port}", "doc", token="any")
        boris = await node.connect("y-sweet", f"ws://127.0.0.1:{port}", "doc", token="any", clientId=77)
        await they_write_together_and_see_each_other(anna, boris)
        assert not (await anna.state())["saved"]


@pytest.mark.parametrize("family", HOCUSPOCUS)
async def test_two_hocuspocus_clients_meet_on_the_published_server(node, family):
    async with peer_server("hocuspocus") as port:
        anna = await node.connect(family, f"ws://127.0.0.1:{port}", "doc", token="any", updateLog=True)
        boris = await node.connect(family, f"ws://127.0.0.1:{port}", "doc", token="any", clientId=77)
        await they_write_together_and_see_each_other(anna, boris)
        await anna.wait_saved()
        assert (await anna.state())["authorizedScope"] == "read-write"


async def they_write_together_and_see_each_other(anna, boris):
    await anna.wait_synced()
    await boris.wait_synced()
    assert boris.client_id == 77
    await anna.insert("text", 0, "привет")
    await boris.wait_text("text", "привет")
    await boris.insert("text", 6, " 👋")
    await boris.set("map", "list", {"$array": [1, {"a": [True, None]}]})
    await boris.push("array", "x", {"$map": {"k": "v"}})
    await boris.xml("xml", {"tag": "p", "attributes": {"class": "a"}, "children": ["hi"]})
    await anna.wait_text("text", "привет 👋")
    await anna.wait_content("map", "map", {"list": [1, {"a": [True, None]}]})
    await anna.wait_content("array", "array", ["x", {"k": "v"}])
    await anna.wait_content("xml", "xml", '<p class="a">hi</p>')
    assert await anna.digest() == await boris.digest()
    assert await same_content([anna, boris], "text") == "привет 👋"

    await anna.set_awareness_field("user", {"name": "Anna", "color": "#f00"})
    await boris.wait_awareness(clientId=anna.client_id, contains={"user": {"name": "Anna"}})
    await anna.drop()
    await boris.wait_awareness(absent=anna.client_id)
    await anna.wait("opened", count=2)
    await anna.wait_synced()
    # Her old state comes back with its old clock, which was removed: only a new one is seen.
    await anna.set_awareness_field("user", {"name": "Anna again"})
    await boris.wait_awareness(contains={"user": {"name": "Anna again"}})

    await anna.disconnect()
    await anna.wait("status", status="disconnected")
    await anna.type("text", patches=[[9, 0, "a"], [10, 0, "b"], [9, 1, ""]])
    await anna.reconnect()
    await boris.wait_text("text", "привет 👋b")


async def test_two_documents_share_one_hocuspocus_socket(node):
    async with peer_server("hocuspocus") as port:
        url = f"ws://127.0.0.1:{port}"
        one = await node.connect("hocuspocus-4", url, "one", token="any", socket="shared")
        two = await node.connect("hocuspocus-4", url, "two", token="any", socket="shared")
        await one.wait_synced()
        await two.wait_synced()
        assert [(await client.state())["opens"] for client in (one, two)] == [1, 0]
        await one.destroy()
        await two.insert("text", 0, "still here")
        await two.wait_saved()


async def test_a_raw_socket_sends_hostile_frames_and_reads_the_close(node):
    async with peer_server("hocuspocus") as port:
        raw = await node.raw(f"ws://127.0.0.1:{port}")
        assert raw.opened["open"]
        await raw.send("no binary frame")
        assert await raw.wait_closed() == (4401, "Unauthorized")


async def test_what_does_not_happen_is_reported_with_the_clients_state(node):
    nobody = await node.connect("y-websocket", "ws://127.0.0.1:9", "doc")
    with pytest.raises(NodeError, match=r"waited 100 ms for synced.*ECONNREFUSED"):
        await nobody.wait_synced(timeout=0.1)


async def test_commands_in_flight_fail_when_the_driver_ends():
    async with NodeDriver() as node:
        nobody = await node.connect("y-websocket", "ws://127.0.0.1:9", "doc", connect=False)
        pending = nobody.wait_synced(timeout=60)
    with pytest.raises(NodeError, match="the driver has ended"):
        await pending
