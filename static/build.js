// Bundles the modules of src/ into the two files that the server embeds, and prints what they weigh.

import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'

const outputs = [
  { entry: 'src/iife.js', file: 'notifier.js', format: 'iife' },
  { entry: 'src/esm.js', file: 'notifier.esm.js', format: 'esm' },
]
for (const { entry, file, format } of outputs) {
  await build({
    entryPoints: [entry],
    outfile: file,
    format,
    bundle: true,
    minify: true,
    target: 'es2022',
    charset: 'utf8',
    banner: { js: '/* video-notifier, MIT */' },
    plugins: [{ name: 'minify-style', setup: minifyStyle }],
  })
  const content = readFileSync(file)
  console.log(`${file}: ${content.length} bytes, ${gzipSync(content, { level: 9 }).length} gzip`)
}

/** @param {import('esbuild').PluginBuild} plugin */
function minifyStyle({ onLoad }) {
  onLoad({ filter: /src\/style\.js$/ }, ({ path }) => ({
    contents: readFileSync(path, 'utf8')
      .replace(/\n\s*/g, '\n')
      .replace(/([{;,:])\s*\n/g, '$1')
      .replace(/;\n?}/g, '}'),
  }))
}
