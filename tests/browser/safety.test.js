// What hostile content, strict pages and careful sites may rely on.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { launch } from './support/chromium.js'
import { hello, publication, scripted } from './support/scripted.js'
import { news, page, serve, site } from './support/server.js'
import { HEADLINES, ROOT, TITLES, TOASTS } from './support/toasts.js'

const RUN = 'globalThis.ran=1'

/** Strings that have run somewhere, once. */
const HOSTILE = [
  `<script>${RUN}</script>`, `<img src=x onerror="${RUN}">`, `<svg onload="${RUN}">`, `<svg/onload=${RUN}>`,
  `"><script>${RUN}</script>`, `'><img src=x onerror=${RUN}>`, `</textarea><script>${RUN}</script>`,
  `</title><script>${RUN}</script>`, `</style><script>${RUN}</script>`, `<iframe srcdoc="<script>parent.ran=1</script>">`,
  `<iframe src="javascript:parent.ran=1">`, `<a href="javascript:${RUN}">x</a>`, `<body onload=${RUN}>`,
  `<input autofocus onfocus=${RUN}>`, `<details open ontoggle=${RUN}>`, `<video><source onerror=${RUN}></video>`,
  `<audio src=x onerror=${RUN}>`, `<marquee onstart=${RUN}>`, `<object data="javascript:${RUN}">`,
  `<embed src="javascript:${RUN}">`, `<math><mi xlink:href="data:x,<script>${RUN}</script>">`,
  `<template><script>${RUN}</script></template>`, `<noscript><p title="</noscript><img src=x onerror=${RUN}>">`,
  `<svg><script>${RUN}</script></svg>`, `<svg><animate onbegin=${RUN} attributeName=x>`, `<!--><script>${RUN}</script>`,
  `<![CDATA[><script>${RUN}</script>]]>`, `<base href="javascript:${RUN}//">`, `<meta http-equiv=refresh content="0;url=javascript:${RUN}">`,
  `<link rel=stylesheet href="javascript:${RUN}">`, `<form action="javascript:${RUN}"><button>`, `<button formaction="javascript:${RUN}">`,
  `\u003cscript\u003e${RUN}\u003c/script\u003e`, `&lt;script&gt;${RUN}&lt;/script&gt;`, `&#60;img src=x onerror=${RUN}&#62;`,
  `%3Cscript%3E${RUN}%3C/script%3E`, `javascript:${RUN}`, `JaVaScRiPt:${RUN}`, ` javascript:${RUN}`, `java\tscript:${RUN}`,
  `data:text/html,<script>parent.${RUN}</script>`, `vbscript:${RUN}`, `\${${RUN}}`, `{{constructor.constructor('${RUN}')()}}`,
  `#{${RUN}}`, `<%= ${RUN} %>`, `';${RUN};'`, `";${RUN};"`, `\`;${RUN};\``, `\\";${RUN}//`, `__proto__`, `constructor`,
  `{count}{region}{regions}`, `$&$1$\``, '\u202e<script>', '\u0000<b>', '\ud800', '🏳️‍🌈'.repeat(50), 'x'.repeat(5000), '<'.repeat(1000),
]

test('no hostile string renders or runs, in whatever field it stands', async (t) => {
  assert.ok(HOSTILE.length >= 50)
  const browser = await launch(t)
  let offset = 0
  const messages = HOSTILE.flatMap((text) => [
    publication(++offset, { videos: [{ id: text, title: text, url: text, thumb: text, extra: text }] }),
    publication(++offset, { region: text, count: text }),
    publication(++offset, { timestamp: text }),
  ])
  const server = await scripted(t, (socket) => {
    socket.say(hello())
    socket.on('message', (data) => socket.say(messages[Number(String(data).slice(1))]))
  })
  const real = await serve(t)
  const url = await site(t, {
    '/': `<!doctype html><body><script src="${real.url}/notifier.js" data-manual></script><script>
      let socket
      const Plain = WebSocket
      class Spy extends Plain { constructor(url) { super(url); socket = this } }
      const notifier = new VideoNotifier('${server.url}', { link: '/t?r={region}', storage: 'none', world: { WebSocket: Spy } })
    </script>`,
  })
  const tab = await browser.open(`${url}/`)
  await tab.until(`notifier.state === 'open'`)
  for (let at = 0; at < messages.length; at += 3) {
    const text = HOSTILE[at / 3]
    await tab.evaluate(`socket.send('#${at}'), socket.send('#${at + 1}'), socket.send('#${at + 2}')`)
    await tab.until(`notifier.history.some(({ id }) => id === 'k3f9x2ab-${at + 2}')`)
    // The last one has no time and is no publication.
    await tab.until(`${TOASTS}.length > 0`)
    const shown = await tab.evaluate(TITLES)
    assert.ok(shown.includes(text), `${JSON.stringify(text)} is shown as it is: ${JSON.stringify(shown)}`)
    const odd = await tab.evaluate(`[...${ROOT}.querySelectorAll('.vw-region *')].filter((element) =>
      !['DIV', 'OL', 'LI', 'P', 'UL', 'A', 'SPAN', 'TIME', 'BUTTON', 'IMG'].includes(element.tagName)
      || [...element.attributes].some(({ name }) => name.startsWith('on'))
      || (element.href && !/^https?:/.test(element.href)) || (element.src && !/^https?:/.test(element.src))
    ).map(({ outerHTML }) => outerHTML)`)
    assert.deepEqual(odd, [], text)
    assert.deepEqual(tab.console, [], text)
    await tab.evaluate(`${TOASTS}.forEach((toast) => toast.querySelector('.vw-close').click())`)
  }
  assert.equal(await tab.evaluate('globalThis.ran'), undefined)
  assert.equal(await tab.evaluate('notifier.history.length'), 50)
  assert.ok(await tab.evaluate('notifier.history.every(({ count }) => Number.isSafeInteger(count))'))
})

