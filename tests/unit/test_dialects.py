"""Frames to messages and back; the golden frames were made with lib0 0.2.120."""

import pytest

from collab_server.dialects import hocuspocus
from collab_server.dialects.hocuspocus import Credential, Detach, Hocuspocus, Pong, Stateless, document_of
from collab_server.dialects.y_websocket import YWebSocket
from collab_server.live.messages import (
    EMPTY_AWARENESS,
    Awareness,
    CredentialWanted,
    Denied,
    Granted,
    NotSaved,
    QueryAwareness,
    SyncStep1,
    SyncStep2,
    Update,
)
from schemas.errors import DocumentNotFound, Malformed, ReadOnly

GOLDEN_IN = [
    ("03646f63 02 00 03746f6b 05342e382e30", "doc", Credential("tok", "4.8.0")),
    ("03646f63 02 00 00", "doc", Credential("", "")),
    ("03646f63 00 00 0100", "doc", SyncStep1(b"\x00")),
    ("03646f63 00 01 020000", "doc", SyncStep2(b"\x00\x00")),
    ("03646f63 00 02 020000", "doc", Update(b"\x00\x00")),
    ("03646f63 01 08 01 05 01 046e756c6c", "doc", Awareness(bytes.fromhex("0105 01 046e756c6c"))),
    ("03646f63 01 01 00", "doc", EMPTY_AWARENESS),
    ("03646f63 03", "doc", QueryAwareness()),
    ("03646f63 05 026869", "doc", Stateless("hi")),
    ("03646f63 07", "doc", Detach()),
    ("06646f63006162 00 00 0100", "doc\0ab", SyncStep1(b"\x00")),
]


@pytest.mark.parametrize(("frame", "address", "content"), GOLDEN_IN)
def test_hocuspocus_frame_is_read(frame: str, address: str, content: object) -> None:
    assert hocuspocus.decode(bytes.fromhex(frame)) == (address, content)


def test_hocuspocus_pong_belongs_to_no_document() -> None:
    assert hocuspocus.decode(b"\x0a") == Pong()


def test_session_id_is_not_part_of_the_document_name() -> None:
    assert document_of("doc\0ab\0c") == "doc"


GOLDEN_OUT = [
    (Granted(True), "03646f63 02 02 0a726561642d7772697465"),
    (Granted(False), "03646f63 02 02 08726561646f6e6c79"),
    (CredentialWanted(), "03646f63 02 00"),
    (SyncStep2(b"\x00\x00"), "03646f63 00 01 020000"),
    (NotSaved(ReadOnly()), "03646f63 08 00"),
    (EMPTY_AWARENESS, "03646f63 01 01 00"),
]


@pytest.mark.parametrize(("message", "frame"), GOLDEN_OUT)
def test_hocuspocus_frame_is_written(message: object, frame: str) -> None:
    assert Hocuspocus("doc").encode(message) == bytes.fromhex(frame)


def test_hocuspocus_denial_names_the_reason_and_repeats_the_whole_address() -> None:
    frame = Hocuspocus("doc\0ab").encode(Denied(DocumentNotFound()))
    assert frame == b"\x06doc\0ab\x02\x01\x12document-not-found"


def test_hocuspocus_acks_are_one_frame_for_each_message() -> None:
    assert Hocuspocus("doc").saved(3, 17) == [bytes.fromhex("03646f63 08 01")] * 3


def test_close_is_not_sent_to_providers_that_would_throw_on_it() -> None:
    assert Hocuspocus("doc", "").close_frame("x") is None
    assert Hocuspocus("doc", "4.8.0").close_frame("Reset Connection") == bytes.fromhex(
        "03646f63 07 10526573657420436f6e6e656374696f6e"
    )


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "00 00 00 0100",  # no document is named: a y-websocket frame on the wrong endpoint
        "03646f",
        "03646f63",
        "03646f63 06 026869",  # broadcast stateless is for servers only
        "03646f63 04 00 0100",
        "03646f63 63",
        "03646f63 00 03 0100",
        "03646f63 00 00 0500",
        "03646f63 00 00 0100 00",
        "03646f63 02 01 00",
        "03ffffff 00 00 0100",
        "ffffffffffffffffff7f",
    ],
)
def test_damaged_hocuspocus_frame_is_malformed(frame: str) -> None:
    with pytest.raises(Malformed):
        hocuspocus.decode(bytes.fromhex(frame))


Y_WEBSOCKET_IN = [
    ("00 00 0100", SyncStep1(b"\x00")),
    ("00 01 020000", SyncStep2(b"\x00\x00")),
    ("00 02 020000", Update(b"\x00\x00")),
    ("01 01 00", EMPTY_AWARENESS),
    ("03", QueryAwareness()),
]


@pytest.mark.parametrize(("frame", "message"), Y_WEBSOCKET_IN)
def test_y_websocket_frame_is_read(frame: str, message: object) -> None:
    assert YWebSocket().decode(bytes.fromhex(frame)) == message


def test_y_websocket_denial_is_an_auth_message() -> None:
    assert YWebSocket().encode(Denied(ReadOnly())) == b"\x02\x00\x09read-only"


def test_y_websocket_client_hears_of_acks_only_when_it_asked() -> None:
    assert YWebSocket().saved(2, 9) == []
    assert YWebSocket(acks=True).saved(2, 9) == [bytes((101, 2, 9))]


@pytest.mark.parametrize(
    "frame", ["", "02 00 00", "04", "63", "00", "00 03 00", "00 00 0200", "00 00 0100 ff", "80"]
)
def test_damaged_or_unknown_y_websocket_frame_is_malformed(frame: str) -> None:
    with pytest.raises(Malformed):
        YWebSocket().decode(bytes.fromhex(frame))
