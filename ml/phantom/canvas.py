"""The drawing board: pixels in millimetres, signed distances to simple solids, smooth noise, strokes."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw
from scipy import fft

FloatArray = NDArray[np.float32]


@lru_cache(maxsize=8)
def frequencies(size: int) -> FloatArray:
    """Radial frequency in cycles a pixel for ``rfft2`` of a square of this size: (size, size // 2 + 1)."""
    return np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]).astype(np.float32)


class Canvas:
    """Millimetre coordinates of the pixels, and the slice's own random stream. Origin: the middle of the chest
    cavity.
    """

    def __init__(self, *, size: int, fov: float, centre: tuple[float, float], seed: int, level: float) -> None:
        self.size = size
        self.px = float(np.float32(fov / size))
        steps = (np.arange(size, dtype=np.float32) + 0.5 - size / 2) * np.float32(self.px)
        self.x = (steps + np.float32(centre[0]))[None, :]
        self.y = (steps + np.float32(centre[1]))[:, None]
        self.left = float(self.x[0, 0]) - self.px / 2
        self.top = float(self.y[0, 0]) - self.px / 2
        self.rng = np.random.default_rng([seed, 4, round(level * 10_000)])

    def cover(self, distance: FloatArray) -> FloatArray:
        """Share of each pixel (0..1) that lies inside a surface, from its signed distance in millimetres (inside
        negative).
        """
        return np.clip(np.float32(0.5) - distance * np.float32(1.0 / self.px), 0, 1)

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, *, angle: float = 0.0) -> FloatArray:
        """Signed distance to an ellipse, turned by ``angle`` radians (first-order approximation)."""
        x, y = self.x - np.float32(cx), self.y - np.float32(cy)
        if angle:
            c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            x, y = x * c + y * s, y * c - x * s
        u, v = x * np.float32(1 / rx), y * np.float32(1 / ry)
        k0 = np.sqrt(u * u + v * v) + np.float32(1e-6)
        u *= np.float32(1 / rx)
        v *= np.float32(1 / ry)
        return k0 * (k0 - 1) / (np.sqrt(u * u + v * v) + np.float32(1e-6))

    def circle(self, cx: float, cy: float, r: float) -> FloatArray:
        return np.sqrt((self.x - np.float32(cx)) ** 2 + (self.y - np.float32(cy)) ** 2) - np.float32(r)

    def capsule(self, a: tuple[float, float], b: tuple[float, float], r: float) -> FloatArray:
        """Signed distance to a line from ``a`` to ``b`` with round ends of radius ``r``."""
        dx, dy = b[0] - a[0], b[1] - a[1]
        x, y = self.x - np.float32(a[0]), self.y - np.float32(a[1])
        t = np.clip((x * np.float32(dx) + y * np.float32(dy)) * np.float32(1 / (dx * dx + dy * dy + 1e-6)), 0, 1)
        x, y = x - t * np.float32(dx), y - t * np.float32(dy)
        return np.sqrt(x * x + y * y) - np.float32(r)

    def cloud(self, scale_mm: float) -> FloatArray:
        """Smooth noise with mean 0, standard deviation 1 and structures of about ``scale_mm``."""
        return self.filtered(np.exp(-0.5 * (frequencies(self.size) * np.float32(2.7 * scale_mm / self.px)) ** 2))

    def filtered(self, response: FloatArray) -> FloatArray:
        """White noise with this frequency response, standard deviation 1."""
        white = self.rng.standard_normal((self.size, self.size), dtype=np.float32)
        field = fft.irfft2(fft.rfft2(white) * response, s=(self.size, self.size)).astype(np.float32)
        return field / np.float32(field.std() + 1e-9)

    def strokes(self, pieces: FloatArray) -> FloatArray:
        """Coverage 0..1 of round strokes: rows x0, y0, x1, y1, radius (all mm), weight 0..1. Drawn twice as large,
        then averaged.
        """
        over = 2 if self.size >= 192 else 4
        scale = over / self.px
        sheet = PillowImage.new("L", (self.size * over, self.size * over), 0)
        draw = ImageDraw.Draw(sheet)
        ends = (pieces[:, :4] - np.array([self.left, self.top] * 2, np.float32)) * np.float32(scale)
        diameters = pieces[:, 4] * np.float32(2 * scale)
        fills = np.rint(255 * pieces[:, 5] * np.clip(diameters, 0.15, 1)).astype(int)
        order = np.argsort(fills, kind="stable")
        widths = np.maximum(1, np.rint(diameters)).astype(int)
        for (x0, y0, x1, y1), width, fill in zip(
            ends[order].tolist(), widths[order].tolist(), fills[order].tolist(), strict=True
        ):
            draw.line((x0, y0, x1, y1), fill=fill, width=width)
            if width > 3:
                r = width / 2
                draw.ellipse((x0 - r, y0 - r, x0 + r, y0 + r), fill=fill)
                draw.ellipse((x1 - r, y1 - r, x1 + r, y1 + r), fill=fill)
        return np.asarray(sheet.reduce(over), np.float32) * np.float32(1 / 255)


def blend(hu: FloatArray, cover: FloatArray, value: float | FloatArray) -> None:
    hu += cover * (value - hu)


def smooth_min(a: FloatArray, b: FloatArray, *, k: float) -> FloatArray:
    """Union of two distances whose edge is rounded over ``k`` millimetres (polynomial smooth minimum)."""
    h = np.maximum(np.float32(k) - np.abs(a - b), 0) * np.float32(1 / k)
    return np.minimum(a, b) - h * h * np.float32(k / 4)


def smooth_step(low: float, high: float, value: float) -> float:
    t = min(1.0, max(0.0, (value - low) / (high - low)))
    return t * t * (3 - 2 * t)
