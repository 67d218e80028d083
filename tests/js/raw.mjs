// Bare WebSockets for hostile frames: what no published client would send, and what comes back.
import WebSocket from 'ws'

const sockets = new Map()

class RawSocket {
  constructor ({ url, protocols = [], headers = {}, origin }) {
    Object.assign(this, { inbox: [], received: 0, close: null, status: null, error: null, waiters: new Set() })
    this.ws = new WebSocket(url, protocols, { headers, origin, perMessageDeflate: false })
    const tell = change => { change?.(); for (const look of this.waiters) look() }
    this.ws.on('open', () => tell())
    this.ws.on('message', (data, binary) => tell(() => {
      this.received++
      this.inbox.push(binary ? { hex: Buffer.from(data).toString('hex') } : { text: data.toString() })
    }))
    this.ws.on('close', (code, reason) => tell(() => { this.close = { code, reason: reason.toString() } }))
    this.ws.on('error', error => tell(() => {
      this.error = error.message
      this.status = Number(/Unexpected server response: (\d+)/.exec(error.message)?.[1]) || null
    }))
  }

  until (condition, timeout, what) {
    return new Promise((resolve, reject) => {
      const end = settle => { clearTimeout(timer); this.waiters.delete(look); settle() }
      const look = () => { const found = condition(); if (found !== undefined) end(() => resolve(found)) }
      const timer = setTimeout(() => end(() => reject(new Error(
        `waited ${timeout} ms for ${what}; received ${JSON.stringify(this.inbox)}, close ${JSON.stringify(this.close)}, error ${this.error}`))), timeout)
      this.waiters.add(look)
      look()
    })
  }
}

const find = ({ socket }) => {
  const found = sockets.get(socket)
  if (found === undefined) throw new Error(`no such raw socket: ${socket}`)
  return found
}

const payload = ({ hex, base64, text }) => text ?? (hex === undefined ? Buffer.from(base64, 'base64') : Buffer.from(hex.replaceAll(' ', ''), 'hex'))

export const rawOps = {
  // -> {open: true, protocol} or {open: false, status: HTTP status or null, close, error}
  'raw-open': command => {
    const raw = new RawSocket(command)
    sockets.set(command.socket, raw)
    return raw.until(() => {
      if (raw.ws.readyState === WebSocket.OPEN) return { open: true, protocol: raw.ws.protocol }
      if (raw.close !== null) return { open: false, status: raw.status, close: raw.close, error: raw.error }
      return undefined
    }, command.timeout ?? 5000, 'open')
  },
  'raw-send': command => new Promise((resolve, reject) => {
    find(command).ws.send(payload(command), error => error ? reject(error) : resolve(null))
  }),
  // Takes messages off the inbox until one starts with `hex` (or any, without it); -> {hex} | {text}
  'raw-expect': command => {
    const raw = find(command)
    const begin = command.hex?.replaceAll(' ', '')
    return raw.until(() => {
      while (raw.inbox.length > 0) {
        const message = raw.inbox.shift()
        if (begin === undefined || message.hex?.startsWith(begin)) return message
      }
      return undefined
    }, command.timeout ?? 5000, `a message ${begin ?? ''}`)
  },
  // -> {code, reason} once the socket is closed
  'raw-closed': command => {
    const raw = find(command)
    return raw.until(() => raw.close ?? undefined, command.timeout ?? 5000, 'the close')
  },
  'raw-state': command => {
    const { inbox, received, close, status, error, ws } = find(command)
    return { open: ws.readyState === WebSocket.OPEN, inbox, received, close, status, error, unsent: ws.bufferedAmount }
  },
  'raw-pause': command => { find(command).ws.pause() }, // stops reading: a slow peer
  'raw-resume': command => { find(command).ws.resume() },
  'raw-close': command => {
    const raw = find(command)
    if (command.abruptly) raw.ws.terminate()
    else raw.ws.close(command.code ?? 1000, command.reason)
  }
}
