import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Positions } from '../src/positions.js'

function memory() {
  /** @type {Map<string, string>} */
  const items = new Map()
  return {
    items,
    getItem: (/** @type {string} */ key) => items.get(key) ?? null,
    setItem: (/** @type {string} */ key, /** @type {string} */ value) => void items.set(key, value),
  }
}

test('since is the oldest position of the regions asked for', () => {
  const positions = new Positions('a', null)
  assert.equal(positions.since(['US']), null)
  positions.record(['US'], 'k3f9x2ab-7')
  positions.record(['JP'], 'k3f9x2ab-12')
  assert.equal(positions.since(['US']), 'k3f9x2ab-7')
  assert.equal(positions.since(['US', 'JP']), 'k3f9x2ab-7')
  assert.equal(positions.since(['JP', 'GB']), 'k3f9x2ab-12')
  assert.equal(positions.since([]), null)
  positions.record([], 'k3f9x2ab-20')
  assert.equal(positions.since(['US']), 'k3f9x2ab-20')
})

test('positions only rise, until they are lost or another epoch begins', () => {
  const positions = new Positions('a', memory())
  positions.record(['US'], 'k3f9x2ab-7')
  positions.record(['US'], 'k3f9x2ab-3')
  assert.equal(positions.since(['US']), 'k3f9x2ab-7')
  positions.restart(['US'], 'k3f9x2ab-3')
  assert.equal(positions.since(['US']), 'k3f9x2ab-3')
  positions.record(['JP'], 'aaaaaaaa-1')
  assert.equal(positions.since(['US']), null)
})

test('another page goes on from what this one kept, and no page takes it back', () => {
  const store = memory()
  const [one, other] = [new Positions('a', store), new Positions('a', store)]
  assert.ok(one.see('k3f9x2ab-9'))
  one.record(['US'], 'k3f9x2ab-9')
  other.record(['US'], 'k3f9x2ab-4')
  other.muted = true
  const later = new Positions('a', store)
  assert.equal(later.since(['US']), 'k3f9x2ab-9')
  assert.ok(!later.see('k3f9x2ab-9') && later.see('k3f9x2ab-10') && later.muted)
  assert.equal(new Positions('b', store).since(['US']), null)
})

test('a store that is broken, full or hostile costs nothing but the memory of it', () => {
  for (const text of ['{', 'null', '[]', '{"epoch":1}', '{"epoch":"k3f9x2ab","offsets":{"US":"<b>"},"seen":[1]}']) {
    const store = {
      getItem: () => text,
      setItem: () => {
        throw new Error('full')
      },
    }
    const positions = new Positions('a', store)
    positions.record(['US'], 'k3f9x2ab-1')
    assert.equal(positions.since(['US']), 'k3f9x2ab-1', text)
  }
})

test('a limited number of ids is remembered', () => {
  const positions = new Positions('a', null)
  for (let offset = 1; offset <= 1000; offset += 1) positions.see(`k3f9x2ab-${offset}`)
  assert.ok(!positions.see('k3f9x2ab-1000') && positions.see('k3f9x2ab-1'))
})
