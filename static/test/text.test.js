import assert from "node:assert/strict";
import test from "node:test";
import { text } from "../src/text.js";

const english = text(["en-US"]);

test("numbers, plural forms and names of regions are as the language has them", () => {
  assert.equal(english.headline(1, ["US"]), "1 new trending video in United States");
  assert.equal(english.headline(0, ["GB"]), "0 new trending videos in United Kingdom");
  assert.equal(english.headline(1234567, ["JP"]), "1,234,567 new trending videos in Japan");
  assert.equal(english.more(3), "and 3 more");
});

test("several regions are named, many are counted, none is left out", () => {
  assert.equal(english.headline(9, ["US", "JP", "FR"]), "9 new trending videos in United States, Japan, and France");
  assert.equal(english.headline(9, ["US", "JP", "FR", "DE"]), "9 new trending videos in 4 regions");
  assert.equal(english.headline(9, ["unknown"]), "9 new trending videos");
});

test("a region that is no country's code is named as it came", () => {
  for (const region of ["south-east_2", "constructor", "<b>", "{count}", "$&"]) {
    assert.equal(english.headline(2, [region]), `2 new trending videos in ${region}`);
  }
});

test("the first language that there are sentences in is taken, else English", () => {
  for (const [wanted, lang] of [
    [["xx", "en-GB", "en"], "en-GB"],
    [[], "en"],
    [["", "not a language", "toString", "*"], "en"],
  ]) {
    assert.equal(text(wanted).lang, lang);
  }
});
