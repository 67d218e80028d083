"""The whole app in this process, on a real database, with time in the test's hands."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from starlette.types import Receive, Scope, Send

from collab_server.app import State, create_app
from collab_server.clock import ManualClock
from collab_server.services.state import Services
from collab_server.settings import Settings
from persistence.tables import documents as documents_table

PASSWORD = "three quiet otters"
SECRET = "a secret of the tests, forty-odd bytes long"


@dataclass
class Person:
    """Somebody signed in."""

    client: httpx.AsyncClient
    id: str
    name: str
    email: str
    tokens: dict[str, Any]

    async def ask(self, method: str, path: str, json: Any = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens['access_token']}"}
        return await self.client.request(method, "/api/v1" + path, json=json, headers=headers)


@dataclass
class World:
    client: httpx.AsyncClient
    services: Services
    clock: ManualClock
    settings: Settings
    access_changed: list[str] = field(default_factory=list)
    sessions_ended: list[str] = field(default_factory=list)

    async def ask(self, method: str, path: str, json: Any = None, **more: Any) -> httpx.Response:
        return await self.client.request(method, "/api/v1" + path, json=json, **more)

    async def person(self, name: str) -> Person:
        """Registered and signed in."""
        email = f"{name.lower()}@example.com"
        form = {"email": email, "password": PASSWORD, "name": name}
        made = await self.ask("POST", "/auth/register", form)
        assert made.status_code == 201, made.text
        signed_in = await self.ask("POST", "/auth/login", {"email": email, "password": PASSWORD})
        assert signed_in.status_code == 200, signed_in.text
        return Person(self.client, made.json()["id"], name, email, signed_in.json())

    async def document(self, maker: Person, /, **roles: Person) -> str:
        """A document made by ``maker``, with members by role: ``document(anna, editor=boris)``."""
        made = await maker.ask("POST", "/documents", {"title": "Notes"})
        assert made.status_code == 201, made.text
        document_id = str(made.json()["id"])
        for role, person in roles.items():
            given = await maker.ask("PUT", f"/documents/{document_id}/members/{person.id}", {"role": role})
            assert given.status_code == 200, given.text
        self.access_changed.clear()
        return document_id

    def _listen(self) -> None:
        def sessions(ids: Collection[str]) -> None:
            self.sessions_ended.extend(ids)

        self.services.announcements.access_changed = self.access_changed.append
        self.services.announcements.sessions_ended = sessions


@asynccontextmanager
async def running(database_url: str, data_dir: Path, **changes: Any) -> AsyncIterator[World]:
    values: dict[str, Any] = {
        "database_url": database_url,
        "data_dir": data_dir,
        "jwt_secret": SECRET,
        "password_hash_memory_kib": 1024,
        "password_hash_passes": 1,
    }
    settings = Settings(_env_file=None, **(values | changes))
    clock = ManualClock(datetime(2026, 11, 20, 12, 0, tzinfo=UTC))
    app = create_app(settings, clock)
    async with app.router.lifespan_context(app) as lifespan:
        state: State = lifespan  # type: ignore[assignment]

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        transport = httpx.ASGITransport(with_state)
        async with httpx.AsyncClient(transport=transport, base_url=settings.public_url) as client:
            world = World(client, state["services"], clock, settings)
            world._listen()
            yield world


async def acl_version(world: World, document_id: str) -> int:
    async with world.services.documents.database.read() as connection:
        query = documents_table.select().where(documents_table.c.id == document_id)
        return int((await connection.execute(query)).one().acl_version)


def slug(response: httpx.Response) -> str:
    """The slug of a problem, after checking that it is a whole one."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert body["status"] == response.status_code
    assert body["instance"] == response.headers["x-request-id"]
    assert body["title"]
    assert body["detail"]
    return str(body["type"].removeprefix("urn:collab:problem:"))
