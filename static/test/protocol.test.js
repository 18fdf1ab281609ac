import assert from 'node:assert/strict'
import { test } from 'node:test'
import { afterClose, isBefore, isPosition, parseMessage } from '../src/protocol.js'
import { hello } from './world.js'

const publication = {
  type: 'new_trending',
  id: 'k3f9x2ab-8',
  region: 'US',
  count: 37,
  videos: [{ id: 1, title: 't' }],
  timestamp: '2026-11-24T08:00:00Z',
}

test('every message of the contract is read, with fields that are not known', () => {
  for (const message of [
    hello({ future: 1 }),
    { type: 'heartbeat', position: 'k3f9x2ab-7', spread_ms: 1, reconnect_window_ms: 2 },
    publication,
    { type: 'reconnect', after_ms: 5 },
    { type: 'pong' },
  ]) {
    assert.equal(parseMessage(JSON.stringify(message))?.type, message.type)
  }
})

test('what is malformed, huge or unknown is ignored', () => {
  const wrong = [
    '',
    'null',
    '[]',
    '"hello"',
    '{',
    '{}',
    '{"type":"unknown"}',
    '{"type":["hello"]}',
    `"${'x'.repeat(70_000)}"`,
    JSON.stringify(hello({ position: 'x' })),
    JSON.stringify(hello({ now: 'soon' })),
    JSON.stringify(hello({ heartbeat_ms: '25' })),
    JSON.stringify({ ...publication, id: '<b>' }),
    JSON.stringify({ ...publication, region: 7 }),
    JSON.stringify({ ...publication, timestamp: {} }),
    JSON.stringify({ ...publication, title: 'x'.repeat(70_000) }),
    new ArrayBuffer(8),
    undefined,
  ]
  for (const text of wrong) assert.equal(parseMessage(text), null, String(text).slice(0, 80))
})

test('numbers are coerced and lists cut, whatever a message holds', () => {
  for (const count of ['<img>', -1, 1.5, 1e300, null, {}, [1]]) {
    const message = parseMessage(JSON.stringify({ ...publication, count }))
    assert.equal(message?.type === 'new_trending' && message.notification.count, 1, String(count))
  }
  const videos = [...Array.from({ length: 9 }, () => ({ title: 't' })), 3, null, { title: 5 }]
  const message = parseMessage(JSON.stringify({ ...publication, videos }))
  assert.equal(message?.type === 'new_trending' && message.notification.videos.length, 5)
})

test('positions are read and offsets compared as the server does', () => {
  for (const position of ['k3f9x2ab-0', 'k3f9x2ab-9223372036854775807']) assert.ok(isPosition(position))
  for (const position of ['k3f9x2ab-01', 'k3f9x2ab', 'K3F9X2AB-1', '', 7, null]) assert.ok(!isPosition(position))
  assert.ok(isBefore('9', '10') && !isBefore('10', '9') && !isBefore('10', '10') && isBefore('100', '101'))
})

test('close codes say whether to come back', () => {
  for (const code of [1003, 1009, 4400, 4403, 4499]) assert.ok(afterClose(code).stop, String(code))
  for (const code of [1000, 1001, 1006, 1008, 1011, 1012, 1013, 4000, 4500]) assert.ok(!afterClose(code).stop)
  assert.equal(afterClose(1008).leastMs, 60_000)
  assert.ok(afterClose(4000).atOnce)
})
