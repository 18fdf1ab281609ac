import assert from "node:assert/strict";
import test from "node:test";
import { image, link, regionLink } from "../src/links.js";

const HERE = "https://site.test/some/page";

test("http, https and paths on this site are links", () => {
  for (const [text, url] of [
    ["https://other.test/a?b=c#d", "https://other.test/a?b=c#d"],
    ["HTTP://other.test", "http://other.test/"],
    ["/watch/a 1", "https://site.test/watch/a%201"],
    ["/", "https://site.test/"],
    ["/javascript:alert(1)", "https://site.test/javascript:alert(1)"],
  ]) {
    assert.equal(link(text, HERE), url);
  }
});

test("nothing else is", () => {
  for (const text of [
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    " javascript:alert(1)",
    "java\nscript:alert(1)",
    "\u0001javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:msgbox(1)",
    "blob:https://site.test/1",
    "file:///etc/passwd",
    "about:blank",
    "ws://other.test",
    "//other.test",
    "/\\other.test",
    "\\\\other.test",
    "/\t/other.test",
    "/\n/other.test",
    "\t//other.test",
    "https:other.test",
    "https:\\\\other.test",
    "http://",
    "https://[",
    "watch/a",
    "",
    "#",
    "?a",
    null,
    undefined,
    7,
    {},
  ]) {
    assert.equal(link(text, HERE), null, JSON.stringify(text));
  }
});

test("a page without a site of its own has no paths", () => {
  for (const page of ["about:blank", "file:///a.html", "data:text/html,"]) {
    assert.equal(link("/watch", page), null);
    assert.equal(link("https://other.test/", page), null);
  }
});

test("pictures are no less safe than the page", () => {
  assert.equal(image("https://cdn.test/a.png", HERE), "https://cdn.test/a.png");
  assert.equal(image("/a.png", HERE), "https://site.test/a.png");
  assert.equal(image("http://cdn.test/a.png", HERE), null);
  assert.equal(image("http://cdn.test/a.png", "http://localhost/"), "http://cdn.test/a.png");
  assert.equal(image("data:image/png;base64,AAAA", HERE), null);
});

test("a region goes into a link encoded, and only where it is one", () => {
  assert.equal(
    regionLink("/trending?region={region}&r={region}", "US", HERE),
    "https://site.test/trending?region=US&r=US",
  );
  for (const region of ["unknown", "$&", "..", "a/b", "a&b=c", "<b>", "", "\ud800", "x".repeat(33)]) {
    assert.equal(regionLink("/trending/{region}", region, HERE), null, region);
  }
  for (const template of [undefined, "javascript:alert('{region}')", "//{region}", "{region}", "data:,{region}"]) {
    assert.equal(regionLink(template, "US", HERE), null, template);
  }
});
