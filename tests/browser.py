"""A real Chromium for tests of the pages, driven by the same Node process as the clients.

    page = await open_page(node, server.url)
    await page.fill("secret", label="Password")
    await page.click(role="button", name="Sign in")
    await page.become("saved", css=".saving")

Things are found as people find them: ``label=``, ``role=`` with ``name=``, ``placeholder=``, ``text=``, or
``css=``; ``nth=`` counts from 0.
"""

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.node import NodeDriver

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_numbers = itertools.count(1)


def find_chromium() -> str | None:
    return next((path for path in map(shutil.which, CHROMIUM) if path), None)


needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")


async def open_page(node: NodeDriver, url: str, **options: Any) -> "Page":
    """A new browser profile at ``url``. Options: ``viewport={"width", "height"}``, ``locale``, ``colorScheme``."""
    name = f"page#{next(_numbers)}"
    options.setdefault("locale", "en-GB")
    await node.call("browser-open", page=name, url=url, executable=find_chromium(), **options)
    return Page(node, name)


class Page:
    def __init__(self, node: NodeDriver, name: str) -> None:
        self.node = node
        self.name = name

    async def call(self, op: str, **arguments: Any) -> Any:
        return await self.node.call(f"browser-{op}", page=self.name, **arguments)

    async def do(self, action: str, **where: Any) -> Any:
        return await self.call("do", action=action, **where)

    async def fill(self, value: str, **where: Any) -> None:
        await self.do("fill", value=value, **where)

    async def type(self, value: str, **where: Any) -> None:
        """Key by key, at the caret."""
        await self.do("type", value=value, **where)

    async def press(self, key: str, **where: Any) -> None:
        await self.do("press", key=key, **where)

    async def click(self, **where: Any) -> None:
        await self.do("click", **where)

    async def check(self, **where: Any) -> None:
        await self.do("check", **where)

    async def uncheck(self, **where: Any) -> None:
        await self.do("uncheck", **where)

    async def select(self, start: int, end: int, **where: Any) -> None:
        await self.do("select", start=start, end=end, **where)

    async def caret(self, **where: Any) -> tuple[int, int]:
        start, end = await self.do("caret", **where)
        return start, end

    async def value(self, **where: Any) -> str:
        return await self.do("value", **where)

    async def appear(self, **where: Any) -> None:
        await self.do("appear", **where)

    async def become(self, equals: str, **where: Any) -> None:
        """Wait until a field's value or an element's text is exactly this."""
        await self.do("become", equals=equals, **where)

    async def include(self, part: str, **where: Any) -> None:
        await self.do("become", includes=part, **where)

    async def evaluate(self, script: str) -> Any:
        return await self.call("evaluate", script=script)

    async def compose(self, text: str) -> None:
        """An input method shows ``text`` at the caret, but the person has not chosen it yet."""
        place = {"text": text, "selectionStart": len(text), "selectionEnd": len(text)}
        await self.call("cdp", method="Input.imeSetComposition", parameters=place)

    async def choose(self, text: str) -> None:
        """The input method puts ``text`` where it was composing."""
        await self.call("cdp", method="Input.insertText", parameters={"text": text})

    async def reload(self) -> None:
        await self.call("reload")

    async def complaints(self) -> list[str]:
        """Warnings and errors in the console, such as violations of the content security policy."""
        return await self.call("complaints")

    async def picture(self, file: Path) -> None:
        await self.call("picture", file=str(file))
