"""Hostile frames, each with what the server may answer. Everything follows from one random generator."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from tests.faults.wire import STEP1, STEP2, UPDATE, awareness, sized, sync, uint
from tests.fuzz import updates as u
from tests.fuzz.hostile import HostileSession, honest_sessions

STAYS = 0  # no close: the frame is answered, refused or ignored
MALFORMED, FOREIGN, TOO_LARGE, RESET = 4400, 4403, 4413, 4409
RESTART, RATE = 1012, 4529
PROTOCOL_ERROR, BAD_TEXT, TOO_BIG = 1002, 1007, 1009
NESTED = 28_000


@dataclass(frozen=True, slots=True)
class Hostile:
    """``body`` without any address; ``codes`` are the close codes that are right, ``STAYS`` for none."""

    kind: str
    body: bytes
    codes: frozenset[int]
    address: float = 1.0  # how much of the address before it is sent

    def after(self, prefix: bytes) -> bytes:
        """The whole frame, in a dialect that begins its frames with ``prefix``."""
        return prefix[: int(self.address * len(prefix))] + self.body


def _hostile(kind: str, body: bytes, *codes: int) -> Hostile:
    return Hostile(kind, body, frozenset(codes))


class HostileFrames:
    """An endless stream. ``spoof`` tells a client id that belongs to somebody else, and its next clock."""

    def __init__(self, random: Random, spoof: Callable[[], tuple[int, int]], max_update_bytes: int) -> None:
        self._random = random
        self._spoof = spoof
        self._max_update_bytes = max_update_bytes
        self._cuts = self._truncated()
        self._updates = self._endless_updates()

    def __iter__(self) -> Iterator[Hostile]:
        kinds = (
            (self._cut, 8),
            (self._cut_address, 1),
            (self._random_bytes, 3),
            (self._unknown_type, 3),
            (self._mutated_update, 40),
            (self._gap, 14),
            (self._state_vector, 6),
            (self._state_vector_bomb, 2),
            (self._awareness, 10),
            (self._awareness_garbage, 3),
            (self._big_update, 0.05),
            (self._nesting_bomb, 0.3),
            (self._spoofed, 1),
            (self._as_answer, 6),
        )
        makers, weights = zip(*kinds, strict=True)
        while True:
            yield self._random.choices(makers, weights)[0]()

    # -- the envelope --------------------------------------------------------------------------------------

    def _truncated(self) -> Iterator[bytes]:
        """Valid frames cut at every byte, for ever."""
        while True:
            valid = [sync(UPDATE, update) for update in self._random.choice(honest_sessions())[:6]]
            valid += [sync(STEP1, u.update()), awareness(7, 1, '{"user":{"name":"Eve"}}'), b"\x03"]
            for whole in valid:
                yield from (whole[:at] for at in range(len(whole)))

    def _cut(self) -> Hostile:
        return _hostile("truncated", next(self._cuts), MALFORMED)

    def _cut_address(self) -> Hostile:
        return Hostile("truncated address", b"", frozenset((MALFORMED,)), self._random.random())

    def _random_bytes(self) -> Hostile:
        body = self._random.randbytes(self._random.randrange(1, 60))
        if body[0] in (2, 5, 7):  # credential, stateless, goodbye: for Hocuspocus these are another matter
            body = b"\x00" + body
        return _hostile("random", body, STAYS, MALFORMED, RESET)

    def _unknown_type(self) -> Hostile:
        kind = self._random.choice((4, 6, 9, 10, 42, 99, 100, 101, 127, 128, 300, 2**31, 2**53))
        return _hostile("unknown type", uint(kind) + self._random.randbytes(3), MALFORMED)

    # -- updates -------------------------------------------------------------------------------------------

    def _endless_updates(self) -> Iterator[bytes]:
        while True:
            yield from HostileSession(self._random, {}).updates()

    def _mutated_update(self) -> Hostile:
        return _hostile("mutated update", sync(UPDATE, next(self._updates)), STAYS, MALFORMED, FOREIGN)

    def _as_answer(self) -> Hostile:
        """As a sync step 2; the third one that still lacks something means a stubborn replica."""
        return _hostile("mutated answer", sync(STEP2, next(self._updates)), STAYS, MALFORMED, FOREIGN, RESET)

    def _gap(self) -> Hostile:
        client = self._random.randrange(2**40, 2**41)
        clock = self._random.randrange(1, 2**30)
        update = u.update(u.section(client, clock, u.text("gap", origin=(client, clock - 1))))
        return _hostile("gap", sync(UPDATE, update), STAYS)

    def _big_update(self) -> Hostile:
        size = self._max_update_bytes + self._random.randrange(0, 1000)
        return _hostile("big update", sync(UPDATE, bytes(size)), TOO_LARGE)

    def _nesting_bomb(self) -> Hostile:
        """56 KB that overflow the engine's stack: arrays in arrays in arrays."""
        bomb = u.values(b"\x75\x01" * NESTED + b"\x75\x00")
        update = u.update(u.section(self._random.randrange(2**40), 0, bomb))
        return _hostile("nesting bomb", sync(UPDATE, update), MALFORMED)

    def _spoofed(self) -> Hostile:
        """Somebody else's client id. STAYS: they were faster, then it is taken for a copy of theirs."""
        client, clock = self._spoof()
        if not clock:  # nobody's yet
            return self._gap()
        evil = u.text("EVIL", root="text")
        return _hostile("spoofed", sync(UPDATE, u.update(u.section(client, clock, evil))), STAYS, FOREIGN)

    # -- state vectors and presence ------------------------------------------------------------------------

    def _state_vector(self) -> Hostile:
        """Strange and legal: clocks ahead of ours, clients nobody has."""
        random = self._random
        clients = {random.randrange(2**53): random.randrange(2**31 - 1) for _ in range(random.choice((1, 3, 40)))}
        vector = uint(len(clients)) + b"".join(uint(c) + uint(clock) for c, clock in clients.items())
        return _hostile("state vector", sync(STEP1, vector), STAYS, MALFORMED)

    def _state_vector_bomb(self) -> Hostile:
        """Five bytes that announce millions of entries."""
        vector = uint(self._random.choice((2_000, 10**6, 2 * 10**8, 2**31, 2**53 - 1))) + b"\x01\x01"
        return _hostile("state vector bomb", sync(STEP1, vector), MALFORMED)

    def _awareness(self) -> Hostile:
        random = self._random
        client, clock = random.choice((1, 2, random.randrange(2**53))), random.choice((0, 1, 2**31 - 1))
        state = random.choice(("null", "{}", "1", '"x"', "[]", '{"__proto__":{"a":1}}', '{"a":"\\u0000"}', "0"))
        return _hostile("awareness", awareness(client, clock, state), STAYS, MALFORMED)

    def _awareness_garbage(self) -> Hostile:
        random = self._random
        state = random.choice(("", "{", "NaN", "[" * 4000, "[" * 60_000, "9" * 5000, "\x00", '{"a":1', "nul"))
        bodies = (
            awareness(random.randrange(2**53), 1, state),
            awareness(random.randrange(2**53, 2**60), 1, "{}"),
            awareness(5, 2**60, "{}"),
            b"\x01" + sized(uint(10**9) + b"\x01"),
            b"\x01" + sized(uint(1) + uint(3) + uint(1) + uint(9000) + b"{}"),
            b"\x01" + sized(random.randbytes(20)),
        )
        return _hostile("awareness garbage", random.choice(bodies), STAYS, MALFORMED, TOO_LARGE)
