"""Kinds of documents, as declarations."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class KindName(StrEnum):
    DOCUMENT = "document"
    QUESTIONNAIRE = "questionnaire"
    ROOM = "room"
    BOARD = "board"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a document is for. A kind without rules takes whatever any Yjs client writes."""

    name: KindName
    title: str


KINDS: Mapping[KindName, Kind] = {
    kind.name: kind
    for kind in (
        Kind(KindName.DOCUMENT, "Document"),
        Kind(KindName.QUESTIONNAIRE, "Questionnaire"),
        Kind(KindName.ROOM, "Room"),
        Kind(KindName.BOARD, "Board"),
    )
}
