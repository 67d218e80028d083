"""The composition root: everything is made and connected on this page."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TypedDict

from starlette.applications import Starlette
from starlette.routing import Mount, Route

from auth.passwords import Passwords
from auth.secrets import RefreshTokens, derive_key
from auth.tokens import AccessTokens
from collab_server.clock import SystemClock
from collab_server.connections.socket import OpenSockets
from collab_server.hub import Hub
from collab_server.node import running_hub
from collab_server.ports import Clock
from collab_server.secrets_file import jwt_secret
from collab_server.services.access import AccessService
from collab_server.services.accounts import AccountService, SessionRules
from collab_server.services.announcements import Announcements
from collab_server.services.documents import DocumentService
from collab_server.services.hashing import Hashing
from collab_server.services.health import HealthService
from collab_server.services.state import Services
from collab_server.services.tickets import TicketService
from collab_server.settings import Settings
from collab_server.transport import middleware
from collab_server.transport.origins import OriginRules
from collab_server.transport.pages import page_routes
from collab_server.transport.rest.api import PREFIX, create_api, description_routes
from collab_server.transport.rest.server import healthz, readyz
from collab_server.transport.translation import HANDLERS
from collab_server.transport.websocket import socket_routes
from persistence import migrate
from persistence.database import Database


class State(TypedDict):
    """What every request finds in ``request.state``."""

    services: Services
    hub: Hub
    sockets: OpenSockets
    socket_url: str


def create_app(settings: Settings, clock: Clock | None = None) -> Starlette:
    """The whole server as one ASGI app. Raises ``ConfigurationError`` for settings that make no server."""
    clock = clock or SystemClock()
    secret = jwt_secret(settings)
    rules = OriginRules.of(settings.allowed_origins, settings.public_url)
    api = create_api()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        async with AsyncExitStack() as stack:
            database = await Database.open(settings.database)
            stack.push_async_callback(database.close)
            if _migrates_itself(settings, database):
                await migrate.upgrade(database)
            services = await stack.enter_async_context(_services(settings, database, clock, secret))
            hub = await stack.enter_async_context(running_hub(settings, database, clock, services))
            sockets = OpenSockets()
            yield State(services=services, hub=hub, sockets=sockets, socket_url=_socket_url(settings))

    app = Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            *description_routes(api),
            Mount(PREFIX, api),
            *socket_routes(settings, rules),
            *page_routes(),
        ],
        middleware=middleware.stack(
            rules,
            clock,
            max_body_bytes=settings.max_body_bytes,
            https=settings.public_url.startswith("https://"),
        ),
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # it would redirect to whatever host the Host header names
    return app


def from_environment() -> Starlette:
    """For uvicorn: ``uvicorn --factory collab_server.app:from_environment``."""
    return create_app(Settings.model_validate({}))  # reads the environment; nothing is handed in


def _services(
    settings: Settings, database: Database, clock: Clock, secret: bytes
) -> AbstractAsyncContextManager[Services]:
    announcements = Announcements()
    access_tokens = AccessTokens(secret, settings.public_url, settings.access_token_seconds)
    hashing = Hashing(
        Passwords(settings.password_hash_memory_kib, settings.password_hash_passes),
        settings.password_hash_slots,
    )
    services = Services(
        accounts=AccountService(
            database=database,
            clock=clock,
            hashing=hashing,
            access_tokens=access_tokens,
            refresh_tokens=RefreshTokens(derive_key(secret, "refresh tokens")),
            rules=SessionRules(
                idle=timedelta(days=settings.refresh_idle_days),
                absolute=timedelta(days=settings.refresh_absolute_days),
                grace=timedelta(seconds=settings.refresh_grace_seconds),
            ),
            announcements=announcements,
        ),
        documents=DocumentService(database, clock, announcements),
        tickets=TicketService(database, clock, settings.ticket_seconds),
        access=AccessService(database, clock, access_tokens),
        health=HealthService(database, migrate.head()),
        announcements=announcements,
    )

    @asynccontextmanager
    async def running() -> AsyncIterator[Services]:
        try:
            yield services
        finally:
            hashing.close()

    return running()


def _migrates_itself(settings: Settings, database: Database) -> bool:
    """SQLite has no other process that could; with Postgres in production an operator decides when."""
    return database.dialect == "sqlite" or settings.environment == "development"


def _socket_url(settings: Settings) -> str:
    """From the settings, never from a Host header: it is handed out."""
    return "ws" + settings.public_url.removeprefix("http").rstrip("/")
