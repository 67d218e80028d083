"""The checker itself: what it must notice, and what it must not hold against anybody."""

import subprocess
import sys
from random import Random

import pytest

from tests.faults.ledger import ZERO, Ledger, tokens_in
from tests.faults.replica import TokenDoc
from tests.faults.wire import Dialect, read_uint, sized, sync, uint


def wrong(ledger: Ledger) -> dict[str, int]:
    """The figures that should be 0 and are not."""
    return {name: value for name, value in ledger.figures().items() if name in ZERO and value}


def test_a_token_that_is_there_is_fine() -> None:
    ledger = Ledger()
    token = ledger.write("d", 1)
    ledger.ack([token])
    ledger.check("d", [token])
    assert wrong(ledger) == {}


def test_an_acked_token_that_is_gone_is_lost_once() -> None:
    ledger = Ledger()
    ledger.ack([ledger.write("d", 1)])
    ledger.check("d", [])
    ledger.check("d", [])
    assert wrong(ledger) == {"acked_lost": 1}


def test_a_token_that_somebody_else_saw_must_stay() -> None:
    ledger = Ledger()
    token = ledger.write("d", 1)
    ledger.see("d", 2, [token])
    ledger.check("d", [])
    assert wrong(ledger) == {"seen_lost": 1}


def test_the_echo_to_its_author_promises_nothing() -> None:
    ledger = Ledger()
    ledger.see("d", 1, [ledger.write("d", 1)])
    ledger.check("d", [])
    assert wrong(ledger) == {}


def test_a_token_that_was_merely_sent_may_be_lost() -> None:
    ledger = Ledger()
    ledger.write("d", 1)
    ledger.check("d", [])
    assert wrong(ledger) == {}


def test_what_was_sent_before_an_orderly_goodbye_must_be_there_at_rest() -> None:
    ledger = Ledger()
    ledger.leave([ledger.write("d", 1)])
    ledger.check("d", [])
    assert wrong(ledger) == {}
    ledger.check("d", [], at_rest=True)
    assert wrong(ledger) == {"left_lost": 1}


def test_a_crash_ends_the_promise_of_a_goodbye_but_not_that_of_an_ack() -> None:
    ledger = Ledger()
    left, acked = ledger.write("d", 1), ledger.write("d", 1)
    ledger.leave([left])
    ledger.ack([acked])
    ledger.crash()
    ledger.check("d", [], at_rest=True)
    assert wrong(ledger) == {"acked_lost": 1}


def test_a_token_nobody_wrote_is_invented() -> None:
    ledger = Ledger()
    ledger.check("d", ["c9-9;"])
    assert wrong(ledger) == {"invented": 1}


def test_a_token_of_another_document_is_invented() -> None:
    ledger = Ledger()
    ledger.check("e", [ledger.write("d", 1)])
    assert wrong(ledger) == {"invented": 1}


def test_a_forbidden_token_must_be_absent_even_when_it_was_acked() -> None:
    ledger = Ledger()
    token = ledger.write("d", 1, forbidden=True)
    ledger.ack([token])
    ledger.check("d", [])
    assert wrong(ledger) == {}
    ledger.check("d", [token])
    assert wrong(ledger) == {"refused_but_present": 1}


def test_a_copy_is_held_to_what_was_promised_when_it_was_made() -> None:
    ledger = Ledger()
    early, late = ledger.write("d", 1), ledger.write("d", 1)
    ledger.ack([early])
    promised = ledger.promised("d")
    ledger.ack([late])
    ledger.check("d", [early], promised=promised)
    assert wrong(ledger) == {}
    ledger.check("d", [], promised=promised)
    assert wrong(ledger) == {"acked_lost": 1}


@pytest.mark.parametrize("seed", range(20))
def test_tokens_are_found_in_updates_and_in_replicas(seed: int) -> None:
    ledger, first, second = Ledger(), TokenDoc(Random(seed)), TokenDoc(Random(seed + 100))
    tokens = [ledger.write("d", 1) for _ in range(12)]
    for token in tokens:
        update = first.write(token)
        assert tokens_in(update) == {token}
        second.apply(update)
    assert tokens_in(first.doc.get_update()) == set(tokens)
    assert second.tokens() == set(tokens)
    assert second.content() == first.content()


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32, 2**53 - 1])
def test_numbers_come_back(value: int) -> None:
    assert read_uint(uint(value), 0) == (value, len(uint(value)))


@pytest.mark.parametrize("dialect", ["y-websocket", "hocuspocus"])
def test_frames_are_read_as_they_are_written(dialect: str) -> None:
    wire = Dialect(dialect, "document-1")
    received = wire.read(wire.prefix + sync(2, b"update"))
    assert received is not None
    assert (received.kind, received.step, received.payload) == (0, 2, b"update")


def test_acks_are_counted_in_either_dialect() -> None:
    saved = Dialect("y-websocket", "d").read(bytes((101,)) + uint(3) + uint(900))
    status = Dialect("hocuspocus", "d").read(sized(b"d") + bytes((8, 1)))
    assert saved is not None
    assert status is not None
    assert (saved.kind, saved.step, status.kind, status.step) == (101, 3, 101, 1)


def test_every_fault_and_every_mutant_still_finds_the_place_it_breaks() -> None:
    """In a process of its own: it breaks everything at once."""
    check = [sys.executable, "-m", "tests.faults.crashing_server", "--check"]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
