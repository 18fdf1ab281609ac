// A world whose clock, chance and sockets the test decides on.

/** @param {number} [seed] */
export function fakeWorld(seed = 1) {
  let time = 1_000_000
  let next = 1
  let state = seed
  /** @type {Map<number, { at: number, then: () => void }>} */
  const timers = new Map()
  /** @type {FakeSocket[]} */
  const sockets = []

  class FakeSocket {
    readyState = 0
    /** @type {string[]} */
    sent = []
    /** @type {((event: { data: unknown }) => void) | null} */
    onmessage = null
    /** @type {((event: { code: number, reason: string }) => void) | null} */
    onclose = null
    /** @param {string} url */
    constructor(url) {
      this.url = url
      sockets.push(this)
    }
    /** @param {string} text */
    send(text) {
      this.sent.push(text)
    }
    close() {
      this.readyState = 3
    }
    /** @param {object} message */
    receive(message) {
      this.readyState = 1
      this.onmessage?.({ data: JSON.stringify(message) })
    }
    /** @param {number} code */
    lose(code) {
      this.onclose?.({ code, reason: 'test' })
    }
  }

  return {
    timers,
    sockets,
    /** The socket that was opened last. */
    get socket() {
      return /** @type {FakeSocket} */ (sockets.at(-1))
    },
    WebSocket: /** @type {any} */ (FakeSocket),
    now: () => time,
    /** Mulberry32. */
    random: () => {
      state = (state + 0x6d2b79f5) | 0
      let mixed = Math.imul(state ^ (state >>> 15), state | 1)
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
    },
    /** @type {(then: () => void, ms: number) => number} */
    setTimeout: (then, ms) => {
      timers.set(next, { at: time + ms, then })
      return next++
    },
    /** @type {(timer: number) => void} */
    clearTimeout: (timer) => void timers.delete(timer),
    /** Lets time pass, with every timer at its moment. */
    advance(/** @type {number} */ ms) {
      const end = time + ms
      for (;;) {
        const due = [...timers].filter(([, { at }]) => at <= end).sort(([, one], [, other]) => one.at - other.at)[0]
        if (!due) break
        timers.delete(due[0])
        time = Math.max(time, due[1].at)
        due[1].then()
      }
      time = end
    },
    /** Time passes while timers do not: the machine sleeps. */
    sleep(/** @type {number} */ ms) {
      time += ms
    },
  }
}

/** @param {Record<string, unknown>} [fields] */
export function hello(fields) {
  return {
    type: 'hello',
    position: 'k3f9x2ab-7',
    recovered: null,
    now: '2026-11-24T08:00:00Z',
    heartbeat_ms: 25_000,
    spread_ms: 0,
    reconnect_window_ms: 0,
    ...fields,
  }
}
