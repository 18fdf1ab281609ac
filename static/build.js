// Builds the two files that are served, from src/: one for a script tag, one for `import`. They are committed, so that
// the server builds without Node.

import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build, transform } from "esbuild";
import { style } from "./src/style.js";

const folder = import.meta.dirname;

/** The style of the toasts is a string, which no minifier of scripts looks into. */
const styles = {
  name: "styles",
  setup({ onLoad }) {
    onLoad({ filter: /src\/style\.js$/ }, async () => {
      const { code } = await transform(style, { loader: "css", minify: true });
      return { contents: `export const style = ${JSON.stringify(code.trim())};` };
    });
  },
};

for (const [source, format, file] of [
  ["iife.js", "iife", "notifier.js"],
  ["esm.js", "esm", "notifier.esm.js"],
]) {
  const outfile = `${folder}/${file}`;
  await build({
    entryPoints: [`${folder}/src/${source}`],
    outfile,
    format,
    bundle: true,
    minify: true,
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
    plugins: [styles],
  });
  const content = readFileSync(outfile);
  console.log(`${file}: ${content.length} bytes, ${gzipSync(content, { level: 9 }).length} with gzip`);
}
