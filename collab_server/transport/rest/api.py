"""The REST app, mounted by ``app.py`` at ``PREFIX``."""

import functools

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from collab_server import __version__
from collab_server.transport.problems import MethodNotAllowed, ProblemResponse
from collab_server.transport.rest import auth, docs_page, documents, server
from collab_server.transport.rest.openapi import describe
from collab_server.transport.translation import HANDLERS, on_collab_error, request_id_of

PREFIX = "/api/v1"
ROUTERS = (auth.router, documents.router, server.router)


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
    api.add_exception_handler(405, _on_wrong_method)
    for router in ROUTERS:
        api.include_router(router)
    return api


async def _on_wrong_method(request: Request, error: Exception) -> Response:
    """Names all methods of the address (RFC 9110 15.5.6): the router names only those of its first route."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    allowed = {
        method
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and route.path_regex.match(path)
        for method in route.methods or ()
    }
    headers = {"Allow": ", ".join(sorted(allowed))}
    return ProblemResponse(MethodNotAllowed(), request_id_of(request), headers)


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
