"""Hostile and damaged frames: the sender gets the right close code, the others go on, the process lives."""

from contextlib import suppress

import pytest

from tests.e2e.joining import join
from tests.node import NodeDriver, NodeError, RawSocket
from tests.server import Account, Server

NESTING_BOMB = (  # an array nested 28,000 levels deep in a 56 KB update: it overflows the engine's stack
    b"\x01\x01\x05\x00\x28\x01\x01m\x01k\x01" + b"\x75\x01" * 28_000 + b"\x7e\x00"
)


def varuint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def varbytes(data: bytes) -> bytes:
    return varuint(len(data)) + data


def update(data: bytes) -> bytes:
    return b"\x00\x02" + varbytes(data)


Y_FRAMES = {
    "empty": b"",
    "one byte": b"\x00",
    "truncated": b"\x00\x02\x05\x01",
    "unknown type": b"\x63",
    "auth is for servers": b"\x02\x00\x00",
    "unknown sync step": b"\x00\x07\x00",
    "trailing bytes": b"\x00\x00\x01\x00\xff",
    "endless number": b"\x80" * 5000,
    "garbage update": update(b"\xff" * 40),
    "truncated update": update(b"\x01\x01\x05\x00\x04\x01\x04text\x05ab"),
    "state vector bomb": b"\x00\x00" + varbytes(b"\x80\x84\xaf\x5f\x00"),
    "garbage state vector": b"\x00\x00" + varbytes(b"\xff\xff"),
    "awareness count bomb": b"\x01" + varbytes(b"\xff\xff\xff\x7f"),
    "awareness with a clock of 2^40": b"\x01" + varbytes(b"\x01\x05\x80\x80\x80\x80\x80\x20\x02{}"),
    "awareness that is no JSON": b"\x01" + varbytes(b"\x01\x05\x01\x01{"),
    "nesting bomb": update(NESTING_BOMB),
    "panics on every later sync": update(bytes.fromhex("01010101000000")),
    "clock of 2^64 - 1": update(
        bytes.fromhex("0101df08ffffffffffffffffff012801016d0163017601017875067d017d027d037e787c3fc0000000")
    ),
    "text frame": "hello",
}


async def raw_y(node: NodeDriver, server: Server, who: Account, document: str) -> RawSocket:
    socket = await node.raw(f"{server.ws_url}/{document}?token={who.token}")
    assert socket.opened["open"]
    return socket


@pytest.fixture
async def scene(node: NodeDriver, server: Server):
    """Anna and her document with an innocent client of each family in it."""
    anna = await server.account("Anna")
    document = await server.document(anna)
    innocents = [await join(node, server, anna, document, family) for family in ("y-websocket-3", "hocuspocus-4")]
    for client in innocents:
        await client.wait_synced()
    return anna, document, innocents


async def assert_all_is_well(server: Server, innocents, pid: int) -> None:
    one, two = innocents
    await one.insert("text", 0, "x")
    await two.wait("text", root="text", length=len(await one.text("text")))
    await two.insert("text", 0, "y")
    await two.wait_saved()
    await one.wait("text", root="text", length=len(await two.text("text")))
    assert server.pid == pid
    for client in innocents:
        assert (await client.state())["opens"] == 1


async def test_damaged_y_websocket_frames_close_with_4400_and_others_go_on(
    node: NodeDriver, server: Server, scene
) -> None:
    anna, document, innocents = scene
    pid = server.pid
    for name, frame in Y_FRAMES.items():
        socket = await raw_y(node, server, anna, document)
        await socket.send(frame)
        assert (await socket.wait_closed())[0] == 4400, name
    await assert_all_is_well(server, innocents, pid)


async def test_damaged_hocuspocus_frames_close_with_4400_and_others_go_on(
    node: NodeDriver, server: Server, scene
) -> None:
    anna, document, innocents = scene
    pid, address = server.pid, varbytes(document.encode())
    frames = {name: address + frame for name, frame in Y_FRAMES.items() if isinstance(frame, bytes)}
    del frames["auth is for servers"]  # here it is the client's token message
    frames |= {
        "no document is named": b"\x00\x00\x00\x01\x00",
        "broadcast stateless is for servers": address + b"\x06\x02hi",
        "sync reply is for servers": address + b"\x04\x00\x01\x00",
        "denial is for servers": address + b"\x02\x01\x00",
        "text frame": "hello",
    }
    for name, frame in frames.items():
        socket = await node.raw(server.collab_url)
        await socket.send(address + b"\x02\x00" + varbytes(anna.token.encode()))
        await socket.expect(address + b"\x02\x02")
        await socket.send(frame)
        assert (await socket.wait_closed())[0] == 4400, name
    await assert_all_is_well(server, innocents, pid)


