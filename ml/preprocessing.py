"""What happens to grey values and sizes before a network sees them: one copy, used by training and by serving.

Only NumPy, Pillow and SciPy, so that serving starts without the training stack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

# Networks see (grey / 255 - centre) / spread, repeated over three channels as VGG16 has.
INPUT_CENTRE = 0.4
INPUT_SPREAD = 0.25
CLASSIFIER_SIDE_PX = 224
SLICE_SIDE_PX = 256
STRIDE_PX = 16
# Grey values below and above these percentiles are clipped: one bright marker must not darken a whole slice.
LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5
BODY_SEARCH_SIDE_PX = 128
# A body smaller than this share of the picture is taken for a failed search: the whole picture is used.
MINIMUM_BODY_SHARE = 0.08
# Pieces of the body smaller than this share of all of it are taken for table, cable or letters.
MINIMUM_PIECE_SHARE = 0.04
BODY_MARGIN_SHARE = 0.01


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: left and top inside, right and bottom outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """Return the part of `pixels` (H, W, …) inside the box, as a view."""
        return pixels[self.top : self.bottom, self.left : self.right]


def check_grey(pixels: np.ndarray) -> None:
    """Raise ValueError unless `pixels` is a non-empty uint8 (H, W) array."""
    if pixels.ndim != 2 or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(f"Expected uint8 pixels of shape (H, W). Received: shape={pixels.shape} dtype={pixels.dtype}")


def stretch(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 (H, W) with the low and high percentiles of its grey values moved to 0 and 255.

    A picture of one single grey value comes back black.
    """
    check_grey(pixels)
    low, high = np.percentile(pixels, (LOW_PERCENTILE, HIGH_PERCENTILE))
    if high <= low:
        low, high = float(pixels.min()), float(pixels.max())
    if high <= low:
        return np.zeros_like(pixels)
    table = np.clip((np.arange(256) - low) * (255.0 / (high - low)), 0, 255)
    return np.rint(table).astype(np.uint8)[pixels]


def resize(pixels: np.ndarray, *, width: int, height: int) -> np.ndarray:
    """Return uint8 or float32 `pixels` (H, W) resampled to (height, width), antialiased when it shrinks."""
    if pixels.shape == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def body_box(pixels: np.ndarray) -> Box:
    """Return the box of the patient's body in a slice uint8 (H, W), without air, table, frames and margins.

    The body is what is brighter than the air around it and is left after thin things (table, cables, arrows, frames)
    are eroded away: every piece of some size, for a narrow window can cut the chest wall from the mediastinum. Where
    nothing like a body is found (a black picture), the box is the whole picture.
    """
    check_grey(pixels)
    height, width = pixels.shape
    whole = Box(left=0, top=0, right=width, bottom=height)
    factor = BODY_SEARCH_SIDE_PX / max(height, width)
    small = resize(pixels, width=max(8, round(width * factor)), height=max(8, round(height * factor)))
    bright = small > _otsu_threshold(small) * 0.6
    # A frame or a page of margin touching the border would otherwise join the body.
    core = ndimage.binary_erosion(bright, iterations=2, border_value=1)
    labels, count = ndimage.label(core)
    if not count:
        return whole
    sizes = ndimage.sum_labels(core, labels, np.arange(1, count + 1))
    large = np.isin(labels, np.flatnonzero(sizes >= MINIMUM_PIECE_SHARE * sizes.sum()) + 1)
    body = ndimage.binary_dilation(large, iterations=2) & bright
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    if not rows.size or not columns.size:
        return whole
    margin = BODY_MARGIN_SHARE * max(small.shape)
    scale_x, scale_y = width / small.shape[1], height / small.shape[0]
    box = Box(
        left=max(0, int((columns[0] - margin) * scale_x)),
        top=max(0, int((rows[0] - margin) * scale_y)),
        right=min(width, int(np.ceil((columns[-1] + 1 + margin) * scale_x))),
        bottom=min(height, int(np.ceil((rows[-1] + 1 + margin) * scale_y))),
    )
    return box if box.width * box.height >= MINIMUM_BODY_SHARE * width * height else whole


def _otsu_threshold(pixels: np.ndarray) -> float:
    """Return the grey value that best parts dark from bright (Otsu 1979)."""
    counts = np.bincount(pixels.ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(counts)
    above = below[-1] - below
    mass = np.cumsum(counts * np.arange(256))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mass / below - (mass[-1] - mass) / above) ** 2
    return float(np.argmax(np.nan_to_num(between)))


def to_input(pixels: np.ndarray) -> np.ndarray:
    """Return float32 (H, W, 3) network input from uint8 (H, W)."""
    scaled = (pixels.astype(np.float32) * (1.0 / 255.0) - INPUT_CENTRE) * (1.0 / INPUT_SPREAD)
    return np.repeat(scaled[:, :, np.newaxis], 3, axis=2)


def classifier_slice(pixels: np.ndarray, *, side: int = CLASSIFIER_SIDE_PX) -> tuple[np.ndarray, Box]:
    """Return uint8 (side, side), the body alone with stretched grey values, and the body's box in `pixels`.

    Size, frame, margin, table and window of the picture are gone, so a class cannot be read from them.
    """
    box = body_box(pixels)
    return stretch(resize(np.ascontiguousarray(box.cut(pixels)), width=side, height=side)), box


def outline_slice(pixels: np.ndarray, *, side: int = SLICE_SIDE_PX) -> tuple[np.ndarray, Box]:
    """Return the body with its longest side at `side` pixels (uint8, stretched), and its box in `pixels`."""
    box = body_box(pixels)
    factor = side / max(box.width, box.height)
    width, height = max(8, round(box.width * factor)), max(8, round(box.height * factor))
    return stretch(resize(np.ascontiguousarray(box.cut(pixels)), width=width, height=height)), box


def pad_to_stride(pixels: np.ndarray, *, stride: int = STRIDE_PX) -> np.ndarray:
    """Return `pixels` (H, W) with black added at the right and bottom until both sides are multiples of `stride`."""
    height, width = pixels.shape
    return np.pad(pixels, ((0, -height % stride), (0, -width % stride)))
