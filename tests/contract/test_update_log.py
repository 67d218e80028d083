"""What every update log promises: SQLite and Postgres."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update

from collab_server.ports import UpdateLog
from persistence.database import Database
from persistence.tables import checkpoints, client_ids, documents, updates
from persistence.update_log import open_update_log
from schemas.errors import DocumentDamaged, DocumentNotFound
from schemas.records import (
    AccessChanged,
    Batch,
    Checkpoint,
    ClaimConflict,
    Committed,
    Entry,
    Head,
    LogRow,
    Refused,
)

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
ALICE, BOB = "account:alice", "account:bob"


class Time:
    """The time the log stamps rows with."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def log(database: Database, time: Time) -> UpdateLog:
    for document_id in ("a", "b", "c"):
        await add_document(database, document_id)
    return open_update_log(database, time)


@pytest.fixture
async def other_node(database_url: str, database: Database) -> AsyncIterator[UpdateLog]:
    """A second server on the same database: another process on Postgres, another caller on SQLite."""
    if database.dialect == "sqlite":
        yield open_update_log(database)
        return
    theirs = await Database.open(database_url)
    yield open_update_log(theirs)
    await theirs.close()


async def add_document(database: Database, document_id: str) -> None:
    async with database.write() as connection:
        await connection.execute(
            insert(documents).values(id=document_id, kind="document", title="", created_at=START, updated_at=START)
        )


async def change(database: Database, document_id: str, **values: Any) -> None:
    async with database.write() as connection:
        await connection.execute(update(documents).where(documents.c.id == document_id).values(**values))


async def stored(database: Database, document_id: str) -> Mapping[str, Any]:
    async with database.read() as connection:
        rows = await connection.execute(select(documents).where(documents.c.id == document_id))
        return rows.mappings().one()


def batch(
    document_id: str = "a",
    *contents: bytes,
    acl_version: int = 1,
    batch_id: bytes | None = None,
    principal: str = ALICE,
    claims: Mapping[int, str] | None = None,
) -> Batch:
    return Batch(
        document_id,
        batch_id or os.urandom(16),
        acl_version,
        tuple(Entry(principal, content) for content in contents or (b"\x00\x00",)),
        claims or {},
    )


async def append(log: UpdateLog, *batches: Batch) -> list[Any]:
    return await log.append(batches)


async def append_numbered(log: UpdateLog, count: int, document_id: str = "a") -> None:
    for number in range(count):
        await append(log, batch(document_id, bytes([number])))


def seqs(rows: Any) -> list[int]:
    return [row.seq for row in rows]


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


# Reading


async def test_rows_after_a_number_are_those_that_follow_it(log: UpdateLog) -> None:
    await append_numbered(log, 5)
    assert seqs(await log.rows_after("a", 3)) == [4, 5]
    assert await log.rows_after("a", 5) == []
    assert await log.rows_after("a", 9) == []  # we are ahead: the database lost a suffix


async def test_heads_say_where_each_document_stands(log: UpdateLog, database: Database) -> None:
    await append_numbered(log, 2)
    await change(database, "b", acl_version=4)
    many = [f"unknown-{number}" for number in range(1200)]
    assert await log.heads(["a", *many, "b"]) == {"a": Head(2, 1), "b": Head(0, 4)}
    assert await log.heads([]) == {}


# Checkpoints and pruning


async def test_a_document_is_loaded_from_its_newest_checkpoint_and_what_follows(log: UpdateLog) -> None:
    await append_numbered(log, 4)
    await log.add_checkpoint("a", Checkpoint(1, (b"old",)))
    await log.add_checkpoint("a", Checkpoint(3, (b"new", b"", b"pieces")))
    document = await log.load("a")
    assert document.checkpoint == Checkpoint(3, (b"new", b"", b"pieces"))
    assert seqs(document.rows) == [4]


async def test_storing_a_checkpoint_twice_changes_nothing(log: UpdateLog) -> None:
    await append_numbered(log, 1)
    await log.add_checkpoint("a", Checkpoint(1, (b"first",)))
    await log.add_checkpoint("a", Checkpoint(1, (b"second",)))
    assert (await log.load("a")).checkpoint == Checkpoint(1, (b"first",))


async def test_a_checkpoint_beyond_the_log_is_a_mistake(log: UpdateLog) -> None:
    await append_numbered(log, 1)
    with pytest.raises(ValueError, match="log that ends at 1"):
        await log.add_checkpoint("a", Checkpoint(2, (b"",)))


async def test_pruning_deletes_nothing_before_there_are_two_checkpoints(log: UpdateLog) -> None:
    await append_numbered(log, 3)
    later = START + timedelta(days=9)
    assert await log.prune("a", rows_older_than=later) == 0
    await log.add_checkpoint("a", Checkpoint(3, (b"",)))
    assert await log.prune("a", rows_older_than=later) == 0
    assert len(await log.rows_after("a", 0)) == 3


async def test_pruning_keeps_two_checkpoints_and_the_rows_after_the_older(
    log: UpdateLog, database: Database
) -> None:
    await append_numbered(log, 6)
    for seq in (2, 4, 5):
        await log.add_checkpoint("a", Checkpoint(seq, (bytes([seq]),)))
    assert await log.prune("a", rows_older_than=START + timedelta(seconds=1)) == 4
    assert await log.prune("a", rows_older_than=START + timedelta(seconds=1)) == 0
    async with database.read() as connection:
        kept = await connection.execute(select(checkpoints.c.seq).order_by(checkpoints.c.seq))
        assert list(kept.scalars()) == [4, 5]
        sizes = await connection.execute(text("SELECT length(payload) FROM updates"))
        assert (await stored(database, "a"))["bytes"] == sum(sizes.scalars())
    assert seqs(await log.rows_after("a", 4)) == [5, 6]
    assert (await log.load("a")).head_seq == 6
    assert await append(log, batch("a")) == [Committed(7)]


