// Outlines as masks: one byte a pixel, 0 or 1, row by row. Pure functions, so that they can be tested without a browser.

/**
 * Paint (or erase) along a straight stroke with a round brush.
 * @param {Uint8Array} mask changed in place
 * @param {{width: number, height: number}} size of the mask, in pixels
 * @param {[number, number]} from start of the stroke, in pixels; pixel i covers i..i+1
 * @param {[number, number]} to end of the stroke
 * @param {number} radius of the brush, in pixels
 * @param {0 | 1} value what is written
 */
export function stroke(mask, { width, height }, from, to, radius, value) {
  const left = Math.max(0, Math.floor(Math.min(from[0], to[0]) - radius));
  const right = Math.min(width - 1, Math.ceil(Math.max(from[0], to[0]) + radius));
  const top = Math.max(0, Math.floor(Math.min(from[1], to[1]) - radius));
  const bottom = Math.min(height - 1, Math.ceil(Math.max(from[1], to[1]) + radius));
  const along = [to[0] - from[0], to[1] - from[1]];
  const squared = along[0] ** 2 + along[1] ** 2;
  for (let y = top; y <= bottom; y += 1) {
    for (let x = left; x <= right; x += 1) {
      const at = [x + 0.5 - from[0], y + 0.5 - from[1]];
      const share = squared ? Math.min(1, Math.max(0, (at[0] * along[0] + at[1] * along[1]) / squared)) : 0;
      const away = (at[0] - share * along[0]) ** 2 + (at[1] - share * along[1]) ** 2;
      if (away <= radius ** 2) {
        mask[y * width + x] = value;
      }
    }
  }
}

/** How many pixels are inside. */
export function areaOf(mask) {
  let area = 0;
  for (const value of mask) {
    area += value;
  }
  return area;
}

/**
 * The lines between inside and outside, joined to long straight ones.
 * @returns {number[]} x1, y1, x2, y2 of each line, in pixel corners
 */
export function edgesOf(mask, { width, height }) {
  const lines = [];
  const at = (x, y) => (x >= 0 && y >= 0 && x < width && y < height ? mask[y * width + x] : 0);
  for (let y = 0; y <= height; y += 1) {
    for (let x = 0, start = -1; x <= width; x += 1) {
      const isEdge = x < width && at(x, y) !== at(x, y - 1);
      if (isEdge && start < 0) {
        start = x;
      } else if (!isEdge && start >= 0) {
        lines.push(start, y, x, y);
        start = -1;
      }
    }
  }
  for (let x = 0; x <= width; x += 1) {
    for (let y = 0, start = -1; y <= height; y += 1) {
      const isEdge = y < height && at(x, y) !== at(x - 1, y);
      if (isEdge && start < 0) {
        start = y;
      } else if (!isEdge && start >= 0) {
        lines.push(x, start, x, y);
        start = -1;
      }
    }
  }
  return lines;
}

/** The corner where a label goes: the right end of the highest row inside, or null for an empty mask. */
export function labelCornerOf(mask, { width }) {
  const first = mask.indexOf(1);
  if (first < 0) {
    return null;
  }
  const y = Math.floor(first / width);
  return [mask.lastIndexOf(1, (y + 1) * width - 1) - y * width + 1, y];
}
