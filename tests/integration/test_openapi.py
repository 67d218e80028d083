import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.routing import Route

from collab_server.app import create_app
from collab_server.settings import Settings
from collab_server.transport.problems import TABLE
from collab_server.transport.rest import auth, documents, server
from collab_server.transport.rest.api import PREFIX
from schemas.forms.server import Problem
from tests.integration.world import SECRET, World

OPERATIONS = ("get", "post", "put", "patch", "delete")


@pytest.fixture
async def description(small_world: World) -> dict[str, Any]:
    answer = await small_world.client.get("/api/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def operations(description: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in description["paths"].items():
        for method in OPERATIONS:
            if method in item:
                yield method.upper(), path, item[method]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


async def test_it_is_openapi_3_1(description: dict[str, Any]):
    assert re.fullmatch(r"3\.1\.\d+", description["openapi"])
    assert description["servers"] == [{"url": "/"}]


async def test_it_lists_every_route_and_no_other(description: dict[str, Any]):
    served = {
        (method, PREFIX + route.path)
        for module in (auth, documents, server)
        for route in module.router.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    described = {(method, path) for method, path, _ in operations(description)}
    assert described == served | {("GET", "/healthz"), ("GET", "/readyz")}
    assert len(served) >= 16


async def test_every_http_route_of_the_server_is_described_or_a_page(description: dict[str, Any]):
    app = create_app(Settings(_env_file=None, jwt_secret=SECRET))
    plain = {route.path for route in app.routes if isinstance(route, Route)}
    pages = {"/", "/api/docs", "/api/docs.js", "/api/openapi.json"}
    assert {path for path in plain - pages if not path.startswith(("/api/v1", "/metrics"))} <= set(
        description["paths"]
    )


async def test_operation_ids_are_unique_words(description: dict[str, Any]):
    ids = [operation["operationId"] for _, _, operation in operations(description)]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z][A-Za-z]+", found) for found in ids)
    assert all(operation["summary"] for _, _, operation in operations(description))


async def test_every_reference_leads_somewhere(description: dict[str, Any]):
    for reference in references(description):
        place: Any = description
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


async def test_every_error_is_a_problem_with_an_example(description: dict[str, Any]):
    rows = {kind.slug: row for kind, row in TABLE.items()}
    for method, path, operation in operations(description):
        for status, response in operation["responses"].items():
            if int(status) < 400:
                continue
            where = (method, path, status)
            assert list(response["content"]) == ["application/problem+json"], where
            content = response["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}, where
            assert content["examples"], where
            for slug, example in content["examples"].items():
                problem = TypeAdapter(Problem).validate_python(example["value"])
                assert problem.type == f"urn:collab:problem:{slug}", where
                assert problem.status == rows[slug].status == int(status), where


async def test_what_asks_for_a_token_says_so(description: dict[str, Any]):
    open_to_all = {"register", "logIn", "refresh", "info", "healthz", "readyz"}
    for _, path, operation in operations(description):
        signed_in = operation["operationId"] not in open_to_all
        assert ("security" in operation) is signed_in, path
        assert ("401" in operation["responses"]) is (signed_in or ("/auth/" in path and path[-8:] != "register"))
    scheme = description["components"]["securitySchemes"]["accessToken"]
    assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")


async def test_every_body_is_json_with_an_example_and_no_unknown_fields(description: dict[str, Any]):
    schemas = description["components"]["schemas"]
    for method, path, operation in operations(description):
        if "requestBody" not in operation:
            continue
        assert list(operation["requestBody"]["content"]) == ["application/json"], (method, path)
        reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        form = schemas[reference.rpartition("/")[2]]
        assert form["additionalProperties"] is False, (method, path)
        assert {"400", "403", "413", "415", "422"} <= set(operation["responses"]), (method, path)


async def test_no_internal_schema_and_no_stored_secret_is_described(description: dict[str, Any]):
    text = json.dumps(description)
    for word in ("HTTPValidationError", "password_hash", "refresh_hash", "acl_version", "is_staff"):
        assert word not in text


async def test_the_page_that_shows_it_needs_no_foreign_host_and_no_inline_script(small_world: World):
    page = await small_world.client.get("/api/docs")
    script = await small_world.client.get("/api/docs.js")
    assert page.status_code == script.status_code == 200
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert sources
    assert all(source.startswith(("/static/docs/", "/api/")) for source in sources)
    assert "<script>" not in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert script.headers["content-type"].startswith("text/javascript")
    assert "http" not in script.text
