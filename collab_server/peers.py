"""One connection in one live document, as the hub sees it."""

import itertools
from collections.abc import Callable
from typing import Protocol

from collab_server.live.effects import PeerId
from collab_server.live.messages import Outbound
from collab_server.outbox import Outbox
from collab_server.services.access import Access
from schemas.errors import CollabError

_ids = itertools.count(1)


class Codec(Protocol):
    """How one peer is spoken to; the dialects implement it."""

    @property
    def prefix(self) -> bytes:
        """What stands before the body of every frame for this peer."""

    @property
    def wants_acks(self) -> bool:
        """Whether the client shows when its changes are saved."""

    @property
    def wants_echo(self) -> bool:
        """Whether the client wants its own updates back when they are saved."""

    def encode(self, message: Outbound) -> bytes | None:
        """The frame, or None for what the dialect cannot say."""

    def saved(self, count: int, seq: int) -> list[bytes]:
        """The frames that ack ``count`` messages."""


class Peer:
    """``end`` is called once, by whoever ends it first: it tells the socket's side why."""

    __slots__ = ("_end", "_ended", "access", "asked_for_credential", "codec", "id", "outbox")

    def __init__(
        self, access: Access, codec: Codec, outbox: Outbox, end: Callable[["Peer", CollabError], None]
    ) -> None:
        self.id: PeerId = next(_ids)
        self.access = access
        self.codec = codec
        self.outbox = outbox
        self._end = end
        self._ended = False
        self.asked_for_credential = False

    def send(self, message: Outbound) -> None:
        frame = self.codec.encode(message)
        if frame is not None:
            self.outbox.push(frame)

    def acknowledge(self, count: int, seq: int) -> None:
        self.outbox.push_all(self.codec.saved(count, seq))

    def end(self, error: CollabError) -> None:
        if not self._ended:
            self._ended = True
            self._end(self, error)
