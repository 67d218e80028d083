// Reads lines {updates: [hex, …], state: hex}: what the guard let through and what the engine made of it. Writes one
// JSON per line: {equal, pending, error}. `equal`: a yjs document fed with the updates and a yjs document loaded
// from the engine's state hold the same. The comparison walks the structs: it asks nobody for the types of roots.
import readline from 'node:readline'
import * as Y from '../../js/node_modules/yjs/dist/yjs.mjs'

const sorted = value => {
  if (value instanceof Uint8Array) return { $bytes: [...value] }
  if (typeof value === 'bigint') return { $big: String(value) }
  if (value === undefined) return { $undefined: true }
  if (Array.isArray(value)) return value.map(sorted)
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(Object.keys(value).sort().map(key => ['.' + key, sorted(value[key])]))
  }
  return value
}

const contentOf = content => {
  if (content instanceof Y.ContentString) return [...Array(content.str.length).keys()].map(i => content.str.charCodeAt(i))
  if (content instanceof Y.ContentType) return [{ kind: content.type.constructor.name, name: content.type.nodeName, ...dump(content.type) }]
  if (content instanceof Y.ContentDoc) return [{ subdocument: content.doc.guid }]
  if (content instanceof Y.ContentEmbed) return [{ embed: sorted(content.embed) }]
  if (content instanceof Y.ContentBinary) return [{ bytes: [...content.content] }]
  return content.getContent().map(sorted)
}

// Formats are folded into what they cover.
const dump = type => {
  const list = []
  const formats = new Map()
  for (let item = type._start; item !== null; item = item.right) {
    if (item.deleted) continue
    if (item.content instanceof Y.ContentFormat) {
      if (item.content.value === null) formats.delete(item.content.key)
      else formats.set(item.content.key, sorted(item.content.value))
    } else {
      const style = [...formats].sort((a, b) => (a[0] < b[0] ? -1 : 1))
      for (const value of contentOf(item.content)) list.push(style.length ? { value, style } : value)
    }
  }
  const map = [...type._map].filter(([, item]) => !item.deleted)
    .map(([key, item]) => [key, contentOf(item.content).at(-1)]).sort((a, b) => (a[0] < b[0] ? -1 : 1))
  return { list, map }
}

const content = doc => [...doc.share].map(([name, type]) => [name, dump(type)])
  .filter(([, { list, map }]) => list.length + map.length > 0).sort((a, b) => (a[0] < b[0] ? -1 : 1))

// A document that does not edit itself: yjs deletes formats it finds redundant after remote changes.
const replica = () => {
  const doc = new Y.Doc()
  doc.on('afterTransaction', transaction => { transaction._needFormattingCleanup = false })
  return doc
}

const compare = ({ updates, state }) => {
  const doc = replica()
  for (const hex of updates) Y.applyUpdate(doc, Buffer.from(hex, 'hex'))
  const other = replica()
  Y.applyUpdate(other, Buffer.from(state, 'hex'))
  const [one, two] = [doc, other].map(d => JSON.stringify(content(d)))
  const pending = [doc, other].some(d => d.store.pendingStructs !== null || d.store.pendingDs !== null)
  Y.encodeStateAsUpdate(doc)
  return { equal: one === two, pending, error: null, ...(one === two ? {} : { one, two }) }
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  let answer
  try {
    answer = compare(JSON.parse(line))
  } catch (error) {
    answer = { equal: false, pending: false, error: String(error) }
  }
  console.log(JSON.stringify(answer))
}
