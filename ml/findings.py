"""From a tumour probability for every pixel to findings: threshold, connected pieces, size, axes."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ml.preprocessing import SLICE_SIDE_PX, body_box
from ml.runtime import Cut, Thresholds, is_crop

# More separate tumours than this on one slice is no reading but noise; the largest are kept.
MAXIMUM_FINDINGS: Final = 20
_EIGHT_NEIGHBOURS: Final = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Axes:
    """Longest in-plane diameter and the longest one perpendicular to it, as a radiologist measures a lesion."""

    long: float
    short: float


@dataclass(frozen=True)
class Region:
    """One connected piece of the outline.

    ``box`` is x, y, width, height in pixels of the slice; ``shape`` bool (height, width) is the piece inside its box.
    """

    box: tuple[int, int, int, int]
    area_px: int
    mean_probability: float
    shape: NDArray[np.bool_]

    def mask(self, *, height: int, width: int) -> NDArray[np.bool_]:
        """The piece alone over a whole slice, bool (height, width)."""
        x, y, box_width, box_height = self.box
        mask = np.zeros((height, width), bool)
        mask[y : y + box_height, x : x + box_width] = self.shape
        return mask

    def axes(self, *, pixel_spacing_mm: tuple[float, float] = (1.0, 1.0)) -> Axes:
        """Axes in millimetres for this spacing (row, column); in pixels without it."""
        return measure_axes(self.shape, pixel_spacing_mm=pixel_spacing_mm)


def findings_cut(pixels: NDArray[np.uint8], *, thresholds: Thresholds) -> Cut:
    """What makes a finding on this picture.

    The smallest area of a slice is meant for a body 256 pixels long, and grows with the square of the body in this
    picture. A crop from inside the chest has no body to go by: there the number is taken as it stands.
    """
    cut = thresholds.cut(is_crop=is_crop(pixels))
    return cut if is_crop(pixels) else scaled_cut(cut, body_side_px=body_side(pixels))


def body_side(pixels: NDArray[np.uint8]) -> int:
    """The longer side of the body's box in a slice, in pixels."""
    box = body_box(pixels)
    return max(box.width, box.height)


def scaled_cut(cut: Cut, *, body_side_px: float) -> Cut:
    """The same cut for a slice whose body is so long."""
    return replace(cut, minimum_area_px=max(1, round(cut.minimum_area_px * (body_side_px / SLICE_SIDE_PX) ** 2)))


def find_regions(probability: NDArray[np.float32], *, cut: Cut) -> tuple[Region, ...]:
    """The connected pieces (8-neighbourhood) that ``cut`` lets pass, largest first.

    ``probability`` float32 (H,W) in 0..1. All after the twenty largest are dropped.
    """
    labels, count = ndimage.label(probability >= cut.outline, structure=_EIGHT_NEIGHBOURS)
    if not count:
        return ()
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    is_kept = areas >= max(1, cut.minimum_area_px)
    is_kept[1:] &= ndimage.maximum(probability, labels, np.arange(1, count + 1)) >= cut.peak
    kept = [int(label) for label in np.argsort(-areas, kind="stable") if is_kept[label]][:MAXIMUM_FINDINGS]
    boxes = ndimage.find_objects(labels)
    regions = []
    for label in kept:
        rows, columns = boxes[label - 1]
        shape = labels[rows, columns] == label
        regions.append(
            Region(
                box=(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start),
                area_px=int(areas[label]),
                mean_probability=float(probability[rows, columns][shape].mean()),
                shape=shape,
            )
        )
    return tuple(regions)


def union_mask(regions: tuple[Region, ...], *, height: int, width: int) -> NDArray[np.uint8]:
    """All regions together as uint8 (H,W), 0 or 255."""
    mask = np.zeros((height, width), np.uint8)
    for region in regions:
        x, y, box_width, box_height = region.box
        mask[y : y + box_height, x : x + box_width][region.shape] = 255
    return mask


def measure_axes(mask: NDArray[np.bool_], *, pixel_spacing_mm: tuple[float, float] = (1.0, 1.0)) -> Axes:
    """Long and short axis of a region (H,W), measured over the convex hull of its pixels' corners.

    The long axis is the longest distance between two points of the hull, the short one the longest chord
    perpendicular to it (the bidimensional measure of the WHO handbook, 1979). Spacing is (row, column).
    """
    hull = _convex_hull(_outer_corners(mask)) * np.array([pixel_spacing_mm[1], pixel_spacing_mm[0]])
    difference = hull[:, None] - hull[None]
    squared = np.einsum("ijk,ijk->ij", difference, difference)
    first, second = np.unravel_index(int(np.argmax(squared)), squared.shape)
    long = float(np.sqrt(squared[first, second]))
    along = (hull[second] - hull[first]) / long
    # In the long axis' own frame the hull lies between an upper and a lower chain; both are straight between corners,
    # so the widest place is at one of them.
    turned = (hull - hull[first]) @ np.array([[along[0], -along[1]], [along[1], along[0]]])
    upper = _chain(turned[turned[:, 1] >= -1e-9])
    lower = _chain(turned[turned[:, 1] <= 1e-9])
    places = turned[:, 0]
    widths = np.interp(places, upper[:, 0], upper[:, 1]) - np.interp(places, lower[:, 0], lower[:, 1])
    return Axes(long=long, short=float(widths.max()))


def _chain(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points[np.argsort(points[:, 0], kind="stable")]


def _outer_corners(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Corners (x, y) of the first and last pixel of every row: the hull needs no others."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        raise ValueError(f"An empty region has no axes. Received: shape={mask.shape}")
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    return np.concatenate([np.stack([x, y], axis=1) for x in (first, last) for y in (rows, rows + 1)]).astype(float)


def _convex_hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners of the convex hull, in order (monotone chain, Andrew 1979)."""
    ordered = sorted(set(map(tuple, points.tolist())))

    def half(sequence: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
        chain: list[tuple[float, ...]] = []
        for x, y in sequence:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2], chain[-1]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                chain.pop()
            chain.append((x, y))
        return chain[:-1]

    return np.array(half(ordered) + half(ordered[::-1]))
