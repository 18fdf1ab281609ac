/** What people try: markup that runs, markup that breaks out, addresses that run, text that lies about its order. */

const RUNS = "alert(1)";

export const HOSTILE_TEXTS = [
  `<script>${RUNS}</script>`,
  `<script src=//evil.test/x.js></script>`,
  `</script><script>${RUNS}</script>`,
  `<img src=x onerror=${RUNS}>`,
  `<img src=x onerror="${RUNS}"//`,
  `<svg onload=${RUNS}>`,
  `<svg><script>${RUNS}</script></svg>`,
  `<svg><animate onbegin=${RUNS} attributeName=x dur=1s>`,
  `<math><mtext></form><form><mglyph><style></math><img src onerror=${RUNS}>`,
  `<body onload=${RUNS}>`,
  `<iframe src="javascript:${RUNS}"></iframe>`,
  `<iframe srcdoc="<script>parent.${RUNS}</script>"></iframe>`,
  `<object data="javascript:${RUNS}"></object>`,
  `<embed src="javascript:${RUNS}">`,
  `<a href="javascript:${RUNS}">a</a>`,
  `<form action="javascript:${RUNS}"><input type=submit autofocus onfocus=${RUNS}>`,
  `<input autofocus onfocus=${RUNS}>`,
  `<details open ontoggle=${RUNS}>`,
  `<video><source onerror=${RUNS}></video>`,
  `<audio src onerror=${RUNS}>`,
  `<marquee onstart=${RUNS}>`,
  `<style>@import "//evil.test/x.css"; * { display: none }</style>`,
  `<style onload=${RUNS}></style>`,
  `<link rel=stylesheet href=//evil.test/x.css onerror=${RUNS}>`,
  `<meta http-equiv=refresh content="0;url=javascript:${RUNS}">`,
  `<base href=//evil.test/>`,
  `<template><script>${RUNS}</script></template>`,
  `<video-notifier-toasts></video-notifier-toasts>`,
  `<slot onslotchange=${RUNS}>`,
  `<x style="animation: in" onanimationstart=${RUNS}>`,
  `<noscript><p title="</noscript><img src=x onerror=${RUNS}>">`,
  `<!--<img src="--><img src=x onerror=${RUNS}//">`,
  `<![CDATA[<img src=x onerror=${RUNS}>]]>`,
  `<textarea><img src=x onerror=${RUNS}>`,
  `</title><img src=x onerror=${RUNS}>`,
  `"><img src=x onerror=${RUNS}>`,
  `'><img src=x onerror=${RUNS}>`,
  `" onmouseover="${RUNS}" x="`,
  `' autofocus onfocus='${RUNS}`,
  "`${alert(1)}`",
  "${alert(1)}",
  "{{constructor.constructor('alert(1)')()}}",
  "#{alert(1)}",
  "<%= alert(1) %>",
  `';${RUNS};//`,
  `\\";${RUNS};//`,
  `javascript:${RUNS}`,
  `data:text/html,<script>${RUNS}</script>`,
  "&lt;script&gt;alert(1)&lt;/script&gt;",
  "&#60;img src=x onerror=alert(1)&#62;",
  "\\u003cimg src=x onerror=alert(1)\\u003e",
  "%3Cscript%3Ealert(1)%3C/script%3E",
  "＜script＞alert(1)＜/script＞",
  "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
  "__proto__",
  "constructor",
  "toString",
  "{region} {count} $& $1 $`",
  "\u202Egnp.exe",
  "\u2066\u202Ereversed\u2069",
  "a\u0000b",
  "a\u2028b\u2029c",
  "Z\u0351\u036B\u0343\u036A\u0302\u036B\u033Da\u0335\u030Al\u0489g\u0321o",
  "\uFDFD\uFDFD\uFDFD",
  "x".repeat(5000),
  `${"<b>".repeat(500)}`,
  "🏳️‍🌈👩‍👩‍👧‍👦",
];

export const HOSTILE_URLS = [
  "javascript:alert(1)",
  "JAVASCRIPT:alert(1)",
  " javascript:alert(1)",
  "\tjavascript:alert(1)",
  "java\nscript:alert(1)",
  "java\u0000script:alert(1)",
  "javascript://site.test/%0aalert(1)",
  "javascript&colon;alert(1)",
  "data:text/html,<script>alert(1)</script>",
  "data:image/svg+xml,<svg onload=alert(1)>",
  "vbscript:msgbox(1)",
  "blob:http://127.0.0.1/1",
  "filesystem:http://127.0.0.1/x",
  "file:///etc/passwd",
  "view-source:http://127.0.0.1/",
  "about:blank",
  "ws://127.0.0.1/",
  "mailto:a@example.test",
  "tel:1",
  "intent://x#Intent;scheme=http;end",
  "//evil.test/x",
  "/\\evil.test/x",
  "\\\\evil.test\\x",
  "/\t/evil.test",
  "/\n/evil.test",
  "http:evil.test",
  "https:/evil.test",
  "http:\\\\evil.test",
  "https://[evil",
  "http://",
  "evil.test",
  "",
];

/** A policy that lets a page do the least. */
export const STRICT =
  "default-src 'none'; script-src 'self'; style-src 'none'; img-src 'none'; connect-src ws:; base-uri 'none'; " +
  "require-trusted-types-for 'script'; trusted-types 'none'";

/** Writes down what hostile text would call, what a policy has stopped, and errors that nobody caught. */
export const WATCH = `
  window.pwned = [];
  for (const name of ["alert", "confirm", "prompt", "print", "open"]) window[name] = (...values) => pwned.push([name, ...values]);
  window.errors = [];
  addEventListener("error", ({ message }) => message && errors.push(message));
  addEventListener("unhandledrejection", ({ reason }) => errors.push(String(reason)));
  window.violations = [];
  document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
    violations.push(violatedDirective + " " + blockedURI));
  window.heard = [];
  addEventListener("DOMContentLoaded", () => VideoNotifier.instance.addEventListener("notification", ({ detail }) => heard.push(detail)));
`;
