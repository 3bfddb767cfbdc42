"""Nodules and masses: what kind, where, and the exact mask of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ml.phantom.canvas import blend
from ml.phantom.chest import Scene
from ml.phantom.vessels import THORAX_HEIGHT_MM

NoduleKind = Literal["solid", "part_solid", "ground_glass", "spiculated", "calcified", "cavitary"]
Place = Literal["inner", "juxtapleural", "central"]
NODULE_KINDS: Final[tuple[NoduleKind, ...]] = (
    "solid",
    "part_solid",
    "ground_glass",
    "spiculated",
    "calcified",
    "cavitary",
)
PLACES: Final[tuple[Place, ...]] = ("inner", "juxtapleural", "central")
# How often a finding of this kind is malignant in the phantom's world; the order of the kinds follows the
# Fleischner reading of risk.
MALIGNANT_SHARE: Final[Mapping[NoduleKind, float]] = {
    "solid": 0.45,
    "part_solid": 0.75,
    "ground_glass": 0.4,
    "spiculated": 0.95,
    "calcified": 0.02,
    "cavitary": 0.8,
}


@dataclass(frozen=True)
class NoduleSpec:
    """What to plant. ``None`` is drawn from the seed. ``level`` is the level of the centre (``None``: in the plane
    of the slice).
    """

    diameter_mm: float | None = None
    kind: NoduleKind | None = None
    place: Place | None = None
    side: Literal["left", "right"] | None = None
    level: float | None = None


@dataclass(frozen=True)
class Nodule:
    """A planted finding. Centre in pixels (x to the right, y down); ``area_px`` counts its own pixels in the mask."""

    centre_px: tuple[float, float]
    diameter_mm: float
    kind: NoduleKind
    place: Place
    is_malignant: bool
    area_px: int


def plant(
    scene: Scene, *, spec: NoduleSpec, rng: np.random.Generator, level: float, mask: NDArray[np.uint8]
) -> Nodule | None:
    """Draw one nodule into ``scene.hu`` and ``mask``; ``None`` where the plane misses it or the lung is too small
    here.
    """
    canvas = scene.canvas
    drawn_diameter = float(np.exp(rng.uniform(np.log(5.0), np.log(52.0))))
    drawn_kind: NoduleKind = NODULE_KINDS[int(rng.choice(len(NODULE_KINDS), p=[0.34, 0.14, 0.08, 0.28, 0.08, 0.08]))]
    drawn_place: Place = PLACES[int(rng.choice(len(PLACES), p=[0.55, 0.27, 0.18]))]
    drawn_side = int(rng.choice([-1, 1]))
    anchor, malignant_draw, relative = rng.random(), rng.random(), rng.random(4)
    whole = drawn_diameter if spec.diameter_mm is None else spec.diameter_mm
    kind, place = spec.kind or drawn_kind, spec.place or drawn_place
    side = {"right": -1, "left": 1, None: drawn_side}[spec.side]
    if spec.diameter_mm is None and kind in ("calcified", "ground_glass"):
        # Calcified granulomas and pure ground glass are seldom large.
        whole *= 0.55
    radius = whole / 2
    if spec.level is not None:
        off = abs(level - spec.level) * THORAX_HEIGHT_MM
        if off >= radius:
            return None
        radius = float(np.sqrt(radius**2 - off**2))
    aim = None
    if spec.level is not None:
        # A nodule that several slices cut stays where it is in the patient.
        cavity = scene.anatomy.cavity_half_width, scene.anatomy.cavity_half_depth
        aim = (side * (0.35 + 0.4 * anchor) * cavity[0], (relative[3] - 0.45) * cavity[1])
    centre = _find_place(scene, place=place, side=side, radius=whole / 2, anchor=anchor, aim=aim)
    if centre is None:
        return None
    cx, cy = centre
    dx, dy = canvas.x - np.float32(cx), canvas.y - np.float32(cy)
    angle, distance = np.arctan2(dy, dx), np.hypot(dx, dy)
    stretch = 1 + 0.28 * relative[1]
    turn = np.float32(relative[2] * np.pi)
    outline = np.float32(radius) * np.sqrt(
        np.cos(angle - turn) ** 2 * np.float32(stretch) + np.sin(angle - turn) ** 2 * np.float32(1 / stretch)
    )
    rough = {
        "solid": 0.05,
        "calcified": 0.03,
        "spiculated": 0.13,
        "part_solid": 0.1,
        "ground_glass": 0.1,
        "cavitary": 0.09,
    }[kind]
    for order in range(2, 8):
        outline += np.float32(radius * rough * rng.normal() / np.sqrt(order - 1)) * np.cos(
            order * angle + np.float32(rng.uniform(0, 2 * np.pi))
        )
    edge = distance - outline
    clear = canvas.cover(scene.lung_distance - np.float32(0.4 if place == "inner" else 1.2))
    cover = canvas.cover(edge) * clear
    body = cover >= 0.5
    area = int(np.count_nonzero(body))
    if area < 4:
        return None
    texture = canvas.cloud(2.5)
    soft = float(rng.uniform(15, 55)) + (35 if scene.anatomy.blood_hu > 100 else 0)
    hu = scene.hu
    if kind == "spiculated":
        count = int(rng.integers(8, 20))
        turns = rng.uniform(0, 2 * np.pi, count)
        reach = radius * rng.uniform(1.25, 1.9, count) + 1.5
        rays = np.column_stack(
            [
                cx + 0.7 * radius * np.cos(turns),
                cy + 0.7 * radius * np.sin(turns),
                cx + reach * np.cos(turns + rng.normal(0, 0.08, count)),
                cy + reach * np.sin(turns + rng.normal(0, 0.08, count)),
                rng.uniform(0.35, 0.9, count),
                rng.uniform(0.4, 0.8, count),
            ]
        )
        blend(hu, canvas.strokes(rays.astype(np.float32)) * clear, soft - 60)
    if kind in ("ground_glass", "part_solid"):
        blend(hu, cover, float(rng.uniform(-680, -480)) + 35 * texture)
    if kind == "part_solid":
        shift = 0.25 * radius * (relative[3] - 0.5)
        core = np.hypot(dx - np.float32(shift), dy + np.float32(shift)) - outline * np.float32(rng.uniform(0.35, 0.65))
        blend(hu, canvas.cover(core) * clear, soft + 12 * texture)
    if kind in ("solid", "spiculated", "cavitary"):
        blend(hu, cover, soft + 12 * texture)
    if kind == "calcified":
        blend(hu, cover, float(rng.uniform(180, 520)) + 25 * texture)
    if kind == "cavitary":
        blend(
            hu, canvas.cover(distance - outline * np.float32(rng.uniform(0.35, 0.62)) + np.float32(0.8)) * clear, -930.0
        )
    mask[body] = 255
    return Nodule(
        centre_px=((cx - canvas.left) / canvas.px - 0.5, (cy - canvas.top) / canvas.px - 0.5),
        diameter_mm=2 * radius,
        kind=kind,
        place=place,
        is_malignant=bool(malignant_draw < MALIGNANT_SHARE[kind] * min(1.0, 0.4 + whole / 20)),
        area_px=area,
    )


def _find_place(
    scene: Scene, *, place: Place, side: int, radius: float, anchor: float, aim: tuple[float, float] | None
) -> tuple[float, float] | None:
    """A centre (mm) where a nodule of this radius lies free in the lung, against the chest wall, or against the
    mediastinum.
    """
    canvas = scene.canvas
    lung, cavity = scene.lung_distance, scene.cavity_distance
    on_side = canvas.x * side > 8
    wall_depth = np.abs(cavity + np.float32(2.2) - lung)
    if place == "inner":
        allowed = on_side & (lung < -np.float32(radius + 3.0))
    elif place == "juxtapleural":
        allowed = on_side & (np.abs(lung + np.float32(0.55 * radius)) < 1.0 + 0.5 * canvas.px) & (wall_depth < 3.0)
    else:
        allowed = (
            on_side
            & (np.abs(lung + np.float32(0.5 * radius)) < 1.0 + 0.5 * canvas.px)
            & (cavity < -np.float32(radius + 8.0))
        )
    spots = np.flatnonzero(allowed)
    if len(spots) == 0:
        # The lung is narrow here: the deepest point is the best there is, if at least a part of the nodule shows.
        deep = np.where(on_side, lung, np.float32(np.inf))
        spot = int(np.argmin(deep))
        if deep.flat[spot] > -3.0:
            return None
    elif aim is None:
        spot = int(spots[int(anchor * len(spots))])
    else:
        rows, columns = np.divmod(spots, canvas.size)
        spot = int(spots[np.argmin((canvas.x[0, columns] - aim[0]) ** 2 + (canvas.y[rows, 0] - aim[1]) ** 2)])
    row, column = divmod(spot, canvas.size)
    return float(canvas.x[0, column]), float(canvas.y[row, 0])
