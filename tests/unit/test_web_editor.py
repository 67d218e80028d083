"""The page's text arithmetic, run by Node: positions, emoji, foreign line ends."""

import subprocess
from pathlib import Path

import pytest

from collab_server.web.build import find_node, install

CLIENTS = Path(__file__).parent.parent / "js"


@pytest.mark.node
def test_the_editor_finds_every_edit_and_never_splits_a_surrogate_pair():
    install(CLIENTS)
    done = subprocess.run(
        [find_node(), "--test", CLIENTS / "diff.test.mjs"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
