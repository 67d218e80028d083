// A real Chromium behind the driver's JSON lines. playwright-core brings no browser: `executable` is the machine's.
import { writeFileSync } from 'node:fs'

let browser = null
const pages = new Map()

const pageOf = ({ page }) => {
  const found = pages.get(page)
  if (found === undefined) throw new Error(`no such page: ${page}`)
  return found
}

/** What a person would look for: {label}, {role, name}, {placeholder}, {text} or, last, {css}; `nth` counts from 0. */
const locate = command => {
  const { page } = pageOf(command)
  const { label, role, name, placeholder, text, css, nth } = command
  const found = label !== undefined
    ? page.getByLabel(label, { exact: true })
    : role !== undefined
      ? page.getByRole(role, { name, exact: true })
      : placeholder !== undefined ? page.getByPlaceholder(placeholder) : text !== undefined ? page.getByText(text) : page.locator(css)
  return nth === undefined ? found : found.nth(nth)
}

const ACTIONS = {
  fill: (found, { value }) => found.fill(value),
  type: (found, { value }) => found.pressSequentially(value),
  press: (found, { key }) => found.press(key),
  click: found => found.click(),
  check: found => found.check(),
  uncheck: found => found.uncheck(),
  value: found => found.inputValue(),
  text: found => found.innerText(),
  count: found => found.count(),
  visible: found => found.isVisible(),
  appear: found => found.waitFor(),
  disappear: found => found.waitFor({ state: 'hidden' }),
  select: (found, { start, end }) => found.evaluate((area, [from, to]) => { area.focus(); area.setSelectionRange(from, to) }, [start, end]),
  caret: found => found.evaluate(area => [area.selectionStart, area.selectionEnd]),
  // Until the field's value, or the text on the page, is `equals` (or holds `includes`).
  become: async (found, { equals, includes, timeout = 10000 }) => {
    const element = await found.elementHandle()
    await element.ownerFrame().then(frame => frame.waitForFunction(
      ([node, whole, part]) => {
        const now = 'value' in node ? node.value : node.innerText
        return whole === null ? now.includes(part) : now === whole
      }, [element, equals ?? null, includes ?? null], { timeout }
    )).catch(async error => {
      const now = await found.evaluate(node => 'value' in node ? node.value : node.innerText)
      throw new Error(`it did not become ${JSON.stringify(equals ?? includes)} but is ${JSON.stringify(now)}: ${error.message}`)
    })
  }
}

export const closeBrowser = async () => { await browser?.close() }

export const browserOps = {
  'browser-open': async ({ page: name, url, executable, viewport, locale, colorScheme, timeout = 10000 }) => {
    const { chromium } = await import('playwright-core')
    browser ??= await chromium.launch({ executablePath: executable, args: ['--no-sandbox', '--disable-dev-shm-usage'] })
    const context = await browser.newContext({ viewport, locale, colorScheme })
    const page = await context.newPage()
    page.setDefaultTimeout(timeout)
    const complaints = []
    page.on('console', message => { if (['error', 'warning'].includes(message.type())) complaints.push(message.text()) })
    page.on('pageerror', error => complaints.push(String(error)))
    pages.set(name, { page, context, complaints })
    await page.goto(url)
  },
  'browser-do': async ({ action, ...command }) => {
    if (!Object.hasOwn(ACTIONS, action)) throw new Error(`no such action: ${action}`)
    return ACTIONS[action](locate(command), command)
  },
  'browser-evaluate': command => pageOf(command).page.evaluate(command.script),
  // The browser's own protocol, for what a test cannot do through the page: input methods, lost networks.
  'browser-cdp': async command => {
    const { page, context } = pageOf(command)
    const session = await context.newCDPSession(page)
    return session.send(command.method, command.parameters)
  },
  'browser-reload': async command => { await pageOf(command).page.reload() },
  'browser-complaints': command => pageOf(command).complaints,
  'browser-picture': async command => writeFileSync(command.file, await pageOf(command).page.screenshot({ fullPage: true })),
  'browser-close': async command => { await pageOf(command).context.close(); pages.delete(command.page) }
}
