"""The rules of a live document, as values: a message in, effects out."""

from pycrdt import Doc, Map, Text

from collab_server.live.bytes_replica import BytesReplica
from collab_server.live.document import MAX_FRUITLESS_ANSWERS, DocumentLimits, LiveDocument
from collab_server.live.effects import Ack, Append, Close, PresenceChanged, Reply
from collab_server.live.guard import inspect_update
from collab_server.live.lib0 import write_var_string, write_var_uint
from collab_server.live.messages import (
    EMPTY_AWARENESS,
    Awareness,
    Granted,
    NotSaved,
    QueryAwareness,
    SaveEcho,
    SaveQuery,
    SyncStep1,
    SyncStep2,
    Update,
)
from collab_server.live.replica import Replica
from schemas.errors import ClientIdOwned, DocumentReset, Malformed, ReadOnly, TooLarge

ALICE, BOB, EVE = 1, 2, 3
NOTHING = b"\x00\x00"
EMPTY = b"\x00"


class Writer:
    """A Yjs replica of a client: types, and tells what it typed."""

    def __init__(self, client_id: int) -> None:
        self.doc = Doc(client_id=client_id)
        self.text = self.doc.get("text", type=Text)

    def type(self, what: str) -> bytes:
        before = self.doc.get_state()
        self.text += what
        return self.doc.get_update(before)


def live_document(**options: object) -> LiveDocument:
    live = LiveDocument(Replica(), {}, **options)
    live.join(ALICE, "account:alice", may_write=True, wants_acks=True)
    live.join(BOB, "account:bob", may_write=True, wants_acks=False)
    live.join(EVE, "account:eve", may_write=False, wants_acks=True)
    return live


def content(live: LiveDocument) -> str:
    doc = Doc()
    doc.apply_update(live.replica.state_as_update())
    return str(doc.get("text", type=Text))


def awareness(client: int, clock: int, state: str) -> Awareness:
    return Awareness(b"\x01" + write_var_uint(client) + write_var_uint(clock) + write_var_string(state))


def test_update_of_a_writer_is_appended_with_the_client_id_it_claims() -> None:
    live = live_document()
    update = Writer(7).type("привет 🙂")
    assert live.receive(ALICE, Update(update)) == [Append(ALICE, update, (7,), 1)]
    assert content(live) == "привет 🙂"


def test_second_update_of_the_same_client_id_claims_nothing() -> None:
    live, writer = live_document(), Writer(7)
    live.receive(ALICE, Update(writer.type("a")))
    second = writer.type("b")
    assert live.receive(ALICE, Update(second)) == [Append(ALICE, second, (), 1)]


def test_update_that_brings_nothing_new_is_acked_and_not_appended() -> None:
    live = live_document()
    update = Writer(7).type("a")
    live.receive(ALICE, Update(update))
    assert live.receive(BOB, Update(update)) == [Ack(BOB, 1)]


def test_repeated_deletion_is_nothing_new() -> None:
    live, writer = live_document(), Writer(7)
    live.receive(ALICE, Update(writer.type("abc")))
    before = writer.doc.get_state()
    del writer.text[0:1]
    deletion = writer.doc.get_update(before)
    assert live.receive(ALICE, Update(deletion)) == [Append(ALICE, deletion, (), 1)]
    assert live.receive(ALICE, Update(deletion)) == [Ack(ALICE, 1)]


def test_viewer_update_is_refused_and_the_document_stays_as_it_was() -> None:
    live = live_document()
    [refusal] = live.receive(EVE, Update(Writer(9).type("evil")))
    assert isinstance(refusal, Reply)
    assert isinstance(refusal.message, NotSaved)
    assert isinstance(refusal.message.error, ReadOnly)
    assert content(live) == ""


def test_viewer_who_sends_back_only_what_is_known_is_acked() -> None:
    live, writer = live_document(), Writer(7)
    live.receive(ALICE, Update(writer.type("abc")))
    before = writer.doc.get_state()
    del writer.text[1:2]
    live.receive(ALICE, Update(writer.doc.get_update(before)))
    assert live.receive(EVE, SyncStep2(writer.doc.get_update())) == [Ack(EVE, 1)]
    assert live.receive(EVE, SyncStep2(NOTHING)) == [Ack(EVE, 1)]


def test_viewer_deletion_of_known_text_is_refused() -> None:
    live, writer = live_document(), Writer(7)
    live.receive(ALICE, Update(writer.type("abc")))
    before = writer.doc.get_state()
    del writer.text[0:2]
    [refusal] = live.receive(EVE, Update(writer.doc.get_update(before)))
    assert isinstance(refusal.message, NotSaved)
    assert content(live) == "abc"


