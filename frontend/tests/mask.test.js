import assert from "node:assert/strict";
import { test } from "node:test";
import { areaOf, edgesOf, labelCornerOf, stroke } from "../src/mask.js";

const SIZE = { width: 20, height: 10 };
const blank = () => new Uint8Array(SIZE.width * SIZE.height);

test("a dab of the brush is a disc around the place", () => {
  const mask = blank();
  stroke(mask, SIZE, [10, 5], [10, 5], 3, 1);
  assert.equal(mask[5 * 20 + 10], 1);
  assert.equal(mask[5 * 20 + 12], 1);
  assert.equal(mask[5 * 20 + 13], 0);
  assert.ok(Math.abs(areaOf(mask) - Math.PI * 9) < 5);
});

test("a quick stroke leaves no gaps", () => {
  const mask = blank();
  stroke(mask, SIZE, [2, 5], [18, 5], 1, 1);
  for (let x = 2; x < 18; x += 1) {
    assert.equal(mask[5 * 20 + x], 1, `x=${x}`);
  }
});

test("the brush paints at the border and not beyond it", () => {
  const mask = blank();
  stroke(mask, SIZE, [-4, -4], [0.5, 0.5], 2, 1);
  stroke(mask, SIZE, [19.5, 9.5], [40, 40], 2, 1);
  assert.equal(mask[0], 1);
  assert.equal(mask.at(-1), 1);
  assert.equal(mask[19], 0, "the right end of the first row is not reached from the left");
  assert.equal(mask.length, 200);
});

test("the eraser takes away what the brush painted", () => {
  const mask = blank().fill(1);
  stroke(mask, SIZE, [10, 5], [10, 5], 2, 0);
  assert.equal(mask[5 * 20 + 10], 0);
  assert.ok(areaOf(mask) > 180);
});

test("the smallest brush paints one pixel", () => {
  const mask = blank();
  stroke(mask, SIZE, [4.5, 4.5], [4.5, 4.5], 0.5, 1);
  assert.equal(areaOf(mask), 1);
  assert.equal(mask[4 * 20 + 4], 1);
});

test("edges surround the inside once, also at the border of the picture", () => {
  const mask = blank();
  mask[0] = 1;
  mask[1] = 1;
  const edges = edgesOf(mask, SIZE);
  let length = 0;
  for (let at = 0; at < edges.length; at += 4) {
    length += Math.abs(edges[at + 2] - edges[at]) + Math.abs(edges[at + 3] - edges[at + 1]);
  }
  assert.equal(length, 6);
  assert.equal(edges.length / 4, 4, "straight edges are one line each");
});

test("a hole has an edge of its own and an empty mask has none", () => {
  const mask = blank();
  for (const at of [21, 22, 23, 41, 43, 61, 62, 63]) {
    mask[at] = 1;
  }
  let length = 0;
  const edges = edgesOf(mask, SIZE);
  for (let at = 0; at < edges.length; at += 4) {
    length += Math.abs(edges[at + 2] - edges[at]) + Math.abs(edges[at + 3] - edges[at + 1]);
  }
  assert.equal(length, 12 + 4);
  assert.deepEqual(edgesOf(blank(), SIZE), []);
});

test("the label stands at the right end of the highest row", () => {
  const mask = blank();
  mask[3 * 20 + 4] = 1;
  mask[3 * 20 + 7] = 1;
  mask[4 * 20 + 19] = 1;
  assert.deepEqual(labelCornerOf(mask, SIZE), [8, 3]);
  assert.equal(labelCornerOf(blank(), SIZE), null);
});
