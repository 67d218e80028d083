// Real clients behind JSON lines: one command per line on stdin, one answer per line on stdout.
// {"id": 1, "op": "connect", …} -> {"id": 1, "ok": true, "result": …} | {"id": 1, "ok": false, "error": "…"}
// One process holds many clients. It ends when stdin ends. Everything the libraries print goes to stderr.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { gunzipSync } from 'node:zlib'
import { isDeepStrictEqual } from 'node:util'
import * as Y from 'yjs'
import { browserOps, closeBrowser } from './browser.mjs'
import { applyEdit, content, find } from './content.mjs'
import { families } from './families.mjs'
import { rawOps } from './raw.mjs'

console.log = console.info = console.debug = console.error // stdout belongs to the answers
process.setMaxListeners(0) // y-websocket adds one exit listener per provider

const clients = new Map()
const driverErrors = []
const base64 = bytes => Buffer.from(bytes).toString('base64')

class Client {
  constructor (options) {
    Object.assign(this, {
      name: options.client, family: options.family, token: options.token ?? null, waiters: new Set(),
      opens: 0, closes: [], httpRefusals: [], refusals: [], documentCloses: [], stateless: [], errors: [], statuses: [],
      acks: [], stopped: null, authentications: 0, tokenAsks: 0,
      framesReceived: 0, framesSent: 0, frames: [], updates: [], remoteUpdates: 0
    })
    this.doc = new Y.Doc(options.gc === undefined ? {} : { gc: options.gc })
    if (options.clientId !== undefined) this.doc.clientID = options.clientId
    const make = families[options.family]
    if (make === undefined) throw new Error(`no such family: ${options.family}; there are ${Object.keys(families).join(', ')}`)
    this.doc.on('update', (update, _origin, _doc, transaction) => {
      if (!transaction.local) this.remoteUpdates++
      if (options.updateLog) this.updates.push({ local: transaction.local, update: base64(update) })
      this.touch()
    })
    if (options.update !== undefined) Y.applyUpdate(this.doc, Buffer.from(options.update, 'base64'), 'stored')
    this.adapter = make(this, options)
    this.adapter.awareness?.on('change', () => this.touch())
  }

  /** Something happened: whoever waits looks again, once the library has finished its own work. */
  touch () {
    if (this.waiters.size === 0 || this.looking) return
    this.looking = true
    queueMicrotask(() => {
      this.looking = false
      for (const look of this.waiters) look()
    })
  }

  status (status) { this.statuses.push(status); this.touch() }
  fail (error) { this.errors.push(String(error?.message ?? error)); this.touch() }

  get saved () {
    return this.adapter.unsynced !== undefined && this.adapter.synced() && this.adapter.unsynced() <= 0
  }

  awareness () {
    const states = {}
    for (const [id, state] of this.adapter.awareness?.getStates() ?? []) states[id] = state
    return states
  }

  state () {
    const a = this.adapter
    const { name, family, opens, closes, httpRefusals, refusals, documentCloses, stateless, errors, statuses, acks,
      stopped, authentications, tokenAsks, framesReceived, framesSent, remoteUpdates } = this
    return {
      name, family, clientId: this.doc.clientID, status: a.status(), synced: a.synced(),
      unsyncedChanges: a.unsynced?.() ?? null, hasUnsyncedChanges: a.unsynced === undefined ? null : a.unsynced() > 0,
      saved: this.saved, authorizedScope: a.scope?.() ?? null, authenticated: a.authenticated?.() ?? null,
      opens, closes, httpRefusals, refusals, documentCloses, stateless, errors, statuses, acks, stopped,
      authentications, tokenAsks, framesReceived, framesSent, remoteUpdates, driverErrors
    }
  }

