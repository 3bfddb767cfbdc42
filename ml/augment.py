"""Random changes to training pictures that a model must not depend on.

Window, gamma, noise, JPEG and burnt-in marks differ between hospitals, not between diseases; place, size, angle and
side say little. Every function takes its own random generator, so that a batch can be made again from its seed alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Placement:
    """How a patch is cut: `scale` output pixels per input pixel around `centre` (x, y), `stretch` wider than high."""

    centre: tuple[float, float]
    scale: float
    angle_degrees: float = 0.0
    is_mirrored: bool = False
    stretch: float = 1.0


def cut(pixels: np.ndarray, *, placement: Placement, side: int, border: int = cv2.BORDER_REFLECT_101) -> np.ndarray:
    """Return the (side, side) patch of uint8 `pixels` (H, W) that `placement` describes."""
    angle = np.deg2rad(placement.angle_degrees)
    cosine, sine = np.cos(angle) / placement.scale, np.sin(angle) / placement.scale
    flip = -1.0 if placement.is_mirrored else 1.0
    # Output (u, v) → input (x, y): cv2 wants exactly this direction with WARP_INVERSE_MAP.
    linear = np.array(
        [[flip * cosine / placement.stretch, -sine], [flip * sine / placement.stretch, cosine]], dtype=np.float64
    )
    middle = (side - 1) / 2
    offset = np.asarray(placement.centre) - linear @ np.array([middle, middle])
    matrix = np.column_stack([linear, offset])
    if placement.scale < 0.7:
        # warpAffine does not antialias: blur first by what the shrinking would lose.
        pixels = cv2.GaussianBlur(pixels, (0, 0), 0.35 / placement.scale)
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    return cv2.warpAffine(pixels, matrix, (side, side), flags=flags, borderMode=border)


def random_greys(pixels: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Return uint8 (H, W) as another scanner, viewer or export might show it: window, gamma, noise, blur, JPEG."""
    low, high, gamma = 0.0, 1.0, float(np.exp(rng.uniform(-0.45, 0.45)))
    draw = rng.random()
    if draw < 0.5:
        low, high = rng.uniform(-0.1, 0.25), rng.uniform(0.7, 1.1)
    elif draw < 0.6:
        # A narrow soft-tissue window: lung turns plain black.
        low, high = rng.uniform(0.3, 0.5), rng.uniform(0.75, 1.0)
    elif draw < 0.7:
        # A lung window: soft tissue turns plain white.
        low, high = rng.uniform(-0.05, 0.1), rng.uniform(0.4, 0.65)
    table = np.clip((np.linspace(0, 1, 256) - low) / (high - low), 0, 1) ** gamma
    changed = cv2.LUT(pixels, np.rint(table * 255).astype(np.uint8))
    if rng.random() < 0.2:
        changed = cv2.GaussianBlur(changed, (0, 0), float(rng.uniform(0.4, 1.1)))
    if rng.random() < 0.5:
        noise = rng.normal(0, rng.uniform(1, 12), changed.shape)
        changed = np.clip(changed + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        quality = int(rng.integers(35, 92))
        encoded = cv2.imencode(".jpg", changed, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        changed = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
    return changed


def random_marks(pixels: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Return uint8 (H, W) with arrows, lines, letters or a frame burnt in, as teaching files and viewers do."""
    marked = pixels.copy()
    height, width = marked.shape
    for _ in range(int(rng.integers(1, 4))):
        grey = int(rng.choice([0, 128, 200, 255]))
        start = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        end = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        kind = rng.integers(0, 4)
        if kind == 0:
            near = tuple(int(a + np.clip(b - a, -width // 5, width // 5)) for a, b in zip(start, end, strict=True))
            cv2.arrowedLine(marked, start, near, grey, int(rng.integers(1, 4)), tipLength=0.35)
        elif kind == 1:
            cv2.line(marked, start, end, grey, 1)
        elif kind == 2:
            letters = "".join(rng.choice(list("ABCDEFGHILMPRSTX0123456789"), size=int(rng.integers(1, 9))))
            size = float(rng.uniform(0.25, 0.7)) * width / 224
            cv2.putText(marked, letters, start, cv2.FONT_HERSHEY_SIMPLEX, size, grey, 1, cv2.LINE_AA)
        else:
            thickness = int(rng.integers(1, 5))
            cv2.rectangle(marked, (0, 0), (width - 1, height - 1), grey, thickness)
    return marked
