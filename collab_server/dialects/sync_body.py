"""The part of a frame that all Yjs families share: sync and awareness (y-protocols PROTOCOL.md).

sync       = 0, step (0 step 1, 1 step 2, 2 update), varbytes
awareness  = 1, varbytes
query      = 3
"""

from collab_server.live.lib0 import read_var_bytes, read_var_uint, write_var_bytes
from collab_server.live.messages import (
    Awareness,
    Inbound,
    Outbound,
    QueryAwareness,
    SyncStep1,
    SyncStep2,
    Update,
)
from schemas.errors import Malformed

SYNC, AWARENESS, AUTH, QUERY_AWARENESS = 0, 1, 2, 3
_STEPS: tuple[type[SyncStep1] | type[SyncStep2] | type[Update], ...] = (SyncStep1, SyncStep2, Update)


def decode_sync(frame: bytes, at: int) -> Inbound:
    """The sync message whose type byte ends at ``at``. Raises ``Malformed``."""
    step, at = read_var_uint(frame, at)
    if step >= len(_STEPS):
        raise Malformed(f"There is no sync message of type {step}.")
    payload, at = read_var_bytes(frame, at)
    expect_end(frame, at)
    return _STEPS[step](payload)


def decode_awareness(frame: bytes, at: int) -> Awareness:
    payload, at = read_var_bytes(frame, at)
    expect_end(frame, at)
    return Awareness(payload)


def decode_query(frame: bytes, at: int) -> QueryAwareness:
    expect_end(frame, at)
    return QueryAwareness()


def expect_end(frame: bytes, at: int) -> None:
    if at != len(frame):
        raise Malformed("A frame has trailing bytes.")


def encode_body(message: Outbound) -> bytes | None:
    """The frame of a sync or awareness message without any address; None for every other message."""
    match message:
        case Update(update):
            return b"\x00\x02" + write_var_bytes(update)
        case SyncStep2(update):
            return b"\x00\x01" + write_var_bytes(update)
        case SyncStep1(state_vector):
            return b"\x00\x00" + write_var_bytes(state_vector)
        case Awareness(payload):
            return b"\x01" + write_var_bytes(payload)
        case _:
            return None
