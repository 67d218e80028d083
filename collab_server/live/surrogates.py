"""Which updates cut a character in two.

A character outside of the basic plane is two clocks to Yjs. A client may insert or delete between them; yjs
then writes U+FFFD twice, yrs empties a string, and from then on ``Doc.get_update()`` is bytes on which every
JavaScript client throws. Merging the received updates as bytes stays right, so such a document is marked
bytes-only (``../../docs/architecture.md``) when the first such update is accepted.
"""

import re
from collections.abc import Mapping, Set
from typing import Final

from collab_server.live.guard_footprint import Erasure, Footprint, Keystroke

# About 6 MB of clocks. A document with more emoji than this counts as cut at once: correct, only less compact.
MAX_PAIRS = 100_000

_LONG_CHARACTER = re.compile(rb"[\xf0-\xf4][\x80-\xbf]{3}")
_NONE: Final[Set[int]] = frozenset()


class LowSurrogates:
    """The clocks of the second halves of all surrogate pairs in a document. Empty: everything is free."""

    def __init__(self, max_pairs: int = MAX_PAIRS) -> None:
        self._max_pairs = max_pairs
        self._clocks: dict[int, set[int]] = {}
        self._pairs = 0

    def feed(self, footprint: Footprint) -> None:
        """Remember the pairs of an accepted update. Known structs may come again."""
        if type(footprint) is Keystroke or type(footprint) is Erasure or self._pairs > self._max_pairs:
            return
        for client, lows in footprint.astral.items():
            clocks = self._clocks.setdefault(client, set())
            before = len(clocks)
            clocks.update(lows)
            self._pairs += len(clocks) - before
        if self._pairs > self._max_pairs:
            self._clocks.clear()

    def splits(self, footprint: Footprint) -> bool:
        """Whether the update puts something, or ends a deletion, between the halves of a pair.

        Ask before ``feed``. True for every update once there are too many pairs to remember.
        """
        if self._pairs > self._max_pairs:
            return True
        if not self._pairs and (type(footprint) is Keystroke or type(footprint) is Erasure):
            return False
        own = footprint.astral
        if not self._pairs and not own:
            return False
        return self._in_rows(footprint, own) or self._in_deletes(footprint, own)

    def _in_rows(self, footprint: Footprint, own: Mapping[int, tuple[int, ...]]) -> bool:
        news = {client: frozenset(lows) for client, lows in own.items()}
        known = self._clocks
        for row in footprint.rows:
            origin, right = row[4], row[6]
            if origin in known or origin in news:
                after = row[5] + 1
                if after in known.get(origin, _NONE) or after in news.get(origin, _NONE):
                    return True
            if (right in known or right in news) and (
                row[7] in known.get(right, _NONE) or row[7] in news.get(right, _NONE)
            ):
                return True
        return False

    def _in_deletes(self, footprint: Footprint, own: Mapping[int, tuple[int, ...]]) -> bool:
        for client, ranges in footprint.deletes.items():
            lows = self._clocks.get(client, _NONE) | frozenset(own.get(client, ()))
            if lows and any(start in lows or end in lows for start, end in ranges):
                return True
        return False


def may_have_pairs(state: bytes) -> bool:
    """Whether an encoded document can hold a character outside of the basic plane. Sometimes wrongly true,
    never wrongly false: saves the survey of a stored document that has none."""
    return _LONG_CHARACTER.search(state) is not None
