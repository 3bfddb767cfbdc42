// Slices and what lies over them: fetched when needed, decoded by the browser, kept within a limit.
import { cache, Enums, imageLoader, imageLoadPoolManager, metaData, utilities } from "@cornerstonejs/core";

const SCHEME = "slice";
const CACHE_BYTES = 64 * 1024 * 1024; // about 250 slices of 512 x 512: the oldest go first
const PREFETCH = 4; // slices ahead in the direction of reading, half as many behind
const AT_ONCE = 2;
const LAYERS_KEPT = 24;

const slices = new Map();

/** A picture that cannot be had, with a sentence for the reader. */
export class PictureError extends Error {}

/** Make the study's slices known to Cornerstone; call it once. */
export function registerSlices(found) {
  cache.setMaxCacheSize(CACHE_BYTES);
  imageLoadPoolManager.setMaxSimultaneousRequests(Enums.RequestType.Prefetch, AT_ONCE);
  imageLoader.registerImageLoader(SCHEME, (imageId) => ({ promise: loadSlice(imageId) }));
  metaData.addProvider(describe, 1000);
  for (const slice of found) {
    slices.set(imageIdOf(slice), slice);
  }
}

/** Cornerstone's name of a slice. */
export function imageIdOf(slice) {
  return `${SCHEME}:${slice.id}`;
}

/** Fetch what the reader is likely to want next, nearest first; what was wanted before is given up. */
export function prefetchAround(imageIds, index, direction) {
  imageLoadPoolManager.clearRequestStack(Enums.RequestType.Prefetch);
  const ahead = direction < 0 ? -1 : 1;
  const wanted = [];
  for (let step = 1; step <= PREFETCH; step += 1) {
    wanted.push(index + ahead * step);
    if (step <= PREFETCH / 2) {
      wanted.push(index - ahead * step);
    }
  }
  for (const next of wanted) {
    const imageId = imageIds[next];
    if (imageId && !cache.getImageLoadObject(imageId)) {
      // A neighbour that cannot be fetched is told about when it is opened, not before.
      const load = () => imageLoader.loadAndCacheImage(imageId).catch(() => cache.removeImageLoadObject(imageId));
      imageLoadPoolManager.addRequest(load, Enums.RequestType.Prefetch, { imageId }, 0);
    }
  }
}

async function loadSlice(imageId) {
  const slice = slices.get(imageId);
  const pixels = greysOf(await pixelsOf(slice.picture_url, slice));
  const { minimum, maximum } = extremesOf(pixels);
  const { slope, intercept } = slice.hounsfield ?? { slope: 1, intercept: 0 };
  const { row, column } = spacingOf(slice);
  return {
    imageId,
    dataType: "Uint8Array",
    minPixelValue: minimum,
    maxPixelValue: maximum,
    slope,
    intercept,
    windowCenter: intercept + (slope * 255) / 2,
    windowWidth: slope * 255,
    voiLUTFunction: Enums.VOILUTFunctionType.LINEAR_EXACT,
    rows: slice.height,
    columns: slice.width,
    height: slice.height,
    width: slice.width,
    color: false,
    rgba: false,
    numberOfComponents: 1,
    columnPixelSpacing: column,
    rowPixelSpacing: row,
    invert: false,
    sizeInBytes: pixels.byteLength,
    getPixelData: () => pixels,
    voxelManager: utilities.VoxelManager.createImageVoxelManager({
      width: slice.width,
      height: slice.height,
      numberOfComponents: 1,
      scalarData: pixels,
    }),
  };
}

function spacingOf(slice) {
  return { row: slice.row_spacing_mm ?? 1, column: slice.column_spacing_mm ?? 1 };
}

