"""The corpus: what crashed, hung or silently damaged an engine once is refused for ever."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from collab_server.live.guard import advance, inspect_update, missing
from collab_server.live.structure import Structure
from schemas.errors import Malformed
from tests.fuzz import updates as u

CORPUS = Path(__file__).parent.parent / "corpus"


def _corpus(name: str) -> list[Any]:
    cases = [json.loads(line) for line in (CORPUS / name).read_text().splitlines()]
    return [pytest.param(case, id=case["name"]) for case in cases]


@pytest.mark.parametrize("case", _corpus("refused_updates.jsonl"))
def test_an_update_that_breaks_an_engine_is_malformed(case: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        inspect_update(bytes.fromhex(case["hex"]))


@pytest.mark.parametrize("case", _corpus("stopped_sequences.jsonl"))
def test_a_sequence_that_breaks_an_engine_is_stopped_at_its_last_update(case: dict[str, Any]) -> None:
    clocks: dict[int, int] = {}
    accepted: list[bytes] = []
    structure = Structure(lambda: _merged(accepted))
    *before, last = (bytes.fromhex(update) for update in case["updates"])
    for update in before:
        footprint = inspect_update(update)
        if missing(footprint, clocks):
            assert case["stopped_by"] == "missing"
            return
        assert not structure.admit(footprint, clocks)
        advance(footprint, clocks)
        accepted.append(update)
    footprint = inspect_update(last)
    assert bool(missing(footprint, clocks)) == (case["stopped_by"] == "missing")
    if case["stopped_by"] == "structure":
        with pytest.raises(Malformed):
            structure.admit(footprint, clocks)
    elif case["stopped_by"] == "cut":
        assert structure.admit(footprint, clocks)


def _merged(updates: list[bytes]) -> bytes:
    from pycrdt import merge_updates

    return bytes(merge_updates(*updates)) if updates else b"\x00\x00"


@pytest.mark.parametrize("name", ["refused_updates.jsonl", "stopped_sequences.jsonl"])
def test_every_entry_of_the_corpus_has_a_name_of_its_own_and_says_why(name: str) -> None:
    cases = [json.loads(line) for line in (CORPUS / name).read_text().splitlines()]
    assert len({case["name"] for case in cases}) == len(cases)
    assert all(case["why"] for case in cases)


# -- bombs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [65, 28_000, 1_000_000])
def test_a_value_nested_too_deeply_is_refused(depth: int) -> None:
    """28,000 levels, 56 KB, are a SIGSEGV of the whole process."""
    for level, innermost in ((b"\x75\x01", b"\x7e"), (b"\x76\x01\x01k", b"\x7e")):
        with pytest.raises(Malformed, match="nested too deeply"):
            inspect_update(u.update(u.section(1, 0, u.values(level * depth + innermost))))


def test_a_value_may_be_nested_to_the_limit() -> None:
    assert inspect_update(u.update(u.section(1, 0, u.values(b"\x75\x01" * 64 + b"\x7e"))))
    assert inspect_update(u.update(u.section(1, 0, u.embed("[" * 64 + "]" * 64))))


@pytest.mark.parametrize("depth", [65, 900, 100_000])
def test_json_nested_too_deeply_is_refused(depth: int) -> None:
    for nested in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        for struct in (u.embed(nested), u.format_mark("bold", nested)):
            with pytest.raises(Malformed):
                inspect_update(u.update(u.section(1, 0, struct)))


def test_wide_json_is_not_deep() -> None:
    assert inspect_update(u.update(u.section(1, 0, u.embed("[" + ",".join(["[]"] * 500) + "]"))))


def test_many_clients_many_structs_and_many_ranges_are_refused_by_their_count() -> None:
    for update in (
        u.update(*(u.section(client, 0, u.gc(1)) for client in range(257))),
        u.update(u.section(1, 0, *[u.gc(1)] * 50_001)),
        u.update(deletes=[u.deletions(1, *((2 * at, 1) for at in range(250_001)))]),
    ):
        with pytest.raises(Malformed, match="too many"):
            inspect_update(update)


def test_fifty_thousand_emoji_in_structs_of_their_own_are_counted_in_linear_time() -> None:
    update = u.update(u.section(1, 0, *[u.text("😀")] * 50_000))
    started = time.process_time()
    assert inspect_update(update).astral[1][-1] == 99_999
    assert time.process_time() - started < 2


def test_sections_that_wait_for_each_other_step_by_step_are_put_in_order() -> None:
    clients = range(1, 201)
    sections = []
    for client in clients:
        structs = [u.text("a")]
        for clock in range(1, 40):
            other = client % 200 + 1
            structs.append(u.text("a", origin=(other, clock - 1)))
        sections.append(u.section(client, 0, *structs))
    footprint = inspect_update(u.update(*sections))
    seen: dict[int, int] = {}
    for client, clock, end, _, origin, origin_clock, *_ in footprint.rows:
        assert seen.get(client, 0) == clock
        assert origin < 0 or origin_clock < seen[origin]
        seen[client] = end
    assert len(footprint.rows) == 8_000
