"""lib0 numbers and strings: what is read is what was written, and nothing unbounded is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab_server.live.lib0 import (
    MAX_SAFE_INTEGER,
    read_var_bytes,
    read_var_int,
    read_var_string,
    read_var_uint,
    write_var_bytes,
    write_var_string,
    write_var_uint,
)
from schemas.errors import Malformed


@given(st.integers(0, MAX_SAFE_INTEGER), st.binary(max_size=3))
def test_a_number_comes_back_with_the_position_after_it(value: int, rest: bytes) -> None:
    encoded = write_var_uint(value)
    assert len(encoded) <= 8
    assert read_var_uint(b"\x00" + encoded + rest, 1) == (value, 1 + len(encoded))


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",))), st.binary())
def test_strings_and_bytes_come_back(text: str, data: bytes) -> None:
    buf = write_var_string(text) + write_var_bytes(data)
    found, pos = read_var_string(buf, 0)
    assert (found, read_var_bytes(buf, pos)) == (text, (data, len(buf)))


@given(st.binary(max_size=24), st.integers(0, 4))
def test_any_bytes_are_read_or_malformed(buf: bytes, pos: int) -> None:
    for read in (read_var_uint, read_var_int, read_var_bytes, read_var_string):
        try:
            _, end = read(buf, pos)
        except Malformed:
            continue
        assert pos < end <= len(buf)


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param("", id="nothing"),
        pytest.param("80", id="truncated"),
        pytest.param("8000", id="padded zero"),
        pytest.param("ffffff00", id="padded"),
        pytest.param("ffffffffffffff10", id="2^53"),
        pytest.param("ffffffffffffffff01", id="nine bytes"),
        pytest.param("80" * 300_000, id="300 KB without an end"),
    ],
)
def test_a_number_that_no_lib0_writer_makes_is_malformed(encoded: str) -> None:
    with pytest.raises(Malformed):
        read_var_uint(bytes.fromhex(encoded), 0)


@pytest.mark.parametrize(
    ("encoded", "value"),
    [("05", 5), ("45", -5), ("40", 0), ("bf01", 127), ("ffffffffffffff1f", -MAX_SAFE_INTEGER)],
)
def test_signed_numbers_carry_their_sign_in_the_first_byte(encoded: str, value: int) -> None:
    assert read_var_int(bytes.fromhex(encoded), 0) == (value, len(encoded) // 2)


@pytest.mark.parametrize("encoded", ["", "80", "8000", "c000", "ffffffffffffff3f", "ffffffffffffffff01"])
def test_a_signed_number_outside_of_the_safe_integers_is_malformed(encoded: str) -> None:
    with pytest.raises(Malformed):
        read_var_int(bytes.fromhex(encoded), 0)


def test_a_length_beyond_the_end_allocates_nothing() -> None:
    with pytest.raises(Malformed, match="beyond the end"):
        read_var_bytes(write_var_uint(MAX_SAFE_INTEGER) + b"x", 0)


@pytest.mark.parametrize("raw", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xd1"])
def test_a_string_has_to_be_strict_utf8(raw: bytes) -> None:
    with pytest.raises(Malformed, match="UTF-8"):
        read_var_string(write_var_bytes(raw), 0)


@pytest.mark.parametrize("value", [-1, MAX_SAFE_INTEGER + 1])
def test_writing_what_nobody_could_read_is_our_own_mistake(value: int) -> None:
    with pytest.raises(ValueError, match=str(value)):
        write_var_uint(value)
