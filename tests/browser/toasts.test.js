// What a user sees and does: toasts on real pages, from real posts.

import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { test } from 'node:test'
import { launch } from './support/chromium.js'
import { news, page, serve, site } from './support/server.js'
import { HEADLINES, ROOT, STATUS, TITLES, TOASTS } from './support/toasts.js'

const HEADLINE = '37 new trending videos in United States'

/** A page with the script, connected. */
async function open(t, attributes, body) {
  const [browser, server] = await Promise.all([launch(t), serve(t)])
  const url = await site(t, { '/': page(server, attributes, body) })
  const tab = await browser.open(`${url}/`)
  await server.connected(1)
  return { browser, server, url, tab }
}

test('one post makes a toast appear in each of two tabs within a second, with the exact text', async (t) => {
  const [browser, server] = await Promise.all([launch(t), serve(t)])
  const tabs = [await browser.open(`${server.url}/`), await browser.open(`${server.url}/`)]
  await server.connected(2)
  const start = Date.now()
  await server.post(news('a1', { videos: [{ id: 'a1', title: 'A <b>bold</b> & "quoted" title' }] }))
  for (const tab of tabs) {
    await tab.until(`${TOASTS}.length === 1`, 1000)
    assert.deepEqual(await tab.evaluate(HEADLINES), [HEADLINE])
    assert.deepEqual(await tab.evaluate(TITLES), ['A <b>bold</b> & "quoted" title'])
    assert.equal(await tab.evaluate(STATUS), HEADLINE)
    assert.match(await tab.evaluate(`document.getElementById('feed').textContent`), /US · 37 new.*A <b>bold/)
  }
  assert.ok(Date.now() - start < 1000, `it took ${Date.now() - start} ms`)
  for (const tab of tabs) assert.equal(await tab.evaluate('globalThis.violations'), undefined)
})

test('the status region is in the document, and empty, before any toast', async (t) => {
  const { tab, server } = await open(t)
  const { nodes } = await tab.send('Accessibility.getFullAXTree')
  assert.ok(nodes.some(({ role }) => role?.value === 'status'), 'the accessibility tree has a status')
  assert.equal(await tab.evaluate(STATUS), '')
  await server.post(news(1))
  await tab.until(`${STATUS} === '${HEADLINE}'`)
  const inside = await tab.evaluate(`${ROOT}.querySelector('[role=status] button, [role=status] a') !== null`)
  assert.ok(!inside, 'what is read out has no buttons in it')
})

test('what comes within a moment becomes one toast, and at most three stand', async (t) => {
  const { tab, server } = await open(t)
  await Promise.all(['US', 'GB', 'JP'].map((region) => server.post(news(region, { region, count: 2 }))))
  await tab.until(`${TOASTS}.length === 1`)
  const [headline] = await tab.evaluate(HEADLINES)
  assert.match(headline, /^6 new trending videos: /)
  for (let id = 1; id <= 4; id += 1) {
    await server.post(news(id, { count: id }))
    await tab.until(`${HEADLINES}.at(-1).startsWith('${id} new')`)
  }
  assert.deepEqual(await tab.evaluate(`${HEADLINES}.map((line) => line[0])`), ['2', '3', '4'])
})

test('the focus is never taken, is had by keyboard, and is given back', async (t) => {
  const { tab, server } = await open(t)
  await tab.evaluate(`document.getElementById('before').focus()`)
  for (const id of [1, 2]) {
    await server.post(news(id))
    await tab.until(`${TOASTS}.length === ${id}`)
  }
  assert.equal(await tab.evaluate('document.activeElement.id'), 'before')
  await tab.press('F8')
  assert.ok(await tab.evaluate(`${ROOT}.activeElement === ${TOASTS}[1]`), 'the newest has the focus')
  await tab.press('Tab')
  assert.equal(await tab.evaluate(`${ROOT}.activeElement.className`), 'vw-close')
  await tab.press('Escape')
  assert.equal(await tab.evaluate(`${TOASTS}.length`), 1)
  assert.ok(await tab.evaluate(`${ROOT}.activeElement === ${TOASTS}[0]`), 'the one that is left has the focus')
  await tab.press('Escape')
  assert.equal(await tab.evaluate(`${TOASTS}.length`), 0)
  assert.equal(await tab.evaluate('document.activeElement.id'), 'before')
})

test('the close button is large enough, named, and closes', async (t) => {
  const { tab, server } = await open(t)
  await server.post(news(1))
  await tab.until(`${TOASTS}.length === 1`)
  const close = `${ROOT}.querySelector('.vw-close')`
  const box = await tab.evaluate(`(({ x, y, width, height }) => ({ x, y, width, height }))(${close}.getBoundingClientRect())`)
  assert.ok(box.width >= 24 && box.height >= 24, JSON.stringify(box))
  assert.equal(await tab.evaluate(`${close}.getAttribute('aria-label')`), 'Close')
  await tab.click(box.x + box.width / 2, box.y + box.height / 2)
  assert.equal(await tab.evaluate(`${TOASTS}.length`), 0)
})

