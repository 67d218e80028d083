"""What every update log promises to who writes: SQLite and Postgres."""

import asyncio
import os

import pytest
from sqlalchemy import select, text

from collab_server.ports import UpdateLog
from persistence.database import Database
from persistence.tables import client_ids
from persistence.update_log import open_update_log
from schemas.errors import DocumentNotFound
from schemas.records import (
    AccessChanged,
    Checkpoint,
    ClaimConflict,
    Committed,
    Entry,
    Head,
    LogRow,
    Refused,
)
from tests.contract.update_logs import (
    ALICE,
    BOB,
    START,
    add_document,
    append,
    batch,
    change,
    seqs,
    stored,
)

# Appending


async def test_updates_come_back_in_the_order_they_were_appended(log: UpdateLog) -> None:
    assert await append(log, batch("a", b"one", b"two")) == [Committed(1)]
    assert await append(log, batch("a", b"three", principal=BOB)) == [Committed(2)]
    document = await log.load("a")
    assert document.rows == (
        LogRow(1, (Entry(ALICE, b"one"), Entry(ALICE, b"two")), START),
        LogRow(2, (Entry(BOB, b"three"),), START),
    )
    assert (document.head_seq, document.acl_version, document.checkpoint) == (2, 1, None)


async def test_any_bytes_come_back_as_they_were(log: UpdateLog) -> None:
    contents = (b"", bytes(range(256)), b"\x00" * 3, os.urandom(200_000))
    await append(log, batch("a", *contents))
    (row,) = (await log.load("a")).rows
    assert tuple(entry.update for entry in row.entries) == contents


async def test_a_new_document_is_loaded_empty(log: UpdateLog) -> None:
    document = await log.load("a")
    assert (document.head_seq, document.rows, document.checkpoint, document.client_owners) == (0, (), None, {})


async def test_nothing_to_append_is_no_transaction(log: UpdateLog) -> None:
    assert await append(log) == []


async def test_several_documents_are_written_in_one_call_and_answered_in_order(log: UpdateLog) -> None:
    await append(log, batch("b"))
    assert await append(log, batch("b"), batch("a"), batch("c")) == [Committed(2), Committed(1), Committed(1)]


async def test_two_batches_of_one_document_in_one_call_are_two_rows(log: UpdateLog) -> None:
    outcomes = await append(log, batch("a", b"1"), batch("b", b"x"), batch("a", b"2"))
    assert outcomes == [Committed(1), Committed(1), Committed(2)]
    rows = (await log.load("a")).rows
    assert [row.entries[0].update for row in rows] == [b"1", b"2"]


async def test_numbers_have_no_gap_when_two_nodes_append_at_once(log: UpdateLog, other_node: UpdateLog) -> None:
    outcomes = await asyncio.gather(
        *(append(node, batch("a"), batch("b"), batch("c")) for node in (log, other_node) for _ in range(25))
    )
    for place, document_id in enumerate("abc"):
        assert sorted(outcome[place].seq for outcome in outcomes) == list(range(1, 51))
        assert seqs((await log.load(document_id)).rows) == list(range(1, 51))


async def test_nodes_with_the_same_documents_in_opposite_order_do_not_deadlock(
    log: UpdateLog, other_node: UpdateLog
) -> None:
    orders = {log: "abc", other_node: "cba"}
    for _ in range(20):
        outcomes = await asyncio.gather(
            *(append(node, *(batch(id_) for id_ in order)) for node, order in orders.items())
        )
        assert all(isinstance(outcome, Committed) for several in outcomes for outcome in several)


async def test_the_payload_bytes_of_a_document_are_counted(log: UpdateLog, database: Database) -> None:
    await append(log, batch("a", b"x" * 100), batch("a", b"y"))
    await append(log, batch("a", b"z" * 1000))
    async with database.read() as connection:
        sizes = await connection.execute(text("SELECT length(payload) FROM updates WHERE document_id = 'a'"))
        assert (await stored(database, "a"))["bytes"] == sum(sizes.scalars()) > 1100


async def test_what_was_appended_is_there_after_the_database_was_opened_again(
    log: UpdateLog, database: Database, database_url: str
) -> None:
    await append(log, batch("a", b"kept", claims={7: ALICE}))
    before = await log.load("a")
    await database.close()
    again = await Database.open(database_url)
    try:
        assert await open_update_log(again).load("a") == before
    finally:
        await again.close()


# The same batch twice


async def test_a_batch_that_was_committed_before_is_not_written_twice(log: UpdateLog) -> None:
    first = batch("a", b"once", claims={1: ALICE})
    await append(log, first)
    await append(log, batch("a", b"between"))
    assert await append(log, first) == [Committed(1)]
    assert seqs((await log.load("a")).rows) == [1, 2]


async def test_a_repeated_batch_leaves_no_trace_and_new_ones_beside_it_are_written(
    log: UpdateLog, database: Database
) -> None:
    first = batch("a", b"once")
    await append(log, first)
    before = await stored(database, "a")
    assert await append(log, batch("b"), first, batch("c")) == [Committed(1), Committed(1), Committed(1)]
    assert await stored(database, "a") == before


