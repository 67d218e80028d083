"""What stands in ``updates.payload`` and ``checkpoints.payload``.

A log row is a version byte and then groups of consecutive entries of one principal::

    version { varstring principal, varuint count, count x varbytes update }+

A checkpoint is a version byte and its pieces: ``version varuint count, count x varbytes piece``. The version
is 1, or 2 when from here on the document is only to be merged as bytes (``schemas.records.Batch.cuts``).

Varuints are the LEB128 of lib0, in their shortest form only. There is exactly one encoding of a value, so
anything else than what ``pack_…`` writes is damage and is refused as such.
"""

import hashlib
import zlib
from collections.abc import Sequence

from schemas.errors import DocumentDamaged
from schemas.records import Entry

PLAIN, BYTES_ONLY = 1, 2
MAX_LENGTH = 2**53 - 1


def crc32(payload: bytes) -> int:
    """The checksum of a log row: 0 to 2**32 - 1."""
    return zlib.crc32(payload)


def sha256(payload: bytes) -> bytes:
    """The checksum of a checkpoint: 32 bytes."""
    return hashlib.sha256(payload).digest()


def pack_entries(entries: Sequence[Entry], *, cuts: bool = False) -> bytes:
    """One log row. ``entries`` must not be empty; their order is kept."""
    if not entries:
        raise ValueError("a log row holds at least one entry")
    out = bytearray((BYTES_ONLY if cuts else PLAIN,))
    start = 0
    while start < len(entries):
        principal = entries[start].principal
        end = start + 1
        while end < len(entries) and entries[end].principal == principal:
            end += 1
        _write_bytes(out, principal.encode())
        _write_varuint(out, end - start)
        for entry in entries[start:end]:
            _write_bytes(out, entry.update)
        start = end
    return bytes(out)


def unpack_entries(payload: bytes) -> tuple[Entry, ...]:
    """The entries of a log row. Raises ``DocumentDamaged`` on anything ``pack_entries`` does not write."""
    position = _after_version(payload)
    if (ordinary := _one_short_entry(payload)) is not None:
        return ordinary
    entries: list[Entry] = []
    before: bytes | None = None
    while position < len(payload) or not entries:
        name, position = _read_bytes(payload, position)
        count, position = _read_varuint(payload, position)
        if count == 0 or name == before:
            raise _damaged("a group of entries is empty or split")
        before = name
        principal = _decode(name)
        for _ in range(count):
            update, position = _read_bytes(payload, position)
            entries.append(Entry(principal, update))
    return tuple(entries)


def _one_short_entry(payload: bytes) -> tuple[Entry] | None:
    """The row of one keystroke, four times as fast: all its lengths are single bytes."""
    size = len(payload)
    if size < 4 or (name_length := payload[1]) > 0x7F or size < (start := name_length + 4):
        return None
    if payload[start - 2] != 1 or payload[start - 1] != size - start or size - start > 0x7F:
        return None
    return (Entry(_decode(payload[2 : start - 2]), payload[start:]),)


def pack_pieces(pieces: Sequence[bytes], *, bytes_only: bool = False) -> bytes:
    """A checkpoint; the order of the pieces is kept."""
    out = bytearray((BYTES_ONLY if bytes_only else PLAIN,))
    _write_varuint(out, len(pieces))
    for piece in pieces:
        _write_bytes(out, piece)
    return bytes(out)


def unpack_pieces(payload: bytes) -> tuple[bytes, ...]:
    """The pieces of a checkpoint. Raises ``DocumentDamaged`` on anything ``pack_pieces`` does not write."""
    count, position = _read_varuint(payload, _after_version(payload))
    pieces: list[bytes] = []
    for _ in range(count):
        piece, position = _read_bytes(payload, position)
        pieces.append(piece)
    if position != len(payload):
        raise _damaged("there are bytes after the last piece")
    return tuple(pieces)


def is_bytes_only(payload: bytes) -> bool:
    """Whether a row or a checkpoint was packed as bytes-only."""
    return payload[0] == BYTES_ONLY


def _damaged(what: str) -> DocumentDamaged:
    return DocumentDamaged(f"A stored payload cannot be read: {what}.")


def _decode(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise _damaged("a principal is not UTF-8") from None


def _write_varuint(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(0x80 | (number & 0x7F))
        number >>= 7
    out.append(number)


def _write_bytes(out: bytearray, data: bytes) -> None:
    _write_varuint(out, len(data))
    out += data


def _after_version(payload: bytes) -> int:
    if not payload or payload[0] not in (PLAIN, BYTES_ONLY):
        raise _damaged("its version is unknown")
    return 1


def _read_varuint(payload: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if position >= len(payload):
            raise _damaged("it ends too early")
        byte = payload[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 49:  # 8 bytes hold 2**53 - 1
            raise _damaged("a number is too long")
    if (byte == 0 and shift) or number > MAX_LENGTH:
        raise _damaged("a number is not in its shortest form")
    return number, position


def _read_bytes(payload: bytes, position: int) -> tuple[bytes, int]:
    length, position = _read_varuint(payload, position)
    end = position + length
    if end > len(payload):
        raise _damaged("it ends too early")
    return payload[position:end], end
