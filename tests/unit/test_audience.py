"""Who is told what: everybody once and in order, directly or through the outbox."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from collab_server.audience import Audience
from collab_server.dialects.hocuspocus import Hocuspocus
from collab_server.dialects.y_websocket import YWebSocket
from collab_server.fast_socket import server_frame
from collab_server.outbox import Outbox
from collab_server.peers import Peer
from collab_server.services.access import Access
from schemas.errors import CollabError, SlowPeer
from schemas.ids import Principal
from schemas.roles import Role

ACCESS = Access("a", "A", "s", "doc", Role.EDITOR, Principal("account:a"), 1, None)


class FastTransport:
    """The short way, with its pauses in the test's hand."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self._on_change: Callable[[bool], object] = lambda _: None
        self._open = asyncio.Event()
        self._open.set()

    def offer(self) -> Any:
        return {"transport_write": self.written.append, "watch": self._watch, "drained": self._open.wait}

    def _watch(self, on_change: Callable[[bool], object]) -> None:
        self._on_change = on_change
        on_change(self._open.is_set())

    def pause(self) -> None:
        self._open.clear()
        self._on_change(False)

    def resume(self) -> None:
        self._open.set()
        self._on_change(True)


async def no_send(_: Any) -> None:
    pytest.fail("the long way was taken")


class Listener:
    def __init__(self, audience: Audience, codec: Any = None, limit: int = 1000) -> None:
        self.transport = FastTransport()
        self.closes: list[CollabError] = []
        outbox = Outbox(no_send, limit, self.closes.append, self.transport.offer())
        self.peer = Peer(ACCESS, codec or YWebSocket(), outbox, lambda *_: None)
        audience[self.peer.id] = self.peer

    @property
    def heard(self) -> list[bytes]:
        return self.transport.written


async def test_everybody_but_the_exception_is_told_once_in_their_own_dialect() -> None:
    audience = Audience()
    author, reader, other = Listener(audience), Listener(audience), Listener(audience, Hocuspocus("doc"))
    audience.tell(b"\x01\x01\x00", except_=author.peer.id)
    assert (author.heard, reader.heard) == ([], [server_frame(b"\x01\x01\x00")])
    assert other.heard == [server_frame(b"\x03doc\x01\x01\x00")]


async def test_who_left_is_told_nothing_and_who_came_is() -> None:
    audience = Audience()
    one, two = Listener(audience), Listener(audience)
    audience.tell(b"a")
    audience.pop(one.peer.id)
    three = Listener(audience)
    audience.tell(b"b")
    assert one.heard == [server_frame(b"a")]
    assert two.heard == [server_frame(b"a"), server_frame(b"b")]
    assert three.heard == [server_frame(b"b")]


async def test_frames_keep_their_order_across_a_pause() -> None:
    audience = Audience()
    slow, fast = Listener(audience), Listener(audience)
    audience.tell(b"1")
    slow.transport.pause()
    for body in (b"2", b"3"):
        audience.tell(body)
    assert slow.heard == [server_frame(b"1")]
    assert len(fast.heard) == 3
    slow.transport.resume()
    audience.tell(b"4")  # what waits goes first
    await slow.peer.outbox.flushed()
    audience.tell(b"5")
    assert slow.heard == fast.heard == [server_frame(body) for body in (b"1", b"2", b"3", b"4", b"5")]


async def test_peer_whose_transport_stays_paused_is_closed_and_the_others_go_on() -> None:
    audience = Audience()
    stuck, other = Listener(audience, limit=20), Listener(audience)
    stuck.transport.pause()
    for _ in range(5):
        audience.tell(b"0123456789")
    assert [type(error) for error in stuck.closes] == [SlowPeer]
    assert len(other.heard) == 5
    stuck.transport.resume()
    await stuck.peer.outbox.flushed()
    assert stuck.heard == []


async def test_all_acks_of_a_batch_are_one_write() -> None:
    audience = Audience()
    provider = Listener(audience, Hocuspocus("doc"))
    provider.peer.acknowledge(3, 7)
    assert provider.heard == [server_frame(b"\x03doc\x08\x01") * 3]


async def test_only_who_heard_nothing_is_silent() -> None:
    audience = Audience()
    author, reader = Listener(audience), Listener(audience)
    audience.tell(b"a", except_=author.peer.id)
    assert audience.silent_ones() == [author.peer]
    assert set(audience.silent_ones()) == {author.peer, reader.peer}
