// Edits and content of shared types as plain JSON. Indices count UTF-16 code units, as Yjs does.
import * as Y from 'yjs'

const ROOTS = {
  text: doc => root => doc.getText(root),
  map: doc => root => doc.getMap(root),
  array: doc => root => doc.getArray(root),
  xml: doc => root => doc.getXmlFragment(root)
}

/** `{"$map": {…}}`, `{"$array": […]}`, `{"$text": "…"}` and `{"$bytes": base64}` become shared types and bytes. */
const value = json => {
  if (json === null || typeof json !== 'object') return json
  if ('$text' in json) return new Y.Text(json.$text)
  if ('$map' in json) return new Y.Map(Object.entries(json.$map).map(([key, item]) => [key, value(item)]))
  if ('$array' in json) return Y.Array.from(json.$array.map(value))
  if ('$bytes' in json) return new Uint8Array(Buffer.from(json.$bytes, 'base64'))
  return json
}

const xmlNode = json => {
  if (typeof json === 'string') return new Y.XmlText(json)
  const element = new Y.XmlElement(json.tag)
  for (const [name, attribute] of Object.entries(json.attributes ?? {})) element.setAttribute(name, attribute)
  if (json.children !== undefined) element.insert(0, json.children.map(xmlNode))
  return element
}

const EDITS = {
  insert: ['text', (text, e) => text.insert(e.index, e.text, e.attributes)],
  delete: ['text', (text, e) => text.delete(e.index, e.length)],
  format: ['text', (text, e) => text.format(e.index, e.length, e.attributes)],
  set: ['map', (map, e) => map.set(e.key, value(e.value))],
  unset: ['map', (map, e) => map.delete(e.key)],
  push: ['array', (array, e) => array.push(e.items.map(value))],
  'insert-items': ['array', (array, e) => array.insert(e.index, e.items.map(value))],
  'delete-items': ['array', (array, e) => array.delete(e.index, e.length)],
  'xml-insert': ['xml', (xml, e) => xml.insert(e.index ?? xml.length, e.nodes.map(xmlNode))],
  'xml-delete': ['xml', (xml, e) => xml.delete(e.index, e.length)],
  'xml-attribute': ['xml', (xml, e) => xml.setAttribute(e.name, e.value)]
}

/** The shared type an edit or a question means: a root, or what lies at `path` (keys and indices) inside it. */
export const find = (doc, { root, type, path = [] }) => {
  if (ROOTS[type] === undefined) throw new Error(`no such type: ${type}`)
  return path.reduce((node, step) => {
    const next = node.get(step)
    if (next === undefined) throw new Error(`nothing at ${JSON.stringify(path)} in ${root}`)
    return next
  }, ROOTS[type](doc)(root))
}

export const applyEdit = (doc, edit) => {
  const known = EDITS[edit.op]
  if (known === undefined) throw new Error(`no such edit: ${edit.op}`)
  const [type, run] = known
  run(find(doc, { ...edit, type: edit.type ?? type }), edit)
}

export const content = (doc, question) => {
  if (question.type === 'delta') return find(doc, { ...question, type: 'text' }).toDelta()
  const node = find(doc, question)
  return node instanceof Y.Text || node instanceof Y.XmlFragment ? node.toString() : node.toJSON()
}
