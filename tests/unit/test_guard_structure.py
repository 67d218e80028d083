"""What is judged against the whole document: depth of types, entries of maps, cut characters."""

from collections.abc import Callable

import pytest
from pycrdt import Doc

from collab_server.live.guard import advance, fresh_clients, inspect_own_state, inspect_update
from collab_server.live.structure import Structure
from collab_server.live.surrogates import LowSurrogates, may_have_pairs
from collab_server.live.type_depths import TypeDepths
from schemas.errors import Malformed
from tests.fuzz import updates as u
from tests.fuzz.hostile import honest_sessions


class Document:
    """A ``Doc`` that takes what its tables admit."""

    def __init__(self) -> None:
        self.doc: Doc[object] = Doc()
        self.clocks: dict[int, int] = {}
        self.states_asked = 0
        self.structure = Structure(self._state)

    def _state(self) -> bytes:
        self.states_asked += 1
        return self.doc.get_update()

    def take(self, *structs: bytes, client: int = 1) -> bool:
        return self.take_update(u.update(u.section(client, self.clocks.get(client, 0), *structs)))

    def take_update(self, update: bytes) -> bool:
        footprint = inspect_update(update)
        cuts = self.structure.admit(footprint, self.clocks)
        if not cuts:
            self.doc.apply_update(update)
        advance(footprint, self.clocks)
        return cuts

    def reopened(self) -> "Document":
        other = Document()
        other.doc.apply_update(self.doc.get_update())
        other.clocks = dict(self.clocks)
        return other


Reopen = Callable[[Document], Document]
KEPT_OR_REOPENED = pytest.mark.parametrize("reopen", [lambda d: d, Document.reopened], ids=["kept", "reopened"])


# -- depth -----------------------------------------------------------------------------------------


@KEPT_OR_REOPENED
@pytest.mark.parametrize("clients", [1, 3])
def test_types_nest_to_the_limit_and_not_deeper_over_many_updates(reopen: Reopen, clients: int) -> None:
    document = Document()
    parent = None
    for depth in range(128):
        client = depth % clients + 1
        clock = document.clocks.get(client, 0)
        document.take(u.shared_type(0, parent=parent), client=client)
        parent = (client, clock)
        if depth % 40 == 0:
            document = reopen(document)
    with pytest.raises(Malformed, match="deeper than 128"):
        document.take(u.shared_type(0, parent=parent))
    document.take(u.values(b"\x7e", parent=parent))


def test_types_nested_too_deeply_in_one_update_are_refused() -> None:
    nest = [u.shared_type(0, parent=(1, at - 1) if at else None) for at in range(129)]
    assert not Document().take(*nest[:128])
    with pytest.raises(Malformed, match="deeper than 128"):
        Document().take(*nest)


@KEPT_OR_REOPENED
def test_depth_is_inherited_from_a_neighbour_that_is_a_plain_character(reopen: Reopen) -> None:
    """The update names only the neighbour; the neighbour was typed one stroke before."""
    document = Document()
    clock = -1
    for _ in range(128):
        document.take(u.shared_type(2, **({"origin": (1, clock)} if clock >= 0 else {})))
        document.take(u.text("a", parent=(1, clock + 1)))
        document.take(u.text("b", origin=(1, clock + 2)))
        clock += 3
    document = reopen(document)
    with pytest.raises(Malformed, match="deeper than 128"):
        document.take(u.shared_type(2, origin=(1, clock)))
    with pytest.raises(Malformed, match="deeper than 128"):
        document.take(u.shared_type(2, right=(1, clock)), client=2)
    document.take(u.shared_type(2, origin=(1, 2)))


def test_ten_thousand_sibling_paragraphs_are_not_deep() -> None:
    document = Document()
    document.take(u.shared_type(3, "p", root="x"))
    for clock in range(0, 10_000, 2):
        document.take(u.shared_type(6, parent=(1, clock)), u.shared_type(3, "p", origin=(1, clock)))
    assert document.states_asked == 2


def test_a_mixed_list_of_numbers_and_maps_is_not_deep() -> None:
    document = Document()
    document.take(u.values(b"\x7d\x01"))
    for clock in range(0, 1_000, 2):
        document.take(u.shared_type(1, origin=(1, clock)), u.values(b"\x7d\x01", origin=(1, clock + 1)))
    assert not document.take(u.text("k", parent=(1, 1)))


def test_plain_text_and_flat_maps_never_build_the_table_of_depths() -> None:
    def no_state() -> bytes:
        raise AssertionError("the state was asked for")

    depths = TypeDepths(no_state)
    for update in (
        u.update(u.section(1, 0, u.text("abc"), u.values(b"\x7e", root="m", key="k"))),
        u.update(u.section(1, 4, u.text("d", origin=(1, 1), right=(1, 2)))),
        u.update(u.section(2, 0, u.shared_type(2, root="x"), u.shared_type(1, root="m", key="t"))),
    ):
        depths.admit(inspect_update(update))


def test_a_refused_update_leaves_no_trace_in_the_tables() -> None:
    document = Document()
    document.take(*[u.shared_type(0, parent=(1, at - 1) if at else None) for at in range(128)])
    with pytest.raises(Malformed):
        document.take(u.shared_type(1, root="m", key="a"), u.shared_type(0, parent=(1, 127)))
    with pytest.raises(Malformed):
        document.take(u.values(b"\x7e", root="m", key="a"), u.text("x", origin=(1, 128)))
    document.take(u.text("list", root="t"), u.text("x", origin=(1, 128)))


