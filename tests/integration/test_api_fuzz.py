"""The description is true: generated requests get documented answers, and never a 5xx."""

import asyncio
from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import CHECKS
from schemathesis.generation import GenerationMode

from tests.server import Server

EXAMPLES = 25  # per operation and mode; a longer run is `st run /api/openapi.json`
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)


def fuzz(url: str, headers: dict[str, str]) -> int:
    """Returns how many answers were checked."""
    schema = schemathesis.openapi.from_url(f"{url}/api/openapi.json")
    checks = [CHECKS.get_one(name) for name in CHECKED]
    checked = 0
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        for result in schema.get_all_operations():
            operation = result.ok()
            if operation.definition.raw["operationId"] == "logOut":
                continue  # the rest would be about somebody signed out
            if mode is GenerationMode.NEGATIVE and "requestBody" not in operation.definition.raw:
                continue

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def ask(case: Case) -> None:
                nonlocal checked
                case.call_and_validate(base_url=url, headers=headers, checks=checks)
                checked += 1

            ask()
    return checked


async def test_generated_requests_get_documented_answers(tmp_path: Path):
    async with Server(tmp_path) as server:
        anna = await server.account("Anna")
        assert await asyncio.to_thread(fuzz, server.url, anna.headers) > 200