  until (condition, timeout, what) {
    return new Promise((resolve, reject) => {
      const end = settle => { clearTimeout(timer); this.waiters.delete(look); settle() }
      const look = () => {
        try {
          const found = condition()
          if (found !== undefined && found !== false) end(() => resolve(found))
        } catch (error) { end(() => reject(error)) }
      }
      const timer = setTimeout(() => end(() => reject(new Error(
        `${this.name} waited ${timeout} ms for ${what}; it is ${JSON.stringify({ ...this.state(), awareness: this.awareness() })}`))), timeout)
      this.waiters.add(look)
      look()
    })
  }
}

const has = (whole, part) => part !== null && typeof part === 'object' && !Array.isArray(part)
  ? whole !== null && typeof whole === 'object' && Object.entries(part).every(([key, item]) => has(whole[key], item))
  : isDeepStrictEqual(whole, part)

// What `wait` can wait for: client, command -> undefined or false (not yet) or the result.
const CONDITIONS = {
  synced: client => client.adapter.synced(),
  unsynced: client => !client.adapter.synced(),
  saved: client => client.saved,
  unsaved: client => !client.saved,
  status: (client, { status }) => client.adapter.status() === status,
  text: (client, { root, path, equals, includes, length }) => {
    const text = find(client.doc, { root, path, type: 'text' }).toString()
    const there = (equals === undefined || text === equals) && (includes === undefined || text.includes(includes)) &&
      (length === undefined || text.length === length)
    return there ? { text } : undefined
  },
  content: (client, { equals, ...question }) => isDeepStrictEqual(content(client.doc, question), equals),
  awareness: (client, { clientId, contains, count, absent }) => {
    const states = client.awareness()
    if (count !== undefined && Object.keys(states).length !== count) return false
    if (absent !== undefined && absent in states) return false
    if (contains === undefined && clientId === undefined) return states
    const found = clientId === undefined ? Object.values(states) : [states[clientId]]
    return found.some(state => state !== undefined && has(state, contains ?? {})) ? states : false
  },
  closed: (client, { code, count = 1 }) => client.closes.length >= count && (code === undefined || client.closes.some(c => c.code === code))
    ? client.closes
    : false,
  opened: (client, { count = 1 }) => client.opens >= count,
  stopped: client => client.stopped ?? false,
  refused: (client, { count = 1 }) => client.refusals.length + client.httpRefusals.length >= count
    ? { reasons: client.refusals, statuses: client.httpRefusals }
    : false,
  authenticated: (client, { scope }) => client.adapter.authenticated?.() && (scope === undefined || client.adapter.scope() === scope),
  'document-closed': (client, { count = 1 }) => client.documentCloses.length >= count ? client.documentCloses : false,
  stateless: (client, { count = 1 }) => client.stateless.length >= count ? client.stateless : false,
  updates: (client, { count }) => client.remoteUpdates >= count,
  acks: (client, { count = 1 }) => client.acks.length >= count ? client.acks : false
}

const find1 = ({ client }) => {
  const found = clients.get(client)
  if (found === undefined) throw new Error(`no such client: ${client}`)
  return found
}

const keystrokes = ({ file, patches }) => {
  if (file === undefined) return patches
  const bytes = readFileSync(file)
  const json = JSON.parse(file.endsWith('.gz') ? gunzipSync(bytes) : bytes)
  return Array.isArray(json) ? json : json.txns.flatMap(txn => txn.patches)
}

