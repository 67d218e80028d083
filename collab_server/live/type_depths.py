"""How deep shared types are nested in one document.

The engine accepts 100,000 types one in another and then overflows its stack when somebody exports (20,000) or
deletes (40,000) them, and such a nest can be built over many small updates. So depth belongs to the document.

A type inserted next to something hangs in the same parent, but the update names only its neighbour, which may
be a plain character. What is needed is the *level* of every clock: how many types are around it. Neighbours
in time are mostly neighbours in place, so levels are kept as runs of clocks, a few per client for prose.

Cost: nothing until an update creates a type inside of another, or names one as its parent: plain text and flat
maps never build the table. Then it is built once, from the document's state, and typing is only noted down
and worked in when a level is asked for (about a microsecond each).
"""

from bisect import bisect_right
from collections.abc import Callable

from collab_server.live.guard import inspect_own_state
from collab_server.live.guard_footprint import DELETED, GC, TYPE, Erasure, Footprint, Keystroke, Row
from schemas.errors import Malformed

MAX_TYPE_DEPTH = 128
MAX_NOTES = 2_048  # structs noted down before they are worked in: about 0.5 MB


class _Unknown(Exception):
    """The table does not reach as far as the document."""


class _Levels:
    """What one client's clocks, [0, end), are: runs of ``level * 2 + may_be_a_parent``."""

    __slots__ = ("end", "starts", "values")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.values: list[int] = []
        self.end = 0

    def extend(self, end: int, value: int) -> None:
        if not self.values or self.values[-1] != value:
            self.starts.append(self.end)
            self.values.append(value)
        self.end = end

    def cut(self, end: int) -> None:
        while self.starts and self.starts[-1] >= end:
            self.starts.pop()
            self.values.pop()
        self.end = end


class TypeDepths:
    """Refuses the update that would nest shared types deeper than ``limit`` in its document, and the one that
    puts something into a struct that is no shared type (half of such an update stays in the engine).

    ``state`` gives the document as one update, as it is before the update in question: ``Doc.get_update()``,
    or the merged log of a bytes-only document. It is called once as a rule, or never.
    """

    def __init__(self, state: Callable[[], bytes], limit: int = MAX_TYPE_DEPTH) -> None:
        self._state = state
        self._limit = limit
        self._clients: dict[int, _Levels] | None = None
        self._notes: list[Footprint] = []
        self._noted = 0

    def admit(self, footprint: Footprint) -> None:
        """Take note of an update, right before it is applied. Raises ``Malformed``; then apply nothing."""
        if not footprint.nests:
            if self._clients is not None and type(footprint) is not Erasure:
                self._notes.append(footprint)
                self._noted += 1 if type(footprint) is Keystroke else len(footprint.rows)
                if self._noted > MAX_NOTES:
                    self._catch_up()
            return
        if self._clients is None:
            if all(row[8] < 0 and (row[3] != TYPE or row[4] == row[6] == -1) for row in footprint.rows):
                return  # new types, but all of them direct children of roots
            self._build()
        try:
            self._catch_up()
            self._add(footprint, self._limit)
        except _Unknown:
            self._build()
            try:
                self._add(footprint, self._limit)
            except _Unknown:
                raise Malformed("The update stands on something that the document does not have.") from None

    def _build(self) -> None:
        self._clients = {}
        self._notes.clear()
        self._noted = 0
        self._add(inspect_own_state(self._state()), None)

    def _catch_up(self) -> None:
        notes, self._notes, self._noted = self._notes, [], 0
        try:
            for footprint in notes:
                self._add(footprint, None)
        except _Unknown:
            self._clients = None

    def _add(self, footprint: Footprint, limit: int | None) -> None:
        """All of it or nothing. Without a limit nothing is refused: what is stored is stored."""
        if self._clients is None:
            raise _Unknown
        clients = self._clients
        before = {client: clients[client].end for client in footprint.writes if client in clients}
        try:
            for row in footprint.rows:
                _add_row(clients, row, limit)
        except (Malformed, _Unknown):
            for client in footprint.writes:
                if client in clients:
                    clients[client].cut(before.get(client, 0))
            raise


def _add_row(clients: dict[int, _Levels], row: Row, limit: int | None) -> None:
    client, clock, end, content, origin, origin_clock, right, right_clock, parent, parent_clock, _ = row
    own = clients.get(client)
    if own is None:
        own = clients[client] = _Levels()
    if end <= own.end:
        return
    if clock > own.end:
        raise _Unknown
    level = 0
    if content == GC:
        pass  # an item next to it becomes a GC too, in whatever it was
    elif origin >= 0:
        level = _at(clients, origin, origin_clock) >> 1
    elif right >= 0:
        level = _at(clients, right, right_clock) >> 1
    elif parent >= 0:
        around = _at(clients, parent, parent_clock)
        level = (around >> 1) + 1
        if limit is not None and not around & 1:
            raise Malformed("A struct names a parent that is no shared type.")
    if content == TYPE and limit is not None and level >= limit:
        raise Malformed(f"Shared types would be nested deeper than {limit}.")
    own.extend(end, level * 2 + (content in (TYPE, DELETED, GC)))


def _at(clients: dict[int, _Levels], client: int, clock: int) -> int:
    levels = clients.get(client)
    if levels is None or clock >= levels.end:
        raise _Unknown
    return levels.values[bisect_right(levels.starts, clock) - 1]
