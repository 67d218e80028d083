// node hocuspocus.mjs PORT [DATABASE]: @hocuspocus/server as published, storing in SQLite. Prints "ready PORT".
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SQLite } from '@hocuspocus/extension-sqlite'
import { Server } from '@hocuspocus/server'

const port = Number(process.argv[2])
const temporary = process.argv[3] === undefined ? mkdtempSync(join(tmpdir(), 'hocuspocus-')) : null
const database = process.argv[3] ?? join(temporary, 'hocuspocus.db')

const server = new Server({
  port,
  address: '127.0.0.1',
  quiet: true,
  stopOnSignals: false,
  extensions: [new SQLite({ database })]
})
await server.listen()
console.log(`ready ${server.address.port}`)

const stop = async () => {
  await server.destroy()
  if (temporary !== null) rmSync(temporary, { recursive: true, force: true })
  process.exit(0)
}
process.on('SIGTERM', stop)
process.on('SIGINT', stop)
