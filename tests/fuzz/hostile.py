"""Where hostile updates come from. Everything follows from one random generator: a seed is a reproduction."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from random import Random

from collab_server.live.lib0 import write_var_uint
from tests.fuzz import updates as u

CORPUS = Path(__file__).parent.parent / "corpus"
STEPS = 24
ROOTS = ("t", "m", "a", "x", "")
KEYS = (None, None, None, "k", "", "ключ")
STRINGS = ("a", "bc", "слово", "😀", "x😀y", "", "a" * 130, "\x00", "\ufffd")
JSON = (
    "null",
    "true",
    "1",
    '"a"',
    '{"a":[1,2]}',
    "[[]]",
    "1e999",
    "NaN",
    '"\\ud800"',
    "{",
    "",
    "-0",
    "1.0",
    "12345678901234567890",
)
ANY = (
    b"\x7f", b"\x7e", b"\x7d\x05", b"\x7d\x40", b"\x7d\xff\xff\xff\xff\x7f", b"\x7c\x7f\xc0\x00\x00",
    b"\x7b\x7f\xf0" + bytes(6), b"\x7a" + bytes(7) + b"\x05", b"\x7a" + b"\x7f" * 8, b"\x79", b"\x78",
    b"\x77\x00", b"\x77\x02\xd1\x8f", b"\x76\x00", b"\x76\x01\x01k\x7e", b"\x76\x02\x01k\x7e\x01k\x7f",
    b"\x75\x00", b"\x75\x02\x7e\x75\x00", b"\x74\x01\xff", b"\x73", b"\x75" * 3 + b"\x00",
    b"\x76\x01\x09__proto__\x76\x00",
)  # fmt: skip
NUMBERS = (0, 1, 2, 127, 128, 2**14, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53 - 1)


@cache
def honest_sessions() -> list[list[bytes]]:
    """Updates of real yjs clients, session by session, in an order in which each can be applied."""
    lines = (CORPUS / "honest_sessions.jsonl").read_text().splitlines()
    return [[bytes.fromhex(update) for update in json.loads(line)] for line in lines]


@cache
def honest_updates() -> frozenset[bytes]:
    return frozenset(update for session in honest_sessions() for update in session)


class HostileSession:
    """Updates for one document whose state vector is ``clocks`` (kept up to date by the one who applies)."""

    def __init__(self, random: Random, clocks: Mapping[int, int]) -> None:
        self._random = random
        self._clocks = clocks

    def updates(self) -> Iterator[bytes]:
        random = self._random
        honest = random.choice(honest_sessions())
        at = random.randrange(len(honest))
        if random.random() < 0.7:
            at = random.choice((0, 0, random.randrange(min(8, len(honest)))))
        yield from honest[:at]
        if random.random() < 0.3:
            self._clients = [random.choice((1, 5, 2**32, 2**53 - 1, 200)) for _ in range(3)]
        else:
            self._clients = [*list(self._clocks)[:3], random.choice((7, 300))]
        for _ in range(STEPS):
            kind = random.random()
            if kind < 0.55:
                yield self._composed()
            elif kind < 0.7:
                yield self._damaged_bytes(honest)
            elif kind < 0.85:
                yield self._damaged_bytes([self._composed()])
            else:
                yield honest[random.randrange(len(honest))]

    # -- bytes -----------------------------------------------------------------------------------

    def _damaged_bytes(self, honest: list[bytes]) -> bytes:
        random = self._random
        data = bytearray(random.choice(honest))
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            at = random.randrange(len(data) + 1)
            match random.randrange(7):
                case 0 if at < len(data):
                    data[at] ^= 1 << random.randrange(8)
                case 1 if at < len(data):
                    data[at] = random.choice(
                        (0, 1, 2, 4, 6, 7, 0x7F, 0x80, 0xFF, data[at] - 1 & 255, data[at] + 1 & 255)
                    )
                case 2:
                    data[at : at + random.randrange(4)] = b""
                case 3:
                    data[at:at] = write_var_uint(random.choice(NUMBERS))
                case 4:
                    other = random.choice(honest)
                    start = random.randrange(len(other) + 1)
                    data[at : at + random.randrange(8)] = other[start : start + random.randrange(24)]
                case 5:
                    del data[at:]
                case _:
                    data[at : at + 1] = bytes((random.randrange(256),))
        return bytes(data)

    # -- structs ---------------------------------------------------------------------------------

    def _composed(self) -> bytes:
        """A well-formed update of random structs at the right clocks, mostly."""
        random = self._random
        clients = random.sample(
            sorted(set(self._clients)), k=min(len(set(self._clients)), random.choice((0, 1, 1, 1, 2, 3)))
        )
        self._ends = dict(self._clocks)
        sections = []
        for client in clients:
            start = known = self._clocks.get(client, 0)
            if random.random() < 0.15:
                start = random.choice(
                    (max(0, known - random.randrange(1, 5)), known + 1, 0, random.choice(NUMBERS))
                )
            structs, clock = [], start
            for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
                struct, length = self._struct(client, clock)
                structs.append(struct)
                clock += length
                self._ends[client] = clock
            sections.append(u.section(client, start, *structs))
        deletes = [u.deletions(c, *self._ranges(c)) for c in self._ends if random.random() < 0.15]
        return u.update(*sections, deletes=deletes)

    def _ranges(self, client: int) -> list[tuple[int, int]]:
        random, ranges, floor = self._random, [], 0
        end = self._ends[client]
        for _ in range(random.choice((1, 1, 2, 3))):
            start = (
                floor + random.randrange(max(1, end - floor + 1))
                if random.random() < 0.95
                else random.randrange(end + 2)
            )
            length = random.choice((1, 1, 2, 3, max(1, end - start), 0 if random.random() < 0.05 else 1))
            ranges.append((start, length))
            floor = start + length
            if floor >= end:
                break
        return ranges

    def _id(self, client: int, clock: int) -> u.Id | None:
        random = self._random
        if not self._ends or random.random() < 0.02:
            return (random.choice(NUMBERS), random.choice(NUMBERS))
        other = random.choice(list(self._ends))
        end = min(clock if other == client else self._ends[other], 2**53 - 2)
        if end <= 0:
            return None
        if random.random() < 0.4:
            return (other, end - 1)
        return (other, random.randrange(end + (random.random() < 0.03)))

    def _place(self, client: int, clock: int) -> dict[str, object]:
        random = self._random
        place: dict[str, object] = {"key": random.choice(KEYS)}
        kind = random.random()
        if kind < 0.3:
            place["root"] = random.choice(ROOTS)
        elif kind < 0.45:
            place["parent"] = self._id(client, clock)
        else:
            if kind < 0.8:
                place["origin"] = self._id(client, clock)
            if kind > 0.7:
                place["right"] = self._id(client, clock)
        if random.random() < 0.02:
            place["flags"] = random.choice((0x10, 0x20, 0x40, 0x80))
        return place

    def _struct(self, client: int, clock: int) -> tuple[bytes, int]:
        random = self._random
        place = self._place(client, clock)
        length = random.choice(
            (1, 2, 3, 3, 0 if random.random() < 0.1 else 1, 2**31 - 5 if random.random() < 0.01 else 1)
        )
        match random.randrange(16):
            case 0:
                return u.gc(length), length
            case 1:
                return (u.skip(length), length) if random.random() < 0.4 else (u.gc(length), length)
            case 2:
                return u.deleted(length, **place), length
            case 3:
                return u.binary(bytes(random.randrange(4)), **place), 1
            case 4:
                return u.embed(random.choice(JSON[: 6 if random.random() < 0.8 else None]), **place), 1
            case 5 | 6:
                if random.random() < 0.9:
                    place["key"] = None
                return u.format_mark(random.choice(("bold", "", "k")), random.choice(JSON[:6]), **place), 1
            case 7 | 8 | 9:
                kind = random.choice(
                    (
                        0,
                        1,
                        2,
                        3,
                        4,
                        6,
                        6 if random.random() < 0.9 else 5,
                        random.choice((7, 9, 15)) if random.random() < 0.05 else 2,
                    )
                )
                return u.shared_type(kind, "p" if kind in (3, 5) else None, **place), 1
            case 10 | 11:
                encoded = [
                    random.choice(ANY[:8] if random.random() < 0.5 else ANY)
                    for _ in range(random.choice((1, 1, 2, 4)))
                ]
                return u.values(*encoded, **place), len(encoded)
            case 12:
                return u.subdocument(
                    random.choice(("g", "", "guid-2")),
                    random.choice((b"\x76\x00", b"\x76\x01\x02gc\x79", b"\x76\x01\x04guid\x7d\x05", b"\x7e"))
                    if random.random() < 0.3
                    else b"\x76\x00",
                    **place,
                ), 1
            case _:
                text = random.choice(STRINGS)
                return u.text(text, **place), len(text.encode("utf-16-le")) // 2
