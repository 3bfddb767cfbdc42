"""Vessels and bronchi: one tree in space a patient, cut by the plane of the slice."""

from functools import lru_cache
from typing import Final

import numpy as np

from ml.phantom.canvas import Canvas, FloatArray, blend

THORAX_HEIGHT_MM: Final = 220.0
SLAB_MM: Final = 7.0


@lru_cache(maxsize=16)
def grow_tree(seed: int) -> FloatArray:
    """The patient's vessels in space: rows x0, y0, z0, x1, y1, z1 (mm), radius (mm), generation.

    Each lung is filled with end points; a branch splits its end points into two halves along their longest extent
    and grows towards both middles, so that the tree reaches every part of the lung as the real one does. Radii
    shrink after Murray's law.
    """
    rng = np.random.default_rng([seed, 5])
    generations = 11
    ends = rng.uniform(-1, 1, (2, 2**generations, 3))
    ends[..., 0] = 74.0 + 62.0 * ends[..., 0]
    ends[..., 1] *= 96.0 * np.sqrt(np.clip(1 - ((ends[..., 0] - 55) / 100) ** 2, 0.05, 1))
    ends[..., 2] *= THORAX_HEIGHT_MM * 0.56
    ends[1, :, 0] *= -1
    groups = ends[:, None]
    nodes = np.array([[[34.0, 4.0, 0.0]], [[-34.0, 4.0, 0.0]]])
    radius = 6.2 * rng.uniform(0.85, 1.1)
    segments = []
    for generation in range(generations):
        extent = groups.max(axis=2) - groups.min(axis=2)
        preference = rng.uniform(0.7, 1.3, extent.shape)
        if generation < 4:
            # The first forks spread within the plane of the hilum, so that slices there show long vessels as in life.
            preference[..., 2] *= 0.4
        axis = np.argmax(extent * preference, axis=2)
        key = np.take_along_axis(groups, axis[..., None, None], axis=3)[..., 0]
        groups = np.take_along_axis(groups, np.argsort(key, axis=2)[..., None], axis=2)
        groups = groups.reshape(2, groups.shape[1] * 2, -1, 3)
        middle = groups.mean(axis=2)
        start = np.repeat(nodes, 2, axis=1)
        reach = rng.uniform(0.3, 0.55, (*middle.shape[:2], 1)) if generation < generations - 1 else 1.0
        nodes = start + (middle - start) * reach
        nodes += rng.normal(0, 0.06, nodes.shape) * np.linalg.norm(nodes - start, axis=2, keepdims=True)
        thickness = radius * 2 ** (-generation / 2.75) * rng.uniform(0.8, 1.15, middle.shape[:2])
        columns = [
            start.reshape(-1, 3),
            nodes.reshape(-1, 3),
            thickness.reshape(-1, 1),
            np.full((thickness.size, 1), generation),
        ]
        segments.append(np.concatenate(columns, axis=1))
    return np.concatenate(segments).astype(np.float32)


def draw_tree(
    canvas: Canvas,
    *,
    blood_hu: float,
    hu: FloatArray,
    level: float,
    in_lung: FloatArray,
    cavity: FloatArray,
    seed: int,
    half_width: float,
) -> None:
    """Cut the tree with the slab and draw what lies in it: long vessels along the plane, round dots across it."""
    tree = grow_tree(seed)
    plane = np.float32((level - 0.42) * THORAX_HEIGHT_MM)
    near, far = np.minimum(tree[:, 2], tree[:, 5]), np.maximum(tree[:, 2], tree[:, 5])
    reach = np.float32(SLAB_MM / 2) + tree[:, 6]
    tree = tree[(near - reach < plane) & (far + reach > plane)]
    cuts = 6
    t = np.linspace(0, 1, cuts + 1, dtype=np.float32)
    points = tree[:, None, 0:3] + t[None, :, None] * (tree[:, None, 3:6] - tree[:, None, 0:3])
    ends = np.concatenate([points[:, :-1], points[:, 1:]], axis=2).reshape(-1, 6)
    radius = np.repeat(tree[:, 6], cuts)
    generation = np.repeat(tree[:, 7], cuts)
    height = np.abs((ends[:, 2] + ends[:, 5]) / 2 - plane)
    weight = np.clip((np.float32(SLAB_MM / 2) + radius - height) / np.minimum(2 * radius, np.float32(SLAB_MM)), 0, 1)
    keep = weight > 0.05
    ends, radius, generation, weight = ends[keep], radius[keep], generation[keep], weight[keep]
    scale = np.float32(half_width / 130.0)
    flat = ends[:, [0, 1, 3, 4]] * scale
    if len(flat) == 0:
        return
    fade = in_lung * np.clip((-cavity - np.float32(4.0)) * np.float32(1 / 9.0), 0, 1)
    vessels = canvas.strokes(np.column_stack([flat, radius, weight]))
    blend(hu, vessels * fade, blood_hu)
    # Bronchi run beside the arteries of the first forks: a wall around air.
    big = (generation > 0) & (generation < 5) & (radius > 1.4) & (weight > 0.6)
    if np.any(big):
        course = flat[big, 2:4] - flat[big, 0:2]
        normal = np.stack([-course[:, 1], course[:, 0]], 1) / (
            np.linalg.norm(course, axis=1, keepdims=True) + np.float32(1e-3)
        )
        offset = np.tile(normal * (radius[big, None] * 1.75), (1, 2))
        beside = flat[big] + offset
        wall = canvas.strokes(np.column_stack([beside, radius[big] * 0.7 + np.float32(0.8), weight[big]]))
        lumen = canvas.strokes(np.column_stack([beside, radius[big] * 0.7, weight[big]]))
        blend(hu, wall * fade, -60.0)
        blend(hu, lumen * fade, -960.0)
