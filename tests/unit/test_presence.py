"""Who is here: latest state per client id, owned by its peer, bounded."""

import pytest

from collab_server.live.lib0 import write_var_string, write_var_uint
from collab_server.live.presence import Presence, PresenceLimits
from schemas.errors import Malformed, TooLarge


def payload(*entries: tuple[int, int, str]) -> bytes:
    body = b"".join(write_var_uint(c) + write_var_uint(k) + write_var_string(s) for c, k, s in entries)
    return write_var_uint(len(entries)) + body


@pytest.fixture
def presence() -> Presence:
    table = Presence(PresenceLimits(frame_bytes=2000, state_bytes=500))
    table.receive(1, "account:alice", payload((7, 1, '{"name":"Alice"}')))
    table.changes()
    return table


def test_first_state_is_told_to_everybody(presence: Presence) -> None:
    assert presence.receive(2, "account:bob", payload((8, 0, '{"name":"Боб 🙂"}')))
    assert presence.changes() == payload((8, 0, '{"name":"Боб 🙂"}'))
    assert presence.changes() is None


def test_several_changes_between_two_ticks_make_one_frame_with_the_latest(presence: Presence) -> None:
    presence.receive(1, "account:alice", payload((7, 2, '{"x":1}')))
    presence.receive(1, "account:alice", payload((7, 3, '{"x":2}')))
    assert presence.changes() == payload((7, 3, '{"x":2}'))


def test_repeat_at_the_same_clock_is_no_news(presence: Presence) -> None:
    assert not presence.receive(1, "account:alice", payload((7, 1, '{"name":"Alice"}')))
    assert presence.changes() is None


def test_renewal_at_a_higher_clock_is_news_even_when_the_state_is_the_same(presence: Presence) -> None:
    assert presence.receive(1, "account:alice", payload((7, 2, '{"name":"Alice"}')))


def test_removal_at_the_known_clock_is_accepted_and_told(presence: Presence) -> None:
    assert presence.receive(1, "account:alice", payload((7, 1, "null")))
    assert presence.changes() == payload((7, 1, "null"))
    assert presence.everything() is None


def test_peer_that_hid_itself_may_show_itself_again(presence: Presence) -> None:
    presence.receive(1, "account:alice", payload((7, 1, "null")))
    assert presence.receive(1, "account:alice", payload((7, 2, "{}")))
    assert presence.states() == {7: {}}


def test_foreign_client_id_is_ignored(presence: Presence) -> None:
    assert not presence.receive(2, "account:bob", payload((7, 9, '{"name":"Alice is silly"}')))
    assert not presence.receive(2, "account:bob", payload((7, 9, "null")))
    assert presence.states() == {7: {"name": "Alice"}}


def test_second_client_id_of_a_peer_is_ignored(presence: Presence) -> None:
    assert not presence.receive(1, "account:alice", payload((70, 1, "{}")))


def test_states_that_an_old_provider_repeats_do_not_hide_its_own(presence: Presence) -> None:
    assert presence.receive(2, "account:bob", payload((7, 1, '{"name":"Alice"}'), (8, 1, "{}")))
    assert presence.changes() == payload((8, 1, "{}"))


def test_reconnect_of_the_same_principal_takes_its_client_id_over(presence: Presence) -> None:
    assert presence.receive(3, "account:alice", payload((7, 1, '{"name":"Alice"}')))
    presence.changes()
    assert not presence.leave(1)  # the half-open socket dies later and takes nobody along
    assert presence.states() == {7: {"name": "Alice"}}
    assert presence.leave(3)


def test_second_tab_of_the_same_principal_does_not_take_over_what_it_repeats(presence: Presence) -> None:
    presence.receive(3, "account:alice", payload((17, 1, "{}")))
    assert not presence.receive(3, "account:alice", payload((7, 5, '{"name":"Alice"}')))
    assert not presence.receive(3, "account:alice", payload((7, 1, "null")))


def test_state_that_is_not_renewed_for_a_whole_round_is_removed(presence: Presence) -> None:
    assert not presence.sweep()
    assert presence.sweep()
    assert presence.changes() == payload((7, 1, "null"))


def test_nothing_is_remembered_of_ten_thousand_visitors() -> None:
    table = Presence()
    for n in range(10_000):
        table.receive(n, f"account:{n}", payload((n, 1, "{}")))
        table.leave(n)
        table.changes()
    assert table.states() == {}
    assert table.everything() is None


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\x05",
        payload((7, 2, "{}"))[:-1],
        payload((7, 2, "{}")) + b"\x00",
        payload((7, 2, "{")),
        payload((7, 2, "NaN")),
        payload((7, 2, "[" * 40 + "]" * 40)),
        payload((7, 2**31 + 1, "{}")),
        b"\x01\x07\x02\x02\xff\xff",
    ],
)
def test_damaged_awareness_is_malformed_and_nothing_is_taken(presence: Presence, damaged: bytes) -> None:
    with pytest.raises(Malformed):
        presence.receive(1, "account:alice", damaged)
    assert presence.changes() is None


def test_oversized_state_or_message_is_too_large(presence: Presence) -> None:
    with pytest.raises(TooLarge):
        presence.receive(1, "account:alice", payload((7, 2, '"' + "я" * 300 + '"')))
    with pytest.raises(TooLarge):
        presence.receive(1, "account:alice", payload(*[(n, 1, "{}") for n in range(1000)]))
