"""The engine behind a live document: the only module that hands client bytes to pycrdt.

The raw ``_pycrdt`` API costs half of the wrapper (about 1.7 microseconds an update); pycrdt is pinned for it.
Bytes come here only after ``guard.inspect_update`` and the causal check: then no input known to us panics,
crashes or stays pending. A panic all the same is a ``BaseException``; see ``EngineFailure``.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from pycrdt import _pycrdt, get_update, merge_updates

from collab_server.live.guard import (
    Footprint,
    advance,
    fresh_clients,
    inspect_own_state,
    inspect_state_vector,
)
from collab_server.live.messages import EMPTY_STATE_VECTOR

MERGE_FAN_IN = 50  # merge_updates is quadratic in its inputs: beyond this a tree is cheaper
UPDATES_PER_TRANSACTION = 100  # one transaction for 100 updates costs a third of 100 transactions
Ranges = tuple[tuple[int, int], ...]
Deletions = Mapping[int, Ranges]


class EngineFailure(Exception):
    """The engine refused or panicked half-way: the ``Doc`` behind it is in an unknown state. Drop it."""


class engine:  # noqa: N801  # reads as a context
    """Turns whatever the engine raises into ``EngineFailure``; a panic is no ``Exception``. A class and not a
    generator: half a microsecond less on every keystroke."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, failure: BaseException | None, _: object) -> None:
        if failure is not None and not isinstance(failure, KeyboardInterrupt | SystemExit):
            raise EngineFailure(f"{type(failure).__name__}: {failure}") from None


class Replica:
    """One Yjs ``Doc`` and its state vector. Belongs to the thread that made it."""

    def __init__(self) -> None:
        self._doc = _pycrdt.Doc(None, None, None)
        self._clocks: dict[int, int] = {}
        self._full: bytes | None = None
        self._deletions: Deletions | None = None

    @property
    def clocks(self) -> Mapping[int, int]:
        """Client id -> number of clocks known; the state vector as a mapping."""
        return MappingProxyType(self._clocks)

    def apply(self, update: bytes, footprint: Footprint) -> bool:
        """Apply a guarded, causally ready update. Returns whether it changed anything.

        Raises ``EngineFailure``.
        """
        grows = bool(fresh_clients(footprint, self._clocks))
        with engine():
            changed = grows
            if grows:
                self._apply(update)
            else:
                changed = self._apply_watched(update)
        if changed:
            self._full = self._deletions = None
            advance(footprint, self._clocks)
        return changed

    def _apply(self, update: bytes) -> None:
        transaction = self._doc.create_transaction()
        try:
            self._doc.apply_update(transaction, update)
            transaction.commit()
        finally:
            transaction.drop()

    def _apply_watched(self, update: bytes) -> bool:
        """Apply what carries deletions only: whether they are news is told by the engine's event."""
        events: list[object] = []
        subscription = self._doc.observe(lambda event: events.append(None))
        try:
            self._apply(update)
        finally:
            subscription.drop()  # an observer that stays pins the Doc for ever
        return bool(events)

    def load(self, updates: Iterable[bytes]) -> None:
        """Apply trusted updates (from the log) in one transaction. Raises ``EngineFailure``.

        Call it with at most ``UPDATES_PER_TRANSACTION`` at a time, then ``loaded()`` once.
        """
        with engine():
            transaction = self._doc.create_transaction()
            try:
                for update in updates:
                    self._doc.apply_update(transaction, update)
                transaction.commit()
            finally:
                transaction.drop()

    def loaded(self) -> None:
        """Take the state vector from the engine, after ``load``."""
        self._clocks = inspect_state_vector(self.state_vector())
        self._full = self._deletions = None

    def state_vector(self) -> bytes:
        """V1. Raises ``EngineFailure``."""
        with engine():
            transaction = self._doc.create_transaction()
            try:
                return bytes(self._doc.get_state(transaction))
            finally:
                transaction.drop()

    def state_as_update(self, state_vector: bytes = EMPTY_STATE_VECTOR) -> bytes:
        """Everything a replica with ``state_vector`` lacks. The whole state is encoded once per version."""
        if state_vector == EMPTY_STATE_VECTOR:
            if self._full is None:
                self._full = self._encode(EMPTY_STATE_VECTOR)
            return self._full
        return self._encode(state_vector)

    def _encode(self, state_vector: bytes) -> bytes:
        with engine():
            transaction = self._doc.create_transaction()
            try:
                return bytes(self._doc.get_update(transaction, state_vector))
            finally:
                transaction.drop()

    def contains(self, footprint: Footprint) -> bool:
        """Whether an update brings neither a struct nor a deletion that is not here already."""
        return nothing_new(footprint, self._clocks, self._known_deletions)

    def _known_deletions(self) -> Deletions:
        if self._deletions is None:  # an update against our own state carries the delete set alone
            self._deletions = inspect_own_state(self._encode(self.state_vector())).deletes
        return self._deletions


def nothing_new(footprint: Footprint, clocks: Mapping[int, int], deletions: Callable[[], Deletions]) -> bool:
    """Whether an update brings neither a struct beyond ``clocks`` nor a deletion that is not known.

    ``deletions`` is only asked for when it matters: it may have to be read from the whole state.
    """
    if fresh_clients(footprint, clocks):
        return False
    if not footprint.deletes:
        return True
    known = deletions()
    return all(_covered(ranges, known.get(client, ())) for client, ranges in footprint.deletes.items())


def _covered(ranges: Ranges, by: Ranges) -> bool:
    """Whether every [start, end) lies within the others. Both ascend and are disjoint: one walk over each,
    for a viewer's reconnect brings all deletions there ever were."""
    walk = iter(by)
    low = high = 0
    for start, end in ranges:
        while high < end:
            following = next(walk, None)
            if following is None:
                return False
            if following[0] > high:
                low = following[0]
            high = following[1]
        if start < low:
            return False
    return True


def without_known(update: bytes, state_vector: bytes) -> bytes:
    """The update without the structs that a replica with ``state_vector`` has; its deletions stay.

    Raises ``EngineFailure``.
    """
    with engine():
        return bytes(get_update(update, state_vector))


def merged(updates: list[bytes]) -> bytes:
    """Many updates as one, byte for byte lossless. ``updates`` is not empty."""
    while len(updates) > 1:
        groups = [updates[at : at + MERGE_FAN_IN] for at in range(0, len(updates), MERGE_FAN_IN)]
        updates = [merge_updates(*group) if len(group) > 1 else group[0] for group in groups]
    return updates[0]
