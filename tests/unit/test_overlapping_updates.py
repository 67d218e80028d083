"""An update may begin with what is known already. Whose version of that counts must be the same for everybody:
for the server, for who is shown a batch as one frame, and for who loads the log."""

import pytest
from pycrdt import Doc, Text

from collab_server.live.document import LiveDocument
from collab_server.live.effects import Append
from collab_server.live.messages import Update
from collab_server.live.replica import Replica, merged
from tests.fuzz import updates as u

BASE = u.update(u.section(7, 0, u.text("AA")))


def content(*updates: bytes) -> str:
    doc = Doc()
    for update in updates:
        doc.apply_update(update)
    return str(doc.get("t", type=Text))


def accepted(live: LiveDocument, *updates: bytes) -> list[bytes]:
    effects = [effect for update in updates for effect in live.receive(1, Update(update))]
    return [effect.update for effect in effects if isinstance(effect, Append)]


AA = u.text("AA")
TEXT = u.update(u.section(7, 2, u.text("XX", origin=(7, 1))))
OTHER_TEXT = u.update(u.section(7, 0, AA, u.text("BB", origin=(7, 1)), u.text("CC", origin=(7, 3))))
TYPE = u.update(u.section(7, 2, u.shared_type(0, origin=(7, 1))))
NO_TYPE = u.update(u.section(7, 0, AA, u.format_mark("b", "true", origin=(7, 1)), u.text("C", parent=(7, 2))))


@pytest.mark.parametrize(
    "updates", [pytest.param((TEXT, OTHER_TEXT), id="another text"), pytest.param((TYPE, NO_TYPE), id="no type")]
)
def test_a_second_version_of_known_structs_is_shown_to_nobody(updates: tuple[bytes, bytes]) -> None:
    live = LiveDocument(Replica(), {})
    live.join(1, "account:1", may_write=True, wants_acks=False)
    first = accepted(live, BASE)

    batch = accepted(live, *updates)

    server = content(live.replica.state_as_update())
    assert content(*first, *batch) == server, "who loads the log"
    assert content(*first, merged(batch)) == server, "who is shown the batch as one frame"


def test_an_update_of_old_and_new_structs_is_kept_without_the_old_ones() -> None:
    live = LiveDocument(Replica(), {})
    live.join(1, "account:1", may_write=True, wants_acks=False)
    accepted(live, BASE)
    whole = u.update(u.section(7, 0, AA, u.text("BB", origin=(7, 1))))
    news = u.update(u.section(7, 2, u.text("BB", origin=(7, 1))))
    assert accepted(live, whole) == [news]
    assert content(live.replica.state_as_update()) == "AABB"
