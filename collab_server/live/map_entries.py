"""Which clocks of a document are entries of maps, and that nothing mixes them with lists.

An item that stands on a neighbour inherits place and key from it; the flag "has a key" is sent along although
nobody reads it. yjs and yrs always set it truthfully. When it lies, or when one neighbour is an entry of a map
and the other is not, yrs deletes what is still in use: ``get_update()`` panics or the process dies.
So the flag has to agree with what the item stands on. Then the table needs no text: it has the runs of entries
(and of GCs, which agree with everything, because what stands on them becomes a GC), a few bytes for each.
"""

from bisect import bisect_right
from collections.abc import Mapping
from typing import Final

from collab_server.live.guard_footprint import GC, Erasure, Footprint, Keystroke, Row
from schemas.errors import Malformed

_LIST, _ENTRY, _DEAD = 0, 1, 2
_MIXED: Final = "A struct and what it stands on disagree about being an entry of a map."


class _Runs:
    """The runs of one client's clocks that are not plain list items, ascending."""

    __slots__ = ("ends", "kinds", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.kinds: list[int] = []

    def kind(self, clock: int) -> int:
        index = bisect_right(self.starts, clock) - 1
        return self.kinds[index] if index >= 0 and clock < self.ends[index] else _LIST

    def add(self, start: int, end: int, kind: int) -> None:
        if self.ends and self.ends[-1] == start and self.kinds[-1] == kind:
            self.ends[-1] = end
            return
        self.starts.append(start)
        self.ends.append(end)
        self.kinds.append(kind)

    def cut(self, clock: int) -> None:
        """Forget everything from ``clock`` on."""
        while self.starts and self.starts[-1] >= clock:
            self.starts.pop()
            self.ends.pop()
            self.kinds.pop()
        if self.ends and self.ends[-1] > clock:
            self.ends[-1] = clock


class MapEntries:
    """The table of one document. Empty, and free, as long as the document has no maps."""

    def __init__(self) -> None:
        self._clients: dict[int, _Runs] = {}

    def admit(self, footprint: Footprint, clocks: Mapping[int, int]) -> None:
        """Check an update and remember its entries, right before it is applied. ``clocks`` is the state vector
        before. Raises ``Malformed``; then nothing is remembered."""
        clients = self._clients
        if type(footprint) is Keystroke:
            _, _, _, origin, origin_clock, right, right_clock = footprint
            if origin in clients and clients[origin].kind(origin_clock) == _ENTRY:
                raise Malformed(_MIXED)
            if right in clients and clients[right].kind(right_clock) == _ENTRY:
                raise Malformed(_MIXED)
            return
        if type(footprint) is Erasure:
            return
        try:
            for row in footprint.rows:
                self._admit_row(row, clocks.get(row[0], 0))
        except Malformed:
            for client in footprint.writes:
                if client in clients:
                    clients[client].cut(clocks.get(client, 0))
            raise

    def _admit_row(self, row: Row, known: int) -> None:
        client, clock, end, content, origin, origin_clock, right, right_clock, _, _, key = row
        if end <= known:
            return
        kind = _DEAD if content == GC else _ENTRY if key else _LIST
        clients = self._clients
        if origin in clients and clients[origin].kind(origin_clock) not in (kind, _DEAD):
            raise Malformed(_MIXED)
        if right in clients and clients[right].kind(right_clock) not in (kind, _DEAD):
            raise Malformed(_MIXED)
        if kind == _LIST:
            return
        if kind == _ENTRY and origin >= 0 and origin not in clients:
            raise Malformed(_MIXED)
        runs = clients.get(client)
        if runs is None:
            runs = clients[client] = _Runs()
        runs.add(max(clock, known), end, kind)

    def load(self, rows: tuple[Row, ...]) -> None:
        """Fill the table from a stored document: remembered as it is, not checked."""
        for client, clock, end, content, *_, key in rows:
            if content == GC or key:
                self._clients.setdefault(client, _Runs()).add(clock, end, _DEAD if content == GC else _ENTRY)
