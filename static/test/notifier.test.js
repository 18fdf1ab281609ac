import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Text } from '../src/text.js'
import { fakeWorld, hello } from './world.js'

const publication = {
  type: 'new_trending',
  id: 'k3f9x2ab-8',
  region: 'US',
  count: 37,
  videos: [{ id: 1, title: 't' }],
  timestamp: '2026-11-24T08:00:00Z',
}

async function setUp(/** @type {object} */ options = {}) {
  // Here, without a DOM: importing must not throw.
  const { VideoNotifier } = await import('../src/esm.js')
  const world = fakeWorld()
  const notifier = new VideoNotifier('https://notify.example/ws', { world, storage: 'none', ...options })
  /** @type {CustomEvent[]} */
  const events = []
  for (const type of ['notification', 'gap', 'statechange']) {
    notifier.addEventListener(type, (event) => events.push(/** @type {CustomEvent} */ (event)))
  }
  const of = (/** @type {string} */ type) => events.filter((event) => event.type === type)
  return { world, notifier, of }
}

test('it connects with its regions and with the position that it was given', async () => {
  const { world } = await setUp({ regions: ['US', 'GB'], since: 'k3f9x2ab-3' })
  assert.equal(world.socket.url, 'wss://notify.example/ws?regions=US%2CGB&since=k3f9x2ab-3')
})

test('each publication is told once, and the next connection goes on after the last message', async () => {
  const { world, notifier, of } = await setUp()
  world.socket.receive(hello())
  world.socket.receive(publication)
  world.socket.receive(publication)
  assert.equal(of('notification').length, 1)
  assert.equal(notifier.history[0]?.count, 37)
  world.socket.receive({ type: 'heartbeat', position: 'k3f9x2ab-30', spread_ms: 0, reconnect_window_ms: 0 })
  notifier.reconnect()
  assert.match(world.socket.url, /since=k3f9x2ab-30$/)
})

test('what could not be recovered is a gap', async () => {
  const { world, notifier, of } = await setUp({ since: 'k3f9x2ab-3' })
  world.socket.receive(hello({ recovered: false, position: 'aaaaaaaa-2' }))
  assert.deepEqual(of('gap')[0]?.detail, { since: 'k3f9x2ab-3', position: 'aaaaaaaa-2' })
  assert.equal(notifier.position, 'aaaaaaaa-2')
})

test('other regions make another connection, the same ones do not', async () => {
  const { world, notifier } = await setUp({ regions: ['US', 'GB'] })
  notifier.setRegions(['GB', 'US'])
  assert.equal(world.sockets.length, 1)
  notifier.setRegions(['JP'])
  assert.match(world.socket.url, /regions=JP$/)
})

test('a refetch comes once, within the span that the server gave', async () => {
  const { world, notifier } = await setUp()
  world.socket.receive(hello({ spread_ms: 30_000 }))
  let calls = 0
  const fetchAll = () => {
    calls += 1
  }
  notifier.refetch(fetchAll)
  notifier.refetch(fetchAll)
  world.advance(30_000)
  assert.equal(calls, 1)
  notifier.refetch(fetchAll)
  notifier.close()
  world.advance(60_000)
  assert.equal(calls, 1)
  assert.equal(world.timers.size, 0)
})

test('headlines are plural, named and grouped', () => {
  const text = new Text('en')
  const of = (/** @type {string} */ region, /** @type {number} */ count) => ({
    id: 'k3f9x2ab-1',
    region,
    count,
    videos: [],
    timestamp: new Date(0),
  })
  assert.equal(text.headline([of('US', 1)]), '1 new trending video in United States')
  assert.equal(text.headline([of('US', 1234)]), '1,234 new trending videos in United States')
  assert.equal(text.headline([of('unknown', 2)]), '2 new trending videos')
  assert.equal(
    text.headline([of('US', 1), of('GB', 2), of('US', 3)]),
    '6 new trending videos: United States and United Kingdom',
  )
  assert.equal(text.headline([of('{count}', 2)]), '2 new trending videos in {count}')
  assert.equal(new Text('!').language, 'en')
})
