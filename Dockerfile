# The server as an image: `docker build -t collab-server .`
# It installs with the two commands of the Makefile, from the same lock file, and builds the web part with the
# project's own command and the Node that the lock file pins.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /app

# Everything the lock file pins: Node for the web part, and the metadata that tells what the server needs.
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /build \
 && /build/bin/python -m pip install --quiet --require-hashes -r requirements.lock

# The web part changes less often than the server: its own layer.
COPY collab_server/__init__.py collab_server/
COPY collab_server/web/ collab_server/web/
RUN /build/bin/python -m collab_server.web.build && rm -rf collab_server/web/node_modules

# The environment that is shipped: no tests, no tools, no Node.
COPY deploy/runtime_requirements.py deploy/
RUN /build/bin/python deploy/runtime_requirements.py requirements.lock > /build/runtime.lock \
 && python -m venv .venv \
 && .venv/bin/python -m pip install --quiet --require-hashes -r /build/runtime.lock

COPY schemas/ schemas/
COPY auth/ auth/
COPY persistence/ persistence/
COPY collab_server/ collab_server/
RUN .venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e . \
 && .venv/bin/python -m compileall -q schemas auth persistence collab_server


FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin collab \
 && install -d -o collab -g collab -m 0700 /data
COPY --from=build /app /app

# /app belongs to root: the server cannot change its own code.
USER collab
WORKDIR /data
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    COLLAB_ENVIRONMENT=production \
    COLLAB_HOST=0.0.0.0 \
    COLLAB_PORT=8000 \
    COLLAB_DATA_DIR=/data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as http; http.urlopen('http://127.0.0.1:' + os.environ['COLLAB_PORT'] + '/readyz', timeout=4)"]
ENTRYPOINT ["collab-server"]
CMD ["serve"]
