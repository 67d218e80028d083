"""The first page, in a real browser: a person signs up, makes a document and edits it in two panes."""

import itertools

import pytest
import pytest_asyncio

from tests.browser import Page, needs_chromium, open_page
from tests.node import NodeDriver
from tests.server import PASSWORD, Server

# One server and one browser for all of these: each test is somebody else, in a profile of their own.
pytestmark = [pytest.mark.node, needs_chromium, pytest.mark.asyncio(loop_scope="module")]

ONE = {"label": "Text in editor 1"}
TWO = {"label": "Text in editor 2"}
PANES = (0, 1)
CONNECTION = {"css": ".connection"}
SAVING = {"css": ".saving"}

numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node():
    async with NodeDriver() as driver:
        yield driver


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory):
    async with Server(tmp_path_factory.mktemp("page")) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def server(running):
    yield running
    print(running.log_text())


async def sign_up(page: Page) -> str:
    email = f"anna-{next(numbers)}@example.org"
    await page.fill("Anna", label="Name")
    await page.fill(email, label="E-mail")
    await page.fill(PASSWORD, css="input[name=password]")
    await page.click(role="button", name="Create an account")
    await page.appear(label="Title of a new document")
    return email


async def open_document(node, server, **options) -> Page:
    """Somebody new in a new document; both panes are connected."""
    page = await open_page(node, server.url, **options)
    await sign_up(page)
    await page.fill("Notes", label="Title of a new document")
    await page.click(role="button", name="Create")
    for nth in PANES:
        await page.become("Connected", **CONNECTION, nth=nth)
    return page


async def all_saved(page):
    for nth in PANES:
        await page.become("All saved", **SAVING, nth=nth)


async def test_two_panes_show_one_document_and_tell_truthfully_what_is_saved(server, node):
    page = await open_document(node, server)
    await page.type("привет 👋", **ONE)
    await page.become("привет 👋", **TWO)
    await page.select(0, 0, **TWO)
    await page.type("два: ", **TWO)
    await page.become("два: привет 👋", **ONE)
    await all_saved(page)
    await page.become("Anna, editor 2", css=".pane .person", nth=0)
    await page.become("Anna, editor 1", css=".pane .person", nth=1)
    assert await page.complaints() == []


async def test_what_was_saved_is_there_after_kill_9_and_reload(server, node):
    page = await open_document(node, server)
    await page.type("durable", **ONE)
    await all_saved(page)
    await server.kill()
    await server.start()
    await page.reload()
    await page.become("durable", **ONE)
    await page.become("durable", **TWO)


async def test_an_offline_pane_keeps_its_words_and_merges_them_when_it_is_back(server, node):
    page = await open_document(node, server)
    await page.type("middle", **ONE)
    await page.become("middle", **TWO)
    await page.check(role="switch", name="Offline", nth=1)
    await page.become("Offline", **CONNECTION, nth=1)
    await page.select(6, 6, **TWO)
    await page.type(" end", **TWO)
    await page.select(0, 0, **ONE)
    await page.type("start ", **ONE)
    await page.become("Unsaved changes: 4", **SAVING, nth=1)
    assert await page.value(**TWO) == "middle end"
    await page.uncheck(role="switch", name="Offline", nth=1)
    await page.become("start middle end", **ONE)
    await page.become("start middle end", **TWO)
    await all_saved(page)
    await page.become("Anna, editor 2", css=".pane .person", nth=0)
    await page.become("Anna, editor 1", css=".pane .person", nth=1)


async def test_panes_say_that_the_server_is_gone_and_come_back_with_what_was_written_meanwhile(server, node):
    page = await open_document(node, server)
    await page.type("before", **ONE)
    await all_saved(page)
    await server.kill()
    for nth in PANES:
        await page.become("Connecting…", **CONNECTION, nth=nth)
    await page.include("The server cannot be reached", css=".sentence", nth=0)
    await page.type(", during", **ONE)
    await page.become("Unsaved changes: 8", **SAVING, nth=0)
    await server.start()
    await page.become("before, during", **TWO)
    await all_saved(page)


async def test_the_caret_stays_in_its_place_when_others_write_before_it(server, node):
    page = await open_document(node, server)
    await page.type("abc👋def", **ONE)
    await page.become("abc👋def", **TWO)
    await page.select(5, 8, **ONE)
    await page.select(0, 0, **TWO)
    await page.type("12", **TWO)
    await page.become("12abc👋def", **ONE)
    assert await page.caret(**ONE) == (7, 10)
    await page.select(7, 7, **ONE)
    await page.press("Backspace", **ONE)
    await page.become("12abcdef", **TWO)


async def test_undo_takes_back_ones_own_words_only(server, node):
    page = await open_document(node, server)
    await page.type("mine", **ONE)
    await page.become("mine", **TWO)
    await page.select(4, 4, **TWO)
    await page.type(" yours", **TWO)
    await page.become("mine yours", **ONE)
    await page.press("Control+z", **ONE)
    await page.become(" yours", **TWO)
    await page.press("Control+Shift+z", **ONE)
    await page.become("mine yours", **TWO)


async def test_foreign_line_ends_are_edited_around_and_not_rewritten(server, node):
    page = await open_document(node, server)
    document = (await page.evaluate("location.hash")).removeprefix("#/d/")
    token = await page.evaluate("JSON.parse(sessionStorage.getItem('collab.session')).access")
    other = await node.connect("hocuspocus", server.collab_url, document, token=token)
    await other.wait_synced()
    await other.insert("text", 0, "one\r\ntwo\r\n")
    await page.become("one\ntwo\n", **ONE)
    await page.select(7, 7, **ONE)
    await page.type("!", **ONE)
    await other.wait_text("text", "one\r\ntwo!\r\n")


