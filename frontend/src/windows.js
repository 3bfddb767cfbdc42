// Display windows: which values become black and white. Pure functions, so that they can be tested without a browser.

// Centre and width in Hounsfield units, as radiologists set them.
const IN_HOUNSFIELD = {
  lung: { centre: -600, width: 1500 },
  mediastinum: { centre: 40, width: 400 },
  bone: { centre: 400, width: 1800 },
};

// Where the file does not say what its greys mean, a preset can only spread the dark, the middle or the bright ones.
const IN_GREYS = {
  lung: { centre: 64, width: 128 },
  mediastinum: { centre: 136, width: 112 },
  bone: { centre: 208, width: 96 },
};

const BRIGHTEST_GREY = 255;

/** The presets' names, in the order of their number keys. */
export const PRESETS = ["lung", "mediastinum", "bone"];

/**
 * The window of a preset ("full" spreads everything that the file holds).
 * @param {string} preset one of PRESETS, or "full"
 * @param {{slope: number, intercept: number} | null} hounsfield how greys 0..255 become HU; null where unknown
 * @returns {{centre: number, width: number}} in HU where they are known, else in grey values
 */
export function windowOf(preset, hounsfield) {
  if (preset in IN_GREYS) {
    return (hounsfield ? IN_HOUNSFIELD : IN_GREYS)[preset];
  }
  const { slope, intercept } = hounsfield ?? { slope: 1, intercept: 0 };
  return { centre: intercept + (slope * BRIGHTEST_GREY) / 2, width: slope * BRIGHTEST_GREY };
}

/** Lowest and highest value of a window. */
export function rangeOf({ centre, width }) {
  return { lower: centre - width / 2, upper: centre + width / 2 };
}

/** Centre and width of a range. */
export function windowOfRange({ lower, upper }) {
  return { centre: (lower + upper) / 2, width: upper - lower };
}
