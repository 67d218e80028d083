"""What the server says about itself."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse

from collab_server import __version__
from collab_server.transport.rest.dependencies import services_of
from collab_server.transport.rest.json_route import JsonRoute
from collab_server.transport.rest.openapi import problems
from schemas.errors import Restarting
from schemas.forms.server import InfoView, KindView
from schemas.kinds import KINDS

router = APIRouter(tags=["server"], route_class=JsonRoute)


@router.get("/info", operation_id="info", summary="What this server is", responses=problems(signed_in=False))
async def info() -> InfoView:
    kinds = [KindView(name=kind.name, title=kind.title) for kind in KINDS.values()]
    return InfoView(name="collab-server", version=__version__, kinds=kinds)


async def healthz(request: Request) -> JSONResponse:
    """Lives: the event loop turns. Asks nobody, so a sick database restarts no healthy process."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> JSONResponse:
    """Can work. A problem (503) takes this node out of the load balancer."""
    if request.state.hub.draining:
        raise Restarting
    await services_of(request).health.ready()
    return JSONResponse({"status": "ok"})