test('a toast goes by itself, but not while the pointer is on it', async (t) => {
  const [browser, server] = await Promise.all([launch(t), serve(t)])
  const tab = await browser.open('about:blank')
  // Timers of the page run a hundred times as fast.
  await tab.beforeLoad(`const real = setTimeout; globalThis.setTimeout = (then, ms) => real(then, ms / 100)`)
  await tab.goto(await site(t, { '/': page(server) }))
  await server.connected(1)
  await server.post(news(1))
  await tab.until(`${STATUS} === '${HEADLINE}'`)
  await tab.until(`${TOASTS}.length === 0`)
  // The clock of the page is not faster, so a pause can be told from a timer.
  await tab.evaluate(`globalThis.setTimeout = (then, ms) => ms > 1000 ? (globalThis.timers ??= new Set()).add(then) : real(then, ms)`)
  await server.post(news(2))
  await tab.until(`${TOASTS}.length === 1`)
  const box = await tab.evaluate(`(({ x, y }) => ({ x, y }))(${TOASTS}[0].getBoundingClientRect())`)
  await tab.evaluate(`globalThis.cleared = 0; const clear = clearTimeout; globalThis.clearTimeout = (timer) => { cleared += 1; clear(timer) }`)
  await tab.moveMouse(box.x + 40, box.y + 20)
  await tab.until('cleared > 0')
  const before = await tab.evaluate('timers.size')
  await tab.moveMouse(5, 5)
  await tab.until(`timers.size > ${before}`)
})

test('a page that prevents the event shows no toast, and a muted browser none at all', async (t) => {
  const { tab, server } = await open(t)
  await tab.evaluate(`VideoNotifier.page.addEventListener('notification', (event) => {
    if (event.detail.count === 1) event.preventDefault()
  })`)
  await server.post(news('prevented', { count: 1 }))
  await server.post(news('shown', { count: 2 }))
  await tab.until(`${TOASTS}.length === 1`)
  assert.deepEqual(await tab.evaluate(HEADLINES), ['2 new trending videos in United States'])
  await tab.evaluate('VideoNotifier.page.muted = true')
  await tab.reload()
  await server.connected(1)
  assert.equal(await tab.evaluate('VideoNotifier.page.muted'), true)
  await server.post(news('muted'))
  await tab.until('VideoNotifier.page.history.length === 1')
  assert.equal(await tab.evaluate(`${TOASTS}.length`), 0)
})

test('links and images are those of the allow-list, and the region’s page is linked', async (t) => {
  const { tab, server, url } = await open(t, 'data-link="/trending?region={region}"')
  await server.post(news(1, { videos: [{ id: 1, title: 't', url: '/watch/1', thumb: 'https://img.invalid/1.jpg' }] }))
  await tab.until(`${TOASTS}.length === 1`)
  assert.equal(await tab.evaluate(`${ROOT}.querySelector('a.vw-title').href`), `${url}/watch/1`)
  assert.equal(await tab.evaluate(`${ROOT}.querySelector('.vw-open').href`), `${url}/trending?region=US`)
  // No such host: a broken image is dropped.
  await tab.until(`${ROOT}.querySelector('img') === null`)
})

test('it fits 320 px and text of twice the size', async (t) => {
  const { tab, server } = await open(t)
  await tab.send('Emulation.setDeviceMetricsOverride', { width: 320, height: 640, deviceScaleFactor: 1, mobile: true })
  await tab.evaluate(`document.querySelector('video-notifier-toasts').style.setProperty('--vn-font', '200% system-ui')`)
  await server.post(news(1, { videos: [{ id: 1, title: 'W'.repeat(80) }] }))
  await tab.until(`${TOASTS}.length === 1`)
  const box = await tab.evaluate(`(({ left, right }) => ({ left, right }))(${TOASTS}[0].getBoundingClientRect())`)
  assert.ok(box.left >= 0 && box.right <= 320, JSON.stringify(box))
})

test('close() leaves no element, listener or socket', async (t) => {
  const { tab, server } = await open(t)
  await server.post(news(1))
  await tab.until(`${TOASTS}.length === 1`)
  await tab.evaluate('VideoNotifier.page.close()')
  assert.equal(await tab.evaluate(`document.querySelector('video-notifier-toasts')`), null)
  assert.equal(await tab.evaluate('VideoNotifier.page.state'), 'closed')
  await server.connected(0)
})

// UPDATE_PICTURES=1 keeps the picture for the README.
test('a picture of the page shows the toast', async (t) => {
  const [browser, server] = await Promise.all([launch(t), serve(t)])
  const tab = await browser.open(`${server.url}/`)
  await server.connected(1)
  await server.post(news('a1', {
    videos: [
      { id: 'a1', title: 'Northern lights over Tromsø, filmed in one night', url: '/' },
      { id: 'a2', title: 'How a 1974 synthesizer works', url: '/' },
      { id: 'a3', title: 'Street food at dawn: Osaka', url: '/' },
    ],
  }))
  await tab.until(`${TOASTS}.length === 1`)
  await tab.until(`document.getAnimations().length + ${ROOT}.getAnimations().length === 0`)
  const picture = await tab.picture()
  const { x, y, width, height } = await tab.evaluate(`${TOASTS}[0].getBoundingClientRect().toJSON()`)
  const clip = { x, y, width, height, scale: 1 }
  const before = await tab.picture(clip)
  await tab.evaluate(`${TOASTS}[0].querySelector('.vw-close').click()`)
  assert.notDeepEqual(await tab.picture(clip), before, 'where the toast was, something else is seen without it')
  if (process.env.UPDATE_PICTURES) await writeFile(path.resolve(import.meta.dirname, '../../docs/toast.png'), picture)
})