const OPS = {
  ...rawOps,
  ...browserOps,
  ping: () => 'pong',
  connect: options => {
    if (clients.has(options.client)) throw new Error(`there is a client ${options.client} already`)
    const client = new Client(options)
    clients.set(options.client, client)
    return { clientId: client.doc.clientID }
  },
  disconnect: async command => {
    const client = find1(command)
    client.adapter.disconnect()
    await client.until(() => client.adapter.status() === 'disconnected', 5000, 'disconnecting')
  },
  reconnect: command => { const client = find1(command); client.stopped = null; client.adapter.connect() },
  drop: command => { find1(command).adapter.socket()?.terminate() }, // as if a cable were pulled: no close frame
  destroy: command => { find1(command).adapter.destroy(); clients.delete(command.client) },
  configure: command => { find1(command).adapter.configure(command) },
  'send-token': command => find1(command).adapter.sendToken(),
  'send-stateless': command => { find1(command).adapter.sendStateless(command.payload) },
  'force-sync': command => { find1(command).adapter.forceSync() },
  detach: command => { find1(command).adapter.detach() },
  attach: command => { find1(command).adapter.attach() },
  edit: command => {
    const { doc } = find1(command)
    if (command.separately) command.edits.forEach(edit => applyEdit(doc, edit))
    else doc.transact(() => command.edits.forEach(edit => applyEdit(doc, edit)))
  },
  type: async command => {
    const client = find1(command)
    const text = find(client.doc, { root: command.root, path: command.path, type: 'text' })
    const { from = 0, count = Infinity, pace = 0, burst = 100 } = command
    const strokes = keystrokes(command).slice(from, from + count)
    const begin = performance.now()
    for (const [n, [position, deleted, inserted]] of strokes.entries()) {
      client.doc.transact(() => {
        if (deleted > 0) text.delete(position, deleted)
        if (inserted !== '') text.insert(position, inserted)
      })
      if (pace > 0) await new Promise(resolve => setTimeout(resolve, pace))
      else if (n % burst === burst - 1) await new Promise(resolve => setImmediate(resolve))
    }
    return { keystrokes: strokes.length, length: text.length, milliseconds: performance.now() - begin }
  },
  content: command => content(find1(command).doc, command),
  state: command => find1(command).state(),
  frames: command => find1(command).frames.slice(command.from ?? 0),
  errors: () => driverErrors,
  awareness: command => {
    const client = find1(command)
    const { awareness } = client.adapter
    if ('set' in command) awareness.setLocalState(command.set)
    if ('field' in command) awareness.setLocalStateField(command.field, command.value)
    return client.awareness()
  },
  'update-log': command => find1(command).updates.slice(command.from ?? 0),
  encode: command => {
    const { doc } = find1(command)
    const since = command.stateVector === undefined ? undefined : Buffer.from(command.stateVector, 'base64')
    return { update: base64(Y.encodeStateAsUpdate(doc, since)), stateVector: base64(Y.encodeStateVector(doc)) }
  },
  apply: command => { Y.applyUpdate(find1(command).doc, Buffer.from(command.update, 'base64'), 'driver') },
  // Equal digests: the same structs and deletions are known. Compare `content` too: state vectors alone can lie.
  digest: command => createHash('sha256').update(Y.encodeSnapshot(Y.snapshot(find1(command).doc))).digest('hex'),
  wait: ({ for: what, timeout = 5000, ...command }) => {
    const client = find1(command)
    const condition = CONDITIONS[what]
    if (condition === undefined) throw new Error(`cannot wait for ${what}; only for ${Object.keys(CONDITIONS).join(', ')}`)
    const { client: _, op: __, id: ___, ...details } = command
    return client.until(() => condition(client, command), timeout, `${what} ${JSON.stringify(details)}`)
  }
}

const answer = message => process.stdout.write(JSON.stringify(message) + '\n')

const run = async line => {
  let command
  try {
    command = JSON.parse(line)
    if (!Object.hasOwn(OPS, command.op)) throw new Error(`no such op: ${command.op}`)
    answer({ id: command.id, ok: true, result: (await OPS[command.op](command)) ?? null })
  } catch (error) {
    answer({ id: command?.id ?? null, ok: false, error: String(error?.message ?? error) })
  }
}

// A client library that throws must not take the other clients with it; the error is reported in `state`.
for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, error => {
    driverErrors.push(`${event}: ${error?.message ?? error}`)
    console.error(event, error)
  })
}

createInterface({ input: process.stdin }).on('line', run).on('close', async () => {
  await closeBrowser()
  process.exit(0)
})
