import assert from "node:assert/strict";
import { test } from "node:test";
import { PRESETS, rangeOf, windowOf, windowOfRange } from "../src/windows.js";

const HOUNSFIELD = { slope: 1900 / 255, intercept: -1050 };

test("where Hounsfield units are known the presets are the radiologists' windows", () => {
  assert.deepEqual(windowOf("lung", HOUNSFIELD), { centre: -600, width: 1500 });
  assert.deepEqual(windowOf("mediastinum", HOUNSFIELD), { centre: 40, width: 400 });
  assert.deepEqual(windowOf("bone", HOUNSFIELD), { centre: 400, width: 1800 });
});

test("where they are unknown the presets stay within the greys, dark to bright", () => {
  const ranges = PRESETS.map((name) => rangeOf(windowOf(name, null)));
  for (const { lower, upper } of ranges) {
    assert.ok(lower >= 0 && upper <= 256 && upper > lower);
  }
  assert.deepEqual(ranges.map(({ lower }) => lower).toSorted((a, b) => a - b), ranges.map(({ lower }) => lower));
});

test("the full range is everything that the file holds", () => {
  assert.deepEqual(rangeOf(windowOf("full", null)), { lower: 0, upper: 255 });
  const { lower, upper } = rangeOf(windowOf("full", HOUNSFIELD));
  assert.equal(Math.round(lower), -1050);
  assert.equal(Math.round(upper), 850);
});

test("a range and its window say the same", () => {
  assert.deepEqual(windowOfRange(rangeOf({ centre: 40, width: 400 })), { centre: 40, width: 400 });
});
