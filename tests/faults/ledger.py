"""Who was told what: the book the server's promises are checked against.

Every write carries a token of its own. A token that was acked to its author, or that anybody else has
received, must be in the document for ever; one that was never written, or was refused, must never be there.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

TOKEN = re.compile(r"c\d+-\d+;")
TOKEN_BYTES = re.compile(rb"c\d+-\d+;")


def tokens_in(update: bytes) -> set[str]:
    """The tokens an update carries. They end with a semicolon, so that none is the beginning of another."""
    return {found.decode() for found in TOKEN_BYTES.findall(update)}


@dataclass(slots=True)
class Entry:
    """What is known of one token."""

    document: str
    author: int
    acked: bool = False
    seen: bool = False
    left: bool = False
    """Its author closed the socket in good order after it, and the server has not crashed since."""
    forbidden: bool = False
    """Its author had no right to write it."""


@dataclass(slots=True)
class Ledger:
    """The tokens of a whole run, and what was found wrong with them so far."""

    entries: dict[str, Entry] = field(default_factory=dict)
    acked_lost: set[str] = field(default_factory=set)
    seen_lost: set[str] = field(default_factory=set)
    left_lost: set[str] = field(default_factory=set)
    invented: set[str] = field(default_factory=set)
    refused_but_present: set[str] = field(default_factory=set)
    divergent: int = 0
    never_acked: int = 0
    unreadable: int = 0
    """Updates of the server that a replica could not apply."""
    shut_out: int = 0
    """Honest clients that were closed with a code that is final for y-websocket (4400 to 4499)."""
    refusals: int = 0
    last_ack: float = 0.0

    def write(self, document: str, author: int, *, forbidden: bool = False) -> str:
        """A new token of ``author``."""
        token = f"c{author}-{len(self.entries)};"
        self.entries[token] = Entry(document, author, forbidden=forbidden)
        return token

    def ack(self, tokens: Iterable[str]) -> None:
        for token in tokens:
            self.entries[token].acked = True

    def see(self, document: str, reader: int, tokens: Iterable[str]) -> None:
        """``reader`` received these from the server."""
        for token in tokens:
            entry = self.entries.get(token)
            if entry is None or entry.document != document:
                self.invented.add(token)
            elif entry.author != reader:
                entry.seen = True

    def leave(self, tokens: Iterable[str]) -> None:
        """The author of these has left in good order."""
        for token in tokens:
            self.entries[token].left = True

    def crash(self) -> None:
        """The server was killed: what was merely sent before has no promise any more."""
        for entry in self.entries.values():
            entry.left = False

    def check(
        self,
        document: str,
        present: Iterable[str],
        *,
        promised: Collection[str] | None = None,
        at_rest: bool = False,
    ) -> None:
        """``present`` is everything in one whole copy of the document. ``promised``: what had to be in it when
        it was made, if that is less than what has to be there now. ``at_rest``: all that was under way has
        had its time."""
        here = set(present)
        for token in here:
            entry = self.entries.get(token)
            if entry is None or entry.document != document:
                self.invented.add(token)
            elif entry.forbidden:
                self.refused_but_present.add(token)
        for token, entry in self.entries.items():
            if entry.document != document or token in here or entry.forbidden:
                continue
            if promised is not None and token not in promised:
                continue
            if entry.acked:
                self.acked_lost.add(token)
            if entry.seen:
                self.seen_lost.add(token)
            if entry.left and at_rest:
                self.left_lost.add(token)

    def promised(self, document: str) -> set[str]:
        """The tokens that must be in the document now."""
        return {
            token
            for token, entry in self.entries.items()
            if entry.document == document and (entry.acked or entry.seen) and not entry.forbidden
        }

    def figures(self) -> dict[str, int]:
        entries = self.entries.values()
        return {
            "writes": sum(not entry.forbidden for entry in entries),
            "forbidden_writes": sum(entry.forbidden for entry in entries),
            "acked": sum(entry.acked for entry in entries),
            "seen": sum(entry.seen for entry in entries),
            "refusals": self.refusals,
            "acked_lost": len(self.acked_lost),
            "seen_lost": len(self.seen_lost),
            "left_lost": len(self.left_lost),
            "invented": len(self.invented),
            "refused_but_present": len(self.refused_but_present),
            "divergent": self.divergent,
            "never_acked": self.never_acked,
            "unreadable": self.unreadable,
            "shut_out": self.shut_out,
        }


ZERO = (
    "acked_lost",
    "seen_lost",
    "left_lost",
    "invented",
    "refused_but_present",
    "divergent",
    "never_acked",
    "unreadable",
    "shut_out",
)
"""The figures of a ledger that must be 0."""
