// One adapter per published client. Each turns its provider into the same small shape and reports every
// event to `client.touch()`, which is what waiting commands listen to. The providers are used as published.
import WebSocket from 'ws'
import * as decoding from 'lib0/decoding'
import { Awareness } from 'y-protocols/awareness'
import { YSweetProvider } from '@y-sweet/client'
import * as yWebsocket1 from 'y-websocket-1'
import * as yWebsocket2 from 'y-websocket-2'
import * as yWebsocket3 from 'y-websocket-3'
import * as hocuspocus2 from 'hocuspocus-provider-2'
import * as hocuspocus3 from 'hocuspocus-provider-3'
import * as hocuspocus4 from 'hocuspocus-provider-4'

const SAVED_FRAME = 101 // sent by this server alone, to y-websocket clients which ask with ?caps=ack

/** A WebSocket class for one client: the `ws` package, with every close and HTTP refusal written down. */
const recordingSocket = (client, { origin, frames }) =>
  class extends WebSocket {
    constructor (url, protocols) {
      super(url, protocols, origin === undefined ? {} : { origin })
      this.on('open', () => { client.opens++; client.touch() })
      this.on('close', (code, reason) => { client.closes.push({ code, reason: reason.toString() }); client.touch() })
      this.on('error', error => {
        const status = /Unexpected server response: (\d+)/.exec(error.message)
        if (status) client.httpRefusals.push(Number(status[1]))
        else client.errors.push(error.message)
        client.touch()
      })
      this.on('message', data => {
        client.framesReceived++
        if (frames) client.frames.push({ way: 'in', hex: Buffer.from(data).toString('hex') })
      })
    }

    send (data, ...rest) {
      client.framesSent++
      if (frames) client.frames.push({ way: 'out', hex: Buffer.from(data).toString('hex') })
      return super.send(data, ...rest)
    }
  }

const awarenessFor = (client, options) => {
  const awareness = new Awareness(client.doc)
  if (options.awareness === false) awareness.setLocalState(null)
  return awareness
}

const yWebsocket = library => (client, options) => {
  const provider = new library.WebsocketProvider(options.url, options.document, client.doc, {
    params: options.params ?? {},
    protocols: options.protocols ?? [],
    awareness: awarenessFor(client, options),
    WebSocketPolyfill: recordingSocket(client, options),
    disableBc: true,
    connect: options.connect !== false,
    ...(options.maxBackoffTime === undefined ? {} : { maxBackoffTime: options.maxBackoffTime }),
    ...(options.resyncInterval === undefined ? {} : { resyncInterval: options.resyncInterval })
  })
  const withAcks = (options.params?.caps ?? '').split(',').includes('ack')
  let status = 'connecting'
  let unsaved = 1
  provider.on('status', event => { status = event.status; client.status(event.status) })
  provider.on('sync', () => client.touch())
  provider.on('closed', event => { client.stopped = event; client.touch() })
  // The slot y-protocols leaves for applications: the client itself only prints a warning.
  provider.messageHandlers[2] = (_encoder, decoder) => {
    if (decoding.readVarUint(decoder) === 0) client.refusals.push(decoding.readVarString(decoder))
    client.touch()
  }
  if (withAcks) {
    provider.messageHandlers[SAVED_FRAME] = (_encoder, decoder) => {
      const [count, seq] = [decoding.readVarUint(decoder), decoding.readVarUint(decoder)]
      client.acks.push({ count, seq })
      unsaved -= count
      client.touch()
    }
    // Counted as the hocuspocus provider does: one for every update, and one for the answer to the server's
    // first step 1, which holds everything written before the connection.
    provider.on('status', ({ status }) => { if (status === 'connected') unsaved = 1 })
    client.doc.on('update', (_update, origin) => { if (origin !== provider) { unsaved++; client.touch() } })
  }
  return {
    provider,
    awareness: provider.awareness,
    socket: () => provider.ws,
    status: () => status,
    synced: () => provider.synced,
    ...(withAcks ? { unsynced: () => unsaved } : {}),
    connect: () => provider.connect(),
    disconnect: () => provider.disconnect(),
    destroy: () => provider.destroy(),
    configure: ({ params }) => { if (params !== undefined) provider.params = params }
  }
}

const sharedSockets = new Map() // name -> HocuspocusProviderWebsocket, for several documents on one socket

