import assert from 'node:assert/strict'
import { test } from 'node:test'
import { regionLink, safeImage, safeLink } from '../src/links.js'

const BASE = 'https://site.example/watch/page'

test('links go to http(s) and to the page’s own site, and nowhere else', () => {
  assert.equal(safeLink('/watch/a1', BASE), 'https://site.example/watch/a1')
  assert.equal(safeLink('HTTP://other.example/x?y#z', BASE), 'http://other.example/x?y#z')
  const hostile = [
    'javascript:alert(1)',
    'JaVaScRiPt:alert(1)',
    ' javascript:alert(1)',
    'java\tscript:alert(1)',
    'data:text/html,x',
    'vbscript:x',
    'blob:https://site.example/x',
    'file:///etc/passwd',
    '//evil.example',
    '/\\evil.example',
    '/\t/evil.example',
    '\\\\evil.example',
    'https:evil.example',
    'watch/a1',
    '',
    ' ',
    'https://',
    7,
    null,
    {},
    undefined,
  ]
  for (const url of hostile) assert.equal(safeLink(url, BASE), null, String(url))
})

test('images are https or the site’s own', () => {
  assert.equal(safeImage('https://img.example/a.jpg', BASE), 'https://img.example/a.jpg')
  assert.equal(safeImage('/a.jpg', 'http://127.0.0.1:8765/'), 'http://127.0.0.1:8765/a.jpg')
  for (const url of ['http://img.example/a.jpg', 'data:image/svg+xml,<svg onload=alert(1)>', 'javascript:1']) {
    assert.equal(safeImage(url, BASE), null, url)
  }
})

test('a region is encoded into the template, which passes the same list', () => {
  assert.equal(regionLink('/trending?region={region}', 'US', BASE), 'https://site.example/trending?region=US')
  assert.equal(regionLink('/t/{region}', '../"><b>', BASE), 'https://site.example/t/..%2F%22%3E%3Cb%3E')
  assert.equal(regionLink('/t/{region}', '\ud800', BASE), null)
  for (const template of ['javascript:alert("{region}")', '//evil.example/{region}', '', undefined]) {
    assert.equal(regionLink(template, 'US', BASE), null)
  }
})
