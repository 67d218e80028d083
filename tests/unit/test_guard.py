"""What the guard learns from updates of honest clients, and what it asks of the document."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab_server.live.guard import (
    DEFAULT_LIMITS,
    Erasure,
    Keystroke,
    Survey,
    advance,
    fresh_clients,
    inspect_own_state,
    inspect_state_vector,
    inspect_update,
    missing,
)
from collab_server.live.lib0 import write_var_uint
from schemas.errors import Malformed
from tests.fuzz import updates as u
from tests.fuzz.hostile import honest_sessions

ANNA, BORIS = 0xC0FFEE, 2**53 - 1


def test_a_typed_character_takes_the_short_way() -> None:
    update = u.update(u.section(ANNA, 7, u.text("я", origin=(ANNA, 6), right=(BORIS, 300))))
    footprint = inspect_update(update)
    assert footprint == Keystroke(ANNA, 7, 8, ANNA, 6, BORIS, 300)
    assert footprint.writes == {ANNA: (7, 8)}
    assert footprint.needs == {ANNA: 7, BORIS: 301}
    assert footprint.deletes == {}


def test_a_deleted_run_takes_the_short_way() -> None:
    footprint = inspect_update(u.update(deletes=[u.deletions(BORIS, (300, 2))]))
    assert footprint == Erasure(BORIS, 300, 302)
    assert (footprint.writes, footprint.needs) == ({}, {BORIS: 302})
    assert footprint.deletes == {BORIS: ((300, 302),)}


PLACES = st.none() | st.tuples(st.sampled_from([ANNA, BORIS, 5]), st.integers(0, 2**28))


@given(
    st.sampled_from([ANNA, BORIS, 5]),
    st.integers(1, 2**28),
    PLACES,
    PLACES,
    st.text(alphabet=st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40),
)
def test_the_short_way_and_the_full_validator_say_the_same(
    client: int, clock: int, origin: u.Id | None, right: u.Id | None, text: str
) -> None:
    update = u.update(u.section(client, clock, u.text(text, origin=origin, right=right)))
    # a deletion of nothing by a client without ranges makes the same update take the long way
    longer = update[:-1] + b"\x01\x09\x00"
    try:
        short = inspect_update(update)
    except Malformed:
        with pytest.raises(Malformed):
            inspect_update(longer)
        return
    long = inspect_update(longer)
    assert isinstance(long, Survey)
    for name in ("writes", "needs", "deletes", "rows", "astral", "nests"):
        assert getattr(short, name) == getattr(long, name), name


def test_an_empty_update_is_nothing() -> None:
    footprint = inspect_update(b"\x00\x00")
    assert footprint.writes == footprint.needs == footprint.deletes == {}
    assert not missing(footprint, {})
    assert fresh_clients(footprint, {}) == ()


def test_lengths_count_utf16_code_units() -> None:
    footprint = inspect_update(u.update(u.section(ANNA, 10, u.text("я😀b"), u.text("😀😀"))))
    assert footprint.writes == {ANNA: (10, 18)}
    assert footprint.astral == {ANNA: (12, 15, 17)}


def test_what_is_inside_of_the_update_itself_is_not_needed() -> None:
    update = u.update(
        u.section(BORIS, 0, u.text("ab"), u.text("c", origin=(ANNA, 3))),
        u.section(ANNA, 3, u.text("d", origin=(BORIS, 1)), u.text("e", right=(ANNA, 0))),
        deletes=[u.deletions(ANNA, (0, 1), (4, 1)), u.deletions(7, (2, 2))],
    )
    assert inspect_update(update).needs == {ANNA: 3, 7: 4}


def test_structs_come_after_those_they_stand_on() -> None:
    update = u.update(
        u.section(9, 0, u.text("a"), u.text("b", origin=(2, 0)), u.text("c", origin=(9, 1))),
        u.section(2, 0, u.text("d", origin=(9, 0)), u.text("e", origin=(9, 1))),
    )
    assert [row[:2] for row in inspect_update(update).rows] == [(9, 0), (2, 0), (9, 1), (9, 2), (2, 1)]


@pytest.mark.parametrize("taken", ["short", "long"])
def test_missing_says_which_clock_has_to_be_reached_first(taken: str) -> None:
    update = u.update(u.section(ANNA, 7, u.text("x", origin=(5, 9), right=(BORIS, 3))))
    if taken == "long":
        update = update[:-1] + b"\x01\x09\x00"
    footprint = inspect_update(update)
    assert missing(footprint, {ANNA: 7, 5: 10, BORIS: 4}) == {}
    assert missing(footprint, {ANNA: 6, 5: 10, BORIS: 4}) == {ANNA: 7}
    assert missing(footprint, {ANNA: 7, 5: 9}) == {5: 10, BORIS: 4}
    assert missing(footprint, {}) == {ANNA: 7, 5: 10, BORIS: 4}


def test_a_deletion_of_what_is_not_known_yet_is_missing_something() -> None:
    footprint = inspect_update(u.update(deletes=[u.deletions(ANNA, (3, 2))]))
    assert missing(footprint, {ANNA: 4}) == {ANNA: 5}
    assert missing(footprint, {ANNA: 5}) == {}


def test_a_gap_inside_of_a_section_is_a_need_and_not_an_error() -> None:
    """A client that holds back updates out of order sends its state with a Skip: it is asked again."""
    update = u.update(u.section(ANNA, 2, u.text("ab"), u.skip(3), u.text("c", origin=(ANNA, 6))))
    footprint = inspect_update(update)
    assert footprint.writes == {ANNA: (2, 8)}
    assert missing(footprint, {ANNA: 4}) == {ANNA: 7}
    assert missing(footprint, {ANNA: 7}) == {}
    assert inspect_update(u.update(u.section(ANNA, 2, u.skip(3), u.text("c")))).writes == {ANNA: (5, 6)}


@pytest.mark.parametrize("taken", ["short", "long"])
def test_a_struct_of_which_only_the_beginning_is_known_has_to_be_sent_again_from_there(taken: str) -> None:
    """What is known may be something else: then yjs throws, and yrs applies the rest in another place."""
    update = u.update(u.section(ANNA, 3, u.text("a😀b", origin=(ANNA, 2))))
    if taken == "long":
        update = update[:-1] + b"\x01\x09\x00"
    footprint = inspect_update(update)
    assert [dict(missing(footprint, {ANNA: known})) for known in (2, 3, 4, 5, 6, 7, 8)] == [
        {ANNA: 3},
        {},
        {ANNA: 4},
        {ANNA: 5},
        {ANNA: 6},
        {},
        {},
    ]
    two = inspect_update(u.update(u.section(ANNA, 3, u.text("ab"), u.text("cd", origin=(ANNA, 4)))))
    assert not missing(two, {ANNA: 5})
    assert missing(two, {ANNA: 6}) == {ANNA: 6}


def test_fresh_clients_are_those_with_structs_beyond_the_state_vector() -> None:
    update = u.update(u.section(BORIS, 5, u.text("ab")), u.section(ANNA, 0, u.text("cd")))
    footprint = inspect_update(update)
    assert fresh_clients(footprint, {}) == (BORIS, ANNA)
    assert fresh_clients(footprint, {BORIS: 7, ANNA: 1}) == (ANNA,)
    assert fresh_clients(footprint, {BORIS: 7, ANNA: 2}) == ()
    typed = inspect_update(u.update(u.section(ANNA, 2, u.text("e", origin=(ANNA, 1)))))
    assert fresh_clients(typed, {ANNA: 2}) == (ANNA,)
    assert fresh_clients(typed, {ANNA: 3}) == ()


def test_advance_never_goes_back() -> None:
    clocks = {ANNA: 9}
    advance(inspect_update(u.update(u.section(ANNA, 7, u.text("x", origin=(ANNA, 6))))), clocks)
    advance(inspect_update(u.update(u.section(BORIS, 0, u.text("ab")), u.section(ANNA, 8, u.text("cd")))), clocks)
    advance(inspect_update(u.update(deletes=[u.deletions(7, (0, 5))])), clocks)
    assert clocks == {ANNA: 10, BORIS: 2}


def test_every_update_of_honest_sessions_is_ready_when_its_turn_comes() -> None:
    for session in honest_sessions():
        clocks: dict[int, int] = {}
        for update in session:
            footprint = inspect_update(update)
            assert not missing(footprint, clocks)
            advance(footprint, clocks)


def test_truncated_honest_updates_are_malformed_at_every_byte() -> None:
    for session in honest_sessions()[:4]:
        for update in session[:20]:
            for end in range(len(update)):
                with pytest.raises(Malformed):
                    inspect_update(update[:end])


@given(st.binary(max_size=60))
def test_any_bytes_are_a_footprint_or_malformed(data: bytes) -> None:
    for inspect in (inspect_update, inspect_state_vector, inspect_own_state):
        with suppress(Malformed):
            inspect(data)


@given(st.data())
def test_damaged_honest_updates_are_a_footprint_or_malformed(data: st.DataObject) -> None:
    update = bytearray(data.draw(st.sampled_from(honest_sessions()[0])))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(update) - 1))
        update[at] = data.draw(st.integers(0, 255))
    with suppress(Malformed):
        inspect_update(bytes(update))


# -- limits ----------------------------------------------------------------------------------------


def test_counts_are_limited_per_update() -> None:
    limits = replace(DEFAULT_LIMITS, structs=3, clients=2, delete_ranges=2)
    three = u.update(u.section(1, 0, u.gc(1), u.gc(1)), u.section(2, 0, u.gc(1)))
    assert inspect_update(three, limits).writes == {1: (0, 2), 2: (0, 1)}
    for update in (
        u.update(u.section(1, 0, u.gc(1), u.gc(1)), u.section(2, 0, u.gc(1), u.gc(1))),
        u.update(*(u.section(client, 0, u.gc(1)) for client in range(3))),
        u.update(deletes=[u.deletions(client, (0, 1)) for client in range(3)]),
    ):
        with pytest.raises(Malformed, match="too many"):
            inspect_update(update, limits)
        assert inspect_own_state(update), "what the engine wrote itself has no limits of count"


def test_a_delete_set_may_name_every_client_there_ever_was() -> None:
    update = u.update(deletes=[u.deletions(client, (0, 1)) for client in range(2_000)])
    assert len(inspect_update(update).deletes) == 2_000


def test_a_clock_may_reach_the_limit_and_not_pass_it() -> None:
    limit = DEFAULT_LIMITS.max_clock
    assert inspect_update(u.update(u.section(1, limit - 1, u.text("x")))).writes == {1: (limit - 1, limit)}
    for update in (
        u.update(u.section(1, limit, u.text("x"))),
        u.update(u.section(1, 0, u.gc(limit + 1))),
        u.update(u.section(1, 0, u.text("x", origin=(2, limit)))),
        u.update(deletes=[u.deletions(1, (limit, 1))]),
    ):
        with pytest.raises(Malformed, match=r"clock|ends at"):
            inspect_update(update)


# -- state vectors ---------------------------------------------------------------------------------


def test_a_state_vector_is_a_clock_per_client() -> None:
    encoded = b"\x02" + b"".join(map(write_var_uint, (ANNA, 7, BORIS, 0)))
    assert inspect_state_vector(encoded) == {ANNA: 7, BORIS: 0}
    assert inspect_state_vector(b"\x00") == {}


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x01", id="count without entries"),
        pytest.param(write_var_uint(200_000_000), id="200 million entries in five bytes"),
        pytest.param(b"\x02\x01\x01\x01\x02", id="a client twice"),
        pytest.param(b"\x00\x00", id="bytes after the end"),
        pytest.param(b"\x01\x01" + write_var_uint(2**31 + 1), id="a clock above the limit"),
        pytest.param(b"\x01" + b"\xff" * 8 + b"\x01\x00", id="a client above 2^53"),
    ],
)
def test_a_state_vector_that_no_client_sends_is_malformed(encoded: bytes) -> None:
    with pytest.raises(Malformed):
        inspect_state_vector(encoded)
