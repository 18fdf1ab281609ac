// Builds the two files that are served, from src/: one for a script tag, one for `import`. They are committed, so that
// the server builds without Node.

import { writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build, transform } from "esbuild";
import { minify } from "terser";
import { style } from "./src/style.js";

const folder = import.meta.dirname;

/** The style of the toasts is a string, which no minifier of scripts looks into. */
const styles = {
  name: "styles",
  setup({ onLoad }) {
    onLoad({ filter: /src\/style\.js$/ }, async () => {
      const { code } = await transform(style, { loader: "css", minify: true });
      return {
        contents: `export const style = ${JSON.stringify(code.trim().replaceAll(", ", ",").replaceAll(" / ", "/"))};`,
      };
    });
  },
};

/**
 * Properties that are read in this build only: not options, events, methods of the class, or what is read from the wire,
 * from the storage or of another tab, whose script may be another build. Those that a browser has as well, on objects
 * that are never met here, may be among them.
 */
const INTERNAL = [
  "advance",
  "afterMs",
  "age",
  "ago",
  "alone",
  "ask",
  "atLeastMs",
  "atOnce",
  "check",
  "comesBack",
  "content",
  "element",
  "end",
  "headline",
  "heartbeatMs",
  "hear",
  "isDue",
  "isFirst",
  "isNew",
  "isVisible",
  "label",
  "leave",
  "lifeMs",
  "more",
  "notifications",
  "online",
  "onMessage",
  "onShow",
  "onState",
  "onTold",
  "page",
  "positions",
  "restart",
  "seize",
  "shares",
  "start",
  "startedAt",
  "stop",
  "store",
  "tell",
  "timer",
  "unshown",
  "viewer",
  "wanted",
  "watch",
  "windowMs",
];

for (const [source, format, file] of [
  ["iife.js", "iife", "notifier.js"],
  ["esm.js", "esm", "notifier.esm.js"],
]) {
  const { outputFiles } = await build({
    entryPoints: [`${folder}/src/${source}`],
    format,
    bundle: true,
    minify: true,
    target: "es2022",
    charset: "utf8",
    // Else it says "use strict" before what is strict by itself.
    tsconfigRaw: {},
    legalComments: "none",
    plugins: [styles],
    write: false,
  });
  // A second look finds another twentieth: names that compress better, and what can be folded once they are known.
  const { code } = await minify(outputFiles[0].text, {
    module: format === "esm",
    ecma: 2020,
    // "Unsafe" is safe here: no function of ours is called with `new`, and nobody replaces Number.NaN. Without
    // `reduce_funcs` the code is longer, and compresses better.
    compress: { passes: 3, unsafe_arrows: true, unsafe: true, lhs_constants: false, reduce_funcs: false },
    mangle: { toplevel: true, properties: { builtins: true, regex: new RegExp(`^(${INTERNAL.join("|")})$`) } },
    format: { comments: false },
  });
  const content = `${code}\n`;
  writeFileSync(`${folder}/${file}`, content);
  console.log(`${file}: ${content.length} bytes, ${gzipSync(content, { level: 9 }).length} with gzip`);
}
