import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Connection } from '../src/connection.js'
import { fakeWorld, hello } from './world.js'

function setUp() {
  const world = fakeWorld()
  /** @type {string[]} */
  const log = []
  const connection = new Connection(world, {
    url: () => 'ws://test/ws',
    message: (message) => log.push(message.type),
    state: (state) => log.push(state),
    refused: (code) => log.push(`refused ${code}`),
  })
  connection.open()
  return { world, log, connection }
}

test('it is open once hello has come, and messages are handed on', () => {
  const { world, log } = setUp()
  world.socket.receive(hello())
  world.socket.receive({ type: 'pong' })
  world.socket.receive({ type: 'nonsense' })
  assert.deepEqual(log, ['connecting', 'open', 'hello', 'pong'])
})

test('a handshake without hello is given up', () => {
  const { world, connection } = setUp()
  world.advance(16_000)
  assert.ok(connection.state === 'waiting' || world.sockets.length === 2)
})

test('a silent link is found within 2.5 heartbeats, and heartbeats keep it', () => {
  const { world, connection } = setUp()
  world.socket.receive(hello())
  for (let beat = 0; beat < 10; beat += 1) {
    world.advance(25_000)
    world.socket.receive({ type: 'heartbeat', position: 'k3f9x2ab-7', spread_ms: 0, reconnect_window_ms: 0 })
  }
  world.advance(62_000)
  assert.equal(connection.state, 'open')
  world.advance(1000)
  assert.notEqual(connection.state, 'open')
})

test('after a sleep it asks before it gives up', () => {
  const { world, connection } = setUp()
  world.socket.receive(hello())
  world.sleep(3_600_000)
  world.advance(1)
  assert.deepEqual(world.socket.sent, ['{"type":"ping"}'])
  world.socket.receive({ type: 'pong' })
  world.advance(5000)
  assert.equal(connection.state, 'open')
})

test('a nudge probes a link that was quiet, and a dead one is replaced within 5 s', () => {
  const { world, connection } = setUp()
  world.socket.receive(hello())
  world.advance(20_000)
  connection.nudge()
  assert.deepEqual(world.socket.sent, ['{"type":"ping"}'])
  world.advance(4000)
  world.advance(0)
  assert.equal(world.sockets.length, 2)
})

test('a nudge opens at once what waits, but not after a flood', () => {
  const { world, connection } = setUp()
  world.socket.lose(1006)
  assert.equal(connection.state, 'waiting')
  connection.nudge()
  assert.equal(world.sockets.length, 2)
  world.socket.receive(hello())
  world.socket.lose(1008)
  connection.nudge()
  world.advance(59_000)
  assert.equal(world.sockets.length, 2)
  world.advance(2000)
  assert.equal(world.sockets.length, 3)
})

test('a position that is lost brings it back at once, but not in a loop', () => {
  const { world } = setUp()
  world.socket.receive(hello())
  world.socket.lose(4000)
  world.advance(0)
  assert.equal(world.sockets.length, 2)
  for (let time = 0; time < 10; time += 1) {
    world.socket.lose(4000)
    world.advance(0)
  }
  assert.equal(world.sockets.length, 2)
})

test('a refusal for good ends it, and a planned restart is obeyed', () => {
  const { world, log, connection } = setUp()
  world.socket.receive(hello())
  world.socket.receive({ type: 'reconnect', after_ms: 7000 })
  world.socket.lose(1012)
  world.advance(6999)
  assert.equal(world.sockets.length, 1)
  world.advance(1)
  assert.equal(world.sockets.length, 2)
  world.socket.lose(4403)
  world.advance(3_600_000)
  assert.equal(world.sockets.length, 2)
  assert.equal(connection.state, 'closed')
  assert.ok(log.includes('refused 4403'))
})

test('close leaves no timer and no socket', () => {
  const { world, connection } = setUp()
  world.socket.receive(hello())
  connection.close()
  assert.equal(world.timers.size, 0)
  assert.equal(world.socket.readyState, 3)
  assert.equal(world.socket.onmessage, null)
})
