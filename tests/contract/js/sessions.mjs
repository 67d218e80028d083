// Random sessions of three honest yjs clients: `node sessions.mjs <seed> <count>` writes one JSON per line,
// {updates: [hex, …]} in an order in which every update finds what it builds on. Strings are edited between whole
// characters, as every editor binding does.
import * as Y from '../../js/node_modules/yjs/dist/yjs.mjs'

const random = seed => () => { // mulberry32
  seed = (seed + 0x6D2B79F5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

const WORDS = ['a', 'то', 'слово ', 'hello ', '😀', '👩‍👩‍👧', 'ß', '\n', '中文', 'x'.repeat(200), '1']
const KEYS = ['k', 'ключ', '', 'title', 'done', '😀']

class Session {
  constructor (seed) {
    this.r = random(seed)
    this.updates = []
    this.inbox = [[], [], []]
    this.docs = [0, 1, 2].map(me => {
      const doc = new Y.Doc({ gc: me !== 2 }) // one of them keeps what is deleted, as version history does
      doc.clientID = this.int(2 ** 32)
      doc.on('update', (update, origin) => {
        if (origin === 'remote') return
        this.updates.push(Buffer.from(update).toString('hex'))
        this.inbox.forEach((box, other) => other !== me && box.push(update))
      })
      doc.undo = new Y.UndoManager([doc.getText('t'), doc.getMap('m'), doc.getArray('a'), doc.getXmlFragment('x')], { captureTimeout: 0 })
      return doc
    })
  }

  int (n) { return Math.floor(this.r() * n) }
  pick (list) { return list[this.int(list.length)] }

  // A position in a text that is not inside of a surrogate pair; an embed counts one.
  place (text) {
    const places = [0]
    for (const { insert } of text.toDelta()) {
      for (const character of typeof insert === 'string' ? insert : ['.']) places.push(places.at(-1) + character.length)
    }
    return this.pick(places)
  }

  json (depth = 0) {
    const plain = [null, true, false, 0, -1, 1.5, 2 ** 31, 2 ** 40, -(2 ** 53 - 1), 1e300, 'текст', '', new Uint8Array([1, 2, 255])]
    const n = this.int(depth > 3 ? plain.length : plain.length + 2)
    if (n < plain.length) return plain[n]
    if (n === plain.length) return Array.from({ length: this.int(4) }, () => this.json(depth + 1))
    return Object.fromEntries(Array.from({ length: this.int(4) }, () => [this.pick(KEYS), this.json(depth + 1)]))
  }

  value () {
    switch (this.int(8)) {
      case 0: return new Y.Text(this.pick(WORDS))
      case 1: return new Y.Map([[this.pick(KEYS), this.json()], [this.pick(KEYS), new Y.Map()]])
      case 2: return Y.Array.from([this.json(), new Y.Array()])
      case 3: return new Y.Doc({ guid: 'sub-' + this.int(1000), autoLoad: this.int(2) === 0 })
      default: return this.json()
    }
  }

  // Some live shared type of this kind, the root or deep in the document.
  some (doc, root, Kind) {
    let node = root
    for (let depth = 0; depth < 6; depth++) {
      const inner = (node instanceof Y.Map ? [...node.values()] : node instanceof Y.Text ? [] : node.toArray())
        .filter(child => child instanceof Y.AbstractType)
      if (inner.length === 0 || this.int(3) === 0) break
      node = this.pick(inner)
    }
    return node instanceof Kind ? node : root
  }

  text (doc) {
    const text = this.pick([doc.getText('t'), this.some(doc, doc.getMap('m'), Y.Text), this.some(doc, doc.getXmlFragment('x'), Y.XmlText)])
    if (!(text instanceof Y.Text)) return
    const at = this.place(text)
    switch (this.int(6)) {
      case 0: {
        const to = this.place(text)
        return text.delete(Math.min(at, to), Math.abs(at - to))
      }
      case 1: {
        const to = this.place(text)
        return text.format(Math.min(at, to), Math.abs(at - to), { bold: this.pick([true, null]), link: this.pick([null, { href: 'я' }]) })
      }
      case 2: return text.insertEmbed(at, this.pick([{ image: 'a.png', size: [1, 2.5, -3e10] }, new Y.Map([['k', 1]])]))
      default: return text.insert(at, this.pick(WORDS), this.int(4) === 0 ? { italic: true } : undefined)
    }
  }

  map (doc) {
    const map = this.some(doc, doc.getMap('m'), Y.Map)
    if (this.int(4) === 0) map.delete(this.pick(KEYS))
    else if (this.int(4) === 0) for (const n of [1, 2, 3]) map.set('count', n)
    else map.set(this.pick(KEYS), this.value())
  }

  array (doc) {
    const array = this.some(doc, doc.getArray('a'), Y.Array)
    if (!(array instanceof Y.Array)) return
    const at = this.int(array.length + 1)
    if (this.int(4) === 0) array.delete(at, this.int(array.length - at + 1))
    else array.insert(at, Array.from({ length: 1 + this.int(3) }, () => this.value()))
  }

  xml (doc) {
    const node = this.some(doc, doc.getXmlFragment('x'), Y.XmlFragment)
    if (!(node instanceof Y.XmlFragment)) return
    const at = this.int(node.length + 1)
    if (this.int(4) === 0) return node.delete(at, this.int(node.length - at + 1))
    if (this.int(4) === 0 && node instanceof Y.XmlElement) return node.setAttribute(this.pick(KEYS), 'значение')
    node.insert(at, [this.pick([() => new Y.XmlElement('p'), () => new Y.XmlText('абзац'), () => new Y.XmlElement('td')])()])
  }

  step () {
    const me = this.int(3)
    const doc = this.docs[me]
    switch (this.int(10)) {
      case 0: case 1: { // delivery, in order
        const box = this.inbox[me]
        for (let n = this.int(box.length + 1); n > 0; n--) Y.applyUpdate(doc, box.shift(), 'remote')
        return
      }
      case 2: return this.int(2) ? doc.undo.undo() : doc.undo.redo()
      default: doc.transact(() => {
        for (let n = this.int(3) + 1; n > 0; n--) this.pick([this.text, this.text, this.map, this.array, this.xml]).call(this, doc)
      })
    }
  }

  // What clients send besides single updates: sync step 2, with and without a state vector, and merged updates.
  extras () {
    const [a, b, c] = this.docs
    const extra = [Y.encodeStateAsUpdate(a, Y.encodeStateVector(b)), Y.encodeStateAsUpdate(b), Y.encodeStateAsUpdate(c, Y.encodeStateVector(a))]
    const merged = Y.mergeUpdates(this.updates.map(hex => Buffer.from(hex, 'hex')))
    return [...extra, merged].map(update => Buffer.from(update).toString('hex'))
  }
}

const [seed, count] = process.argv.slice(2).map(Number)
for (let n = 0; n < count; n++) {
  const session = new Session(seed * 1_000_003 + n)
  for (let i = 0; i < 150; i++) session.step()
  console.log(JSON.stringify({ updates: session.updates, extras: session.extras() }))
}