async def test_an_input_method_is_not_disturbed_by_what_others_write(server, node):
    page = await open_document(node, server)
    await page.type("ab", **ONE)
    await page.become("ab", **TWO)
    document = (await page.evaluate("location.hash")).removeprefix("#/d/")
    token = await page.evaluate("JSON.parse(sessionStorage.getItem('collab.session')).access")
    other = await node.connect("hocuspocus", server.collab_url, document, token=token)
    await other.wait_synced()
    await page.select(1, 1, **ONE)
    await page.compose("に")
    await page.compose("にほ")
    await other.insert("text", 0, "12")
    await other.wait_saved()
    await page.become("12ab", **TWO)
    assert await page.value(**ONE) == "aにほb"
    await page.choose("日本")
    await other.wait_text("text", "12a日本b")
    await page.become("12a日本b", **ONE)
    assert await page.caret(**ONE) == (5, 5)


async def test_an_emoji_that_comes_in_two_halves_is_sent_whole(server, node):
    page = await open_document(node, server)
    await page.type("x", **ONE)
    assert await page.evaluate(HALVES) == ["x👋"]
    await page.become("x👋", **TWO)
    await page.become("x👋", **ONE)


async def test_a_refused_ticket_is_answered_with_a_new_one(server, node):
    page = await open_document(node, server)
    await page.evaluate(TWO_BAD_TICKETS)
    for nth in PANES:
        await page.check(role="switch", name="Offline", nth=nth)
    for nth in PANES:
        await page.uncheck(role="switch", name="Offline", nth=nth)
        await page.become("Connecting…", **CONNECTION, nth=nth)
    for nth in PANES:
        await page.become("Connected", **CONNECTION, nth=nth)
    assert await page.evaluate("globalThis.badTickets") == 0


async def test_a_viewer_is_told_so_and_a_removed_one_is_shown_out(server, node):
    page = await open_page(node, server.url)
    email = await sign_up(page)
    owner = await server.account("Olga")
    document = await server.document(owner, "Reading")
    member = {"email": email, "role": "viewer"}
    viewer = await server.api("POST", f"/documents/{document}/members", owner, json=member)
    await page.evaluate(f"location.hash = '#/d/{document}'")
    for nth in PANES:
        await page.become("Connected", **CONNECTION, nth=nth)
        await page.become("You may read this document but not change it.", css=".sentence", nth=nth)
    assert await page.evaluate("document.querySelectorAll('textarea[readonly]').length") == 2
    await server.api("DELETE", f"/documents/{document}/members/{viewer['account_id']}", owner)
    for nth in PANES:
        await page.become("Not connected", **CONNECTION, nth=nth)
        await page.become("You no longer have access to this document.", css=".sentence", nth=nth)


async def test_a_session_that_ended_elsewhere_leads_back_to_signing_in(server, node):
    page = await open_document(node, server)
    token = await page.evaluate("JSON.parse(sessionStorage.getItem('collab.session')).access")
    answer = await server.http.post("/api/v1/auth/logout", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 204
    await page.appear(role="button", name="Sign in")
    assert await page.evaluate("sessionStorage.getItem('collab.session')") is None


async def test_a_problem_is_a_sentence_in_the_readers_language(server, node):
    page = await open_page(node, server.url, locale="ru-RU")
    await page.appear(role="heading", name="Документы, которые сливаются")
    assert await page.evaluate("document.documentElement.lang") == "ru"
    await page.click(role="button", name="Есть аккаунт? Войдите")
    await page.fill("nobody@example.org", label="Эл. почта")
    await page.fill("no such password", label="Пароль")
    await page.click(role="button", name="Войти")
    await page.become("Неверная почта или пароль.", css=".problem")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_fits_a_narrow_phone_and_can_be_read_in_both_schemes(server, node, scheme):
    page = await open_document(node, server, viewport={"width": 360, "height": 740}, colorScheme=scheme)
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    assert await page.evaluate(CONTRAST) == []


HALVES = """(async () => {
  const area = document.querySelector('textarea')
  const text = document.querySelector('editor-pane').doc.getText('text')
  const seen = []
  text.observe(() => seen.push(text.toString()))
  for (const half of ['\\ud83d', '\\udc4b']) {
    area.setRangeText(half, area.value.length, area.value.length, 'end')
    area.dispatchEvent(new InputEvent('input', { bubbles: true }))
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  return seen
})()"""

TWO_BAD_TICKETS = """(() => {
  globalThis.badTickets = 2
  const { session } = document.querySelector('collab-app')
  const good = session.ticket.bind(session)
  session.ticket = async id => {
    const ticket = await good(id)
    return globalThis.badTickets > 0 && globalThis.badTickets-- ? ticket.slice(0, -4) + 'AAAA' : ticket
  }
})()"""

CONTRAST = """(() => {
  // WCAG 2.2, 1.4.3: every text against what lies behind it, at least 4.5 to 1.
  const channel = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
  const numbers = color => color.match(/[\\d.]+/g).map(Number)
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b)
  const behind = node => {
    for (let at = node; at; at = at.parentElement) {
      const color = numbers(getComputedStyle(at).backgroundColor)
      if (color.length < 4 || color[3] > 0) return color
    }
    return [255, 255, 255]
  }
  const shown = [...document.querySelectorAll('body *')].filter(node => node.innerText && node.checkVisibility())
  return shown.map(node => {
    const [a, b] = [light(numbers(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x)
    return [node.className || node.tagName, (a + 0.05) / (b + 0.05)]
  }).filter(([, ratio]) => ratio < 4.5)
})()"""
