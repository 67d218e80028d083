"""The house keeps its shape: small rooms, honest names, a pure core, one door to the engine.

Which package may know which is said by the import contracts in ``pyproject.toml`` (``make check``); here stands
what those cannot say.
"""

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("collab_server", "persistence", "auth", "schemas")
MODULE_LINES = 400
FUNCTION_LINES = 40

FORBIDDEN_NAME = re.compile(r"Manager|Handler|Helper|Utils?\b|Utils?[A-Z]|^_?Base[A-Z]|process_data|^_?utils?$")
PURE = ("collab_server/live", "collab_server/dialects", "schemas")
IMPURE_MODULES = frozenset({"asyncio", "time", "threading", "socket", "random", "os", "logging", "structlog"})
FRAMEWORKS = frozenset({"starlette", "fastapi", "uvicorn", "sqlalchemy", "redis"})
ENGINE_DOORS = frozenset({"collab_server/live/replica.py", "collab_server/live/bytes_replica.py"})
CLOCK_DOORS = frozenset({"collab_server/clock.py", "persistence/stored_log.py"})
"""``stored_log.utc_now`` only stamps rows, and is a default that can be replaced."""


@dataclass(frozen=True)
class Module:
    path: str
    source: str
    tree: ast.Module

    @property
    def imports(self) -> Iterator[str]:
        """Every module named in an import, with its dots."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module

    @property
    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


@functools.cache
def modules() -> tuple[Module, ...]:
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "node_modules" not in path.parts:
                source = path.read_text()
                found.append(Module(path.relative_to(ROOT).as_posix(), source, ast.parse(source)))
    assert found
    return tuple(found)


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Without signature and docstring: naming each parameter on its own line is no complexity."""
    body = function.body
    if ast.get_docstring(function) is not None and len(body) > 1:
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.path)
def test_no_module_and_no_function_outgrows_its_room(module: Module) -> None:
    assert len(module.source.splitlines()) <= MODULE_LINES
    long = {f.name: body_lines(f) for f in module.functions if body_lines(f) > FUNCTION_LINES}
    assert long == {}


def test_the_measure_of_a_function_is_its_body() -> None:
    (function,) = ast.parse('def f(\n    a,\n    b,\n):\n    """Says\n    much."""\n    a()\n    b()\n').body
    assert isinstance(function, ast.FunctionDef)
    assert body_lines(function) == 2


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.path)
def test_no_name_says_nothing(module: Module) -> None:
    names = [node.name for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]
    names += [function.name for function in module.functions]
    names.append(Path(module.path).stem)
    assert [name for name in names if FORBIDDEN_NAME.search(name)] == []


@pytest.mark.parametrize(
    ("name", "forbidden"),
    [
        ("HubManager", True),
        ("BaseDialect", True),
        ("StringUtils", True),
        ("process_data", True),
        ("utils", True),
        ("Baseline", False),
        ("Utilisation", False),
        ("Hub", False),
    ],
)
def test_the_list_of_forbidden_names_catches_what_it_means(name: str, *, forbidden: bool) -> None:
    assert bool(FORBIDDEN_NAME.search(name)) is forbidden


@pytest.mark.parametrize(
    "module", [m for m in modules() if m.path.startswith(PURE)], ids=lambda module: module.path
)
def test_the_pure_packages_know_no_loop_no_clock_no_framework_and_no_machine(module: Module) -> None:
    roots = {name.partition(".")[0] for name in module.imports}
    assert roots & (IMPURE_MODULES | FRAMEWORKS) == set()
    assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(module.tree))
    if not module.path.startswith("schemas"):  # the forms carry times; only the core may not even name them
        assert "datetime" not in roots


def test_only_the_replicas_speak_to_the_engine() -> None:
    doors = {module.path for module in modules() if any(n.partition(".")[0] == "pycrdt" for n in module.imports)}
    assert doors == ENGINE_DOORS


def test_only_the_clock_asks_the_machine_for_the_time() -> None:
    asked = set()
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                if name in {"datetime.now", "datetime.utcnow", "time.time", "time.monotonic", "date.today"}:
                    asked.add(module.path)
    assert asked <= CLOCK_DOORS


def test_adapters_fit_their_ports_by_shape_and_never_import_them() -> None:
    knowing = [m.path for m in modules() if "collab_server.ports" in m.imports]
    assert knowing
    assert [path for path in knowing if path.startswith(("persistence", "auth", "schemas"))] == []


def test_routes_decide_nothing_and_speak_no_sql() -> None:
    """Transport is dumb: no role is compared and no database is touched where requests are parsed."""
    for module in modules():
        if module.path.startswith("collab_server/transport"):
            assert not any(name.startswith("sqlalchemy") for name in module.imports), module.path
            for node in ast.walk(module.tree):
                if isinstance(node, ast.If | ast.IfExp):
                    assert "role" not in ast.unparse(node.test), f"{module.path}:{node.lineno}"
