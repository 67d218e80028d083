"""Headers, origins, request ids, and what the log must never hold."""

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.integration.world import PASSWORD, SECRET, World, running, slug

APP = "https://app.example.com"


@pytest.fixture
async def shared_world(sqlite_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with running(
        sqlite_url, tmp_path, public_url="https://collab.example.com", allowed_origins=(APP,)
    ) as world:
        yield world


class TestHeaders:
    async def test_every_answer_is_protected_also_errors(self, shared_world: World):
        for path in ("/", "/healthz", "/nope", "/api/docs", "/api/openapi.json", "/api/v1/info", "/api/v1/x"):
            headers = (await shared_world.client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["referrer-policy"] == "no-referrer", path
            assert "default-src 'none'" in headers["content-security-policy"], path
            assert "'unsafe-eval'" not in headers["content-security-policy"], path
            assert "max-age=31536000" in headers["strict-transport-security"], path
            assert "server" not in headers, path

    async def test_the_api_is_never_stored_and_never_framed(self, shared_world: World):
        for path in ("/api/v1/info", "/api/v1/auth/me", "/api/v1/nope"):
            headers = (await shared_world.client.get(path)).headers
            assert headers["cache-control"] == "no-store"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]

    async def test_plain_http_gets_no_strict_transport(self, small_world: World):
        assert "strict-transport-security" not in (await small_world.client.get("/healthz")).headers


class TestRequestIds:
    async def test_a_given_id_comes_back_also_in_the_problem(self, small_world: World):
        answer = await small_world.client.get("/nope", headers={"X-Request-Id": "abc-123_XYZ"})
        assert answer.headers["x-request-id"] == answer.json()["instance"] == "abc-123_XYZ"

    async def test_a_hostile_id_is_replaced(self, small_world: World):
        for given in ("", "short", "x" * 65, "has space", 'a"b{}-------', "%0aINFO-------"):
            answer = await small_world.client.get("/healthz", headers={"X-Request-Id": given})
            assert answer.headers["x-request-id"] != given
            assert len(answer.headers["x-request-id"]) == 32


class TestOrigins:
    async def test_a_listed_origin_may_read_and_write(self, shared_world: World):
        preflight = await shared_world.client.options(
            "/api/v1/auth/login",
            headers={"Origin": APP, "Access-Control-Request-Method": "POST"},
        )
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == APP
        assert "access-control-allow-credentials" not in preflight.headers
        answer = await shared_world.ask("POST", "/auth/login", {}, headers={"Origin": APP})
        assert answer.status_code == 422
        assert answer.headers["access-control-allow-origin"] == APP
        assert "Origin" in answer.headers["vary"]

    async def test_a_foreign_origin_changes_nothing_and_reads_nothing(self, shared_world: World):
        for origin in ("https://evil.example", "null", APP + ".evil.example", "http://app.example.com"):
            headers = {"Origin": origin}
            wrote = await shared_world.ask("POST", "/auth/login", {}, headers=headers)
            assert (wrote.status_code, slug(wrote)) == (403, "origin")
            asked = await shared_world.client.options(
                "/api/v1/auth/login", headers=headers | {"Access-Control-Request-Method": "POST"}
            )
            assert asked.status_code == 403
            read = await shared_world.ask("GET", "/info", headers=headers)
            assert "access-control-allow-origin" not in read.headers

    async def test_our_own_page_and_clients_without_an_origin_may(self, shared_world: World):
        for headers in ({"Origin": "https://collab.example.com"}, {}):
            answer = await shared_world.ask("POST", "/auth/login", {}, headers=headers)
            assert answer.status_code == 422


class TestLog:
    async def test_a_request_is_one_line_without_its_query(self, small_world: World):
        with capture_logs() as lines:
            await small_world.client.get("/healthz?ticket=tkt_canary", headers={"X-Request-Id": "request-1"})
        (line,) = lines
        assert (line["event"], line["method"], line["path"], line["status"]) == (
            "request",
            "GET",
            "/healthz",
            200,
        )
        assert "canary" not in str(lines)

    async def test_a_path_cannot_forge_a_line(self, small_world: World):
        with capture_logs() as lines:
            await small_world.client.get("/x%0a2026-11-20 INFO logged_in%1b[31m%e2%80%a8")
        (line,) = lines
        assert line["path"].isascii()
        assert line["path"].isprintable()

    async def test_what_an_operator_must_see_is_logged(self, small_world: World):
        with capture_logs() as lines:
            anna, boris = await small_world.person("Anna"), await small_world.person("Boris")
            wrong = {"email": anna.email, "password": "three quiet foxes"}
            await small_world.ask("POST", "/auth/login", wrong)
            document_id = await small_world.document(anna, editor=boris)
            refresh = {"refresh_token": anna.tokens["refresh_token"]}
            await small_world.ask("POST", "/auth/refresh", refresh)
            small_world.clock.advance(60)
            await small_world.ask("POST", "/auth/refresh", refresh)
            await boris.ask("DELETE", f"/documents/{document_id}")
            await boris.ask("POST", "/auth/logout")
        events = {line["event"] for line in lines}
        assert events >= {
            "account_registered",
            "logged_in",
            "login_refused",
            "role_changed",
            "refresh_token_reused",
            "logged_out",
        }

    async def test_no_secret_is_ever_logged_or_answered_in_an_error(
        self, world: World, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ):
        caplog.set_level(logging.DEBUG)
        logging.getLogger("httpx").setLevel(logging.WARNING)  # the client of this test, not the server
        with capture_logs() as lines:
            anna = await world.person("Anna")
            document_id = await world.document(anna)
            ticket = (await anna.ask("POST", f"/documents/{document_id}/ticket")).json()["ticket"]
            token, refresh = anna.tokens["access_token"], anna.tokens["refresh_token"]
            secrets = [PASSWORD, SECRET, token, refresh, ticket]
            errors = []
            for secret in secrets:
                wrong = {"email": "anna@example.com", "password": secret + "x"}
                errors.append(await world.ask("POST", "/auth/login", wrong))
                errors.append(await world.ask("POST", "/auth/register", wrong | {"name": "A"}))
                errors.append(await world.ask("POST", "/auth/login", {"email": secret, "password": [secret]}))
                errors.append(await world.ask("POST", "/auth/refresh", {"refresh_token": secret + "x"}))
                bearer = {"Authorization": f"Bearer {secret}x"}
                errors.append(await world.ask("GET", f"/auth/me?token={secret}", headers=bearer))
                errors.append(await world.ask("GET", f"/nope?ticket={secret}"))
            await world.services.access.by_ticket(ticket, document_id)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(world.services.documents), "get", _breaks)
                errors.append(await anna.ask("GET", f"/documents/{document_id}"))
        assert {error.status_code for error in errors} == {401, 404, 409, 422, 500}
        output = capfd.readouterr()
        everything = json.dumps(lines, default=repr) + caplog.text + output.out + output.err
        everything += "".join(error.text for error in errors)
        for secret in secrets:
            assert secret not in everything


async def _breaks(*_: object) -> None:
    raise RuntimeError("broken")
