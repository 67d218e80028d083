"""Yjs updates, format V1, written by hand: for tests that need what no client would send."""

from collections.abc import Sequence

from collab_server.live.lib0 import write_var_bytes, write_var_string, write_var_uint

Id = tuple[int, int]


def item(
    content: bytes,
    ref: int,
    *,
    origin: Id | None = None,
    right: Id | None = None,
    root: str | None = None,
    parent: Id | None = None,
    key: str | None = None,
    flags: int = 0,
) -> bytes:
    """One item. Without a place it hangs in the root "t"; ``flags`` are put into the info byte as they are."""
    info = ref | flags | (0x80 if origin else 0) | (0x40 if right else 0) | (0x20 if key is not None else 0)
    out = bytes((info & 0xFF,))
    for place in (origin, right):
        if place is not None:
            out += _id(place)
    if origin is None and right is None:
        if parent is not None:
            out += b"\x00" + _id(parent)
        else:
            out += b"\x01" + write_var_string("t" if root is None else root)
        if key is not None:
            out += write_var_string(key)
    return out + content


def _id(place: Id) -> bytes:
    return write_var_uint(place[0]) + write_var_uint(place[1])


def text(value: str, **place: object) -> bytes:
    return item(write_var_string(value), 4, **place)  # type: ignore[arg-type]


def values(*encoded: bytes, **place: object) -> bytes:
    """A ContentAny of values that are encoded already."""
    return item(write_var_uint(len(encoded)) + b"".join(encoded), 8, **place)  # type: ignore[arg-type]


def shared_type(kind: int = 1, name: str | None = None, **place: object) -> bytes:
    """0 array, 1 map, 2 text, 3 XML element, 4 XML fragment, 5 XML hook, 6 XML text."""
    named = b"" if name is None else write_var_string(name)
    return item(bytes((kind,)) + named, 7, **place)  # type: ignore[arg-type]


def format_mark(mark: str, json: str, **place: object) -> bytes:
    return item(write_var_string(mark) + write_var_string(json), 6, **place)  # type: ignore[arg-type]


def embed(json: str, **place: object) -> bytes:
    return item(write_var_string(json), 5, **place)  # type: ignore[arg-type]


def binary(data: bytes, **place: object) -> bytes:
    return item(write_var_bytes(data), 3, **place)  # type: ignore[arg-type]


def deleted(length: int, **place: object) -> bytes:
    return item(write_var_uint(length), 1, **place)  # type: ignore[arg-type]


def subdocument(guid: str, options: bytes = b"\x76\x00", **place: object) -> bytes:
    return item(write_var_string(guid) + options, 9, **place)  # type: ignore[arg-type]


def gc(length: int) -> bytes:
    return b"\x00" + write_var_uint(length)


def skip(length: int) -> bytes:
    return b"\x0a" + write_var_uint(length)


def section(client: int, clock: int, *structs: bytes) -> bytes:
    return write_var_uint(len(structs)) + write_var_uint(client) + write_var_uint(clock) + b"".join(structs)


def deletions(client: int, *ranges: tuple[int, int]) -> bytes:
    """Ranges are (clock, length)."""
    out = write_var_uint(client) + write_var_uint(len(ranges))
    return out + b"".join(write_var_uint(clock) + write_var_uint(length) for clock, length in ranges)


def update(*sections: bytes, deletes: Sequence[bytes] = ()) -> bytes:
    head = write_var_uint(len(sections)) + b"".join(sections)
    return head + write_var_uint(len(deletes)) + b"".join(deletes)
