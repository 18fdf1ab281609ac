// A real headless Chromium, driven over the DevTools protocol without a library between: tabs are hidden, frozen
// and cached here as they are for a user.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import WebSocket from 'ws'

/** Longer than anything takes that works, in milliseconds. */
export const PATIENCE = 15_000

const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--remote-debugging-port=0', '--window-size=1100,760',
]

/** Starts a browser that ends with the test. */
export async function launch(t, flags = []) {
  const profile = await mkdtemp(path.join(tmpdir(), 'video-notifier-chromium-'))
  const child = spawn(process.env.CHROMIUM ?? 'chromium', [...FLAGS, ...flags, `--user-data-dir=${profile}`], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const exited = once(child, 'exit')
  const address = await new Promise((resolve, reject) => {
    const lines = createInterface(child.stderr)
    lines.on('line', (line) => {
      const found = /DevTools listening on (\S+)/.exec(line)
      if (found) resolve(found[1])
    })
    child.once('error', reject)
    child.once('exit', () => reject(new Error('the browser ended before it listened')))
  })
  const browser = new Browser(await connect(address))
  t.after(async () => {
    browser.socket.close()
    child.kill()
    await exited
    await rm(profile, { recursive: true, force: true, maxRetries: 5 })
  })
  return browser
}

async function connect(address) {
  const socket = new WebSocket(address, { perMessageDeflate: false, maxPayload: 64 * 1024 * 1024 })
  await once(socket, 'open')
  return socket
}

class Browser {
  #next = 1
  #calls = new Map()
  #pages = new Map()

  constructor(socket) {
    this.socket = socket
    socket.on('message', (data) => {
      const { id, result, error, method, params, sessionId } = JSON.parse(data)
      if (id) {
        const { resolve, reject } = this.#calls.get(id)
        this.#calls.delete(id)
        if (error) reject(new Error(error.message))
        else resolve(result)
      } else if (sessionId) {
        this.#pages.get(sessionId)?.events.emit(method, params)
      }
    })
  }

  send(method, params = {}, sessionId = undefined) {
    const id = this.#next++
    this.socket.send(JSON.stringify({ id, method, params, sessionId }))
    return new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject }))
  }

  /** Opens a tab, and waits until its page has loaded. */
  async open(url) {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' })
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true })
    const page = new Page(this, sessionId, targetId)
    this.#pages.set(sessionId, page)
    for (const domain of ['Page', 'Runtime', 'Log', 'Network', 'Accessibility', 'DOM']) await page.send(`${domain}.enable`)
    // Before any script of the page: what is violated is kept for the test to see.
    await page.beforeLoad(`addEventListener('securitypolicyviolation', ({ effectiveDirective, blockedURI }) => {
      (globalThis.violations ??= []).push(effectiveDirective + ' ' + blockedURI)
    })`)
    if (url) await page.goto(url)
    return page
  }
}

class Page {
  events = new EventEmitter()
  /** What the page wrote to the console, and what it threw. */
  console = []

  constructor(browser, session, target) {
    this.browser = browser
    this.session = session
    this.target = target
    this.events.on('Runtime.consoleAPICalled', ({ type, args }) => {
      this.console.push(`${type}: ${args.map(({ value, description }) => value ?? description).join(' ')}`)
    })
    this.events.on('Runtime.exceptionThrown', ({ exceptionDetails }) => {
      this.console.push(`exception: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`)
    })
  }

  send(method, params) {
    return this.browser.send(method, params, this.session)
  }

  beforeLoad(source) {
    return this.send('Page.addScriptToEvaluateOnNewDocument', { source })
  }

  async goto(url) {
    const loaded = once(this.events, 'Page.loadEventFired')
    await this.send('Page.navigate', { url })
    await loaded
  }

  async reload() {
    const loaded = once(this.events, 'Page.loadEventFired')
    await this.send('Page.reload')
    await loaded
  }

  /** The value of an expression in the page; promises are awaited. */
  async evaluate(expression) {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', {
      expression, awaitPromise: true, returnByValue: true, userGesture: true,
    })
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text)
    return result.value
  }

  /** Waits until an expression in the page is truthy, and answers it. */
  async until(expression, patience = PATIENCE) {
    const end = Date.now() + patience
    for (;;) {
      const value = await this.evaluate(expression)
      if (value) return value
      if (Date.now() > end) assert.fail(`never true: ${expression}\n${this.console.join('\n')}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  async press(key, modifiers = 0) {
    const keys = { Tab: 9, Escape: 27, F8: 119, Enter: 13 }
    const event = { key, code: key, modifiers, windowsVirtualKeyCode: keys[key] }
    await this.send('Input.dispatchKeyEvent', { type: 'rawKeyDown', ...event })
    await this.send('Input.dispatchKeyEvent', { type: 'keyUp', ...event })
  }

  async moveMouse(x, y) {
    await this.send('Input.dispatchMouseEvent', { type: 'mouseMoved', x, y })
  }

  async click(x, y) {
    for (const type of ['mousePressed', 'mouseReleased']) {
      await this.send('Input.dispatchMouseEvent', { type, x, y, button: 'left', clickCount: 1 })
    }
  }

  /** A PNG of what is seen. */
  async picture(clip) {
    const { data } = await this.send('Page.captureScreenshot', { format: 'png', clip })
    return Buffer.from(data, 'base64')
  }

  /** Brings the tab to the front; the others are hidden then. */
  async show() {
    await this.browser.send('Target.activateTarget', { targetId: this.target })
    await this.send('Page.bringToFront')
  }

  close() {
    return this.browser.send('Target.closeTarget', { targetId: this.target })
  }
}
