"""``python deploy/runtime_requirements.py requirements.lock``: the part of the lock file that the server needs.

The lock also pins what only tests and tools need. Printed is what ``pyproject.toml`` names as dependencies and
as its build system, with all that those need in turn, each with the hashes of the lock. Run it in an
environment where the whole lock is installed: what needs what is read from there.
"""

import re
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
INSTALLS_THE_PROJECT = "editables"  # hatchling asks for it when the project is installed in place


def pins(lock: str) -> Mapping[str, str]:
    """Canonical name -> its lines in a lock file."""
    blocks = re.findall(r"^\S.*(?:\n[ \t].*)*", lock, re.MULTILINE)
    return {canonicalize_name(re.split(r"[=\[ ;]", block, maxsplit=1)[0]): block for block in blocks}


def needed(roots: list[Requirement]) -> set[str]:
    """Canonical names of the roots and of everything they need on this platform."""
    seen: set[tuple[str, str]] = set()
    waiting = [(root, "") for root in roots]
    while waiting:
        requirement, extra_of_parent = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra_of_parent}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += [(Requirement(text), extra) for text in requires(name) or ()]
    return {name for name, _ in seen}


def runtime_lock(lock: str) -> str:
    project = tomllib.loads(PROJECT.read_text())
    names = [*project["project"]["dependencies"], *project["build-system"]["requires"], INSTALLS_THE_PROJECT]
    pinned = pins(lock)
    return "\n".join(pinned[name] for name in sorted(needed([Requirement(name) for name in names]))) + "\n"


if __name__ == "__main__":
    sys.stdout.write(runtime_lock(Path(sys.argv[1]).read_text()))
