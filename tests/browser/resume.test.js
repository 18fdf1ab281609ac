// Nothing missed and nothing doubled: reloads, navigation, lost servers and lost histories.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { launch } from './support/chromium.js'
import { hello, publication, scripted } from './support/scripted.js'
import { news, page, serve, site } from './support/server.js'
import { TOASTS } from './support/toasts.js'

/** The ids of videos that the page was told of, oldest first. */
const TOLD = `VideoNotifier.page.history.map(({ videos }) => videos[0].id).reverse()`

test('a reload and a navigation go on where the last page was: nothing is lost, nothing shown twice', async (t) => {
  const [browser, server] = await Promise.all([launch(t), serve(t)])
  const url = await site(t, { '/one': page(server), '/two': page(server), '/away': '<!doctype html>away' })
  const tab = await browser.open(`${url}/one`)
  await server.connected(1)
  await server.post(news('1'))
  await tab.until(`${TOASTS}.length === 1`)

  await tab.goto(`${url}/away`)
  await server.connected(0)
  await server.post(news('2'))
  await server.post(news('3'))
  await tab.goto(`${url}/two`)
  await tab.until(`VideoNotifier.page.history.length === 2`)
  await server.post(news('4'))
  await tab.until(`VideoNotifier.page.history.length === 3`)
  assert.deepEqual(await tab.evaluate(TOLD), ['2', '3', '4'])

  await tab.reload()
  await server.connected(1)
  await server.post(news('5'))
  await tab.until(`VideoNotifier.page.history.length > 0`)
  assert.deepEqual(await tab.evaluate(TOLD), ['5'])
})

test('a page of one region and a page of another do not lose each other’s news', async (t) => {
  const [browser, server] = await Promise.all([launch(t), serve(t)])
  const pages = { '/us': page(server, 'data-regions="US"'), '/jp': page(server, 'data-regions="JP"') }
  const url = await site(t, pages)
  const tab = await browser.open(`${url}/us`)
  await server.connected(1)
  await tab.until(`VideoNotifier.page.state === 'open'`)
  await tab.goto(`${url}/jp`)
  await server.connected(1)
  await server.post(news('us', { region: 'US' }))
  await server.post(news('jp', { region: 'JP' }))
  await tab.until(`VideoNotifier.page.history.length === 1`)
  assert.deepEqual(await tab.evaluate(TOLD), ['jp'])
  await tab.goto(`${url}/us`)
  await tab.until(`VideoNotifier.page.history.length === 1`)
  assert.deepEqual(await tab.evaluate(TOLD), ['us'])
})

test('a server that is killed and started again is found, and what came meanwhile arrives', async (t) => {
  const [browser, server] = await Promise.all([launch(t), serve(t)])
  const tab = await browser.open(`${server.url}/`)
  await server.connected(1)
  await server.post(news('1'))
  await tab.until(`VideoNotifier.page.history.length === 1`)
  await server.kill()
  await tab.until(`VideoNotifier.page.state === 'waiting'`)
  await server.start()
  await server.post(news('2'))
  await tab.until(`VideoNotifier.page.history.length === 2`)
  assert.deepEqual(await tab.evaluate(TOLD), ['1', '2'])
})

test('a history that is lost is a gap, and what comes next arrives', async (t) => {
  const [browser, server] = await Promise.all([launch(t), serve(t, ['--history', 'memory'])])
  const tab = await browser.open(`${server.url}/`)
  await server.connected(1)
  await server.post(news('1'))
  await tab.until(`VideoNotifier.page.history.length === 1`)
  await tab.evaluate(`VideoNotifier.page.addEventListener('gap', ({ detail }) => { globalThis.gap = detail })`)
  const before = await tab.evaluate('VideoNotifier.page.position')
  await server.kill()
  await server.start()
  const gap = await tab.until('globalThis.gap')
  assert.equal(gap.since, before)
  assert.notEqual(gap.position.split('-')[0], before.split('-')[0])
  await server.post(news('2'))
  await tab.until(`VideoNotifier.page.history.length === 2`)
})

