// Two published clients behind one shape. A connection tells 'change' whenever one of these differs:
//   state    'offline' | 'connecting' | 'connected' | 'refused'
//   saved    the server has confirmed that all of this replica's changes are durable
//   unsaved  how many changes wait for that confirmation
//   sentence what a person should read about it, or ''
import { Awareness, HocuspocusProvider, WebsocketProvider, decoding } from '../vendor.js'
import { t } from './texts.js'

const FIRST_DELAY_MS = 200
const LONGEST_DELAY_MS = 5000
const NEEDS_TICKET = 4401 // final for the library; for us a new ticket may do
const NEEDS_TICKET_REASONS = ['unauthenticated', 'token-expired']
const DENIED = 2 // message types of y-websocket, and one of this server's own, which `caps=ack` asks for
const SAVED = 101

const socketUrl = path => `${location.origin.replace(/^http/, 'ws')}${path}`
const isFinal = code => code >= 4400 && code < 4500 && code !== NEEDS_TICKET
const delayAfter = failures => Math.min(FIRST_DELAY_MS * 2 ** failures, LONGEST_DELAY_MS) * (0.5 + Math.random() / 2)

class Connection extends EventTarget {
  state = 'connecting'
  saved = false
  unsaved = 0
  sentence = ''

  constructor (session, documentId, doc) {
    super()
    Object.assign(this, { session, documentId, doc, awareness: new Awareness(doc) })
    addEventListener('online', this.#onNetwork)
  }

  set (values) {
    Object.assign(this, values)
    this.dispatchEvent(new Event('change'))
  }

  #onNetwork = () => { if (this.state === 'connecting') this.goOnline() }

  destroy () { removeEventListener('online', this.#onNetwork) }

  // Awareness remembers the clocks of those who left, and would not show them again before their next sign of life
  // (15 s). So a new connection begins with a clean memory, and with a newer sign of our own life.
  forgetOthers () {
    const { meta, states } = this.awareness
    for (const id of meta.keys()) if (!states.has(id)) meta.delete(id)
  }

  showOneself () { this.awareness.setLocalState(this.awareness.getLocalState()) }
}

/** y-websocket 3. Every attempt needs a fresh one-time ticket, so the attempts are ours and not the library's. */
export class YWebsocketConnection extends Connection {
  #timer = null
  #failures = 0
  #wanted = true
  #asked = 0

  constructor (...of) {
    super(...of)
    const provider = this.provider = new WebsocketProvider(socketUrl('/ws'), encodeURIComponent(this.documentId), this.doc, {
      connect: false,
      disableBc: true, // two accounts in two tabs would write through each other's connection
      awareness: this.awareness,
      shouldReconnect: () => false
    })
    provider.messageHandlers[DENIED] = (_encoder, decoder) => this.#denied(decoder)
    provider.messageHandlers[SAVED] = (_encoder, decoder) => this.#count(-decoding.readVarUint(decoder))
    // A new connection begins with one answer that is owed a receipt: the one with all we wrote before.
    provider.on('status', ({ status }) => { if (status === 'connected') { this.forgetOthers(); this.#count(1 - this.unsaved) } })
    provider.on('sync', synced => { if (synced) this.#synced() })
    provider.on('connection-close', event => {
      provider.shouldConnect = false
      this.#closed(event?.code)
    })
    this.doc.on('update', (_update, origin) => { if (origin !== provider) this.#count(1) })
    this.goOnline()
  }

  async goOnline () {
    clearTimeout(this.#timer)
    this.#wanted = true
    const asked = ++this.#asked
    const outdated = () => !this.#wanted || asked !== this.#asked
    if (this.state !== 'connecting') this.set({ state: 'connecting', sentence: '' })
    try {
      const ticket = await this.session.ticket(this.documentId)
      if (outdated()) return
      this.provider.params = { ticket, caps: 'ack' }
      this.provider.connect()
    } catch (problem) {
      if (outdated()) return
      if (problem.final) this.set({ state: 'refused', sentence: problem.message })
      else this.#again(problem.message)
    }
  }

  goOffline () {
    clearTimeout(this.#timer)
    this.#wanted = false
    this.provider.disconnect()
    this.set({ state: 'offline', saved: false, sentence: '' })
  }

  destroy () {
    this.goOffline()
    super.destroy()
    this.provider.destroy()
    this.awareness.destroy()
  }

  #synced () {
    this.#failures = 0
    this.set({ state: 'connected', sentence: '' })
    this.#count(0)
    this.showOneself()
  }

  #count (change) {
    const unsaved = this.unsaved + change
    this.set({ unsaved, saved: unsaved === 0 && this.provider.synced })
  }

  #denied (decoder) {
    if (decoding.readVarUint(decoder) === 0 && decoding.readVarString(decoder) === 'read-only') this.set({ sentence: t('readOnly') })
  }

  #closed (code) {
    if (!this.#wanted) return
    this.set({ saved: false })
    if (isFinal(code)) this.set({ state: 'refused', sentence: t(`close${code}`) })
    else this.#again(navigator.onLine && code !== 1006 ? '' : t('network'))
  }

  #again (sentence) {
    this.#timer = setTimeout(() => this.goOnline(), delayAfter(this.#failures++))
    this.set({ state: 'connecting', sentence })
  }
}

/** Hocuspocus 4. It comes back by itself and counts receipts by itself. */
export class HocuspocusConnection extends Connection {
  #failures = 0
  #noTicket = false

  constructor (...of) {
    super(...of)
    this.provider = new HocuspocusProvider({
      url: socketUrl('/collab'),
      name: this.documentId,
      document: this.doc,
      awareness: this.awareness,
      minDelay: FIRST_DELAY_MS,
      maxDelay: LONGEST_DELAY_MS,
      token: () => this.#ticket()
    })
    this.provider.on('authenticationFailed', ({ reason }) => this.#refused(reason))
    this.provider.on('authenticated', () => { this.#failures = 0; this.forgetOthers() })
    this.provider.on('synced', () => this.showOneself())
    for (const event of ['status', 'synced', 'unsyncedChanges', 'close']) this.provider.on(event, () => this.#look())
  }

  goOnline () {
    this.set({ state: 'connecting', sentence: '' })
    this.provider.connect()
  }

  goOffline () {
    this.set({ state: 'offline', saved: false, sentence: '' })
    this.provider.disconnect()
  }

  destroy () {
    super.destroy()
    this.state = 'offline'
    this.provider.destroy()
  }

  async #ticket () {
    try {
      const ticket = await this.session.ticket(this.documentId)
      this.#noTicket = false
      return ticket
    } catch (problem) {
      this.#noTicket = true
      if (problem.final) this.#stop(problem.message)
      throw problem
    }
  }

  #refused (reason) {
    if (this.#noTicket) return // the server closes a socket without credentials, and the library tries again
    if (!NEEDS_TICKET_REASONS.includes(reason)) return this.#stop(t(`problem:${reason}`, {}, t('close4403')))
    setTimeout(async () => {
      if (this.state !== 'connecting') return
      await this.provider.sendToken()
      this.provider.startSync()
    }, delayAfter(this.#failures++))
  }

  #stop (sentence) {
    this.set({ state: 'refused', saved: false, sentence })
    this.provider.disconnect()
  }

  #look () {
    const { isSynced, isAuthenticated, unsyncedChanges: unsaved, configuration: { websocketProvider: socket } } = this.provider
    if (this.state === 'offline' || this.state === 'refused') return this.set({ unsaved })
    if (socket.status === 'disconnected' && !socket.shouldConnect) this.provider.connect() // switched off and on at once
    const online = isSynced && isAuthenticated
    this.set({ unsaved, state: online ? 'connected' : 'connecting', saved: online && unsaved === 0 })
  }
}