const hocuspocus = (library, version) => (client, options) => {
  const name = options.socket
  let socket = name === undefined ? undefined : sharedSockets.get(name)
  if (socket === undefined) {
    socket = new library.HocuspocusProviderWebsocket({
      url: options.url,
      WebSocketPolyfill: recordingSocket(client, options),
      ...(version === 2 ? { parameters: options.params ?? {}, connect: options.connect !== false } : { autoConnect: options.connect !== false }),
      ...(options.websocket ?? {})
    })
    socket.users = 0
    if (name !== undefined) sharedSockets.set(name, socket)
  }
  socket.users++
  // A function is asked again on every (re)connect; no token at all must stay `null`.
  const token = options.token == null ? null : () => { client.tokenAsks++; return client.token }
  const provider = new library.HocuspocusProvider({
    websocketProvider: socket,
    name: options.document,
    document: client.doc,
    token,
    awareness: options.awareness === false ? null : awarenessFor(client, options),
    ...(version === 2 ? { broadcast: false } : {}),
    ...(version === 4 && options.sessionAware ? { sessionAwareness: true } : {}),
    ...(options.flushDelay === undefined ? {} : { flushDelay: options.flushDelay })
  })
  socket.on('status', ({ status }) => client.status(status))
  for (const event of ['synced', 'unsyncedChanges', 'connect', 'disconnect']) provider.on(event, () => client.touch())
  provider.on('authenticated', () => { client.authentications++; client.touch() })
  provider.on('authenticationFailed', ({ reason }) => { client.refusals.push(reason); client.touch() })
  provider.on('stateless', ({ payload }) => { client.stateless.push(payload); client.touch() })
  provider.on('close', ({ event }) => {
    if (event?.code === 1000 && event.target === undefined) client.documentCloses.push(event.reason)
    client.touch()
  })
  if (version > 2) provider.attach()
  const alone = () => name === undefined
  return {
    provider,
    awareness: provider.awareness,
    socket: () => socket.webSocket,
    status: () => socket.status,
    synced: () => provider.isSynced,
    unsynced: () => provider.unsyncedChanges,
    scope: () => provider.authorizedScope,
    authenticated: () => provider.isAuthenticated,
    connect: () => {
      const connecting = version === 2 && !provider.isConnected ? provider.connect() : socket.connect()
      Promise.resolve(connecting).catch(error => client.fail(error))
    },
    disconnect: () => socket.disconnect(),
    destroy: () => {
      provider.destroy()
      socket.users--
      if (alone() || socket.users === 0) { socket.destroy(); sharedSockets.delete(name) }
    },
    detach: () => (version === 2 ? provider.disconnect() : provider.detach()),
    attach: () => (version === 2 ? provider.connect() : provider.attach()),
    configure: ({ token }) => { if (token !== undefined) client.token = token },
    sendToken: () => provider.sendToken(),
    sendStateless: payload => provider.sendStateless(payload),
    forceSync: () => provider.forceSync()
  }
}

const ySweet = (client, options) => {
  const clientToken = async () => {
    client.tokenAsks++
    return { url: `${options.url}/d/${options.document}/ws`, baseUrl: options.url, docId: options.document, token: client.token }
  }
  const provider = new YSweetProvider(clientToken, options.document, client.doc, {
    awareness: awarenessFor(client, options),
    WebSocketPolyfill: recordingSocket(client, options),
    showDebuggerLink: false,
    connect: options.connect !== false
  })
  let status = 'connecting'
  provider.on('status', event => { status = event.status; client.status(event.status) })
  for (const event of ['sync', 'local-changes', 'connection-close']) provider.on(event, () => client.touch())
  return {
    provider,
    awareness: provider.awareness,
    socket: () => provider.websocket,
    status: () => status,
    synced: () => provider.synced,
    unsynced: () => provider.localVersion - provider.ackedVersion,
    connect: () => provider.connect(),
    disconnect: () => {
      if (provider.websocket) provider.websocket.onclose = null // which would connect again at once
      provider.disconnect()
    },
    destroy: () => { provider.disconnect(); provider.destroy() },
    configure: ({ token }) => { if (token !== undefined) { client.token = token; provider.clientToken = null } }
  }
}

export const families = {
  'y-websocket': yWebsocket(yWebsocket3),
  'y-websocket-1': yWebsocket(yWebsocket1),
  'y-websocket-2': yWebsocket(yWebsocket2),
  'y-websocket-3': yWebsocket(yWebsocket3),
  hocuspocus: hocuspocus(hocuspocus4, 4),
  'hocuspocus-2': hocuspocus(hocuspocus2, 2),
  'hocuspocus-3': hocuspocus(hocuspocus3, 3),
  'hocuspocus-4': hocuspocus(hocuspocus4, 4),
  'y-sweet': ySweet
}