# -- parents and map entries -----------------------------------------------------------------------


@KEPT_OR_REOPENED
def test_only_shared_types_are_parents(reopen: Reopen) -> None:
    document = Document()
    document.take(u.shared_type(1), u.text("abc"), u.deleted(1))
    document = reopen(document)
    document.take(u.values(b"\x7e", parent=(1, 0), key="k"))
    with pytest.raises(Malformed, match="no shared type"):
        document.take(u.text("x", parent=(1, 2)))


def test_what_is_put_into_a_type_that_is_gone_is_let_through() -> None:
    """Somebody offline wrote into what the others deleted meanwhile: honest, and without effect."""
    document = Document()
    document.take(
        u.shared_type(1), u.values(b"\x7e", parent=(1, 0), key="k"), u.shared_type(0, parent=(1, 0), key="n")
    )
    document.take_update(u.update(deletes=[u.deletions(1, (0, 3))]))
    document = document.reopened()
    document.take(u.values(b"\x7f", parent=(1, 0), key="k"), client=2)
    document.take(u.values(b"\x7f", origin=(1, 1), flags=0x20), client=3)
    document.take(u.values(b"\x7f", parent=(1, 2)), client=4)
    assert document.clocks == {1: 3, 2: 1, 3: 1, 4: 1}


@KEPT_OR_REOPENED
@pytest.mark.parametrize(
    "struct",
    [
        pytest.param(u.text("x", origin=(1, 0), right=(1, 5)), id="right is an entry"),
        pytest.param(u.text("x", origin=(1, 4)), id="origin is an entry"),
        pytest.param(u.format_mark("b", "true", origin=(1, 4)), id="a format inherits the key"),
        pytest.param(u.values(b"\x7e", origin=(1, 1), flags=0x20), id="entry after a list item"),
        pytest.param(u.values(b"\x7e", b"\x7e", right=(1, 6)), id="list item before an entry"),
    ],
)
def test_map_entries_and_list_items_do_not_mix(reopen: Reopen, struct: bytes) -> None:
    document = Document()
    old = u.values(*[b"\x7e"] * 4, root="m", key="k")
    document.take_update(u.update(u.section(1, 0, u.text("abcd"), old), deletes=[u.deletions(1, (4, 4))]))
    document = reopen(document)
    with pytest.raises(Malformed, match="disagree about being an entry"):
        document.take(struct, client=2)
    document.take(u.values(b"\x7f", origin=(1, 7), flags=0x20), client=2)
    document.take(u.text("x", origin=(1, 0), right=(1, 1)), client=3)


def test_tables_built_from_a_state_admit_what_the_tables_kept_from_the_start_admit() -> None:
    for session in honest_sessions():
        kept = Document()
        for at, update in enumerate(session):
            if at % 10 == 0:
                assert kept.reopened().take_update(update) is False
            assert kept.take_update(update) is False


# -- cut characters --------------------------------------------------------------------------------


@KEPT_OR_REOPENED
def test_an_edit_between_the_halves_of_a_pair_is_seen(reopen: Reopen) -> None:
    def fresh() -> Document:
        document = Document()
        document.take(u.text("a😀b"))
        document.take(u.text("c", origin=(1, 3)))
        return reopen(document)

    assert not fresh().take(u.text("x", origin=(1, 2), right=(1, 3)), client=2)
    assert not fresh().take(u.text("x", origin=(1, 0), right=(1, 1)), client=2)
    assert not fresh().take_update(u.update(deletes=[u.deletions(1, (1, 2))]))
    assert fresh().take(u.text("x", origin=(1, 1)), client=2)
    assert fresh().take(u.text("x", right=(1, 2)), client=2)
    assert fresh().take(u.embed("{}", origin=(1, 1), right=(1, 2)), client=2)
    assert fresh().take_update(u.update(deletes=[u.deletions(1, (0, 2))]))
    assert fresh().take_update(u.update(deletes=[u.deletions(1, (2, 1))]))


def test_honest_sessions_with_emoji_cut_nothing() -> None:
    for session in honest_sessions():
        document = Document()
        assert not any(document.take_update(update) for update in session)


def test_a_document_with_too_many_pairs_counts_as_cut() -> None:
    lows = LowSurrogates(max_pairs=3)
    many = inspect_update(u.update(u.section(1, 0, u.text("😀" * 4))))
    typed = inspect_update(u.update(u.section(1, 8, u.text("a", origin=(1, 7)))))
    lows.feed(many)
    lows.feed(many)
    assert lows.splits(typed)


def test_known_pairs_are_counted_once() -> None:
    lows = LowSurrogates(max_pairs=3)
    pairs = inspect_update(u.update(u.section(1, 0, u.text("😀" * 3))))
    for _ in range(3):
        lows.feed(pairs)
    assert not lows.splits(inspect_update(u.update(u.section(1, 6, u.text("a", origin=(1, 5))))))


def test_a_state_without_long_characters_needs_no_survey() -> None:
    assert may_have_pairs(u.update(u.section(1, 0, u.text("a😀"))))
    assert not may_have_pairs(u.update(u.section(1, 0, u.text("слово 中文"))))


def test_a_state_of_the_engine_may_hold_what_no_client_may_send() -> None:
    state = u.update(u.section(1, 0, u.text(""), u.text("a")))
    survey = inspect_own_state(state)
    assert survey.writes == {1: (0, 1)}
    assert fresh_clients(survey, {}) == (1,)
    with pytest.raises(Malformed):
        inspect_own_state(b"\x01")
