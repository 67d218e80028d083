"""The guard before the engine: no byte of a client reaches pycrdt without passing here.

yrs panics, hangs, overflows its stack or stores what no client can read again on a dozen kinds of well-formed
and malformed updates. The guard refuses them as values: no engine, no clock, no state; for any bytes whatever
it returns a ``Footprint`` or raises ``Malformed``.

Order of use: ``inspect_update`` -> ``missing`` (causality) -> ``fresh_clients`` (ownership) ->
``Structure.admit`` (the document's own tables) -> apply -> ``advance``.

Not seen here: a struct whose right neighbour is not to the right of its left one. It does no harm to the engine,
but where it lands depends on the order of arrival, between two yjs documents as well.
"""

import re
from functools import lru_cache

from collab_server.live.guard_footprint import (
    Erasure,
    Footprint,
    Keystroke,
    Survey,
    advance,
    fresh_clients,
    missing,
    overlaps,
)
from collab_server.live.guard_reader import SAME_NEIGHBOUR, GuardLimits, UpdateReader
from collab_server.live.lib0 import read_var_uint
from schemas.errors import Malformed

__all__ = [
    "DEFAULT_LIMITS",
    "Erasure",
    "Footprint",
    "GuardLimits",
    "Keystroke",
    "Survey",
    "advance",
    "fresh_clients",
    "inspect_own_state",
    "inspect_state_vector",
    "inspect_update",
    "missing",
    "overlaps",
]

DEFAULT_LIMITS = GuardLimits()

# The ordinary update, whole: one client types one run between two known places and deletes nothing, or
# deletes one run. Three of four numbers are repeated client ids, so those are decoded once per process.
_CLOCK = rb"[\x80-\xff]{1,3}[\x01-\x7f]|[\x00-\x7f]"  # up to 2^28 - 1: always below the limit
_CLIENT = rb"[\x80-\xff]{4}[\x01-\x7f]|[\x00-\x7f]|[\x80-\xff]{1,6}[\x01-\x7f]|[\x80-\xff]{7}[\x01-\x0f]"
_ID = rb"(%b)(%b)" % (_CLIENT, _CLOCK)
_typed = re.compile(
    # one section, one struct | client, clock | origin only, right only, or both | UTF-16 length below 128
    rb"\x01\x01%b(?:(\x84)|(\x44)|\xc4%b)%b([\x01-\x7f])([^\xf0-\xff]{1,127})\x00" % (_ID, _ID, _ID),
    re.DOTALL,
).fullmatch
_erased = re.compile(rb"\x00\x01(%b)\x01(%b)([\x01-\x7f])" % (_CLIENT, _CLOCK), re.DOTALL).fullmatch
_tuple = tuple.__new__  # twice as fast as the constructor of a named tuple
_NOT_UTF8 = "A string in the update is not valid UTF-8."
_FORWARD = "A struct stands on itself or on a later one of its own client."


def inspect_update(update: bytes, limits: GuardLimits = DEFAULT_LIMITS) -> Footprint:
    """Check an update in format V1 completely. Raises ``Malformed``, and nothing else."""
    match = _typed(update)
    if match is None:
        match = _erased(update)
        if match is None:
            return _survey(update, limits)
        client_raw, clock_raw, size = match.groups()
        start = _clock(clock_raw)
        return _tuple(Erasure, (_client(client_raw), start, start + size[0]))
    client_raw, clock_raw, only_origin, only_right, origin_raw, origin_at, raw, at, size, text = match.groups()
    length = size[0]
    if len(text) != length:
        return _survey(update, limits)
    if not text.isascii():
        try:
            length = len(text.decode())
        except UnicodeDecodeError:
            raise Malformed(_NOT_UTF8) from None
    client = _client(client_raw)
    start = _clock(clock_raw)
    last = client if raw == client_raw else _client(raw)
    last_clock = _clock(at)
    if last_clock >= start and last == client:
        raise Malformed(_FORWARD)
    if only_origin:
        return _tuple(Keystroke, (client, start, start + length, last, last_clock, -1, -1))
    if only_right:
        return _tuple(Keystroke, (client, start, start + length, -1, -1, last, last_clock))
    origin = client if origin_raw == client_raw else _client(origin_raw)
    origin_clock = _clock(origin_at)
    if origin_clock >= start and origin == client:
        raise Malformed(_FORWARD)
    if origin_clock == last_clock and origin == last:
        raise Malformed(SAME_NEIGHBOUR)
    return _tuple(Keystroke, (client, start, start + length, origin, origin_clock, last, last_clock))


def _survey(update: bytes, limits: GuardLimits) -> Survey:
    try:
        return UpdateReader(update, limits).survey()
    except IndexError:
        raise Malformed("The update ends too early.") from None
    except UnicodeDecodeError:
        raise Malformed(_NOT_UTF8) from None


def inspect_own_state(state: bytes) -> Survey:
    """The survey of what the engine itself encoded: no limits of count, and empty strings pass (it makes them
    when a surrogate pair was split). For the tables that are built from a stored document."""
    try:
        return UpdateReader(state, DEFAULT_LIMITS, own=True).survey()
    except (IndexError, UnicodeDecodeError):
        raise Malformed("The stored state cannot be read.") from None


@lru_cache(maxsize=65_536)
def _client(raw: bytes) -> int:
    return read_var_uint(raw, 0)[0]


def _clock(raw: bytes) -> int:
    """A number of one to four bytes that the pattern has checked already."""
    size = len(raw)
    if size == 3:
        return raw[0] & 127 | (raw[1] & 127) << 7 | raw[2] << 14
    if size == 2:
        return raw[0] & 127 | raw[1] << 7
    if size == 1:
        return raw[0]
    return raw[0] & 127 | (raw[1] & 127) << 7 | (raw[2] & 127) << 14 | raw[3] << 21


def inspect_state_vector(state_vector: bytes) -> dict[int, int]:
    """Client id -> clock. Raises ``Malformed``, and nothing else.

    Five bytes that claim 200 million entries cost the engine 256 MB.
    """
    count, pos = read_var_uint(state_vector, 0)
    if count > (len(state_vector) - pos) // 2:
        raise Malformed("The state vector claims more clients than there are bytes.")
    clocks: dict[int, int] = {}
    for _ in range(count):
        client, pos = read_var_uint(state_vector, pos)
        clock, pos = read_var_uint(state_vector, pos)
        if clock > DEFAULT_LIMITS.max_clock:
            raise Malformed(f"The state vector has the clock {clock}.")
        clocks[client] = clock
    if len(clocks) != count:
        raise Malformed("The state vector names a client twice.")
    if pos != len(state_vector):
        raise Malformed("There are bytes after the end of the state vector.")
    return clocks
