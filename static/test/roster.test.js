import assert from "node:assert/strict";
import test from "node:test";
import { covers, Roster } from "../src/roster.js";

const member = (regions, attention = 0) => ({ regions, attention });

test("the regions are those of all, and all where one asks for all", () => {
  const roster = new Roster();
  assert.deepEqual(roster.regions, []);
  roster.set("a", member(["US", "GB"])).set("b", member(["GB", "JP"]));
  assert.deepEqual(roster.regions, ["US", "GB", "JP"]);
  roster.set("c", member([]));
  assert.deepEqual(roster.regions, []);
  roster.delete("c");
  roster.set("many", member(Array.from({ length: 62 }, (_, index) => `r${index}`)));
  assert.deepEqual(roster.regions, [], "65 are more than the server takes");
});

test("the one that is seen most shows it, of equals the last one, of those that ask for it", () => {
  const roster = new Roster();
  roster.set("hidden", member([], 0));
  assert.equal(roster.viewer("US"), "");
  roster
    .set("first", member([], 1))
    .set("second", member([], 1))
    .set("Japan", member(["JP"], 2));
  assert.deepEqual([roster.viewer("US"), roster.viewer("JP")], ["second", "Japan"]);
  roster.set("focused", member([], 2)).set("third", member([], 1));
  assert.deepEqual([roster.viewer("US"), roster.viewer("JP")], ["focused", "focused"]);
});

test("who asks for all hears of all, and of nothing less", () => {
  assert.ok(covers([], []) && covers([], ["US"]) && covers(["US", "JP"], ["JP"]));
  assert.ok(!covers(["US"], []) && !covers(["US"], ["JP"]) && !covers(["US"], ["US", "JP"]));
});