def test_struct_under_the_client_id_of_somebody_else_is_refused_before_the_engine_sees_it() -> None:
    live, victim = live_document(), Writer(7)
    live.receive(ALICE, Update(victim.type("hello")))
    forger = Writer(7)
    forger.doc.apply_update(victim.doc.get_update())
    [close] = live.receive(BOB, Update(forger.type("EVIL!")))
    assert isinstance(close, Close)
    assert isinstance(close.error, ClientIdOwned)
    assert content(live) == "hello"
    honest = victim.type(" world")
    assert live.receive(ALICE, Update(honest)) == [Append(ALICE, honest, (), 1)]
    assert content(live) == "hello world"


def test_deployment_may_let_accounts_share_client_ids() -> None:
    live, replica = live_document(strict_client_ids=False), Writer(7)
    first, second = replica.type("a"), replica.type("b")
    assert live.receive(ALICE, Update(first)) == [Append(ALICE, first, (), 1)]
    assert live.receive(BOB, Update(second)) == [Append(BOB, second, (), 1)]


def test_update_with_a_gap_is_neither_applied_nor_acked_but_asked_for_again() -> None:
    live, writer = live_document(), Writer(7)
    writer.type("a")
    second = writer.type("b")
    assert live.receive(ALICE, Update(second)) == [Reply(ALICE, SyncStep1(EMPTY))]
    whole = writer.doc.get_update()
    assert live.receive(ALICE, SyncStep2(whole)) == [Append(ALICE, whole, (7,), 1)]
    assert content(live) == "ab"


def test_every_gapped_update_is_acked_when_the_answer_fills_the_gap() -> None:
    live, writer = live_document(), Writer(7)
    live.receive(ALICE, SyncStep1(EMPTY))  # the client's handshake: we have asked for its state as well
    writer.type("offline ")
    for letter in "abc":
        assert live.receive(ALICE, Update(writer.type(letter))) == []
    whole = writer.doc.get_update()
    assert live.receive(ALICE, SyncStep2(whole)) == [Append(ALICE, whole, (7,), 1 + 3)]


def test_replica_that_never_closes_its_gap_is_told_to_drop_its_state() -> None:
    live, writer = live_document(), Writer(7)
    writer.type("lost")
    gapped = writer.type("b")
    for _ in range(MAX_FRUITLESS_ANSWERS - 1):
        assert not any(isinstance(e, Close) for e in live.receive(ALICE, SyncStep2(gapped)))
    [close] = live.receive(ALICE, SyncStep2(gapped))
    assert isinstance(close.error, DocumentReset)


def test_sync_step_1_is_answered_with_a_question_and_the_difference_held_until_the_commit() -> None:
    live = live_document()
    update = Writer(7).type("a")
    live.receive(ALICE, Update(update))
    question, answer = live.receive(BOB, SyncStep1(EMPTY))
    assert question == Reply(BOB, SyncStep1(live.replica.state_vector()), shows_content=True)
    assert answer == Reply(BOB, SyncStep2(update), shows_content=True)


def test_viewer_without_acks_is_never_asked_for_content() -> None:
    live = live_document()
    live.join(4, "account:guest", may_write=False, wants_acks=False)
    [answer] = live.receive(4, SyncStep1(EMPTY))
    assert isinstance(answer.message, SyncStep2)


def test_damaged_update_closes_its_sender_and_changes_nothing() -> None:
    live = live_document()
    good = Writer(7).type("a")
    for damaged in (b"", b"\xff" * 20, good[:-1], good + b"\x00", b"\x01"):
        [close] = live.receive(ALICE, Update(damaged))
        assert isinstance(close, Close)
        assert isinstance(close.error, Malformed)
    assert content(live) == ""


def test_damaged_state_vector_closes_its_sender() -> None:
    live = live_document()
    [close] = live.receive(ALICE, SyncStep1(b"\xff\xff\xff\x7f\x00"))
    assert isinstance(close.error, Malformed)


def test_update_over_the_limit_is_too_large() -> None:
    live = live_document(limits=DocumentLimits(update_bytes=100))
    [close] = live.receive(ALICE, Update(Writer(7).type("я" * 100)))
    assert isinstance(close.error, TooLarge)


def test_document_over_its_limit_takes_no_more() -> None:
    live, writer = live_document(limits=DocumentLimits(document_bytes=300)), Writer(7)
    live.receive(ALICE, Update(writer.type("a" * 200)))
    [close] = live.receive(ALICE, Update(writer.type("b" * 200)))
    assert isinstance(close.error, TooLarge)
    assert content(live) == "a" * 200


def test_role_taken_away_counts_from_the_next_message_on() -> None:
    live, writer = live_document(), Writer(7)
    live.receive(ALICE, Update(writer.type("a")))
    assert live.set_may_write(ALICE, False) == [Reply(ALICE, Granted(False))]
    [refusal] = live.receive(ALICE, Update(writer.type("b")))
    assert isinstance(refusal.message, NotSaved)
    assert content(live) == "a"


