"""The built web app: one page and its files."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parent.parent / "static"
NOT_BUILT = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>collab-server</title></head>
<body><p>The server runs. Its web page is not built: run <code>make web</code>.
The <a href="/api/docs">API description</a> is there without it.</p></body>
</html>
"""


def page_routes() -> list[BaseRoute]:
    return [
        Route("/", index),
        Mount("/static", StaticFiles(directory=STATIC, check_dir=False), name="static"),
    ]


async def index(request: Request) -> Response:
    page = STATIC / "index.html"
    if not page.is_file():  # asked each time: the page may be built while the server runs
        return HTMLResponse(NOT_BUILT, status_code=503)
    return FileResponse(page)