test('a page with a strict policy and Trusted Types sees no violation', async (t) => {
  const [browser, server] = await Promise.all([launch(t), serve(t)])
  const policy = `default-src 'none'; script-src ${server.url}; connect-src ${server.url.replace('http', 'ws')};
    img-src https:; require-trusted-types-for 'script'; trusted-types 'none'`.replace(/\s+/g, ' ')
  const url = await site(t, { '/': page(server, 'data-link="/t/{region}"') }, { 'content-security-policy': policy })
  const tab = await browser.open(`${url}/`)
  await server.connected(1)
  await server.post(news(1, { videos: [{ id: 1, title: '<b>t</b>', url: '/1', thumb: 'https://img.invalid/1.jpg' }] }))
  await tab.until(`${TOASTS}.length === 1`)
  assert.notEqual(await tab.evaluate(`getComputedStyle(${TOASTS}[0]).borderTopWidth`), '0px', 'it has its style')
  assert.equal(await tab.evaluate('globalThis.violations'), undefined)
  assert.deepEqual(tab.console.filter((line) => line.startsWith('exception')), [])
})

test('a site that may not store leaves nothing behind', async (t) => {
  const [browser, server] = await Promise.all([launch(t), serve(t)])
  const url = await site(t, { '/none': page(server, 'data-storage="none"'), '/some': page(server) })
  const tab = await browser.open(`${url}/none`)
  await server.connected(1)
  await server.post(news(1))
  await tab.until(`${TOASTS}.length === 1`)
  assert.equal(await tab.evaluate('localStorage.length + sessionStorage.length + document.cookie.length'), 0)
  await tab.goto(`${url}/some`)
  await tab.until(`VideoNotifier.page.state === 'open'`)
  assert.equal(await tab.evaluate('localStorage.length'), 1)
})

test('a manual page starts nothing, and data attributes say where, what and how', async (t) => {
  const [browser, server] = await Promise.all([launch(t), serve(t)])
  await server.post(news('old', { region: 'GB' }))
  const { position } = await (await fetch(`${server.url}/notifications`)).json()
  await server.post(news('gb', { region: 'GB' }))
  await server.post(news('us', { region: 'US' }))
  const url = await site(t, {
    '/manual': page(server, 'data-manual'),
    '/set': page(server, `data-url="${server.url}/ws" data-regions="GB, JP" data-since="${position}" data-max-age="3600"`),
    '/stale': page(server, `data-since="${position}" data-max-age="0.001"`),
  })
  const manual = await browser.open(`${url}/manual`)
  assert.equal(await manual.evaluate('typeof VideoNotifier + VideoNotifier.page'), 'functionundefined')
  const set = await browser.open(`${url}/set`)
  await set.until(`${HEADLINES}.length === 1`)
  assert.deepEqual(await set.evaluate(TITLES), ['Video gb'])
  await set.evaluate('localStorage.clear()')
  await set.goto(`${url}/stale`)
  await set.until('VideoNotifier.page.history.length === 2')
  assert.equal(await set.evaluate(`${TOASTS}.length`), 0)
})

test('a frame that may not store works all the same', async (t) => {
  const [browser, server] = await Promise.all([launch(t), serve(t)])
  const url = await site(t, { '/': `<iframe sandbox="allow-scripts" src="/in"></iframe>`, '/in': page(server) })
  await browser.open(`${url}/`)
  await server.connected(1)
  const receipt = await server.post(news(1))
  assert.equal(receipt.subscribers, 1)
})