function describe(type, imageId) {
  const slice = slices.get(imageId);
  if (!slice) {
    return undefined;
  }
  const { row, column } = spacingOf(slice);
  switch (type) {
    case "imagePlaneModule":
      return {
        frameOfReferenceUID: "slices",
        rows: slice.height,
        columns: slice.width,
        imageOrientationPatient: [1, 0, 0, 0, 1, 0],
        rowCosines: [1, 0, 0],
        columnCosines: [0, 1, 0],
        imagePositionPatient: [0, 0, slice.number],
        pixelSpacing: [row, column],
        rowPixelSpacing: row,
        columnPixelSpacing: column,
        // Unknown spacing: Cornerstone then measures in pixels and says so.
        usingDefaultValues: slice.row_spacing_mm === null,
      };
    case "imagePixelModule":
      return {
        bitsAllocated: 8,
        bitsStored: 8,
        highBit: 7,
        samplesPerPixel: 1,
        pixelRepresentation: 0,
        photometricInterpretation: "MONOCHROME2",
      };
    case "generalSeriesModule":
      return { modality: "CT" };
    default:
      return undefined;
  }
}

/** Fetch a picture and return its pixels, RGBA; it must have the size of the slice. */
async function pixelsOf(address, { width, height }) {
  const bitmap = (await shownAlready(address)) ?? (await fetched(address));
  if ((bitmap.naturalWidth ?? bitmap.width) !== width || (bitmap.naturalHeight ?? bitmap.height) !== height) {
    throw new PictureError(`A picture has not the size of its slice. Received: ${address}`);
  }
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close?.();
  return context.getImageData(0, 0, width, height).data;
}

/** The slice that the page showed before its scripts ran needs no second request. */
async function shownAlready(address) {
  const shown = document.querySelector(`img[data-slice][src="${CSS.escape(address)}"]`);
  if (!shown) {
    return null;
  }
  try {
    await shown.decode();
    return shown;
  } catch {
    return null;
  }
}

async function fetched(address) {
  const response = await fetch(address, { credentials: "same-origin" });
  if (!response.ok || response.redirected) {
    throw new PictureError(`${response.status} for ${address}`);
  }
  return createImageBitmap(await response.blob(), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

function greysOf(rgba) {
  const greys = new Uint8Array(rgba.length / 4);
  for (let pixel = 0; pixel < greys.length; pixel += 1) {
    greys[pixel] = rgba[pixel * 4];
  }
  return greys;
}

function extremesOf(pixels) {
  let minimum = 255;
  let maximum = 0;
  for (const value of pixels) {
    minimum = Math.min(minimum, value);
    maximum = Math.max(maximum, value);
  }
  return { minimum, maximum };
}

const layers = new Map();

function keep(address, make) {
  const found = layers.get(address) ?? make();
  layers.delete(address);
  layers.set(address, found);
  for (const oldest of [...layers.keys()].slice(0, Math.max(0, layers.size - LAYERS_KEPT))) {
    layers.delete(oldest);
  }
  found.catch(() => layers.delete(address));
  return found;
}

/** A stored outline as a mask of 0 and 1. */
export function outlineFrom(address, slice) {
  return keep(address, async () => greysOf(await pixelsOf(address, slice)).map((value) => (value >= 128 ? 1 : 0)));
}

/**
 * Where the model looked, without the slice under it: a canvas that is see-through where the picture is grey, so that
 * the slice keeps the window that the reader has set.
 */
export function activationFrom(address, slice) {
  return keep(address, async () => {
    const rgba = await pixelsOf(address, slice);
    for (let at = 0; at < rgba.length; at += 4) {
      const spread = Math.max(rgba[at], rgba[at + 1], rgba[at + 2]) - Math.min(rgba[at], rgba[at + 1], rgba[at + 2]);
      rgba[at + 3] = Math.min(255, spread * 3);
    }
    const canvas = new OffscreenCanvas(slice.width, slice.height);
    canvas.getContext("2d").putImageData(new ImageData(rgba, slice.width, slice.height), 0, 0);
    return canvas;
  });
}

/** A mask as the PNG that the portal takes: black, and white inside. */
export async function pngOf(mask, { width, height }) {
  const picture = new ImageData(width, height);
  for (let pixel = 0; pixel < mask.length; pixel += 1) {
    picture.data.fill(mask[pixel] ? 255 : 0, pixel * 4, pixel * 4 + 3);
    picture.data[pixel * 4 + 3] = 255;
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}
