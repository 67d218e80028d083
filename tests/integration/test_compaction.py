"""Compaction of what several people wrote at once."""

from random import Random

import pytest
from pycrdt import Array, Doc, Map, Text

from collab_server.compaction import merged_state

EDITS = 150


def edited_together(authors: int, seed: int) -> list[bytes]:
    """Updates, in the order the server got them, of people who insert, delete and are late in hearing."""
    random = Random(seed)
    docs = [Doc() for _ in range(authors)]
    log: list[bytes] = []
    for number in range(EDITS):
        doc = random.choice(docs)
        for update in log[random.choice((0, -3)) :] if random.random() < 0.5 else ():
            doc.apply_update(update)
        before = doc.get_state()
        text, values = doc.get("text", type=Text), doc.get("array", type=Array)
        match random.randrange(5):
            case 0 if len(text) > 4:
                at = random.randrange(len(text) - 3)
                del text[at : at + 2]
            case 1 if len(values):
                del values[random.randrange(len(values))]
            case 2:
                doc.get("map", type=Map)[random.choice("abc")] = number
            case 3:
                values.insert(random.randint(0, len(values)), number)
            case _:
                text.insert(random.randint(0, len(text)), "words "[: random.randint(1, 6)])
        log.append(doc.get_update(before))
    return log


def content(updates: list[bytes]) -> tuple[object, ...]:
    doc = Doc()
    for update in updates:
        doc.apply_update(update)
    return doc.get("array", type=Array).to_py(), doc.get("map", type=Map).to_py(), str(doc.get("text", type=Text))


@pytest.mark.parametrize("authors", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_what_several_people_wrote_at_once_is_merged_into_one_state(authors: int, seed: int) -> None:
    log = edited_together(authors, seed)

    first = merged_state((), log[:100])
    second = merged_state((first,), log[100:])

    assert content([second]) == content(log)


def test_a_merge_that_lost_an_update_is_not_the_merge_of_the_others() -> None:
    log = edited_together(3, seed=1)
    assert content([merged_state((), log[:-5])]) != content([merged_state((), log)])
