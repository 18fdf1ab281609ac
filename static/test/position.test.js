import assert from "node:assert/strict";
import test from "node:test";
import { compare, isPosition, positions } from "../src/position.js";

/** A slot that several tabs share. */
function slot(value = null) {
  return {
    get: () => value,
    set: (next) => {
      value = JSON.parse(JSON.stringify(next));
    },
  };
}

const isNew = (of, id, region = "US") => of.isNew({ id, region });

test("nothing is known at first", () => {
  assert.equal(positions(slot(), []).since(), null);
  assert.equal(positions(slot(), ["US"]).since(), null);
  assert.equal(isNew(positions(slot(), ["US"]), "a-0"), true);
});

test("a position is text of that form, and nothing that looks like it", () => {
  assert.ok(isPosition("a-0"));
  for (const other of [null, undefined, 7, "a", "a-", "a-01", "A-1", ["a-0"], { toString: () => "a-0" }])
    assert.ok(!isPosition(other));
});

test("positions of one epoch have an order, beyond 2^53 too; others have none", () => {
  assert.ok(compare("a-9", "a-10") < 0);
  assert.ok(compare("a-10", "a-9") > 0);
  assert.equal(compare("a-10", "a-10"), 0);
  assert.ok(compare("a-9007199254740992", "a-9007199254740993") < 0);
  for (const other of ["b-10", null, "10"])
    assert.deepEqual([compare("a-9", other), compare(other, "a-9")], [Number.NaN, Number.NaN]);
});

test("the latest position is where to go on, and it outlives the page", () => {
  const kept = slot();
  const mine = positions(kept, ["US"]);
  mine.advance("a-9");
  mine.advance("a-10");
  mine.advance("a-3");
  assert.equal(mine.since(), "a-10");
  assert.equal(positions(kept, ["US"]).since(), "a-10");
});

test("each region has its own position, and the oldest of those asked for counts", () => {
  const kept = slot();
  positions(kept, ["US"]).advance("a-10");
  positions(kept, ["JP", "GB"]).advance("a-50");
  assert.equal(positions(kept, ["US"]).since(), "a-10");
  assert.equal(positions(kept, ["GB"]).since(), "a-50");
  assert.equal(positions(kept, ["GB", "US"]).since(), "a-10");
  assert.equal(positions(kept, ["GB", "FR"]).since(), "a-50");
  assert.equal(positions(kept, ["FR"]).since(), null);
  assert.equal(positions(kept, []).since(), "a-10");
  assert.equal(positions(kept, []).since(["GB"]), "a-50");
});

test("who has heard of all regions has heard of each", () => {
  const kept = slot();
  positions(kept, ["US"]).advance("a-10");
  positions(kept, []).advance("a-20");
  positions(kept, ["JP"]).advance("a-30");
  assert.equal(positions(kept, ["US"]).since(), "a-20");
  assert.equal(positions(kept, ["JP"]).since(), "a-30");
  assert.equal(positions(kept, []).since(), "a-20");
});

test("an older since never moves a region back, and brings nothing twice", () => {
  const mine = positions(slot(), ["US"]);
  mine.advance("a-10");
  mine.ask(["US", "JP"]);
  mine.advance("a-5");
  assert.deepEqual([isNew(mine, "a-6", "US"), isNew(mine, "a-6", "JP")], [false, true]);
  mine.advance("a-6");
  mine.ask([]);
  mine.advance("a-7");
  assert.deepEqual(
    [isNew(mine, "a-8", "US"), isNew(mine, "a-8", "JP"), isNew(mine, "a-11", "US")],
    [false, true, true],
  );
  mine.ask(["US"]);
  assert.equal(mine.since(), "a-10");
});

test("nothing is new twice, over reloads too", () => {
  const kept = slot();
  const mine = positions(kept, []);
  for (let offset = 1; offset <= 300; offset++) {
    assert.ok(isNew(mine, `a-${offset}`));
    mine.advance(`a-${offset}`);
    assert.ok(!isNew(mine, `a-${offset}`));
  }
  assert.equal(isNew(positions(kept, []), "a-300"), false);
  assert.equal(isNew(positions(kept, []), "a-1"), false);
  assert.equal(isNew(positions(kept, []), "a-301"), true);
});

test("another tab does not make new things old for this one, but for the next page", () => {
  const kept = slot();
  const [one, two] = [positions(kept, []), positions(kept, [])];
  one.advance("a-2");
  assert.ok(isNew(two, "a-1"));
  two.advance("a-1");
  const next = positions(kept, []);
  assert.deepEqual([isNew(next, "a-2"), next.since()], [false, "a-2"]);
});

test("another epoch starts over", () => {
  const mine = positions(slot(), ["US"]);
  mine.advance("a-10");
  assert.ok(isNew(mine, "b-3"));
  mine.restart("b-3");
  assert.equal(mine.since(), "b-3");
  assert.ok(isNew(mine, "b-10"));
});

test("a history that went back takes what was seen with it", () => {
  const kept = slot();
  const mine = positions(kept, []);
  mine.advance("a-10");
  mine.restart("a-4");
  assert.equal(mine.since(), "a-4");
  assert.ok(isNew(mine, "a-10"));
  assert.equal(positions(kept, []).since(), "a-4");
});

test("a position beyond the retention moves on, and what was seen stays seen", () => {
  const mine = positions(slot(), []);
  mine.advance("a-10");
  mine.restart("a-400");
  assert.equal(mine.since(), "a-400");
  assert.equal(isNew(mine, "a-10"), false);
});

test("what nobody here has stored is ignored", () => {
  assert.equal(positions(slot({ US: "a-1" }), ["US"]).since(), "a-1");
  for (const bad of [
    7,
    "x",
    [],
    {},
    { US: "<b>-1" },
    { US: 1.5 },
    { US: null },
    { epoch: "a", offsets: { US: "1" } },
  ]) {
    assert.equal(positions(slot(bad), ["US"]).since(), null, JSON.stringify(bad));
  }
  assert.equal(positions(slot({ US: "a-1", JP: "b-7", GB: 3 }), []).since(), "a-1");
});

test("a region may have any name", () => {
  const kept = slot();
  positions(kept, ["__proto__", "constructor"]).advance("a-1");
  assert.equal(positions(kept, ["__proto__"]).since(), "a-1");
  assert.equal(positions(kept, ["toString"]).since(), null);
});
