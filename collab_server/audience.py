"""The peers of one live document, and how one message reaches all of them at the cost of little more than the
system calls: one encoded frame per dialect, and a loop over the transports' own ``write``.

Touching a peer, its outbox and its protocol for each delivery costs two to four microseconds of cache misses;
so those that take frames directly are kept in tuples, until a peer comes, goes, or its transport pauses.
"""

from collections.abc import Callable
from typing import Any

from collab_server.fast_socket import server_frame
from collab_server.live.effects import PeerId
from collab_server.peers import Peer

Line = tuple[bytes, tuple[tuple[PeerId, Callable[[bytes], None]], ...], tuple[Peer, ...]]


class Audience(dict[PeerId, Peer]):
    """Peers by id. Add with ``[id] = peer``, remove with ``pop``."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: tuple[Line, ...] | None = None
        self._untold: set[PeerId | None] | None = None

    __hash__ = object.__hash__  # type: ignore[assignment]  # one is never equal to another

    def __setitem__(self, peer_id: PeerId, peer: Peer) -> None:
        super().__setitem__(peer_id, peer)
        peer.outbox.watchers.add(self.rearrange)
        self.rearrange()

    def pop(self, peer_id: PeerId, *default: Any) -> Any:
        peer = super().pop(peer_id, *default)
        if isinstance(peer, Peer) and not any(other.outbox is peer.outbox for other in self.values()):
            peer.outbox.watchers.discard(self.rearrange)
        self.rearrange()
        return peer

    def rearrange(self) -> None:
        """Somebody came, went, paused or goes on."""
        self._lines = None

    def tell(self, body: bytes, except_: PeerId | None = None) -> None:
        """Send everybody a message, given without any address."""
        self._untold = {except_} if self._untold is None else self._untold & {except_}
        for prefix, direct, others in self._lines or self._arrange():
            payload = prefix + body
            frame = server_frame(payload)
            for peer_id, write in direct:  # a tuple: a write may pause its transport and so rearrange
                if peer_id != except_:
                    write(frame)
            for peer in others:
                if peer.id != except_:
                    peer.outbox.push(payload)

    def silent_ones(self) -> list[Peer]:
        """Who was told nothing since this was asked last."""
        untold, self._untold = self._untold, None
        return [p for p in self.values() if p.outbox.silent and (untold is None or p.id in untold)]

    def _arrange(self) -> tuple[Line, ...]:
        groups: dict[bytes, tuple[list[tuple[PeerId, Callable[[bytes], None]]], list[Peer]]] = {}
        for peer in self.values():
            direct, others = groups.setdefault(peer.codec.prefix, ([], []))
            if peer.outbox.direct is None:
                others.append(peer)
            else:
                direct.append((peer.id, peer.outbox.direct))
        lines = tuple((prefix, tuple(direct), tuple(others)) for prefix, (direct, others) in groups.items())
        self._lines = lines
        return lines
