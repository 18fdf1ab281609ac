import assert from "node:assert/strict";
import test from "node:test";
import { catalogues, text } from "../src/text.js";

const english = text(["en-US"]);

test("numbers, plural forms and names of regions are as the language has them", () => {
  assert.equal(english.headline(1, ["US"]), "1 new trending video · United States");
  assert.equal(english.headline(0, ["GB"]), "0 new trending videos · United Kingdom");
  assert.equal(english.headline(1234567, ["JP"]), "1,234,567 new trending videos · Japan");
  assert.equal(english.more(1234), "+1,234");
});

for (const [lang, one, many, ago] of [
  ["en", "1 new trending video · Japan", "1,200 new trending videos · Japan", "5 minutes ago"],
  ["de", "1 neues Trendvideo · Japan", "1.200 neue Trendvideos · Japan", "vor 5 Minuten"],
  ["fr", "1 nouvelle vidéo tendance · Japon", "1\u202f200 nouvelles vidéos tendance · Japon", "il y a 5 minutes"],
  ["es", "1 nuevo vídeo en tendencia · Japón", "1200 nuevos vídeos en tendencia · Japón", "hace 5 minutos"],
  ["pt", "1 novo vídeo em alta · Japão", "1.200 novos vídeos em alta · Japão", "há 5 minutos"],
  ["hi", "1 नया ट्रेंडिंग वीडियो · जापान", "1,200 नए ट्रेंडिंग वीडियो · जापान", "5 मिनट पहले"],
  ["ja", "新着の急上昇動画 1本 · 日本", "新着の急上昇動画 1,200本 · 日本", "5 分前"],
  ["ko", "새 인기 급상승 동영상 1개 · 일본", "새 인기 급상승 동영상 1,200개 · 일본", "5분 전"],
]) {
  test(`there are sentences in ${lang}`, () => {
    const { headline, ago: time, label, close } = text([lang]);
    assert.deepEqual([headline(1, ["JP"]), headline(1200, ["JP"]), time(5 * 60_000)], [one, many, ago]);
    assert.ok(many.includes(label) && !label.includes("#"), label);
    assert.ok(close.length > 1);
  });
}

test("what is not a minute old is of now, and what is old is told in hours", () => {
  assert.deepEqual([0, 59_999, 60_000, 3_599_999, 3_600_000, 90_000_000].map(english.ago), [
    "now",
    "now",
    "1 minute ago",
    "59 minutes ago",
    "1 hour ago",
    "25 hours ago",
  ]);
});

test("three regions are named, the others counted, none is left out", () => {
  assert.equal(english.headline(9, ["US", "JP", "FR"]), "9 new trending videos · United States, Japan, France");
  assert.equal(
    english.headline(9, ["US", "JP", "FR", "DE"]),
    "9 new trending videos · United States, Japan, France +1",
  );
  assert.equal(english.headline(9, ["unknown"]), "9 new trending videos");
});

test("a region that is no country's code is named as it came", () => {
  for (const region of ["south-east_2", "constructor", "<b>", "{count}", "$&"]) {
    assert.equal(english.headline(2, [region]), `2 new trending videos · ${region}`);
  }
});

test("the first language that there are sentences in is taken, else English", () => {
  for (const [wanted, lang] of [
    [["xx", "en-GB", "en"], "en-GB"],
    [[], "en"],
    [["", "not a language", "toString", "*", undefined], "en"],
  ]) {
    assert.equal(text(wanted).lang, lang);
  }
});

test("a site may change what is said, and add languages", () => {
  catalogues.sv = { other: "# nya videor", close: "Stäng" };
  const swedish = text(["sv-SE"]);
  delete catalogues.sv;
  assert.deepEqual(
    [swedish.headline(1, ["JP"]), swedish.label, swedish.close],
    ["1 nya videor · Japan", "nya videor", "Stäng"],
  );
});
