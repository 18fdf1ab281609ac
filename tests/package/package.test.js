// The package as npm makes it, in the hands of those who install it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

const run = promisify(execFile);
const source = new URL("../../static/", import.meta.url).pathname;
const tools = createRequire(`${source}package.json`);

/** An empty folder, but for the package in its node_modules. */
let folder;
let tarball;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "video-notifier-package-"));
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", folder], { cwd: source });
  // What its scripts say comes first.
  tarball = join(folder, JSON.parse(stdout.slice(stdout.indexOf("[\n")))[0].filename);
  await writeFile(join(folder, "package.json"), "{}");
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", tarball], { cwd: folder });
});
after(() => rm(folder, { recursive: true, force: true }));

/** Runs a script there, and answers with what it has printed. */
async function node(name, script) {
  await writeFile(join(folder, name), script);
  const { stdout, stderr } = await run(process.execPath, [name], { cwd: folder });
  return { stdout: stdout.trim(), stderr };
}

/** Checks a program there; the errors. */
async function check(options, ...files) {
  const compilerOptions = {
    target: "es2022",
    lib: ["es2022", "dom"],
    types: [],
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: false,
    noEmit: true,
    ...options,
  };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
  const tsc = join(source, "node_modules/.bin/tsc");
  return run(tsc, { cwd: folder }).then(
    () => "",
    ({ stdout, stderr }) => stdout + stderr,
  );
}

const RESOLUTIONS = [
  { module: "esnext", moduleResolution: "bundler" },
  { module: "node16", moduleResolution: "node16" },
  { module: "nodenext", moduleResolution: "nodenext" },
];

test("it holds what is served, the types, how to use it and the licence, and nothing else", async () => {
  const installed = join(folder, "node_modules/video-notifier");
  assert.deepEqual((await readdir(installed, { recursive: true })).toSorted(), [
    "LICENSE",
    "README.md",
    "global.d.ts",
    "notifier.d.ts",
    "notifier.esm.js",
    "notifier.js",
    "package.json",
  ]);
  const licence = new URL("../../LICENSE", import.meta.url);
  assert.equal(await readFile(join(installed, "LICENSE"), "utf8"), await readFile(licence, "utf8"));
  // Nothing comes with it: neither packages, nor scripts that run when it is installed.
  assert.deepEqual(
    (await readdir(join(folder, "node_modules"))).filter((name) => !name.startsWith(".")),
    ["video-notifier"],
  );
  const { dependencies, scripts } = JSON.parse(await readFile(join(installed, "package.json"), "utf8"));
  assert.equal(dependencies, undefined);
  assert.deepEqual(
    Object.keys(scripts).filter((name) => /install|prepare/.test(name)),
    [],
  );
});

test("publint finds nothing to say", async () => {
  const { publint } = await import(tools.resolve("publint"));
  const { buffer } = new Uint8Array(await readFile(tarball));
  const { messages } = await publint({ pack: { tarball: buffer }, strict: true });
  assert.deepEqual(messages, []);
});

test("plain Node imports it, and nothing happens until one is made", async () => {
  const { stdout, stderr } = await node(
    "module.mjs",
    `import * as module from "video-notifier";
    import "video-notifier/notifier.js";
    console.log(Object.keys(module).join(), module.VideoNotifier.instance, typeof globalThis.VideoNotifier);`,
  );
  assert.deepEqual([stdout, stderr], ["VideoNotifier null undefined", ""]);
});

test("plain Node requires it", async () => {
  const { stdout } = await node(
    "common.cjs",
    `const { VideoNotifier } = require("video-notifier");
    console.log(typeof VideoNotifier, VideoNotifier.prototype instanceof EventTarget);`,
  );
  assert.equal(stdout, "function true");
});

test("a bundle of it loads, and connects", async () => {
  await copyFile(new URL("consumer.ts", import.meta.url), join(folder, "consumer.ts"));
  const { outputFiles } = await tools("esbuild").build({
    stdin: { contents: 'export { start } from "./consumer.ts"', resolveDir: folder },
    bundle: true,
    minify: true,
    format: "cjs",
    platform: "browser",
    write: false,
  });
  const { stdout } = await node(
    "bundled.cjs",
    `globalThis.WebSocket = class extends EventTarget { constructor(url) { super(); console.log(url) } close() {} };
    ${outputFiles[0].text}
    module.exports.start("https://notify.test/ws").close();`,
  );
  assert.equal(stdout.split("\n")[0], "wss://notify.test/ws?regions=US");
});

test("a bundle that does not use it does not hold it", async () => {
  const { outputFiles } = await tools("esbuild").build({
    stdin: { contents: 'import { VideoNotifier } from "video-notifier"', resolveDir: folder },
    bundle: true,
    format: "esm",
    write: false,
  });
  assert.equal(outputFiles[0].text.replace(/\/\/.*/g, "").trim(), "");
});

for (const options of RESOLUTIONS) {
  test(`a strict program is checked against its types, with moduleResolution ${options.moduleResolution}`, async () => {
    await copyFile(new URL("consumer.ts", import.meta.url), join(folder, "consumer.mts"));
    assert.equal(await check(options, "consumer.mts"), "");
    await copyFile(new URL("script.ts", import.meta.url), join(folder, "script.ts"));
    assert.equal(await check(options, "script.ts"), "");
  });
}

test("the types declare what the class has, and no more", async () => {
  const { stdout } = await node(
    "members.mjs",
    `import { VideoNotifier } from "video-notifier";
    const members = Object.getOwnPropertyNames(VideoNotifier).filter((name) => !(name in Function.prototype));
    for (let each = VideoNotifier.prototype; each !== EventTarget.prototype; each = Object.getPrototypeOf(each))
      members.push(...Object.getOwnPropertyNames(each));
    console.log(members.filter((name) => !["constructor", "prototype"].includes(name)).join());`,
  );
  const declares = async (names) => {
    const members = JSON.stringify(Object.fromEntries(names.map((name) => [name, true])));
    const program = `import type { VideoNotifier } from "video-notifier";
      type Own = Exclude<keyof VideoNotifier, keyof EventTarget> | Exclude<keyof typeof VideoNotifier, "prototype">;
      export const members: Record<Own, true> = ${members};`;
    await writeFile(join(folder, "members.mts"), program);
    return check(RESOLUTIONS[0], "members.mts");
  };
  const members = stdout.split(",");
  assert.equal(await declares(members), "");
  // That one too many, or too few, would be noticed.
  assert.match(await declares([...members, "another"]), /another\W+ does not exist/);
  for (const one of ["instance", "refetch"])
    assert.match(await declares(members.filter((name) => name !== one)), new RegExp(`${one}\\W+ is missing`));
});
