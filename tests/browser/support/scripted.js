// A server that misbehaves on purpose: it says what the test tells it to, which the real one never would.

import { once } from 'node:events'
import { WebSocketServer } from 'ws'

/** `script(socket, count)` is called for each connection. */
export async function scripted(t, script) {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  await once(server, 'listening')
  const connections = []
  server.on('connection', (socket, request) => {
    connections.push(request.url)
    socket.say = (message) => socket.send(typeof message === 'string' ? message : JSON.stringify(message))
    script(socket, connections.length)
  })
  t.after(() => {
    for (const socket of server.clients) socket.terminate()
    server.close()
  })
  return { url: `ws://127.0.0.1:${server.address().port}/ws`, connections }
}

export function hello(fields = {}) {
  return {
    type: 'hello', position: 'k3f9x2ab-0', recovered: null, now: new Date().toISOString(), heartbeat_ms: 25_000,
    spread_ms: 0, reconnect_window_ms: 0, ...fields,
  }
}

export function publication(offset, fields = {}) {
  return {
    type: 'new_trending', id: `k3f9x2ab-${offset}`, region: 'US', count: 1,
    videos: [{ id: offset, title: `Video ${offset}` }], timestamp: new Date().toISOString(), ...fields,
  }
}
