"""Who is here: the awareness table of one live document. Latest state per client id, bounded, no history.

Our own and not ``pycrdt.Awareness``, which never frees what it has seen, takes clocks of any size and lets
anybody write for anybody. Rules here: a peer has one client id, bound by the first state it sends; others'
ids in its frames are ignored without complaint, because y-websocket and Hocuspocus providers before 4.5
re-send what they hear. A reconnect takes its id over from the same principal's older, perhaps half-open,
connection. Clocks follow y-protocols: only a higher one counts, or an equal one that removes.
"""

import json
from dataclasses import dataclass

from collab_server.live.effects import PeerId
from collab_server.live.lib0 import read_var_string, read_var_uint, write_var_string, write_var_uint
from schemas.errors import Malformed, TooLarge

MAX_CLOCK = 2**31
MAX_DEPTH = 16
REMOVED = "null"


@dataclass(frozen=True, slots=True)
class PresenceLimits:
    """Bytes of one awareness message, and of one state in it."""

    frame_bytes: int = 64 * 1024
    state_bytes: int = 8 * 1024


@dataclass(slots=True)
class _Entry:
    clock: int
    state: str
    peer: PeerId
    principal: str
    renewed: bool = True


class Presence:
    """The table. Methods say whether there is something to tell; ``changes`` collects it into one frame."""

    def __init__(self, limits: PresenceLimits | None = None) -> None:
        self._limits = limits or PresenceLimits()
        self._entries: dict[int, _Entry] = {}
        self._ids: dict[PeerId, int] = {}
        self._changed: dict[int, int] = {}  # client id -> clock, to be told at the next tick

    def states(self) -> dict[int, object]:
        """Client id -> the state it set."""
        return {client: json.loads(entry.state) for client, entry in self._entries.items()}

    def receive(self, peer: PeerId, principal: str, payload: bytes) -> bool:
        """Take one awareness message. Raises ``Malformed`` or ``TooLarge``; then nothing was taken."""
        if len(payload) > self._limits.frame_bytes:
            raise TooLarge(f"An awareness message is at most {self._limits.frame_bytes} bytes.")
        bound = self._ids.get(peer)
        taken = []
        for client, clock, state in _decode(payload):
            if bound in (None, client) and self._is_news(peer, principal, client, clock, state):
                taken.append((client, clock, state))
                bound = client
        for _, _, state in taken:
            self._check(state)
        for client, clock, state in taken:
            self._take(peer, principal, client, clock, state)
        return bool(taken)

    def _is_news(self, peer: PeerId, principal: str, client: int, clock: int, state: str) -> bool:
        entry = self._entries.get(client)
        if entry is None:
            return state != REMOVED
        if entry.peer != peer:  # a reconnect of the same principal may take its id over
            returns = peer not in self._ids and entry.principal == principal
            return returns and clock >= entry.clock and state != REMOVED
        return clock > entry.clock or (clock == entry.clock and state == REMOVED)

    def _check(self, state: str) -> None:
        if len(state) > self._limits.state_bytes or len(state.encode()) > self._limits.state_bytes:
            raise TooLarge(f"A presence state is at most {self._limits.state_bytes} bytes.")
        try:
            value = json.loads(state, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise Malformed("A presence state is not JSON.") from None
        if _depth(value) > MAX_DEPTH:
            raise Malformed(f"A presence state is nested deeper than {MAX_DEPTH} levels.")

    def _take(self, peer: PeerId, principal: str, client: int, clock: int, state: str) -> None:
        self._changed[client] = clock
        if state == REMOVED:
            self._entries.pop(client, None)  # the id stays bound: the peer may show itself again
            return
        previous = self._entries.get(client)
        if previous is not None and previous.peer != peer:
            self._ids.pop(previous.peer, None)
        self._ids[peer] = client
        self._entries[client] = _Entry(clock, state, peer, principal)

    def leave(self, peer: PeerId) -> bool:
        """The peer is gone, and its state with it."""
        client = self._ids.pop(peer, None)
        entry = None if client is None else self._entries.get(client)
        if client is None or entry is None or entry.peer != peer:  # a successor may have the id by now
            return False
        del self._entries[client]
        self._changed[client] = entry.clock  # receivers accept a removal at the clock they know
        return True

    def sweep(self) -> bool:
        """Forget states that were not renewed since the last sweep (clients renew theirs every 15 s)."""
        stale = [client for client, entry in self._entries.items() if not entry.renewed]
        for client in stale:
            entry = self._entries.pop(client)
            self._changed[client] = entry.clock
            self._ids.pop(entry.peer, None)  # it may have been an id that it only repeated
        for entry in self._entries.values():
            entry.renewed = False
        return bool(stale)

    def changes(self) -> bytes | None:
        """One payload with everything that changed since the last call; None when nothing did."""
        if not self._changed:
            return None
        changed, self._changed = self._changed, {}
        return self._encode(changed)

    def everything(self) -> bytes | None:
        """One payload with every state, for who joins or asks; None when there is none."""
        if not self._entries:
            return None
        return self._encode({client: entry.clock for client, entry in self._entries.items()})

    def _encode(self, clients: dict[int, int]) -> bytes:
        parts = [write_var_uint(len(clients))]
        for client, clock in clients.items():
            entry = self._entries.get(client)
            parts.append(write_var_uint(client))
            parts.append(write_var_uint(clock if entry is None else entry.clock))
            parts.append(write_var_string(REMOVED if entry is None else entry.state))
        return b"".join(parts)


def _decode(payload: bytes) -> list[tuple[int, int, str]]:
    count, at = read_var_uint(payload, 0)
    if count * 3 > len(payload) - at:
        raise Malformed("An awareness message announces more states than it holds.")
    entries = []
    for _ in range(count):
        client, at = read_var_uint(payload, at)
        clock, at = read_var_uint(payload, at)
        state, at = read_var_string(payload, at)
        if clock > MAX_CLOCK:
            raise Malformed("A clock in an awareness message is out of range.")
        entries.append((client, clock, state))
    if at != len(payload):
        raise Malformed("An awareness message has trailing bytes.")
    return entries


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = inner
    return depth
