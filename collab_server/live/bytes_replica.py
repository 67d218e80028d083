"""A document that the engine cannot hold: kept, merged and diffed as bytes.

An update that inserts or deletes between the halves of a surrogate pair makes ``Doc.get_update()`` produce
bytes on which every JavaScript client throws. Merging the received updates byte by byte stays right, at the
price of a merge whenever the state is asked for.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from pycrdt import get_state, get_update

from collab_server.live.guard import Footprint, advance, inspect_own_state, inspect_state_vector
from collab_server.live.lib0 import write_var_uint
from collab_server.live.messages import EMPTY_STATE_VECTOR, EMPTY_UPDATE
from collab_server.live.replica import Deletions, EngineFailure, merged, nothing_new


class BytesReplica:
    """Does for a cut document what ``Replica`` does for every other."""

    def __init__(self, updates: Iterable[bytes]) -> None:
        """``updates`` are all there are, in order. Raises ``EngineFailure`` when they cannot be merged."""
        self._updates = list(updates)
        self._deletions: Deletions | None = None
        try:
            self._clocks = dict(inspect_state_vector(bytes(get_state(self._whole()))))
        except ValueError as failure:
            raise EngineFailure(str(failure)) from None

    @property
    def clocks(self) -> Mapping[int, int]:
        return MappingProxyType(self._clocks)

    def apply(self, update: bytes, footprint: Footprint) -> bool:
        """Keep a guarded, causally ready update. Returns whether it changes anything."""
        if self.contains(footprint):
            return False
        self._updates.append(update)
        self._deletions = None
        advance(footprint, self._clocks)
        return True

    def state_vector(self) -> bytes:
        parts = [write_var_uint(len(self._clocks))]
        for client, clock in self._clocks.items():
            parts += (write_var_uint(client), write_var_uint(clock))
        return b"".join(parts)

    def state_as_update(self, state_vector: bytes = EMPTY_STATE_VECTOR) -> bytes:
        whole = self._whole()
        return whole if state_vector == EMPTY_STATE_VECTOR else bytes(get_update(whole, state_vector))

    def contains(self, footprint: Footprint) -> bool:
        return nothing_new(footprint, self._clocks, self._known_deletions)

    def _known_deletions(self) -> Deletions:
        if self._deletions is None:
            self._deletions = inspect_own_state(self._whole()).deletes
        return self._deletions

    def _whole(self) -> bytes:
        """All updates as one; what is merged once stays merged."""
        if len(self._updates) != 1:
            self._updates = [merged(self._updates) if self._updates else EMPTY_UPDATE]
        return self._updates[0]
