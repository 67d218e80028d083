"""A Yjs replica that is written to with tokens and read as a whole."""

import json
from random import Random
from typing import Any

from pycrdt import Array, Doc, Map, Text

from tests.faults.ledger import TOKEN


class TokenDoc:
    """A ``Doc`` with an array, a map and a text, each holding tokens."""

    def __init__(self, random: Random, client_id: int | None = None) -> None:
        self._random = random
        self.doc: Doc[Any] = Doc(client_id=client_id)
        self._array = self.doc.get("array", type=Array)
        self._map = self.doc.get("map", type=Map)
        self._text = self.doc.get("text", type=Text)

    def write(self, token: str) -> bytes:
        """Put ``token`` somewhere; the update that says so."""
        before = self.doc.get_state()
        with self.doc.transaction():
            match self._random.randrange(4):
                case 0:
                    self._array.insert(self._random.randint(0, len(self._array)), token)
                case 1:
                    self._map[token] = 1
                case 2:
                    self._text.insert(0, token)
                case _:
                    self._text.insert(len(self._text), token)
        return self.doc.get_update(before)

    def apply(self, update: bytes) -> None:
        self.doc.apply_update(update)

    def content(self) -> str:
        """Everything in it, in one canonical string: replicas are compared by it, not by state vectors."""
        whole = {"array": self._array.to_py(), "map": self._map.to_py(), "text": str(self._text)}
        return json.dumps(whole, sort_keys=True)

    def tokens(self) -> set[str]:
        return set(TOKEN.findall(self.content()))
