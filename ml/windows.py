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

    def apply(self, hu: NDArray[Any]) -> NDArray[np.uint8]:
        """Grey values 0..255 of the shape of ``hu``."""
        low = self.centre_hu - self.width_hu / 2
        grey = (np.asarray(hu, np.float32) - np.float32(low)) * np.float32(255.0 / self.width_hu)
        return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


WINDOWS: Final[Mapping[str, Window]] = {
    "lung": Window("lung", -600.0, 1500.0),
    "soft_tissue": Window("soft_tissue", 40.0, 400.0),
    "wide": Window("wide", -100.0, 1900.0),
}
