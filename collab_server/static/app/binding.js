// A <textarea> and a Y.Text that follow each other.
import { Y } from '../vendor.js'
import { asShown, difference, isWhole, realIndex, shift, shownIndex } from './diff.js'

const FRAME_MS = 16 // others' changes are shown together: a long text takes its time to be laid out
const EMBED = '\ufffc' // what is not text still takes one place

const read = text => text.toDelta().map(({ insert }) => typeof insert === 'string' ? insert : EMBED).join('')

export class TextBinding {
  #real = '' // the text when both last agreed; the textarea shows it with its own line ends
  #composing = false
  #waiting = [] // deltas of others that are in the text but not yet in the textarea
  #timer = null

  constructor (text, area) {
    this.text = text
    this.area = area
    this.undo = new Y.UndoManager(text, { trackedOrigins: new Set([this]) })
    this.#show(0, 0)
    text.observe(this.#onText)
    for (const [name, listen] of this.#listeners) area.addEventListener(name, listen)
  }

  destroy () {
    clearTimeout(this.#timer)
    this.text.unobserve(this.#onText)
    this.undo.destroy()
    for (const [name, listen] of this.#listeners) this.area.removeEventListener(name, listen)
  }

  #onText = ({ delta }, { origin }) => {
    if (origin === this) return
    this.#waiting.push(delta)
    this.#timer ??= setTimeout(this.#follow, FRAME_MS)
  }

  #follow = () => {
    this.#timer = null
    if (this.#composing || this.#waiting.length === 0) return // to touch the textarea would break off the input method
    const waiting = this.#waiting
    this.#waiting = []
    this.#show(...this.#carets().map(caret => waiting.reduce(shift, caret)))
  }

  #onInput = () => {
    if (this.#composing) return
    const { index, removed, inserted } = difference(asShown(this.#real), this.area.value, this.area.selectionEnd)
    if (!isWhole(inserted)) return // the other half comes with the next event
    const [begin, end] = [index, index + removed].map(place => this.#waiting.reduce(shift, realIndex(this.#real, place)))
    this.text.doc.transact(() => {
      if (end > begin) this.text.delete(begin, end - begin)
      if (inserted !== '') this.text.insert(begin, inserted)
    }, this)
    if (this.#waiting.length > 0) this.#show(begin + inserted.length)
    else this.#real = read(this.text)
    this.#waiting = []
  }

  #onKey = event => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return
    const key = event.key.toLowerCase()
    const back = key === 'z' && !event.shiftKey
    const forth = key === 'y' || (key === 'z' && event.shiftKey)
    if (!back && !forth) return
    event.preventDefault() // the browser's own history would undo other people's words
    if (back) this.undo.undo()
    else this.undo.redo()
  }

  #listeners = [
    ['input', this.#onInput],
    ['keydown', this.#onKey],
    ['compositionstart', () => { this.#composing = true }],
    ['compositionend', () => { this.#composing = false; this.#onInput() }]
  ]

  #carets () { return [this.area.selectionStart, this.area.selectionEnd].map(caret => realIndex(this.#real, caret)) }

  #show (start, end = start) {
    const { area } = this
    const { scrollTop } = area
    this.#real = read(this.text)
    area.value = asShown(this.#real)
    area.setSelectionRange(shownIndex(this.#real, start), shownIndex(this.#real, end))
    area.scrollTop = scrollTop
  }
}
