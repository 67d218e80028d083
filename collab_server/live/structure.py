"""What has to be known about the structure of one document to judge the next update: see the three tables."""

from collections.abc import Callable, Mapping

from collab_server.live.guard import inspect_own_state
from collab_server.live.guard_footprint import Footprint
from collab_server.live.map_entries import MapEntries
from collab_server.live.surrogates import LowSurrogates
from collab_server.live.type_depths import TypeDepths


class Structure:
    """The tables of one live document, built from its stored state when the first update comes.

    ``state`` gives the document as one update, as it is before the update in question: ``Doc.get_update()``,
    or the merged log of a bytes-only document. Building costs 1.5 microseconds per struct.
    """

    def __init__(self, state: Callable[[], bytes]) -> None:
        self._state = state
        self._built = False
        self._depths = TypeDepths(state)
        self._entries = MapEntries()
        self._lows = LowSurrogates()

    def admit(self, footprint: Footprint, clocks: Mapping[int, int]) -> bool:
        """Check a causally ready update right before it is applied; ``clocks`` is the state vector before.

        Returns whether the update cuts a surrogate pair in two: apply it to the log only, for the engine's
        ``Doc`` is of no use from then on (wrong clocks, unreadable states, panics), and go on bytes-only.
        Raises ``Malformed``; then apply nothing. After an update that was admitted and not applied, the
        tables are wrong: start with a new ``Structure``.
        """
        if not self._built:
            self._build()
        self._entries.admit(footprint, clocks)
        self._depths.admit(footprint)
        cuts = self._lows.splits(footprint)
        self._lows.feed(footprint)
        return cuts

    def _build(self) -> None:
        survey = inspect_own_state(self._state())
        self._entries.load(survey.rows)
        self._lows.feed(survey)
        self._built = True
