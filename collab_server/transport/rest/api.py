"""The REST app, mounted by ``app.py`` at ``PREFIX``."""

import functools

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from collab_server import __version__
from collab_server.transport.rest import auth, docs_page, documents, server
from collab_server.transport.rest.openapi import describe
from collab_server.transport.translation import HANDLERS, on_collab_error

PREFIX = "/api/v1"


def create_api() -> FastAPI:
    api = FastAPI(
        title="collab-server",
        version=__version__,
        summary="Accounts, documents and who may do what with them.",
        description="Errors are RFC 9457 problems: compare their `type`, show their `detail`.",
        openapi_tags=[{"name": "auth"}, {"name": "documents"}, {"name": "server"}],
        openapi_url=None,  # served beside the mount, with the full paths
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for kind, handler in HANDLERS.items():
        api.add_exception_handler(kind, handler)
    api.add_exception_handler(Exception, on_collab_error)
    for router in (auth.router, documents.router, server.router):
        api.include_router(router)
    return api


def description_routes(api: FastAPI) -> list[BaseRoute]:
    """/api/openapi.json and the page that shows it."""
    described = functools.cache(lambda: describe(api, PREFIX))  # when first asked: it takes 40 ms

    async def openapi(request: Request) -> Response:
        return JSONResponse(described())

    return [
        Route("/api/openapi.json", openapi),
        Route("/api/docs", docs_page.docs),
        Route("/api/docs.js", docs_page.docs_script),
    ]
