"""/api/docs: Swagger UI from our own files, without inline script and without a CDN."""

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

# Swagger UI sets style attributes; everything else comes from here.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>collab-server API</title>
<link rel="stylesheet" href="/static/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui">
<p>The description itself is at <a href="/api/openapi.json">/api/openapi.json</a>.
This page needs the web part: run <code>make web</code>.</p>
</div>
<script src="/static/docs/swagger-ui-bundle.js"></script>
<script src="/api/docs.js"></script>
</body>
</html>
"""
SCRIPT = """SwaggerUIBundle({
  url: "/api/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
});
"""


async def docs(request: Request) -> Response:
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"})


async def docs_script(request: Request) -> Response:
    return Response(SCRIPT, media_type="text/javascript", headers={"Cache-Control": "no-cache"})
