"""The outbox: order, bounds, and a peer that does not read."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from collab_server.outbox import Outbox
from schemas.errors import CollabError, SlowPeer


class Transport:
    """An ASGI ``send`` whose buffer is full while ``open`` is not set, as uvicorn's is."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()
        self.broken = False

    async def send(self, message: dict) -> None:
        await self.open.wait()
        if self.broken:
            raise ConnectionResetError
        self.sent.append(message["bytes"])


class Scene:
    def __init__(self) -> None:
        self.transport = Transport()
        self.closes: list[CollabError] = []
        self.outbox = Outbox(self.transport.send, 100, self.closes.append)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    scene.transport.open.set()
    await scene.outbox.flushed()


async def test_frame_is_handed_over_at_once_while_there_is_room(scene: Scene) -> None:
    scene.outbox.push(b"a")
    scene.outbox.push(b"b")
    assert scene.transport.sent == [b"a", b"b"]


async def test_frames_keep_their_order_across_a_full_buffer(scene: Scene) -> None:
    scene.outbox.push(b"a")
    scene.transport.open.clear()
    for frame in (b"b", b"c", b"d"):
        scene.outbox.push(frame)
    assert scene.transport.sent == [b"a"]
    scene.transport.open.set()
    await scene.outbox.flushed()
    scene.outbox.push(b"e")
    assert scene.transport.sent == [b"a", b"b", b"c", b"d", b"e"]
    assert scene.outbox.queued_bytes == 0


async def test_peer_that_does_not_read_is_closed_when_its_outbox_is_full(scene: Scene) -> None:
    scene.transport.open.clear()
    for _ in range(12):
        scene.outbox.push(b"0123456789")
    assert [type(error) for error in scene.closes] == [SlowPeer]
    assert scene.outbox.queued_bytes == 0


async def test_single_large_frame_is_no_slowness(scene: Scene) -> None:
    scene.transport.open.clear()
    scene.outbox.push(b"first")
    scene.outbox.push(b"x" * 1000)
    assert scene.closes == []
    scene.transport.open.set()
    await scene.outbox.flushed()
    assert scene.transport.sent == [b"first", b"x" * 1000]


async def test_nothing_is_sent_to_a_socket_that_broke(scene: Scene) -> None:
    scene.transport.broken = True
    scene.outbox.push(b"a")
    scene.transport.broken = False
    scene.outbox.push(b"b")
    assert scene.transport.sent == []


async def test_socket_that_breaks_while_the_rest_is_written_takes_nothing_along(scene: Scene) -> None:
    scene.transport.open.clear()
    scene.outbox.push(b"a")
    scene.outbox.push(b"b")
    scene.transport.broken = True
    scene.transport.open.set()
    await scene.outbox.flushed()
    assert scene.transport.sent == []
    assert scene.outbox.queued_bytes == 0


async def test_silence_is_noticed(scene: Scene) -> None:
    assert scene.outbox.silent
    scene.outbox.push(b"a")
    assert not scene.outbox.silent
