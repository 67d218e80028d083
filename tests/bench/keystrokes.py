"""Somebody typing: keystrokes as a person makes them, and the Yjs updates they become.

Words are typed at the cursor, about one keystroke in four erases, the cursor now and then goes elsewhere and
sometimes a piece is pasted; in recorded sessions of papers and code the proportions are like that. A recorded
session can be used instead: ``{"txns": [{"patches": [[position, deleted, "inserted"], …]}, …]}`` (.json.gz).
"""

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pycrdt import Doc, Text

ROOT = "text"
CLIENT_ID = 2_871_346_905  # 32 bits, as yjs draws them
Patch = tuple[int, int, str]  # position, characters deleted there, text inserted there

PROSE = """
the of and to in a is that it was for on are as with they be at one have this from or had by but some what
there we can out other were all your when up use word how said an each which she do their time if will way
about many then them would write like so these her long make thing see him two has look more day could go
come did my sound no most number who over know water than call first people may down side been now find any
new work part take get place made live where after back little only round man year came show every good me
replica document server network message offline merge conflict update history paragraph therefore however
"""
WORDS = PROSE.split()


@dataclass(frozen=True)
class Session:
    """``updates[i]`` is keystroke i (update V1); ``clocks[i]`` is the writer's clock once it is applied."""

    updates: list[bytes]
    clocks: list[int]
    patches: list[Patch]

    def inserts(self, index: int) -> bool:
        return self.clocks[index] > (self.clocks[index - 1] if index else 0)

    def last_insert_before(self, end: int) -> int:
        """How many keystrokes to take, at most ``end``, so that the last one inserts."""
        while end > 1 and not self.inserts(end - 1):
            end -= 1
        return end

    def text(self, count: int) -> str:
        """What stands there after ``count`` keystrokes; computed without the engine."""
        content = ""
        for position, deleted, inserted in self.patches[:count]:
            content = content[:position] + inserted + content[position + deleted :]
        return content


def record(patches: Iterator[Patch], count: int) -> Session:
    """The first ``count`` keystrokes as updates. A patch that deletes and inserts is one update, as in Yjs."""
    doc: Doc = Doc(client_id=CLIENT_ID)
    text = doc.get(ROOT, type=Text)
    updates: list[bytes] = []
    subscription = doc.observe(lambda event: updates.append(event.update))
    clock = 0
    clocks: list[int] = []
    done: list[Patch] = []
    for position, deleted, inserted in patches:
        if len(done) == count:
            break
        with doc.transaction():
            if deleted:
                del text[position : position + deleted]
            if inserted:
                text.insert(position, inserted)
        clock += len(inserted)
        clocks.append(clock)
        done.append((position, deleted, inserted))
    doc.unobserve(subscription)
    assert len(updates) == len(clocks) == count, "every keystroke is one update"
    return Session(updates, clocks, done)


def typed(seed: int = 8) -> Iterator[Patch]:
    """Endless keystrokes of one person."""
    dice = random.Random(seed)
    length = cursor = 0
    while True:
        if length > 200 and dice.random() < 0.08:  # goes elsewhere, mostly near
            far = dice.random() < 0.3
            cursor = dice.randrange(length) if far else min(length, max(0, cursor + dice.randint(-60, 60)))
        if length > 400 and dice.random() < 0.08:
            for patch in _erase(dice, cursor):
                yield patch
                cursor, length = patch[0], length - patch[1]
        if dice.random() < 0.01:
            pasted = " ".join(dice.choices(WORDS, k=dice.randint(3, 25))) + " "
            yield cursor, 0, pasted
            cursor, length = cursor + len(pasted), length + len(pasted)
        word = dice.choice(WORDS) + dice.choice((" ", " ", " ", " ", ", ", ". ", "\n"))
        for letter in word:
            if dice.random() < 0.06:  # a slip: a wrong letter or two, taken back
                for _ in range(slips := dice.randint(1, 3)):
                    yield cursor, 0, dice.choice("etaoinshrdlu")
                    cursor += 1
                for _ in range(slips):
                    cursor -= 1
                    yield cursor, 1, ""
            yield cursor, 0, letter
            cursor, length = cursor + 1, length + 1


def _erase(dice: random.Random, cursor: int) -> Iterator[Patch]:
    """Erases backwards, key by key, or a selection at once."""
    size = min(cursor, dice.randint(5, 40))
    if size == 0:
        return
    if dice.random() < 0.3:
        yield cursor - size, size, ""
        return
    for position in range(cursor - 1, cursor - size - 1, -1):
        yield position, 1, ""


def recorded(path: Path) -> Iterator[Patch]:
    """A session from a file, over again when it ends. What is not ASCII becomes "?": positions stay."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        transactions = json.load(file)["txns"]
    length = 0
    while True:
        for transaction in transactions:
            for position, deleted, inserted in transaction["patches"]:
                if deleted or inserted:
                    yield position, deleted, inserted.encode("ascii", "replace").decode()
                    length += len(inserted) - deleted
        if length:
            yield 0, length, ""
            length = 0
