"""What the guard has learned from one update: whose clocks it writes, what it stands on, what it deletes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

Row = tuple[int, int, int, int, int, int, int, int, int, int, int]
"""One struct: client, clock, end clock, content reference, then three ids as (client, clock), -1 for absent:
origin, right origin, explicit parent; at last, not 0 for an entry of a map. A struct with none of the three
ids hangs in a root type (or is a GC)."""

GC, DELETED, JSON, BINARY, STRING, EMBED, FORMAT, TYPE, ANY, DOC, SKIP = range(11)

NOTHING: Final[Mapping[int, int]] = {}


class Footprint(Protocol):
    """The part of an update that the checks after the guard look at. Clock ranges are [start, end)."""

    @property
    def writes(self) -> Mapping[int, tuple[int, int]]:
        """Client id -> the clocks of its structs. Contiguous: a section has no holes (a Skip is a need)."""

    @property
    def needs(self) -> Mapping[int, int]:
        """Client id -> the clock the document must have reached for this update to leave nothing pending:
        the start of its own section, or the end of what is referred to outside of that section."""

    @property
    def deletes(self) -> Mapping[int, tuple[tuple[int, int], ...]]:
        """Client id of the *creator* -> what is deleted, ascending and disjoint."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every struct after those of this update that it stands on. Skips are left out."""

    @property
    def astral(self) -> Mapping[int, tuple[int, ...]]:
        """Client id -> clocks of the low halves of its surrogate pairs, ascending. Empty for most updates."""

    @property
    def nests(self) -> bool:
        """Whether it creates a shared type or names one by its id: then ``TypeDepths`` has to look at it."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The footprint of any update, from the full validator."""

    writes: Mapping[int, tuple[int, int]]
    needs: Mapping[int, int]
    deletes: Mapping[int, tuple[tuple[int, int], ...]]
    rows: tuple[Row, ...]
    astral: Mapping[int, tuple[int, ...]]
    nests: bool


class Keystroke(NamedTuple):
    """The footprint of one typed run: one string struct by ``client`` between two known places.

    An absent origin or right origin has the client -1. Nothing is deleted, and no character is outside of
    the basic plane. A tuple, because the ordinary update pays for nothing it does not use.
    """

    client: int
    start: int
    end: int
    origin_client: int
    origin_clock: int
    right_client: int
    right_clock: int

    @property
    def writes(self) -> Mapping[int, tuple[int, int]]:
        return {self.client: (self.start, self.end)}

    @property
    def needs(self) -> Mapping[int, int]:
        needs = {self.client: self.start} if self.start else {}
        for client, clock in (self[3:5], self[5:7]):
            if client >= 0 and clock >= needs.get(client, 0):
                needs[client] = clock + 1
        return needs

    @property
    def deletes(self) -> Mapping[int, tuple[tuple[int, int], ...]]:
        return {}

    @property
    def rows(self) -> tuple[Row, ...]:
        return ((*self[:3], STRING, *self[3:], -1, -1, 0),)

    @property
    def astral(self) -> Mapping[int, tuple[int, ...]]:
        return {}

    @property
    def nests(self) -> bool:
        return False


class Erasure(NamedTuple):
    """The footprint of an update that deletes one run of ``client``'s clocks and writes nothing."""

    client: int
    start: int
    end: int

    @property
    def writes(self) -> Mapping[int, tuple[int, int]]:
        return {}

    @property
    def needs(self) -> Mapping[int, int]:
        return {self.client: self.end}

    @property
    def deletes(self) -> Mapping[int, tuple[tuple[int, int], ...]]:
        return {self.client: ((self.start, self.end),)}

    @property
    def rows(self) -> tuple[Row, ...]:
        return ()

    @property
    def astral(self) -> Mapping[int, tuple[int, ...]]:
        return {}

    @property
    def nests(self) -> bool:
        return False


def missing(footprint: Footprint, state_vector: Mapping[int, int]) -> Mapping[int, int]:
    """What stands between the update and the document: client id -> the clock to start from again.

    Empty: go on. Otherwise the update must not be applied; answer with our own sync step 1, and the client
    sends what we lack, cut at our state vector. Two reasons:

    * It builds on something unknown. The engine would keep it pending, lose it in its next encoded state, and
      let it appear later inside of somebody else's transaction.
    * One of its structs begins before what is known and ends after it. If the known half is something else
      here (a GC, another text, half of a surrogate pair), yjs throws and yrs puts the rest elsewhere.
    """
    if type(footprint) is Keystroke:
        client, start, end, origin_client, origin_clock, right_client, right_clock = footprint
        known = state_vector.get
        reached = known(client, 0)
        if (
            (start == reached or end <= reached)
            and (origin_client == client or origin_client < 0 or origin_clock < known(origin_client, 0))
            and (right_client == client or right_client < 0 or right_clock < known(right_client, 0))
        ):
            return NOTHING
    elif type(footprint) is Erasure:
        client, start, end = footprint
        if end <= state_vector.get(client, 0):
            return NOTHING
    needs = footprint.needs
    lacking = {client: clock for client, clock in needs.items() if clock > state_vector.get(client, 0)}
    for client, (start, end) in footprint.writes.items():
        reached = state_vector.get(client, 0)
        if start < reached < end and any(r[0] == client and r[1] < reached < r[2] for r in footprint.rows):
            lacking[client] = reached
    return lacking


def fresh_clients(footprint: Footprint, state_vector: Mapping[int, int]) -> tuple[int, ...]:
    """The client ids under which the update carries structs that the document does not have yet.

    Empty: nothing new is written (deletions may still be new; the state vector cannot tell).
    """
    if type(footprint) is Keystroke:
        client = footprint[0]
        return (client,) if footprint[2] > state_vector.get(client, 0) else ()
    writes = footprint.writes
    return tuple([client for client, (_, end) in writes.items() if end > state_vector.get(client, 0)])


def overlaps(footprint: Footprint, state_vector: Mapping[int, int]) -> bool:
    """Whether the update carries structs that the document has already.

    They may be another version of them: the engine ignores that, but a merge of the received bytes may prefer
    it, and then others would be shown, and the log would hold, what the document does not.
    """
    if type(footprint) is Keystroke:
        return footprint[1] < state_vector.get(footprint[0], 0)
    return any(start < state_vector.get(client, 0) for client, (start, _) in footprint.writes.items())


def advance(footprint: Footprint, state_vector: dict[int, int]) -> None:
    """Bring the document's state vector up to date after the update was applied."""
    if type(footprint) is Keystroke:
        client, _, end, *_ = footprint
        if end > state_vector.get(client, 0):
            state_vector[client] = end
        return
    for client, (_, end) in footprint.writes.items():
        if end > state_vector.get(client, 0):
            state_vector[client] = end
