"""Documentation that cannot rot: what it says about names, numbers and routes is compared with the code."""

import ast
import asyncio
import contextlib
import functools
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import SecretStr
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from collab_server.__main__ import cli
from collab_server.app import create_app
from collab_server.settings import Settings
from collab_server.transport.problems import TABLE
from collab_server.transport.rest.api import create_api, description_routes
from collab_server.transport.rest.openapi import describe
from collab_server.web import build
from tests.server import Server

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md")))
DECISIONS = sorted((DOCS / "adr").glob("[0-9]*.md"))
DECISION_PARTS = ["Context", "Decision", "Consequences", "Enforced by"]
NO_LINE_OF_CODE = re.compile(r"```.*?```", re.DOTALL)


def page(name: str) -> str:
    return (DOCS / name).read_text()


def table_rows(text: str) -> Iterator[list[str]]:
    """The cells of every row of every table, without backticks around a whole cell."""
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("|--"):
            yield [cell.strip().removeprefix("`").removesuffix("`") for cell in line.strip("|").split("|")]


def shown(default: object) -> str:
    """A default as it stands in the environment."""
    if default is None or default == ():
        return ""
    return str(default)


def defaults() -> dict[str, str]:
    return {f"COLLAB_{name.upper()}": shown(field.default) for name, field in Settings.model_fields.items()}


# -- settings ----------------------------------------------------------------------------------------------


def test_every_setting_is_documented_with_its_default_and_no_other() -> None:
    rows = (row for row in table_rows(page("operations.md")) if row[0].startswith("COLLAB_"))
    documented = {name: "" if default == "none" else default for name, default, what in rows if what}
    assert documented == defaults()


SAMPLES: dict[str, tuple[str, object]] = {
    "allowed_origins": ("https://a.example,https://b.example", ("https://a.example", "https://b.example")),
    "database_url": ("postgres://u:p@h/n", SecretStr("postgres://u:p@h/n")),
    "redis_url": ("redis://h/0", SecretStr("redis://h/0")),
    "jwt_secret": ("0123456789abcdef" * 4, SecretStr("0123456789abcdef" * 4)),
    "log_format": ("json", "json"),
}


@pytest.mark.parametrize(
    "name",
    Settings.model_fields,
)
def test_every_setting_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    default = Settings.model_fields[name].default
    text, value = SAMPLES.get(name, (shown(default), default))
    monkeypatch.setenv(f"COLLAB_{name.upper()}", text)
    assert getattr(Settings(_env_file=None), name) == value  # type: ignore[call-arg]


def test_the_example_of_an_environment_file_holds_every_setting_and_changes_none(tmp_path: Path) -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert all(line.startswith("#") or not line for line in lines), "nothing in it is active: it has no secret"
    examples = [line.removeprefix("# ") for line in lines if re.match(r"# [A-Z_]+=", line)]
    given = dict(line.split("=", 1) for line in examples)
    assert len(given) == len(examples), "a setting stands there twice"
    assert {name: value for name, value in given.items() if name in defaults()} == defaults()
    assert set(given) - set(defaults()) == {"POSTGRES_PASSWORD", "COLLAB_PUBLISHED_PORT"}  # of docker-compose.yml
    (tmp_path / ".env").write_text("\n".join(f"{name}={value}" for name, value in given.items() if value))
    assert Settings(_env_file=tmp_path / ".env") == Settings(_env_file=None)  # type: ignore[call-arg]


def test_every_setting_named_anywhere_is_one() -> None:
    known = {*defaults(), "COLLAB_PUBLISHED_PORT"}
    for path in (*PAGES, ROOT / "Dockerfile", ROOT / "docker-compose.yml"):
        assert set(re.findall(r"\bCOLLAB_[A-Z_]*[A-Z]\b", path.read_text())) <= known, path.name


# -- errors ------------------------------------------------------------------------------------------------


