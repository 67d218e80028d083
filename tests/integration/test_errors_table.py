"""Whatever goes wrong, the answer is a problem: also what Starlette and FastAPI find wrong by themselves."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from persistence.database import Database
from schemas.errors import RateLimited, StorageFull, StorageUnavailable
from tests.integration.world import Person, World, running, slug

JSON = {"content-type": "application/json"}
LIMIT = 2048


@pytest.fixture
async def narrow_world(sqlite_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with running(sqlite_url, tmp_path, max_body_bytes=LIMIT) as world:
        yield world


async def post(world: World, body: Any, headers: dict[str, str] = JSON) -> tuple[int, str]:
    answer = await world.client.post("/api/v1/auth/login", content=body, headers=headers)
    return answer.status_code, slug(answer)


class TestBodies:
    async def test_what_is_no_json_is_malformed(self, small_world: World):
        for body in (
            b"{",
            b"{'email': 1}",
            b"\xff\xfe",
            b'{"email": NaN}',
            b'{"email": Infinity}',
            b'{"email": "a", "email": "b"}',
            b'{"x": ' + b"[" * 40 + b"]" * 40 + b"}",
            b"[" * 100_000,
            b'{"a":1} {"b":2}',
            b'{"n": ' + b"9" * 5000 + b"}",
        ):
            assert await post(small_world, body) == (400, "malformed"), body[:40]

    async def test_what_is_json_but_no_form_is_invalid(self, small_world: World):
        for body in (b"", b"null", b"[]", b'"x"', b"7", b"{}", b'{"email": {"a": 1}, "password": []}'):
            assert await post(small_world, body) == (422, "validation"), body

    async def test_half_a_surrogate_pair_is_refused_before_anything_is_stored(self, small_world: World):
        body = b'{"email":"a@example.com","password":"three quiet \\ud800tters","name":"A\\udfff"}'
        answer = await small_world.client.post("/api/v1/auth/register", content=body, headers=JSON)
        assert (answer.status_code, slug(answer)) == (422, "validation")

    async def test_only_application_json_is_taken(self, small_world: World):
        body = b'{"email": "a@example.com", "password": "x"}'
        for media_type in ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"):
            headers = {"content-type": media_type}
            assert await post(small_world, body, headers) == (415, "unsupported-media-type"), media_type
        for media_type in ("application/json", "application/json; charset=utf-8", "Application/JSON"):
            assert await post(small_world, body, {"content-type": media_type}) == (401, "wrong-credentials")

    async def test_the_input_is_never_quoted(self, small_world: World):
        body = json.dumps({"email": "hunter2@", "password": ["hunter2"], "hunter": "hunter2"})
        answer = await small_world.client.post("/api/v1/auth/login", content=body, headers=JSON)
        assert slug(answer) == "validation"
        assert "hunter2" not in answer.text

    async def test_a_body_over_the_limit_is_refused(self, narrow_world: World):
        assert await post(narrow_world, b" " * (LIMIT + 1)) == (413, "too-large")
        assert await post(narrow_world, b" " * (LIMIT - 2) + b"{}") == (422, "validation")

    async def test_a_body_is_counted_while_it_is_read(self, narrow_world: World):
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(LIMIT):
                yield b"  "

        assert await post(narrow_world, chunks()) == (413, "too-large")

    async def test_a_length_that_is_no_number_is_refused(self, narrow_world: World):
        for length in ("-1", "x", "9" * 5000, "1.5"):
            headers = JSON | {"content-length": length}
            answer = await narrow_world.client.post("/api/v1/auth/login", content=b"{}", headers=headers)
            assert answer.status_code == 413


class TestAddresses:
    async def test_an_unknown_address_is_a_problem(self, small_world: World):
        for path in ("/nope", "/api/nope", "/api/v1/nope", "/api/v1", "/api/v1/auth/me/", "/static/nope.js"):
            answer = await small_world.client.get(path)
            assert (answer.status_code, slug(answer)) == (404, "not-found"), path

    async def test_static_files_stay_in_their_folder(self, small_world: World):
        for path in ("/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/....//app.py", "/static/%00"):
            assert (await small_world.client.get(path)).status_code == 404, path

    async def test_a_wrong_method_names_the_right_ones(self, small_world: World):
        answer = await small_world.client.put("/api/v1/auth/me")
        assert (answer.status_code, slug(answer)) == (405, "method-not-allowed")
        assert answer.headers["allow"] == "GET"
        for path, allowed in (
            ("/documents", "GET, POST"),
            ("/documents/d", "DELETE, GET, PATCH"),
            ("/documents/d/members", "GET, POST"),
            ("/documents/d/members/a", "DELETE, PUT"),
        ):
            assert (await small_world.ask("OPTIONS", path)).headers["allow"] == allowed
        for method in ("TRACE", "BREW"):
            assert (await small_world.client.request(method, "/healthz")).status_code == 405


class TestTrouble:
    @pytest.fixture
    async def anna(self, small_world: World) -> Person:
        return await small_world.person("Anna")

    @pytest.mark.parametrize(
        "error, status, found",
        [
            (StorageUnavailable(), 503, "storage-unavailable"),
            (StorageFull(), 507, "storage-full"),
            (RuntimeError("secret detail"), 500, "internal"),
            (KeyError("secret detail"), 500, "internal"),
        ],
    )
    async def test_trouble_below_is_told_without_details(
        self,
        small_world: World,
        anna: Person,
        monkeypatch: pytest.MonkeyPatch,
        error: Exception,
        status: int,
        found: str,
    ):
        def broken(self: Database) -> None:
            raise error

        monkeypatch.setattr(Database, "read", broken)
        for path in ("/documents", "/auth/me"):
            answer = await anna.ask("GET", path)
            assert (answer.status_code, slug(answer)) == (status, found)
            assert "secret detail" not in answer.text
        ready = await small_world.client.get("/readyz")
        assert (ready.status_code, slug(ready)) == (status, found)
        assert (await small_world.client.get("/healthz")).status_code == 200

    async def test_the_time_to_wait_is_told(self, anna: Person, monkeypatch: pytest.MonkeyPatch):
        def busy(self: Database) -> None:
            raise RateLimited(retry_after_seconds=9)

        monkeypatch.setattr(Database, "read", busy)
        answer = await anna.ask("GET", "/documents")
        assert (answer.status_code, slug(answer), answer.headers["retry-after"]) == (429, "rate-limited", "9")


class TestHealth:
    async def test_a_node_with_its_schema_is_ready(self, world: World):
        assert (await world.client.get("/healthz")).json() == {"status": "ok"}
        assert (await world.client.get("/readyz")).json() == {"status": "ok"}

    async def test_a_postgres_without_the_migrations_is_not_ready(self, empty_postgres_url: str, tmp_path: Path):
        async with running(empty_postgres_url, tmp_path, environment="production") as world:
            answer = await world.client.get("/readyz")
            assert (answer.status_code, slug(answer)) == (503, "storage-unavailable")

    async def test_a_new_sqlite_is_migrated_at_start(self, empty_sqlite_url: str, tmp_path: Path):
        async with running(empty_sqlite_url, tmp_path, environment="production") as world:
            assert (await world.client.get("/readyz")).status_code == 200

    async def test_info_needs_no_account(self, small_world: World):
        body = (await small_world.ask("GET", "/info")).json()
        assert body["name"] == "collab-server"
        assert [kind["name"] for kind in body["kinds"]] == ["document", "questionnaire", "room", "board"]
