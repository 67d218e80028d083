"""Whether deletions are known already, compared with sets of clocks."""

from hypothesis import given
from hypothesis import strategies as st

from collab_server.live.guard_footprint import Survey
from collab_server.live.replica import nothing_new

CLOCKS = st.sets(st.integers(0, 30))


def ranges(clocks: set[int], *, joined: bool = True) -> tuple[tuple[int, int], ...]:
    """Ascending and disjoint, as the guard gives them; neighbours as one range or as several."""
    found: list[tuple[int, int]] = []
    for clock in sorted(clocks):
        if joined and found and found[-1][1] == clock:
            found[-1] = (found[-1][0], clock + 1)
        else:
            found.append((clock, clock + 1))
    return tuple(found)


def erasing(deletes: tuple[tuple[int, int], ...]) -> Survey:
    return Survey({}, {}, {7: deletes} if deletes else {}, (), {}, False)


@given(CLOCKS, CLOCKS, st.booleans(), st.booleans())
def test_deletions_are_known_when_every_deleted_clock_is(
    asked: set[int], known: set[int], asked_joined: bool, known_joined: bool
) -> None:
    footprint = erasing(ranges(asked, joined=asked_joined))
    answer = nothing_new(footprint, {7: 31}, lambda: {7: ranges(known, joined=known_joined)})
    assert answer == (asked <= known)


def test_deletions_of_a_client_without_any_are_news() -> None:
    assert not nothing_new(erasing(((0, 1),)), {7: 1}, dict)
