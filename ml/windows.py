"""Display windows: how Hounsfield units (HU) become grey values. Shared by DICOM reading and the phantom."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """A display window: ``centre_hu`` becomes mid-grey and ``width_hu`` spans black to white."""

    name: str
    centre_hu: float
    width_hu: float

    @property
    def black_hu(self) -> float:
        """The Hounsfield units, and all below them, that become black."""
        return self.centre_hu - self.width_hu / 2

    @property
    def white_hu(self) -> float:
        """The Hounsfield units, and all above them, that become white."""
        return self.centre_hu + self.width_hu / 2

    def apply(self, hu: NDArray[Any]) -> NDArray[np.uint8]:
        """Grey values 0..255 of the shape of ``hu``."""
        grey = (np.asarray(hu, np.float32) - np.float32(self.black_hu)) * np.float32(255.0 / self.width_hu)
        return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


WINDOWS: Final[Mapping[str, Window]] = {
    "lung": Window("lung", -600.0, 1500.0),
    "soft_tissue": Window("soft_tissue", 40.0, 400.0),
    "wide": Window("wide", -100.0, 1900.0),
}

# Where a chest's own greys lie on the scale, as anchors for pictures whose HU are lost.
_LUNG_HU, _SOFT_TISSUE_HU = -850.0, 40.0


def simulate_window(pixels: NDArray[np.uint8], *, window: Window) -> NDArray[np.uint8]:
    """A wide-window slice uint8 (H,W) as it would look in another window.

    The Hounsfield scale is laid through the picture's own lung and soft-tissue greys (the medians of what lies below
    and above their midpoint in the middle of the picture), so it is an estimate; a picture that shows lung as plain
    black has lost what lies there and comes back changed little.
    """
    height, width = pixels.shape
    middle = pixels[height // 5 : height - height // 5, width // 5 : width - width // 5].astype(np.float32)
    cut = (float(np.percentile(middle, 5)) + float(np.percentile(middle, 90))) / 2
    lung = float(np.median(middle[middle <= cut]))
    above = middle[middle > cut]
    soft_tissue = float(np.median(above)) if above.size else lung
    if soft_tissue - lung < 8:
        return pixels.copy()
    scale = (_SOFT_TISSUE_HU - _LUNG_HU) / (soft_tissue - lung)
    return window.apply((pixels.astype(np.float32) - np.float32(lung)) * np.float32(scale) + np.float32(_LUNG_HU))
