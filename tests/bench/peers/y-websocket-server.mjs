// node y-websocket-server.mjs PORT [FOLDER]: @y/websocket-server as published. Prints "ready PORT".
// It brings no storage since 0.1: these few lines with y-leveldb are what its predecessor had inside.
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setPersistence, setupWSConnection } from '@y/websocket-server/utils'
import { LeveldbPersistence } from 'y-leveldb'
import WebSocket from 'ws'
import * as Y from 'yjs'

const port = Number(process.argv[2])
const temporary = process.argv[3] === undefined ? mkdtempSync(join(tmpdir(), 'y-websocket-')) : null
const storage = new LeveldbPersistence(process.argv[3] ?? join(temporary, 'documents'))

setPersistence({
  provider: storage,
  bindState: async (name, doc) => {
    const stored = await storage.getYDoc(name)
    const fresh = Y.encodeStateAsUpdate(doc) // what clients wrote while the document was being read
    if (fresh.length > 2) storage.storeUpdate(name, fresh)
    Y.applyUpdate(doc, Y.encodeStateAsUpdate(stored))
    doc.on('update', update => storage.storeUpdate(name, update))
  },
  writeState: async () => {}
})

const http = createServer((_request, response) => response.end('okay'))
new WebSocket.Server({ server: http }).on('connection', setupWSConnection)
http.listen(port, '127.0.0.1', () => console.log(`ready ${http.address().port}`))

const stop = async () => {
  http.close()
  http.closeAllConnections()
  await storage.destroy()
  if (temporary !== null) rmSync(temporary, { recursive: true, force: true })
  process.exit(0)
}
process.on('SIGTERM', stop)
process.on('SIGINT', stop)
