// The text arithmetic of the page's editor, without a browser. Run by tests/unit/test_web_editor.py.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'
import { asShown, difference, isWhole, realIndex, shift, shownIndex } from '../../collab_server/static/app/diff.js'

const SEED = Number(process.env.SEED ?? Date.now() % 100000)
let seed = SEED
const random = below => { seed = (seed * 1103515245 + 12345) % 2 ** 31; return Math.floor(seed / 2 ** 31 * below) }
const pick = items => items[random(items.length)]
const LETTERS = ['a', 'a', 'b', 'я', '\n', '👋', '👍', '🏽', '\u{1f468}\u200d\u{1f469}']
const randomText = () => Array.from({ length: random(8) }, () => pick(LETTERS)).join('')

test('typing into a row of equal letters happens where the caret is', () => {
  assert.deepEqual(difference('aaa', 'aaaa', 2), { index: 1, removed: 0, inserted: 'a' })
  assert.deepEqual(difference('aaa', 'aa', 1), { index: 1, removed: 1, inserted: '' })
  assert.deepEqual(difference('aaa', 'aaaa'), { index: 3, removed: 0, inserted: 'a' })
})

test('a replacement touches nothing but what changed', () => {
  assert.deepEqual(difference('one two three', 'one 2 three', 5), { index: 4, removed: 3, inserted: '2' })
})

test('one emoji replaced by its neighbour is never split, though both begin with the same half', () => {
  assert.deepEqual(difference('x👋y', 'x👍y', 3), { index: 1, removed: 2, inserted: '👍' })
  assert.deepEqual(difference('\u{1f44b}', '\u{1f84b}', 2), { index: 0, removed: 2, inserted: '\u{1f84b}' }) // the same second half
})

test(`any edit is found again, and no piece of it is half a pair (seed ${SEED})`, () => {
  for (let round = 0; round < 5000; round++) {
    const before = randomText()
    const units = Array.from(before)
    const from = random(units.length + 1)
    const to = from + random(units.length - from + 1)
    const inserted = randomText()
    const head = units.slice(0, from).join('')
    const after = head + inserted + units.slice(to).join('')
    const found = difference(before, after, head.length + inserted.length)
    assert.equal(before.slice(0, found.index) + found.inserted + before.slice(found.index + found.removed), after)
    for (const piece of [found.inserted, before.slice(0, found.index), before.slice(found.index, found.index + found.removed)]) {
      assert.ok(isWhole(piece), JSON.stringify([before, after, found]))
    }
  }
})

test('half of a pair is not whole', () => {
  assert.ok(isWhole('👋 a'))
  for (const half of ['\ud83d', 'a\ud83d', '\udc4b', '👋\udc4b']) assert.ok(!isWhole(half))
})

test(`a place follows the delta as a relative position of Yjs does (seed ${SEED})`, () => {
  for (let round = 0; round < 500; round++) {
    const doc = new Y.Doc()
    const text = doc.getText('text')
    text.insert(0, 'abcdefgh')
    let delta
    text.observe(event => { delta = event.delta })
    const place = random(9)
    const stays = Y.createRelativePositionFromTypeIndex(text, place, -1) // bound to what stands before it
    doc.transact(() => {
      for (let n = 0; n <= random(3); n++) {
        const index = random(text.length + 1)
        if (random(2) === 0) text.insert(index, pick(['x', 'yz']))
        else text.delete(index, Math.min(random(4), text.length - index))
      }
    })
    const expected = Y.createAbsolutePositionFromRelativePosition(stays, doc).index
    const moved = delta === undefined ? place : shift(place, delta)
    // Text put in where a deletion swallowed the place may lie on either side of it.
    assert.ok(moved >= 0 && moved <= text.length)
    if (delta !== undefined && !delta.some(part => part.delete)) assert.equal(moved, expected, JSON.stringify({ place, delta }))
  }
})

test('places in a text with foreign line ends map both ways', () => {
  const real = 'a\r\nb\rc\nd'
  assert.equal(asShown(real), 'a\nb\nc\nd')
  for (let shown = 0; shown <= asShown(real).length; shown++) {
    assert.equal(shownIndex(real, realIndex(real, shown)), shown)
    assert.equal(asShown(real).slice(shown), asShown(real.slice(realIndex(real, shown))))
  }
})