async def test_rows_younger_than_the_limit_stay_even_when_covered(log: UpdateLog, time: Time) -> None:
    await append_numbered(log, 2)
    time.now += timedelta(hours=2)
    await append_numbered(log, 2)
    time.now -= timedelta(hours=2)  # a clock that went back
    await append_numbered(log, 2)
    for seq in (5, 6):
        await log.add_checkpoint("a", Checkpoint(seq, (b"",)))
    assert await log.prune("a", rows_older_than=START + timedelta(hours=1)) == 2
    assert seqs(await log.rows_after("a", 2)) == [3, 4, 5, 6]


async def test_pruning_leaves_other_documents_alone(log: UpdateLog) -> None:
    await append_numbered(log, 2)
    await append_numbered(log, 2, "b")
    for document_id in ("a", "b"):
        for seq in (1, 2):
            await log.add_checkpoint(document_id, Checkpoint(seq, (b"",)))
    assert await log.prune("a", rows_older_than=START + timedelta(days=1)) == 1
    assert seqs(await log.rows_after("b", 0)) == [1, 2]


async def test_rows_that_were_pruned_are_not_silently_skipped(log: UpdateLog) -> None:
    await append_numbered(log, 3)
    for seq in (2, 3):
        await log.add_checkpoint("a", Checkpoint(seq, (b"",)))
    await log.prune("a", rows_older_than=START + timedelta(days=1))
    with pytest.raises(DocumentDamaged):
        await log.rows_after("a", 0)


# Damage


async def damage(database: Database, statement: str) -> None:
    async with database.write() as connection:
        assert (await connection.execute(text(statement))).rowcount == 1


async def test_a_row_that_fails_its_checksum_is_never_an_empty_document(
    log: UpdateLog, database: Database
) -> None:
    await append_numbered(log, 3)
    await damage(database, "UPDATE updates SET crc32 = 4294967295 - crc32 WHERE document_id = 'a' AND seq = 2")
    with pytest.raises(DocumentDamaged, match="Row 2"):
        await log.load("a")
    with pytest.raises(DocumentDamaged, match="Row 2"):
        await log.rows_after("a", 0)
    assert seqs(await log.rows_after("a", 2)) == [3]


@pytest.mark.parametrize("seq", [1, 2, 3])
async def test_a_missing_row_is_noticed(log: UpdateLog, database: Database, seq: int) -> None:
    await append_numbered(log, 3)
    await damage(database, f"DELETE FROM updates WHERE document_id = 'a' AND seq = {seq}")
    with pytest.raises(DocumentDamaged, match=f"Row {seq}"):
        await log.load("a")


async def test_a_row_after_the_head_is_noticed_and_never_written_over(log: UpdateLog, database: Database) -> None:
    await append_numbered(log, 2)
    await change(database, "a", head_seq=1)
    with pytest.raises(DocumentDamaged):
        await log.load("a")
    damaged, good = await append(log, batch("a"), batch("b"))
    assert isinstance(damaged, Refused)
    assert isinstance(damaged.error, DocumentDamaged)
    assert good == Committed(1)
    assert (await stored(database, "a"))["head_seq"] == 1


async def with_two_checkpoints(log: UpdateLog) -> None:
    await append_numbered(log, 3)
    await log.add_checkpoint("a", Checkpoint(1, (b"old",)))
    await log.add_checkpoint("a", Checkpoint(2, (b"new",)))


SPOIL = "UPDATE checkpoints SET payload = sha256 WHERE document_id = 'a' AND seq = {}"


async def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    log: UpdateLog, database: Database
) -> None:
    await with_two_checkpoints(log)
    await log.prune("a", rows_older_than=START + timedelta(days=1))
    await damage(database, SPOIL.format(2))
    document = await log.load("a")
    assert document.checkpoint == Checkpoint(1, (b"old",))
    assert seqs(document.rows) == [2, 3]


async def test_with_both_checkpoints_damaged_the_rows_are_used_while_they_are_all_there(
    log: UpdateLog, database: Database
) -> None:
    await with_two_checkpoints(log)
    await damage(database, SPOIL.format(1))
    await damage(database, SPOIL.format(2))
    document = await log.load("a")
    assert (document.checkpoint, seqs(document.rows)) == (None, [1, 2, 3])


async def test_with_no_good_checkpoint_and_rows_gone_the_document_is_damaged(
    log: UpdateLog, database: Database
) -> None:
    await with_two_checkpoints(log)
    await log.prune("a", rows_older_than=START + timedelta(days=1))
    await damage(database, SPOIL.format(1))
    await damage(database, SPOIL.format(2))
    with pytest.raises(DocumentDamaged):
        await log.load("a")


@pytest.mark.parametrize("spoiled", [1, 2])
async def test_no_row_is_deleted_while_a_checkpoint_to_keep_is_damaged(
    log: UpdateLog, database: Database, spoiled: int
) -> None:
    await with_two_checkpoints(log)
    await damage(database, SPOIL.format(spoiled))
    with pytest.raises(DocumentDamaged):
        await log.prune("a", rows_older_than=START + timedelta(days=1))
    assert len(await log.rows_after("a", 0)) == 3
    async with database.read() as connection:
        assert len((await connection.execute(select(updates.c.seq))).all()) == 3
