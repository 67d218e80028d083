// Positions in text, in UTF-16 code units. Pure functions: tests/js runs them without a browser.

const isHigh = unit => unit >= 0xd800 && unit < 0xdc00
const isLow = unit => unit >= 0xdc00 && unit < 0xe000
const splits = (text, index) => isHigh(text.charCodeAt(index - 1)) && isLow(text.charCodeAt(index))

/**
 * The one replacement that makes `after` out of `before`: {index, removed, inserted}, never inside a surrogate pair.
 * `caret` (its place in `after`) decides between equal answers: typing "a" into "aaa" happens where the caret is.
 */
export const difference = (before, after, caret = after.length) => {
  const shorter = Math.min(before.length, after.length)
  let suffix = 0
  const most = Math.min(shorter, after.length - caret)
  while (suffix < most && before.at(-1 - suffix) === after.at(-1 - suffix)) suffix++
  let prefix = 0
  while (prefix < shorter - suffix && before[prefix] === after[prefix]) prefix++
  while (suffix < shorter - prefix && before.at(-1 - suffix) === after.at(-1 - suffix)) suffix++
  if (splits(before, prefix) || splits(after, prefix)) prefix--
  if (splits(before, before.length - suffix) || splits(after, after.length - suffix)) suffix--
  return { index: prefix, removed: before.length - suffix - prefix, inserted: after.slice(prefix, after.length - suffix) }
}

/** Where `index` is after a Yjs delta; what is inserted exactly there goes behind it. */
export const shift = (index, delta) => {
  let at = 0
  for (const { retain = 0, insert, delete: removed = 0 } of delta) {
    at += retain
    if (at > index || (at === index && insert !== undefined)) break
    if (insert !== undefined) {
      const length = typeof insert === 'string' ? insert.length : 1
      index += length
      at += length
    }
    index -= Math.min(removed, index - at)
  }
  return index
}

/** A textarea knows only "\n". Other clients may write "\r\n": the same text as the textarea shows it … */
export const asShown = text => text.includes('\r') ? text.replace(/\r\n?/g, '\n') : text

/** … and positions from one to the other. */
export const shownIndex = (text, index) => asShown(text.slice(0, index)).length

export const realIndex = (text, index) => {
  if (!text.includes('\r')) return index
  let real = 0
  for (let shown = 0; shown < index && real < text.length; shown++) real += text[real] === '\r' && text[real + 1] === '\n' ? 2 : 1
  return real
}

/** Half a surrogate pair somewhere? Some input methods send an emoji as two halves, one event each. */
export const isWhole = text => !/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(text)
