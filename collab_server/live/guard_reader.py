"""The full validator of one update in format V1 (``yjs/src/utils/encoding.js``, ``structs/Item.js``).

    update     = count section* delete-set
    section    = structs client clock struct*
    struct     = GC: 0 length | Skip: 10 length | info [origin] [right origin] [parent [key]] content
    delete-set = count (client count (clock length)*)*

Stricter than yjs and yrs where they take what no client writes and break on it later.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise
from sys import maxsize

from collab_server.live import guard_content as content
from collab_server.live.guard_footprint import (
    ANY,
    BINARY,
    DELETED,
    DOC,
    EMBED,
    FORMAT,
    GC,
    SKIP,
    STRING,
    TYPE,
    Row,
    Survey,
)
from collab_server.live.lib0 import read_var_uint
from schemas.errors import Malformed

_HAS_ORIGIN, _HAS_RIGHT, _HAS_KEY, _REF = 0x80, 0x40, 0x20, 0x1F

Id = tuple[int, int]
_ABSENT: Id = (-1, -1)
SAME_NEIGHBOUR = "A struct has the same neighbour on both sides."  # yjs and yrs put it into different places

Crossing = tuple[int, int, int]
"""A struct at this clock stands on (client, clock) of another client."""


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """What one update may be. Counts per update; ``max_clock`` bounds clock + length."""

    structs: int = 50_000
    # Sections only. A delete set names every client that ever deleted, in every sync step 2.
    clients: int = 256
    # A full delete set comes with every reconnect: about 10,000 ranges after 260,000 keystrokes.
    delete_ranges: int = 250_000
    any_depth: int = 64
    max_clock: int = 2**31


class UpdateReader:
    """Reads one update. ``survey()`` raises ``Malformed``, ``IndexError`` (too short) or
    ``UnicodeDecodeError``; the guard makes one error of the three.

    ``own`` is for bytes that the engine encoded itself: no limits of count, and strings may be empty.
    """

    __slots__ = (
        "_any_depth",
        "_astral",
        "_buf",
        "_crossings",
        "_known",
        "_limits",
        "_long_entries",
        "_max_clock",
        "_nests",
        "_own",
        "_pos",
        "_rows",
        "_structs",
        "_tops",
        "_writes",
    )

    def __init__(self, update: bytes, limits: GuardLimits, *, own: bool = False) -> None:
        self._buf = update
        self._pos = 0
        self._own = own
        self._limits = limits
        self._max_clock = limits.max_clock
        self._any_depth = limits.any_depth
        self._known: dict[bytes, int] = {}  # five-byte client ids seen before: most ids are repeated
        self._structs = 0
        self._nests = False
        self._rows: list[Row] = []
        self._tops: dict[int, int] = {}  # client -> highest clock that another client's struct stands on
        self._writes: dict[int, tuple[int, int]] = {}
        self._long_entries: list[tuple[int, int, int]] = []
        self._crossings: dict[int, list[Crossing]] = {}
        self._astral: dict[int, list[int]] = {}

    def survey(self) -> Survey:
        sections = self._count("sections")
        if sections > self._limits.clients and not self._own:
            raise Malformed("The update carries structs of too many clients.")
        needs: dict[int, int] = {}
        for _ in range(sections):
            self._section(needs)
        if sections > 1:
            self._order_rows()
        deletes = self._delete_set()
        if self._pos != len(self._buf):
            raise Malformed("There are bytes after the end of the update.")
        if self._long_entries:
            self._refuse_long_entries(deletes)
        for client, clock in self._tops.items():
            self._need(needs, client, clock + 1)
        for client, ranges in deletes.items():
            self._need(needs, client, ranges[-1][1])
        astral = {client: tuple(clocks) for client, clocks in self._astral.items()}
        return Survey(self._writes, needs, deletes, tuple(self._rows), astral, self._nests)

    def _refuse_long_entries(self, deletes: Mapping[int, tuple[tuple[int, int], ...]]) -> None:
        """Several values under one key are old ones that were deleted together. When they are not, yrs forgets
        all but the last, frees the map with them still inside, and writes into memory that is gone."""
        for client, start, end in self._long_entries:
            if not any(low <= start and end <= high for low, high in deletes.get(client, ())):
                raise Malformed("A map entry has several values that are not deleted.")

    def _need(self, needs: dict[int, int], client: int, clock: int) -> None:
        start, end = self._writes.get(client, (0, 0))
        if not start <= clock <= end and clock > needs.get(client, 0):
            needs[client] = clock

    def _count(self, what: str) -> int:
        count, self._pos = read_var_uint(self._buf, self._pos)
        if count > len(self._buf) - self._pos:
            raise Malformed(f"The update claims more {what} than there are bytes.")
        return count

    def _section(self, needs: dict[int, int]) -> None:
        """Fills ``rows``, ``writes`` and ``tops`` from one client's structs."""
        count = self._count("structs")
        self._structs += count
        if count == 0:
            raise Malformed("A section has no structs.")
        if self._structs > self._limits.structs and not self._own:
            raise Malformed("The update carries too many structs.")
        client, pos = read_var_uint(self._buf, self._pos)
        clock, pos = read_var_uint(self._buf, pos)
        if client in self._writes:
            raise Malformed(f"The update has two sections of client {client}.")
        start = clock
        buf, limit, last = self._buf, self._max_clock, count - 1
        for index in range(count):
            info = buf[pos]
            ref = info & _REF
            if ref in (GC, SKIP):
                length, pos = self._blank(info, pos + 1)
                if ref == GC:
                    self._rows.append((client, clock, clock + length, GC, -1, -1, -1, -1, -1, -1, 0))
                elif index == last:
                    raise Malformed("A section ends with a gap.")
                else:
                    needs[client] = clock + length
                    start = clock + length if index == 0 else start
            else:
                length, pos = self._item(client, clock, info, pos + 1)
            clock += length
            if clock > limit or (length <= 0 and not self._own):
                raise Malformed(f"A struct of client {client} has the length {length} and ends at {clock}.")
        self._pos = pos
        self._writes[client] = (start, clock)
        if start > needs.get(client, 0):
            needs[client] = start

    def _blank(self, info: int, pos: int) -> tuple[int, int]:
        if info != GC and info != SKIP:
            raise Malformed("A struct without content carries flags.")
        return read_var_uint(self._buf, pos)

    def _item(self, client: int, clock: int, info: int, pos: int) -> tuple[int, int]:
        """One item after its info byte: its length and the position after it."""
        origin = right = parent = _ABSENT
        if info & 0xC0:
            if info & 0x60 == 0x60 and not self._own:
                raise Malformed("An entry of a map has a right neighbour.")  # entries only follow one another
            if info & _HAS_ORIGIN:
                origin, pos = self._id(client, clock, pos)
            if info & _HAS_RIGHT:
                right, pos = self._id(client, clock, pos)
                if right == origin:
                    raise Malformed(SAME_NEIGHBOUR)
        else:
            parent, pos = self._parent(client, clock, info, pos)
        ref = info & _REF
        if ref == STRING:
            length, pos = self._string(client, clock, pos)
            if info & _HAS_KEY and not self._own:
                raise Malformed("Text stands under a map key.")
        else:
            length, pos = self._content(ref, info & _HAS_KEY, pos)
            if length > 1 and ref == ANY and info & _HAS_KEY and not self._own:
                self._long_entries.append((client, clock, clock + length))
        self._rows.append((client, clock, clock + length, ref, *origin, *right, *parent, info & _HAS_KEY))
        return length, pos

    def _parent(self, client: int, clock: int, info: int, pos: int) -> tuple[Id, int]:
        """The explicit parent of an item without neighbours; its id is absent for a root type."""
        parent = _ABSENT
        named = self._buf[pos]
        if named == 1:
            pos = content.skip_text(self._buf, pos + 1)
        elif named == 0:
            parent, pos = self._id(client, clock, pos + 1)
            self._nests = True
        else:
            raise Malformed(f"Unknown kind of parent: {named}.")
        if info & _HAS_KEY:
            pos = content.skip_text(self._buf, pos)
        return parent, pos

    def _id(self, own_client: int, own_clock: int, pos: int) -> tuple[Id, int]:
        """A reference: what the struct at ``own_clock`` stands on."""
        buf = self._buf
        key = buf[pos : pos + 5]
        known = self._known.get(key)
        if known is None:
            client, end = read_var_uint(buf, pos)
            if end - pos == 5:
                self._known[key] = client
            pos = end
        else:
            client = known
            pos += 5
        clock = buf[pos]
        pos += 1
        if clock >= 0x80:
            clock, pos = read_var_uint(buf, pos - 1)
        if client == own_client:
            if clock >= own_clock:
                raise Malformed(f"A struct of client {client} at {own_clock} stands on itself or on a later one.")
        else:
            if clock >= self._tops.get(client, -1):
                if clock >= self._max_clock:
                    raise Malformed(f"A reference has the clock {clock}.")
                self._tops[client] = clock
            crossings = self._crossings.get(own_client)
            if crossings is None:
                crossings = self._crossings[own_client] = []
            crossings.append((own_clock, client, clock))
        return (client, clock), pos

    def _string(self, client: int, clock: int, pos: int) -> tuple[int, int]:
        """Text; its length counts UTF-16 code units."""
        buf = self._buf
        length = buf[pos]
        pos += 1
        if length >= 0x80:
            length, pos = read_var_uint(buf, pos - 1)
        end = pos + length
        raw = buf[pos:end]
        if not raw.isascii():
            text = raw.decode()
            length = len(text)
            if max(text) > "\uffff":
                lows = content.low_surrogates(text, clock)
                length += len(lows)
                self._astral.setdefault(client, []).extend(lows)
        return length, end

    def _content(self, ref: int, keyed: int, pos: int) -> tuple[int, int]:
        """The length and the end of any content but a string."""
        buf = self._buf
        if ref == ANY:
            count, pos = read_var_uint(buf, pos)
            if count > len(buf) - pos:
                raise Malformed("A struct claims more values than there are bytes.")
            for _ in range(count):
                pos = content.skip_any(buf, pos, self._any_depth)
            return count, pos
        if ref == DELETED:
            return read_var_uint(buf, pos)
        if ref == TYPE:
            self._nests = True
            return 1, content.skip_type(buf, pos)
        if ref == FORMAT:
            if keyed and not self._own:
                raise Malformed("A format stands under a map key.")  # the engine panics
            return 1, content.skip_json(buf, content.skip_text(buf, pos), self._any_depth)
        if ref == EMBED:
            return 1, content.skip_json(buf, pos, self._any_depth)
        if ref == BINARY:
            length, pos = read_var_uint(buf, pos)
            return 1, pos + length
        if ref == DOC:
            return 1, content.skip_subdocument(buf, pos, self._any_depth)
        raise Malformed(f"Unknown content {ref}.")

    def _order_rows(self) -> None:
        """Put every struct after those it stands on. What waits in a circle would stay pending for ever."""
        writes = self._writes
        waits = {
            client: [c for c in crossings if c[1] in writes and writes[c[1]][0] <= c[2] < writes[c[1]][1]]
            for client, crossings in self._crossings.items()
        }
        waits = {client: crossings for client, crossings in waits.items() if crossings}
        if not waits:
            return
        order = causal_order(waits)
        free = [row for row in self._rows if row[0] not in waits]
        queues = {client: deque[Row]() for client in waits}
        for row in self._rows:
            if row[0] in queues:
                queues[row[0]].append(row)
        for client, reached in order:
            queue = queues[client]
            while queue and queue[0][1] < reached:
                free.append(queue.popleft())
        self._rows = free

    def _delete_set(self) -> dict[int, tuple[tuple[int, int], ...]]:
        deletes: dict[int, tuple[tuple[int, int], ...]] = {}
        buf, total = self._buf, 0
        for _ in range(self._count("clients in its delete set")):
            client, self._pos = read_var_uint(buf, self._pos)
            if client in deletes:
                raise Malformed(f"The delete set names client {client} twice.")
            count = self._count("deleted ranges")
            total += count
            if total > self._limits.delete_ranges and not self._own:
                raise Malformed("The update deletes too many ranges.")
            deletes[client] = self._ranges(client, count)
        return {client: ranges for client, ranges in deletes.items() if ranges}

    def _ranges(self, client: int, count: int) -> tuple[tuple[int, int], ...]:
        buf, pos, floor, sort = self._buf, self._pos, 0, False
        ranges = []
        for _ in range(count):
            clock = buf[pos]
            pos += 1
            if clock >= 0x80:
                clock, pos = read_var_uint(buf, pos - 1)
            length = buf[pos]
            pos += 1
            if length >= 0x80:
                length, pos = read_var_uint(buf, pos - 1)
            elif length == 0:
                raise Malformed(f"A deleted range of client {client} is empty.")
            end = clock + length
            sort = sort or clock < floor
            floor = end
            ranges.append((clock, end))
        self._pos = pos
        if sort:
            ranges.sort()
            if any(left[1] > right[0] for left, right in pairwise(ranges)):
                raise Malformed(f"Deleted ranges of client {client} overlap.")
        if ranges and ranges[-1][1] > self._max_clock:
            raise Malformed(f"A deleted range of client {client} ends at {ranges[-1][1]}.")
        return tuple(ranges)


def causal_order(waits: Mapping[int, list[Crossing]]) -> list[tuple[int, int]]:
    """The order in which sections can be integrated: (client, up to this clock), piece by piece.

    Raises ``Malformed`` when no section can go on. O(n log n) in crossings: a section sleeps on the clock it
    needs and is woken once for it.
    """
    at = dict.fromkeys(waits, 0)
    sleepers: dict[int, list[tuple[int, int]]] = {client: [] for client in waits}
    ready = list(waits)
    order = [(client, crossings[0][0]) for client, crossings in waits.items()]
    while ready:
        client = ready.pop()
        crossings = waits[client]
        index, stop = at[client], len(crossings)
        while index < stop:
            _, other, clock = crossings[index]
            if other in at and at[other] < len(waits[other]) and waits[other][at[other]][0] <= clock:
                heappush(sleepers[other], (clock, client))
                break
            index += 1
        at[client] = index
        reached = crossings[index][0] if index < stop else maxsize
        order.append((client, reached))
        while sleepers[client] and sleepers[client][0][0] < reached:
            ready.append(heappop(sleepers[client])[1])
    if any(at[client] < len(crossings) for client, crossings in waits.items()):
        raise Malformed("Structs of several clients wait for each other.")
    return order