async def test_a_batch_twice_in_one_call_is_one_row(log: UpdateLog) -> None:
    twice = batch("a", b"once", claims={1: ALICE})
    assert await append(log, twice, twice) == [Committed(1), Committed(1)]
    assert seqs((await log.load("a")).rows) == [1]


async def test_a_committed_batch_is_recognised_even_after_access_changed(
    log: UpdateLog, database: Database
) -> None:
    first = batch("a")
    await append(log, first)
    await change(database, "a", acl_version=2)
    assert await append(log, first) == [Committed(1)]


async def test_a_committed_batch_is_recognised_by_another_node(log: UpdateLog, other_node: UpdateLog) -> None:
    first = batch("a")
    await append(log, first)
    assert await append(other_node, first) == [Committed(1)]


async def test_an_append_that_is_cancelled_can_be_tried_again_without_a_second_row(log: UpdateLog) -> None:
    for steps in range(12):  # cancelled at every point where it waits
        several = [batch("a"), batch("b"), batch("c", claims={steps: ALICE})]
        task = asyncio.create_task(log.append(several))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await log.append(several) == [Committed(steps + 1)] * 3


# Refusals


async def test_a_batch_accepted_under_older_access_is_refused_with_the_new_version(
    log: UpdateLog, database: Database
) -> None:
    await change(database, "a", acl_version=5)
    assert await append(log, batch("a", claims={1: ALICE})) == [AccessChanged(5)]
    document = await log.load("a")
    assert (document.head_seq, document.rows, document.client_owners) == (0, (), {})
    assert await append(log, batch("a", acl_version=5)) == [Committed(1)]


@pytest.mark.parametrize("document_id", ["deleted", "unknown"])
async def test_a_document_that_is_gone_is_refused_everywhere(
    log: UpdateLog, database: Database, document_id: str
) -> None:
    if document_id == "deleted":
        await add_document(database, document_id)
        await append(log, batch(document_id))
        await change(database, document_id, state="deleted")
    (outcome,) = await append(log, batch(document_id))
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, DocumentNotFound)
    for refused in (
        log.load(document_id),
        log.rows_after(document_id, 0),
        log.add_checkpoint(document_id, Checkpoint(1, (b"",))),
        log.prune(document_id, rows_older_than=START),
    ):
        with pytest.raises(DocumentNotFound):
            await refused
    assert await log.heads([document_id, "b"]) == {"b": Head(0, 1)}


async def test_refused_batches_do_not_stop_the_others(log: UpdateLog, database: Database) -> None:
    await append(log, batch("c", claims={1: BOB}))
    await change(database, "b", acl_version=3)
    gone, old, foreign, good = await append(
        log, batch("unknown"), batch("b"), batch("c", claims={1: ALICE}), batch("a", claims={1: ALICE})
    )
    assert isinstance(gone, Refused)
    assert (old, foreign, good) == (AccessChanged(3), ClaimConflict({1: BOB}), Committed(1))
    assert [(await stored(database, id_))["head_seq"] for id_ in "abc"] == [1, 0, 1]


# Client ids


async def test_a_client_id_belongs_to_who_wrote_with_it_first(log: UpdateLog, database: Database) -> None:
    top = 2**53 - 1
    assert await append(log, batch("a", claims={7: ALICE, top: BOB})) == [Committed(1)]
    assert await append(log, batch("a", claims={7: BOB, 8: BOB})) == [ClaimConflict({7: ALICE})]
    document = await log.load("a")
    assert document.client_owners == {7: ALICE, top: BOB}
    assert seqs(document.rows) == [1]
    assert await append(log, batch("a", claims={7: ALICE, 9: ALICE})) == [Committed(2)]
    async with database.read() as connection:
        firsts = await connection.execute(select(client_ids.c.client_id, client_ids.c.first_seq))
        assert {row.client_id: row.first_seq for row in firsts} == {7: 1, top: 1, 9: 2}


async def test_the_same_client_id_in_two_documents_has_two_owners(log: UpdateLog) -> None:
    outcomes = await append(log, batch("a", claims={7: ALICE}), batch("b", claims={7: BOB}))
    assert outcomes == [Committed(1), Committed(1)]
    assert (await log.load("b")).client_owners == {7: BOB}


async def test_of_two_claims_in_one_call_the_first_wins(log: UpdateLog) -> None:
    outcomes = await append(log, batch("a", claims={7: ALICE}), batch("a", claims={7: BOB}), batch("a"))
    assert outcomes == [Committed(1), ClaimConflict({7: ALICE}), Committed(2)]


async def test_of_two_nodes_that_claim_at_once_exactly_one_wins(log: UpdateLog, other_node: UpdateLog) -> None:
    for client_id in range(10):
        ours, theirs = await asyncio.gather(
            append(log, batch("a", claims={client_id: ALICE})),
            append(other_node, batch("a", claims={client_id: BOB})),
        )
        owner = (await log.load("a")).client_owners[client_id]
        loser = (theirs if owner == ALICE else ours)[0]
        winner = (ours if owner == ALICE else theirs)[0]
        assert isinstance(winner, Committed)
        assert loser == ClaimConflict({client_id: owner})
