"""What every update log promises to who reads, compacts and meets damage: SQLite and Postgres."""

from datetime import timedelta

import pytest
from sqlalchemy import select, text

from collab_server.ports import UpdateLog
from persistence.database import Database
from persistence.tables import checkpoints, updates
from schemas.errors import DocumentDamaged
from schemas.records import (
    Checkpoint,
    Committed,
    Head,
    Refused,
)
from tests.contract.update_logs import START, Time, append, append_numbered, batch, change, seqs, stored

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
