"""Our server as people run it: a process of its own on a free port, with its own data directory.

async with Server(tmp_path) as server:
    anna = await server.account("Anna")
    document = await server.document(anna, "Notes")
    client = await node.connect("y-websocket", server.ws_url, document, params={"token": anna.token})
    await server.kill()      # SIGKILL, as the kernel would
    await server.start()     # on the same port and data
"""

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

START_SECONDS = 30.0
STOP_SECONDS = 15.0
LOG_TAIL = 20_000  # characters shown when a test fails
PASSWORD = "correct horse battery staple"

# Cheap password hashes: these tests are not about them, and there are many accounts.
TEST_SETTINGS = {"password_hash_memory_kib": 1024, "password_hash_passes": 1}

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Account:
    """Somebody who is signed in."""

    id: str
    name: str
    email: str
    token: str
    refresh_token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class Server:
    """One node. Keyword arguments are settings by their names in ``collab_server.settings``."""

    def __init__(self, data_dir: Path, *, port: int | None = None, **settings: Any) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.settings = {**TEST_SETTINGS, **settings}
        self.url = f"http://127.0.0.1:{self.port}"
        self.socket_url = f"ws://127.0.0.1:{self.port}"
        self.ws_url = f"{self.socket_url}/ws"  # y-websocket: + /{document}
        self.collab_url = f"{self.socket_url}/collab"  # hocuspocus: the document is in the frames
        self.log = data_dir / f"server-{self.port}.log"
        self.http = httpx.AsyncClient(base_url=self.url, timeout=30, trust_env=False)
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.http.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()
        await self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    async def start(self) -> None:
        """Start the process and return when /healthz answers."""
        assert self._process is None, "the server is running already"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._program()],
                cwd=self.data_dir,  # no .env of the developer's is read
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._ready()
        except BaseException:
            await self.kill()
            raise

    def _program(self) -> list[str]:
        """The module to run, and its arguments."""
        return ["collab_server", "serve"]

    async def stop(self) -> int | None:
        """SIGTERM, as `docker stop` does; the exit code. SIGKILL when it does not go."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.terminate()
        try:
            return await asyncio.to_thread(process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return await asyncio.to_thread(process.wait)

    async def kill(self) -> None:
        """SIGKILL: nothing of the process runs after this."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def log_text(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self.log.read_text(errors="replace")[-LOG_TAIL:]
        return ""

    # -- what a person does over REST ------------------------------------------------------------

    async def account(self, name: str = "Anna") -> Account:
        """Register somebody new and sign them in."""
        email = f"{name.lower()}-{next(_numbers)}@example.org"
        form = {"email": email, "password": PASSWORD, "name": name}
        registered = await self.api("POST", "/auth/register", json=form)
        return await self.login(email, name=name, id=registered["id"])

    async def login(self, email: str, *, name: str = "", id: str = "") -> Account:
        tokens = await self.api("POST", "/auth/login", json={"email": email, "password": PASSWORD})
        return Account(id, name, email, tokens["access_token"], tokens["refresh_token"])

    async def document(self, owner: Account, title: str = "Notes", **form: Any) -> str:
        """Make a document; its id."""
        return (await self.api("POST", "/documents", owner, json={"title": title, **form}))["id"]

    async def ticket(self, account: Account, document: str) -> str:
        """A one-time ticket for one socket."""
        return (await self.api("POST", f"/documents/{document}/ticket", account))["ticket"]

    async def grant(self, owner: Account, document: str, account: Account, role: str) -> None:
        """Make somebody a member."""
        form = {"email": account.email, "role": role}
        await self.api("POST", f"/documents/{document}/members", owner, json=form)

    async def change_role(self, owner: Account, document: str, account: Account, role: str) -> None:
        await self.api("PUT", f"/documents/{document}/members/{account.id}", owner, json={"role": role})

    async def revoke(self, owner: Account, document: str, account: Account) -> None:
        await self.api("DELETE", f"/documents/{document}/members/{account.id}", owner)

    async def api(self, method: str, path: str, account: Account | None = None, **request: Any) -> Any:
        """One call under /api/v1 that must succeed; its JSON, or None."""
        headers = {} if account is None else account.headers
        answer = await self.http.request(method, f"/api/v1{path}", headers=headers, **request)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}\n{self.log_text()}"
        return answer.json() if answer.content else None

    def _environment(self) -> dict[str, str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("COLLAB_")}
        settings = {"data_dir": self.data_dir, "port": self.port, "public_url": self.url, **self.settings}
        environment |= {f"COLLAB_{name.upper()}": str(value) for name, value in settings.items()}
        return environment | {"PYTHONUNBUFFERED": "1"}

    async def _ready(self) -> None:
        assert self._process is not None
        while True:
            code = self._process.poll()
            assert code is None, f"the server ended with {code}:\n{self.log_text()}"
            with contextlib.suppress(httpx.TransportError):
                if (await self.http.get("/healthz")).is_success:
                    return
            await asyncio.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
