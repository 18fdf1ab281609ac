// The real server, and pages around the script that it serves.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import http from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'

const ROOT = path.resolve(import.meta.dirname, '../../..')
const TOKEN = 'browser-token'

function binary() {
  const builds = ['release', 'debug'].map((profile) => path.join(ROOT, 'target', profile, 'video-notifier'))
  const found = [process.env.VIDEO_NOTIFIER_BIN, ...builds].find((file) => file && existsSync(file))
  assert.ok(found, 'build the server first: cargo build --release')
  return path.resolve(ROOT, found)
}

/** Starts a server that ends with the test. */
export async function serve(t, flags = []) {
  const folder = await mkdtemp(path.join(tmpdir(), 'video-notifier-'))
  const server = new Server(path.join(folder, 'data'), flags)
  await server.start()
  t.after(async () => {
    await server.kill()
    await rm(folder, { recursive: true, force: true })
  })
  return server
}

class Server {
  #address = '127.0.0.1:0'

  constructor(data, flags) {
    this.data = data
    this.flags = flags
  }

  async start() {
    const args = ['--listen', this.#address, '--data-dir', this.data, '--token', TOKEN, ...this.flags]
    this.child = spawn(binary(), args, { stdio: ['ignore', 'ignore', 'pipe'] })
    this.exited = once(this.child, 'exit')
    this.#address = await new Promise((resolve, reject) => {
      const lines = createInterface(this.child.stderr)
      let log = ''
      lines.on('line', (line) => {
        log += `${line}\n`
        const found = /listening on http:\/\/([^;,\s]+)/.exec(line)
        if (found) resolve(found[1])
      })
      this.child.once('exit', () => reject(new Error(`the server ended:\n${log}`)))
    })
  }

  /** Ends it as `kill -9` does. */
  async kill() {
    this.child.kill('SIGKILL')
    await this.exited
  }

  get url() {
    return `http://${this.#address}`
  }

  /** Posts a notification; answers the receipt. */
  async post(notification) {
    const response = await fetch(`${this.url}/notify`, {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKEN}` },
      body: JSON.stringify(notification),
    })
    const answer = await response.json()
    assert.equal(response.status, 200, JSON.stringify(answer))
    return answer
  }

  /** Waits until so many clients are connected. */
  async connected(count) {
    const { promise, resolve } = deferred()
    const look = async () => {
      const headers = { authorization: `Bearer ${TOKEN}` }
      const text = await (await fetch(`${this.url}/metrics`, { headers })).text()
      const now = Number(/notifier_connections\{transport="websocket"\} (\d+)/.exec(text)?.[1])
      if (now === count) resolve()
      else setTimeout(look, 20)
    }
    look()
    await promise
  }
}

/** A post of one video. */
export function news(id, fields = {}) {
  return { region: 'US', count: 37, videos: [{ id, title: `Video ${id}` }], ...fields }
}

/** A site of its own: serves these pages by path, with these headers, until the test ends. */
export async function site(t, pages, headers = {}) {
  const server = http.createServer((request, response) => {
    const page = pages[new URL(request.url, 'http://x').pathname]
    response.writeHead(page === undefined ? 404 : 200, { 'content-type': 'text/html; charset=utf-8', ...headers })
    response.end(page ?? 'nothing here')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${server.address().port}`
}

/** A page that loads the script as a site would. */
export function page(server, attributes = '', body = '<h1>A site</h1><button id="before">before</button>') {
  return `<!doctype html><html lang="en"><title>site</title><meta charset="utf-8">
    <meta name="viewport" content="width=device-width"><body>${body}
    <script src="${server.url}/notifier.js" ${attributes}></script></body></html>`
}

function deferred() {
  const result = {}
  result.promise = new Promise((resolve) => {
    result.resolve = resolve
  })
  return result
}
