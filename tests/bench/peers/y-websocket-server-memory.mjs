// node y-websocket-server-memory.mjs PORT: @y/websocket-server as published, which stores nothing. Prints "ready PORT".
import { createServer } from 'node:http'
import { setupWSConnection } from '@y/websocket-server/utils'
import WebSocket from 'ws'

const http = createServer((_request, response) => response.end('okay'))
new WebSocket.Server({ server: http }).on('connection', setupWSConnection)
http.listen(Number(process.argv[2]), '127.0.0.1', () => console.log(`ready ${http.address().port}`))

const stop = () => process.exit(0)
process.on('SIGTERM', stop)
process.on('SIGINT', stop)
