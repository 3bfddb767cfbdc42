"""What a picture is like, in a few figures: kept with every answer, so that a change of what comes in can be noticed.

They say nothing about a person: size, kind of file, how the greys are spread, how noisy it is.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BINS: Final = 16
PERCENTILES: Final = (1, 5, 25, 50, 75, 95, 99)
SOURCE_KINDS: Final = {"PNG": "png", "JPEG": "jpeg", "DICOM": "dicom"}
# Noise is measured in the middle of a picture, so that a large one costs no more than a usual one.
_NOISE_SIDE_PX: Final = 512


@dataclass(frozen=True, kw_only=True)
class InputStatistics:
    """Figures of one picture uint8 (H, W), as the model got it.

    Greys lie in 0..255. ``histogram`` holds the shares of 16 equal bins, sum 1; ``percentiles`` the greys below which
    1, 5, 25, 50, 75, 95 and 99 % of the pixels lie. ``noise_grey`` is the mean absolute answer of Immerkær's mask
    (1996, Computer Vision and Image Understanding 64), scaled to the standard deviation of normal noise; sharp
    structures add to it. ``source_kind`` is png, jpeg or dicom.
    """

    width: int
    height: int
    mean_grey: float
    std_grey: float
    percentiles: tuple[int, ...]
    histogram: tuple[float, ...]
    noise_grey: float
    source_kind: str

    def to_json(self) -> dict[str, Any]:
        """Return the figures as they are stored, shares rounded to 1e-5 and greys to 0.01."""
        return asdict(self) | {
            "mean_grey": round(self.mean_grey, 2),
            "std_grey": round(self.std_grey, 2),
            "noise_grey": round(self.noise_grey, 3),
            "percentiles": list(self.percentiles),
            "histogram": [round(share, 5) for share in self.histogram],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "InputStatistics":
        """Read back what ``to_json`` gave."""
        lists = {"percentiles": tuple(values["percentiles"]), "histogram": tuple(values["histogram"])}
        return cls(**(dict(values) | lists))


def measure(pixels: NDArray[np.uint8], *, source_format: str) -> InputStatistics:
    """Return the figures of a picture uint8 (H, W); ``source_format`` is that of ``ml.images.Slice``."""
    counts = np.bincount(pixels.ravel(), minlength=256)
    greys = np.arange(256)
    total = int(counts.sum())
    mean = float((counts * greys).sum() / total)
    std = float(np.sqrt((counts * (greys - mean) ** 2).sum() / total))
    below = np.cumsum(counts)
    percentiles = tuple(int(np.searchsorted(below, share / 100 * total)) for share in PERCENTILES)
    histogram = counts.reshape(BINS, -1).sum(axis=1) / total
    height, width = pixels.shape
    return InputStatistics(
        width=width,
        height=height,
        mean_grey=mean,
        std_grey=std,
        percentiles=percentiles,
        histogram=tuple(histogram.tolist()),
        noise_grey=_noise(pixels),
        source_kind=SOURCE_KINDS.get(source_format.upper(), source_format.lower()),
    )


def _noise(pixels: NDArray[np.uint8]) -> float:
    top = max(0, (pixels.shape[0] - _NOISE_SIDE_PX) // 2)
    left = max(0, (pixels.shape[1] - _NOISE_SIDE_PX) // 2)
    middle = pixels[top : top + _NOISE_SIDE_PX, left : left + _NOISE_SIDE_PX].astype(np.int16)
    if min(middle.shape) < 3:
        return 0.0
    # The mask (1 -2 1; -2 4 -2; 1 -2 1) is the second difference along both axes.
    answer = np.diff(np.diff(middle, n=2, axis=0), n=2, axis=1)
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(answer).mean())
