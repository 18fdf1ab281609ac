import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Backoff } from '../src/backoff.js'
import { fakeWorld } from './world.js'

const RUNS = 1000

/** @param {(backoff: Backoff) => number} draw */
function draws(draw) {
  return Array.from({ length: RUNS }, (_, seed) => draw(new Backoff(fakeWorld(seed).random))).sort((a, b) => a - b)
}

/**
 * Evenly spread from 0 to `span`: each tenth of the sorted draws lies near its place.
 * @param {number[]} sorted
 * @param {number} span
 */
function assertEven(sorted, span) {
  for (let tenth = 1; tenth < 10; tenth += 1) {
    const share = /** @type {number} */ (sorted[(RUNS * tenth) / 10]) / span
    assert.ok(Math.abs(share - tenth / 10) < 0.06, `${tenth}/10 of the draws lie below ${share} of the span`)
  }
}

test('the first retry of 1,000 clients spreads evenly over the window of the server', () => {
  const waits = draws((backoff) => {
    backoff.spreadOver(60_000)
    return backoff.next()
  })
  assertEven(waits, 60_000)
})

test('later retries have full jitter over a span that doubles from 1 s to 30 s', () => {
  for (const [failures, span] of [
    [0, 1000],
    [1, 2000],
    [3, 8000],
    [5, 30_000],
    [40, 30_000],
  ]) {
    const waits = draws((backoff) => {
      for (let failure = 0; failure < Number(failures); failure += 1) backoff.next()
      return backoff.next()
    })
    assertEven(waits, Number(span))
  }
})

test('a success starts over, and a wait that the server names is kept once', () => {
  const backoff = new Backoff(() => 1)
  backoff.next()
  backoff.next()
  backoff.succeed()
  assert.equal(backoff.next(), 1000)
  backoff.ask(4321)
  assert.equal(backoff.next(), 4321)
  assert.equal(backoff.next(), 2000)
})
