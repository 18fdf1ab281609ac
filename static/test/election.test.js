import assert from "node:assert/strict";
import test from "node:test";
import { election } from "../src/election.js";

test("a lock that comes after the news that it was taken away makes no leader", async () => {
  const requests = [];
  const locks = {
    request: (name, _, callback) => new Promise((_, reject) => requests.push({ name, callback, reject })),
  };
  let elections = 0;
  const ignore = () => {};
  election(locks, "lock", "tab", ignore, () => elections++, ignore);
  const standing = () => requests.filter(({ name }) => name === "lock");
  standing()[0].reject(new DOMException("stolen", "AbortError"));
  await new Promise(setImmediate);
  assert.equal(standing().length, 2, "it stands again");
  standing()[0].callback();
  assert.equal(elections, 0);
  standing()[1].callback();
  assert.equal(elections, 1);
});