def test_row_of_another_node_is_merged_and_binds_its_client_ids() -> None:
    live, elsewhere = live_document(), Writer(70)
    assert live.merge_committed(elsewhere.type("там"), "account:carol")
    [close] = live.receive(BOB, Update(elsewhere.type("!")))
    assert isinstance(close.error, ClientIdOwned)
    assert content(live) == "там"


def test_map_and_text_of_two_writers_converge() -> None:
    live, one, two = live_document(), Writer(7), Writer(8)
    live.receive(ALICE, Update(one.type("a")))
    before = two.doc.get_state()
    two.doc.get("map", type=Map)["ключ"] = "значение"
    live.receive(BOB, Update(two.doc.get_update(before)))
    doc = Doc()
    doc.apply_update(live.replica.state_as_update())
    assert doc.get("map", type=Map).to_py() == {"ключ": "значение"}
    assert str(doc.get("text", type=Text)) == "a"


def test_presence_is_kept_for_those_who_join_later_and_for_those_who_ask() -> None:
    live = live_document()
    assert live.receive(ALICE, awareness(7, 1, '{"name":"Аня"}')) == [PresenceChanged()]
    shown = [Reply(9, awareness(7, 1, '{"name":"Аня"}'))]
    assert live.join(9, "account:new", may_write=True, wants_acks=False) == shown
    assert live.receive(9, QueryAwareness()) == shown


def test_presence_of_a_viewer_is_seen() -> None:
    live = live_document()
    assert live.receive(EVE, awareness(9, 1, "{}")) == [PresenceChanged()]


def test_presence_disappears_with_its_peer() -> None:
    live = live_document()
    live.receive(ALICE, awareness(7, 3, "{}"))
    live.presence.changes()
    assert live.leave(ALICE) == [PresenceChanged()]
    assert live.presence.changes() == awareness(7, 3, "null").payload


def cut_emoji() -> tuple[bytes, bytes]:
    """A text with an emoji, and an update of another client that inserts between its two halves."""
    whole = b"\x01\x01\x05\x00\x04\x01\x04text\x06a\xf0\x9f\x99\x82b\x00"  # client 5: "a", two halves, "b"
    between = b"\x01\x01\x06\x00\xc4\x05\x01\x05\x02\x01x\x00"  # client 6: "x" after 5:1, before 5:2
    return whole, between


def test_update_that_cuts_a_character_is_kept_and_the_document_goes_on_as_bytes() -> None:
    live = live_document()
    whole, between = cut_emoji()
    assert live.receive(ALICE, Update(whole)) == [Append(ALICE, whole, (5,), 1)]
    assert live.receive(BOB, Update(between)) == [Append(BOB, between, (6,), 1, cuts=True)]
    assert isinstance(live.replica, BytesReplica)
    assert live.receive(BOB, Update(between)) == [Ack(BOB, 1)]
    _, answer = live.receive(BOB, SyncStep1(EMPTY))
    assert inspect_update(answer.message.update).writes == {5: (0, 4), 6: (0, 1)}
    _, rest = live.receive(BOB, SyncStep1(b"\x01\x05\x04"))
    assert inspect_update(rest.message.update).writes == {6: (0, 1)}
    more = Writer(7).type("c")
    assert live.receive(ALICE, Update(more)) == [Append(ALICE, more, (7,), 1)]
    assert dict(live.replica.clocks) == {5: 4, 6: 1, 7: 1}


def test_cut_document_of_another_node_goes_on_as_bytes_here_too() -> None:
    live = live_document()
    whole, between = cut_emoji()
    live.merge_committed(whole, "account:carol")
    live.merge_committed(between, "account:dave")
    assert isinstance(live.replica, BytesReplica)
    assert dict(live.replica.clocks) == {5: 4, 6: 1}


def test_save_query_waits_for_the_answer_that_holds_what_was_typed_offline() -> None:
    live, writer = live_document(), Writer(7)
    live.receive(ALICE, SyncStep1(EMPTY))
    assert live.receive(ALICE, SaveQuery(b"\x05")) == [Reply(ALICE, EMPTY_AWARENESS)]
    offline = writer.type("offline")
    assert live.receive(ALICE, SyncStep2(offline)) == [
        Append(ALICE, offline, (7,), 1),
        Reply(ALICE, SaveEcho(b"\x05"), promises=True),
    ]
    assert live.receive(ALICE, SaveQuery(b"\x06")) == [Reply(ALICE, SaveEcho(b"\x06"), promises=True)]


def test_nothing_is_called_saved_to_a_peer_with_a_gap_or_a_refused_change() -> None:
    live, writer = live_document(), Writer(7)
    writer.type("lost")
    live.receive(ALICE, Update(writer.type("b")))
    assert live.receive(ALICE, SaveQuery(b"\x01")) == [Reply(ALICE, EMPTY_AWARENESS)]
    live.receive(EVE, Update(Writer(9).type("evil")))
    assert live.receive(EVE, SaveQuery(b"\x01")) == [Reply(EVE, EMPTY_AWARENESS)]
