"""Random training patches for the outline network, from nodule crops, whole slices, negatives and phantoms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from ml.augment import Placement, cut, random_greys, random_marks
from ml.data import MASK_THRESHOLD, NoduleSlice, WholeSlice, read_grey
from ml.phantom import make_phantom
from ml.preprocessing import outline_slice, resize, stretch, to_input

# Malignancy rating 1-5 → target of the malignancy map and how much it counts. 3 is "indeterminate": a hint, no more.
RATING_TARGETS = {1: (0.02, 1.0), 2: (0.15, 1.0), 3: (0.45, 0.25), 4: (0.85, 1.0), 5: (0.98, 1.0)}

# So many different synthetic slices are made; drawing each anew would cost more than the training step.
SYNTHETIC_POOL = 200
# A crop from inside the chest goes on beyond its edge, so it is mirrored; around a whole body there is air.
INSIDE, AIR = cv2.BORDER_REFLECT_101, cv2.BORDER_CONSTANT


@dataclass(frozen=True)
class Patch:
    """One training example: uint8 (side, side) pixels, mask 0/255, malignancy target in [0, 1] and its weight."""

    pixels: np.ndarray
    mask: np.ndarray
    malignancy: float = 0.5
    malignancy_weight: float = 0.0


@dataclass(frozen=True)
class Example:
    """A picture held in memory with its mask (uint8 0/255 each) and malignancy rating."""

    pixels: np.ndarray
    mask: np.ndarray
    malignancy: int | None = None


def load_nodules(slices: Sequence[NoduleSlice]) -> dict[str, list[Example]]:
    """Read nodule crops into memory, grouped by nodule."""
    nodules: defaultdict[str, list[Example]] = defaultdict(list)
    for slice_ in slices:
        mask = np.where(read_grey(slice_.mask) >= MASK_THRESHOLD, np.uint8(255), np.uint8(0))
        nodules[slice_.nodule].append(
            Example(pixels=stretch(read_grey(slice_.image)), mask=mask, malignancy=slice_.malignancy)
        )
    return dict(nodules)


def load_slices(slices: Sequence[WholeSlice]) -> list[Example]:
    """Read whole slices as the outline network will be shown them: body alone, longest side 256 pixels."""
    return [whole_example(read_grey(slice_.image), mask=read_grey(slice_.mask)) for slice_ in slices]


def whole_example(pixels: np.ndarray, *, mask: np.ndarray | None = None) -> Example:
    """Return a slice at the scale of the outline network; no mask means that nothing in it is a tumour."""
    small, box = outline_slice(pixels)
    if mask is None:
        return Example(pixels=small, mask=np.zeros_like(small))
    height, width = small.shape
    cover = resize(np.ascontiguousarray(box.cut(mask)), width=width, height=height)
    return Example(pixels=small, mask=np.where(cover >= MASK_THRESHOLD, np.uint8(255), np.uint8(0)))


@lru_cache(maxsize=SYNTHETIC_POOL)
def synthetic_example(seed: int) -> Example:
    """Return a generated slice with its exact mask, as the outline network will be shown it."""
    phantom = make_phantom(seed)
    return whole_example(phantom.pixels, mask=phantom.mask)


class PatchMaker:
    """Makes the batch of a step; the same step, seed and data give the same batch.

    `shares` are of "nodules", "slices", "negatives" and "phantoms"; the share of a source without
    examples goes to the others.
    """

    def __init__(
        self,
        *,
        nodules: dict[str, list[Example]],
        slices: Sequence[Example],
        negatives: Sequence[Example],
        shares: dict[str, float],
        side: int,
        batch: int,
        seed: int,
    ) -> None:
        self.nodules = [nodules[name] for name in sorted(nodules)]
        self.slices, self.negatives = list(slices), list(negatives)
        self.side, self.batch, self.seed = side, batch, seed
        present = {
            "nodules": bool(self.nodules),
            "slices": bool(self.slices),
            "negatives": bool(self.negatives),
            "phantoms": True,
        }
        self.sources = [name for name in sorted(present) if present[name] and shares.get(name, 0) > 0]
        weights = np.array([shares[name] for name in self.sources], dtype=np.float64)
        self.weights = weights / weights.sum()
        # Large nodules are rarer and are what the figures are about; a slice of 10 pixels teaches little.
        largest = [max(int(np.count_nonzero(one.mask)) for one in nodule) for nodule in self.nodules]
        sizes = np.array(largest or [1])
        self.nodule_weights = np.clip(sizes / 100.0, 0.4, 2.5)
        self.nodule_weights /= self.nodule_weights.sum()
        # A whole slice with a tumour counts four times one without.
        tumours = np.array([4.0 if one.mask.any() else 1.0 for one in self.slices] or [1.0])
        self.slice_weights = tumours / tumours.sum()

    def batch_of(self, step: int) -> dict[str, np.ndarray]:
        """Return `pixels` float32 (n, s, s, 3), `mask` float32 (n, s, s, 1), `malignancy` and its weight (n,)."""
        rng = np.random.default_rng((self.seed, step))
        patches = [self.patch(rng=rng) for _ in range(self.batch)]
        return {
            "pixels": np.stack([to_input(patch.pixels) for patch in patches]),
            "mask": np.stack([(patch.mask >= MASK_THRESHOLD)[:, :, np.newaxis] for patch in patches]).astype(
                np.float32
            ),
            "malignancy": np.array([patch.malignancy for patch in patches], dtype=np.float32),
            "malignancy_weight": np.array([patch.malignancy_weight for patch in patches], dtype=np.float32),
        }

    def patch(self, *, rng: np.random.Generator) -> Patch:
        source = str(rng.choice(self.sources, p=self.weights))
        if source == "nodules":
            return self._nodule_patch(rng)
        if source == "slices":
            return self._slice_patch(self.slices[int(rng.choice(len(self.slices), p=self.slice_weights))], rng)
        if source == "negatives":
            return self._slice_patch(self.negatives[int(rng.integers(len(self.negatives)))], rng)
        return self._slice_patch(synthetic_example(int(rng.integers(SYNTHETIC_POOL))), rng)

    def _nodule_patch(self, rng: np.random.Generator) -> Patch:
        nodule = self.nodules[int(rng.choice(len(self.nodules), p=self.nodule_weights))]
        example = nodule[int(rng.integers(len(nodule)))]
        # Half at the CT's own resolution, half as small as in a whole slice of 256 pixels.
        scale = float(rng.uniform(0.85, 1.15) if rng.random() < 0.55 else rng.uniform(0.45, 0.85))
        pixels, mask = self._cut(example, rng=rng, scale=scale, centre=_centre_of_mask(example.mask), border=INSIDE)
        target, weight = RATING_TARGETS.get(example.malignancy or 0, (0.5, 0.0))
        # A nodule that the patch has mostly lost says nothing about its malignancy.
        if np.count_nonzero(mask) < 0.5 * np.count_nonzero(example.mask) * scale**2:
            weight = 0.0
        return Patch(pixels=pixels, mask=mask, malignancy=target, malignancy_weight=weight)

    def _slice_patch(self, example: Example, rng: np.random.Generator) -> Patch:
        height, width = example.mask.shape
        if example.mask.any() and rng.random() < 0.75:
            rows, columns = np.nonzero(example.mask)
            place = int(rng.integers(rows.size))
            centre = (float(columns[place]), float(rows[place]))
        else:
            centre = (float(rng.uniform(0.1, 0.9) * width), float(rng.uniform(0.1, 0.9) * height))
        pixels, mask = self._cut(example, rng=rng, scale=float(rng.uniform(0.8, 1.3)), centre=centre, border=AIR)
        return Patch(pixels=pixels, mask=mask)

    def _cut(
        self, example: Example, *, rng: np.random.Generator, scale: float, centre: tuple[float, float], border: int
    ) -> tuple[np.ndarray, np.ndarray]:
        reach = 0.36 * self.side / scale
        # The table and the spine are below in every upload: left-right mirroring is common, upside down is not.
        placement = Placement(
            centre=(centre[0] + rng.uniform(-reach, reach), centre[1] + rng.uniform(-reach, reach)),
            scale=scale,
            angle_degrees=float(rng.uniform(-25, 25)) + (180.0 if rng.random() < 0.15 else 0.0),
            is_mirrored=bool(rng.random() < 0.5),
            stretch=float(np.exp(rng.uniform(-0.12, 0.12))),
        )
        pixels = random_greys(cut(example.pixels, placement=placement, side=self.side, border=border), rng=rng)
        if rng.random() < 0.08:
            pixels = random_marks(pixels, rng=rng)
        return pixels, cut(example.mask, placement=placement, side=self.side, border=border)


def _centre_of_mask(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    if not rows.size:
        return (mask.shape[1] - 1) / 2, (mask.shape[0] - 1) / 2
    return float(columns.mean()), float(rows.mean())
