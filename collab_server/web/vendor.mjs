// Everything third-party that the pages use, as one module: one copy of yjs, no CDN, works without a network.
export * as Y from 'yjs'
export * as decoding from 'lib0/decoding'
export { Awareness } from 'y-protocols/awareness'
export { WebsocketProvider } from 'y-websocket'
export { HocuspocusProvider } from '@hocuspocus/provider'
export { LitElement, css, html, nothing } from 'lit'
export { IndexeddbPersistence } from 'y-indexeddb'