def test_the_table_of_errors_is_the_table_of_the_code() -> None:
    rows = [row for row in table_rows(page("errors.md")) if len(row) == 5 and row[2].isdecimal()]
    documented = [(name, slug, int(status), int(close), sentence) for name, slug, status, close, sentence in rows]
    assert documented == [
        (kind.__name__, kind.slug, row.status, row.close, kind.sentence) for kind, row in TABLE.items()
    ]


def test_every_close_code_says_what_a_client_does_about_it() -> None:
    advice = page("errors.md").split("## What a client does about a close code")[1]
    documented = {int(row[0]) for row in table_rows(advice) if row[0].isdecimal()}
    assert documented == {row.close for row in TABLE.values()}


def test_every_close_code_and_slug_named_in_the_protocol_is_one() -> None:
    assert {int(code) for code in re.findall(r"\b4[0-9]{3}\b", page("protocol.md"))} <= {
        row.close for row in TABLE.values()
    }


# -- routes ------------------------------------------------------------------------------------------------


@functools.cache
def routes() -> tuple[BaseRoute, ...]:
    settings = Settings(_env_file=None, jwt_secret="0123456789abcdef" * 4)  # type: ignore[call-arg]
    return tuple(create_app(settings).routes)


def test_every_http_route_is_documented_and_no_other() -> None:
    api = create_api()
    served = {
        f"{method.upper()} {path}" for path, item in describe(api, "/api/v1")["paths"].items() for method in item
    }
    served |= {f"GET {route.path}" for route in description_routes(api) if isinstance(route, Route)}
    served |= {f"GET {route.path}" for route in routes() if isinstance(route, Route)}
    served |= {route.path for route in routes() if isinstance(route, Mount)} - {"/api/v1"}
    documented = {row[0] for row in table_rows(page("rest.md")) if "/" in row[0]}
    assert documented == served


def test_every_socket_route_is_documented_and_no_other() -> None:
    served = {route.path for route in routes() if isinstance(route, WebSocketRoute)} - {"/{anything:path}"}
    rows = [row[0] for row in table_rows(page("protocol.md")) if row[0].startswith("/")]
    assert set(re.findall(r"/[^\s`]*", " ".join(rows))) == served