test('a page that is cached and comes back catches up', async (t) => {
  const [browser, server] = await Promise.all([launch(t), serve(t)])
  const url = await site(t, { '/one': page(server), '/away': '<!doctype html>away' })
  const tab = await browser.open(`${url}/one`)
  await server.connected(1)
  await tab.evaluate('globalThis.sameDocument = true')
  await tab.goto(`${url}/away`)
  await server.connected(0)
  await server.post(news('1'))
  await tab.evaluate('history.back()')
  await tab.until(`globalThis.VideoNotifier?.page.history.length === 1`)
  assert.ok(await tab.evaluate('globalThis.sameDocument'), 'the page came out of the cache')
})

test('close codes stop or come back as the contract says', async (t) => {
  const browser = await launch(t)
  for (const [code, comesBack] of [[1000, true], [1001, true], [1011, true], [1012, true], [1013, true], [4000, true], [1003, false], [1009, false], [4403, false], [4400, false]]) {
    const server = await scripted(t, (socket, count) => {
      if (count === 1) {
        socket.say(hello())
        socket.close(code, 'because')
      } else socket.say(hello())
    })
    const url = await site(t, { '/': await bare(t, server) })
    const tab = await browser.open(`${url}/`)
    if (comesBack) await tab.until(`notifier.state === 'open' && states.filter((it) => it === 'open').length === 2`)
    else {
      await tab.until(`notifier.state === 'closed'`)
      assert.ok(tab.console.some((line) => line.startsWith('error: video-notifier') && line.includes(`${code}`)), `${code}`)
    }
    assert.equal(server.connections.length, comesBack ? 2 : 1, `${code}`)
    await tab.close()
  }
})

test('a link that is silent is found by its missing heartbeats', async (t) => {
  const browser = await launch(t)
  const server = await scripted(t, (socket) => socket.say(hello({ heartbeat_ms: 200 })))
  const tab = await browser.open(await site(t, { '/': await bare(t, server) }))
  await tab.until(`states.filter((it) => it === 'open').length >= 2`)
  assert.ok(server.connections.length >= 2)
})

test('malformed, huge and unknown messages are ignored', async (t) => {
  const browser = await launch(t)
  const server = await scripted(t, (socket) => {
    socket.say(hello())
    for (const text of ['', '{', 'null', '[]', '{"type":"future"}', '{"type":"new_trending"}', `"${'x'.repeat(300_000)}"`]) {
      socket.say(text)
    }
    socket.send(Buffer.from('binary'))
    socket.say(publication(1, { future: { field: 1 } }))
  })
  const tab = await browser.open(await site(t, { '/': await bare(t, server) }))
  await tab.until('notifier.history.length === 1')
  assert.equal(await tab.evaluate('notifier.state'), 'open')
  assert.deepEqual(tab.console, [])
})

test('a page that only knows the old wire keeps working', async (t) => {
  const [browser, server] = await Promise.all([launch(t), serve(t, ['--heartbeat', '200ms'])])
  const old = `<!doctype html><script>
    const told = [], pongs = []
    const socket = new WebSocket('${server.url.replace('http', 'ws')}/ws')
    socket.onopen = () => { socket.send('{"type":"ping"}'); setInterval(() => socket.send('{"type":"ping"}'), 30000) }
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data)
      if (message.type === 'new_trending') told.push(message)
      if (message.type === 'pong') pongs.push(message)
      if (message.type === 'heartbeat') globalThis.beats = (globalThis.beats ?? 0) + 1
    }
  </script>`
  const tab = await browser.open(await site(t, { '/': old }))
  await tab.until('pongs.length === 1')
  // Longer than three heartbeats: the browser answers Pings, so a client that says nothing else stays.
  await tab.until('globalThis.beats > 5')
  await server.post(news('1'))
  await tab.until('told.length === 1')
  assert.equal(await tab.evaluate('told[0].region + told[0].count + told[0].videos[0].title'), 'US37Video 1')
  assert.equal(await tab.evaluate('socket.readyState'), 1)
})

/** A page that makes a notifier of a scripted server by hand, with the script of a real one. */
async function bare(t, { url }) {
  const real = await serve(t)
  return `<!doctype html><meta charset="utf-8"><body><script src="${real.url}/notifier.js" data-manual></script><script>
    const states = []
    const notifier = new VideoNotifier('${url}', { storage: 'none', world: { random: () => 0.01 } })
    notifier.addEventListener('statechange', ({ detail }) => states.push(detail.state))
  </script></body>`
}
