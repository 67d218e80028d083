"""One encoding per value: what we did not write is damage."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.payload import (
    crc32,
    is_bytes_only,
    pack_entries,
    pack_pieces,
    sha256,
    unpack_entries,
    unpack_pieces,
)
from schemas.errors import DocumentDamaged
from schemas.records import Entry

ALICE, BOB = "account:alice", "account:bob"
entries = st.lists(
    st.builds(Entry, st.sampled_from([ALICE, BOB, "server", "share:Ирина 🌿"]), st.binary(max_size=300)),
    min_size=1,
    max_size=12,
)


def test_a_row_is_a_version_and_groups_of_consecutive_entries_by_principal() -> None:
    row = (Entry("a", b"1"), Entry("a", b"22"), Entry("b", b""), Entry("a", b"3"))
    assert pack_entries(row) == b"\x01" + b"\x01a\x02\x011\x0222" + b"\x01b\x01\x00" + b"\x01a\x01\x013"


def test_a_checkpoint_is_a_version_a_count_and_pieces() -> None:
    assert pack_pieces((b"x" * 200, b"")) == b"\x01\x02\xc8\x01" + b"x" * 200 + b"\x00"


@given(entries)
def test_entries_come_back_as_they_were(row: list[Entry]) -> None:
    assert unpack_entries(pack_entries(row)) == tuple(row)


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_pieces_come_back_as_they_were(pieces: list[bytes]) -> None:
    assert unpack_pieces(pack_pieces(pieces)) == tuple(pieces)


@given(st.binary(max_size=80))
def test_any_bytes_are_either_what_we_write_or_damaged(data: bytes) -> None:
    for unpack, pack in ((unpack_entries, pack_entries), (unpack_pieces, pack_pieces)):
        try:
            value = unpack(b"\x01" + data)
        except DocumentDamaged:
            continue
        assert pack(value) == b"\x01" + data


@given(entries, st.data())
def test_a_row_cut_short_is_damaged_or_a_shorter_row(row: list[Entry], data: st.DataObject) -> None:
    packed = pack_entries(row)
    cut = packed[: data.draw(st.integers(0, len(packed) - 1))]
    with contextlib.suppress(DocumentDamaged):
        assert pack_entries(unpack_entries(cut)) == cut  # cut between two groups; the checksum finds that
    assert crc32(cut) != crc32(packed)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\x01",
        b"\x00\x01a\x01\x00",
        b"\x03\x01a\x01\x00",
        b"\x01\x01a\x00",
        b"\x01\x01a\x01\x00\x01a\x01\x00",
        b"\x01\x01a\x01\x80\x00",
        b"\x01\x01a\x01" + b"\xff" * 9,
        b"\x01\x01a\x01" + b"\xff" * 7 + b"\x7f",
        b"\x01\x01\xff\x01\x00",
        b"\x01\x01a\x01\x05abc",
        b"\x01\x01a\x01\x00\x01",
        b"\x01\x01a\xff\xff\xff\x7f",
    ],
    ids=[
        "empty",
        "no entries",
        "version 0",
        "version 3",
        "empty group",
        "split group",
        "long form of a number",
        "endless number",
        "number above 2**53",
        "principal not UTF-8",
        "update cut short",
        "group cut short",
        "count without entries",
    ],
)
def test_a_row_we_would_not_write_is_damaged(damaged: bytes) -> None:
    with pytest.raises(DocumentDamaged):
        unpack_entries(damaged)


@pytest.mark.parametrize(
    "damaged", [b"", b"\x01", b"\x01\x00\x00", b"\x01\x02\x00", b"\x01\x01\x02a", b"\x03\x00"]
)
def test_a_checkpoint_we_would_not_write_is_damaged(damaged: bytes) -> None:
    with pytest.raises(DocumentDamaged):
        unpack_pieces(damaged)


def test_a_row_without_entries_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one"):
        pack_entries(())


def test_checksums_are_the_well_known_ones() -> None:
    assert crc32(b"123456789") == 0xCBF43926
    assert sha256(b"abc").hex().startswith("ba7816bf8f01cfea")


def test_a_row_and_a_checkpoint_say_when_a_document_is_bytes_only_from_there_on() -> None:
    row = (Entry("a", b"1"), Entry("b", b"2"))
    assert is_bytes_only(pack_entries(row, cuts=True))
    assert unpack_entries(pack_entries(row, cuts=True)) == row
    assert not is_bytes_only(pack_entries(row))
    assert is_bytes_only(pack_pieces((b"1",), bytes_only=True))
    assert unpack_pieces(pack_pieces((b"1",), bytes_only=True)) == (b"1",)