# -- command line ------------------------------------------------------------------------------------------


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Full name -> command. By shape: which click Typer builds on is its own affair."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def test_every_command_and_option_is_documented_and_no_other() -> None:
    found = dict(commands(typer.main.get_command(cli)))
    section = page("operations.md").split("## Command line")[1].split("\n## ")[0]
    rows = list(table_rows(section))
    assert {row[0] for row in rows if len(row) == 2} - {"command"} == set(found)
    documented = {(row[1], option) for row in rows if len(row) == 4 for option in re.findall(r"--[a-z-]+", row[0])}
    served = {
        (name, option)
        for name, command in found.items()
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert documented == served - {(name, "--help") for name in found}


def test_every_event_an_operator_is_told_about_is_logged() -> None:
    section = page("operations.md").split("## Logs")[1].split("\n## ")[0]
    events = {event for row in table_rows(section) for event in re.split("`, `", row[0])} - {"event"}
    source = "".join(path.read_text() for path in (ROOT / "collab_server").glob("**/*.py"))
    assert len(events) > 5
    assert {event for event in events if f'"{event}"' not in source} == set()


# -- decisions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_its_four_parts_and_is_one_line(path: Path) -> None:
    text = path.read_text()
    assert re.match(rf"# {int(path.stem[:4])}\. \S", text), "the title begins with the number"
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == DECISION_PARTS
    _, context, decision, consequences, enforced = re.split(r"^## .*$", text, flags=re.MULTILINE)
    assert all(part.strip() for part in (context, consequences, enforced))
    assert len(decision.strip().splitlines()) == 1


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(path.stem[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    assert len(DECISIONS) > 10


def test_every_decision_says_how_it_is_enforced_by_something_that_exists() -> None:
    contracts = (ROOT / "pyproject.toml").read_text()
    for path in DECISIONS:
        enforced = path.read_text().split("## Enforced by")[1]
        named = re.findall(r'contract "([^"]+)"', enforced)
        assert all(f'name = "{name}"' in contracts for name in named), path.name
        assert named or re.search(r"\btest_[a-z0-9_]+", enforced), path.name


# -- the examples ------------------------------------------------------------------------------------------


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


@contextlib.asynccontextmanager
async def running(example: str, folder: Path, token: str) -> AsyncIterator[asyncio.StreamReader]:
    """An example as a program of its own; what it prints."""
    (folder / f"{len(example)}.mjs").write_text(example)
    process = await asyncio.create_subprocess_exec(
        build.find_node(),
        f"{len(example)}.mjs",
        cwd=folder,
        env={**os.environ, "TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def read_until(output: asyncio.StreamReader, *last: str) -> None:
    seen: list[str] = []
    async with asyncio.timeout(30):
        while not seen or seen[-1] not in last:
            line = await output.readline()
            assert line, f"it ended after {seen}"
            seen.append(line.decode().rstrip("\n"))


@pytest.mark.node
async def test_the_examples_of_the_readme_run_as_they_stand_there(tmp_path: Path) -> None:
    shell = next(block for block in blocks("sh") if "curl" in block)
    y_websocket, hocuspocus = blocks("js")
    build.install(build.WEB)
    (tmp_path / "node_modules").symlink_to(build.WEB / "node_modules")
    async with Server(tmp_path / "data") as server:

        def here(example: str) -> str:
            assert "127.0.0.1:8000" in example
            return example.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")

        done = await asyncio.to_thread(
            subprocess.run, ["sh", "-ec", here(shell)], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert '"ticket":"tkt_' in done.stdout
        token = done.stdout.splitlines()[-1].removeprefix("export TOKEN=")
        one, other = "Hello from y-websocket. ", "Hello from Hocuspocus. "
        async with running(here(y_websocket), tmp_path, token) as first:
            await read_until(first, one)
            async with running(here(hocuspocus), tmp_path, token) as second:
                await read_until(first, other + one, one + other)
                await read_until(second, other + one, one + other)
                await read_until(second, "saved")


# -- everything that is named exists -------------------------------------------------------------------------


@functools.cache
def names_of_tests() -> frozenset[str]:
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        if "node_modules" not in path.parts:
            found.add(path.stem)
            found |= {
                node.name
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return frozenset(found)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_test_that_is_named_exists(path: Path) -> None:
    named = set(re.findall(r"\btest_[a-z0-9_]+", path.read_text()))
    assert named - names_of_tests() == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_file_that_is_named_exists(path: Path) -> None:
    packages = "collab_server|persistence|auth|schemas|tests|docs|deploy"
    named = set(re.findall(rf"`((?:{packages})/[\w./-]*)`", path.read_text()))
    assert {name for name in named if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", NO_LINE_OF_CODE.sub("", path.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = path if not name else (path.parent / name).resolve()
        assert file.exists(), f"{path.name}: {target}"
        if anchor:
            assert anchor in anchors(file.read_text()), f"{path.name}: {target}"


def anchors(text: str) -> set[str]:
    """As GitHub makes them: lower case, no punctuation, hyphens for spaces."""
    titles = re.findall(r"^#+ (.*)$", NO_LINE_OF_CODE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_make_target_that_is_named_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = path.read_text()
    named = {*re.findall(r"`make ([a-z]+)", text), *re.findall(r"^make ([a-z]+)", text, re.MULTILINE)}
    assert named <= targets


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_page_names_a_place_on_somebodys_machine(path: Path) -> None:
    assert re.findall(r"(?<![\w.:}-])/(?:home|root|Users|work|mnt|srv)/\S*", path.read_text()) == []