async def test_oversized_frame_and_update_are_too_large(node: NodeDriver, server: Server, scene) -> None:
    anna, document, innocents = scene
    pid = server.pid
    socket = await raw_y(node, server, anna, document)
    await socket.send(update(b"\x01" * (2 * 1024 * 1024)))
    assert (await socket.wait_closed())[0] == 4413
    socket = await raw_y(node, server, anna, document)
    with suppress(NodeError):  # the connection may be gone before all of it is written
        await socket.send(b"\x00" * (9 * 1024 * 1024))
    assert (await socket.wait_closed())[0] in (1009, 1006)
    await assert_all_is_well(server, innocents, pid)


async def test_spoofed_client_id_is_refused_with_4403_and_changes_nothing(
    node: NodeDriver, server: Server, scene
) -> None:
    anna, document, innocents = scene
    boris = await server.account("Boris")
    await server.grant(anna, document, boris, "editor")
    victim = innocents[0]
    await victim.insert("text", 0, "hello")
    await innocents[1].wait_text("text", "hello")
    forged = (  # one struct under the victim's client id at its next clock: "EVIL!" at the start of the text
        b"\x01\x01" + varuint(victim.client_id) + b"\x05" + b"\x04\x01\x04text\x05EVIL!" + b"\x00"
    )
    socket = await raw_y(node, server, boris, document)
    await socket.send(update(forged))
    assert await socket.wait_closed() == (4403, "client-id-owned")
    await victim.insert("text", 5, " world")
    await innocents[1].wait_text("text", "hello world")


async def test_flood_before_the_credential_is_answered_is_bounded(node: NodeDriver, server: Server, scene) -> None:
    _, document, innocents = scene
    pid = server.pid
    socket = await node.raw(server.collab_url)
    with suppress(NodeError):  # until it is closed
        for n in range(3000):  # no credential at all: the first sync step asks for one and is denied
            await socket.send(varbytes(f"{document}-{n}".encode()) + b"\x00\x00\x01\x00")
    assert (await socket.wait_closed())[0] == 4529
    await assert_all_is_well(server, innocents, pid)


async def test_socket_that_presents_no_credential_is_closed_after_the_deadline(node: NodeDriver, tmp_path) -> None:
    async with Server(tmp_path / "data", auth_deadline_seconds=0.3) as server:
        socket = await node.raw(server.collab_url)
        assert await socket.wait_closed() == (4508, "timeout")


async def test_handshake_refusals_are_real_http_answers(node: NodeDriver, server: Server, scene) -> None:
    anna, document, _ = scene
    foreign = await node.raw(f"{server.ws_url}/{document}?token={anna.token}", origin="https://evil.example")
    assert foreign.opened["status"] == 403
    nowhere = await node.raw(f"{server.socket_url}/nothing/here")
    assert nowhere.opened["status"] == 404
    own = await node.raw(f"{server.ws_url}/{document}?token={anna.token}", origin=server.url)
    assert own.opened["open"]


async def test_bearer_subprotocol_is_a_credential(node: NodeDriver, server: Server, scene) -> None:
    anna, document, _ = scene
    socket = await node.raw(f"{server.ws_url}/{document}", protocols=["collab.bearer", anna.token])
    assert socket.opened == {"open": True, "protocol": "collab.bearer"}
    await socket.send(b"\x00\x00\x01\x00")
    await socket.expect(b"\x00\x01")


async def test_missing_or_wrong_token_is_closed_with_4401(node: NodeDriver, server: Server, scene) -> None:
    anna, document, _ = scene
    for query in ("", "?token=", "?token=rubbish", f"?token={anna.token[:-3]}", f"?token={anna.refresh_token}"):
        socket = await node.raw(f"{server.ws_url}/{document}{query}")
        assert (await socket.wait_closed())[0] == 4401, query


async def test_secrets_of_sockets_are_not_in_the_log(node: NodeDriver, server: Server, scene) -> None:
    anna, document, _ = scene
    ticket = await server.ticket(anna, document)
    await node.raw(f"{server.ws_url}/{document}?ticket={ticket}")
    await node.raw(f"{server.ws_url}/{document}?token={anna.token}")
    assert ticket not in server.log_text()
    assert anna.token not in server.log_text()


async def test_silent_connection_hears_something_that_every_client_understands(node: NodeDriver, tmp_path) -> None:
    """Clients give up after 30 silent seconds, and WebSocket pings are invisible to them."""
    async with Server(tmp_path / "data", keepalive_seconds=0.2) as server:
        anna = await server.account("Anna")
        document = await server.document(anna)
        socket = await raw_y(node, server, anna, document)
        assert await socket.expect() == b"\x01\x01\x00"
        address = varbytes(document.encode())
        socket = await node.raw(server.collab_url)
        await socket.send(address + b"\x02\x00" + varbytes(anna.token.encode()))
        await socket.expect(address + b"\x02\x02")
        assert await socket.expect() == address + b"\x01\x01\x00"
