"""Outlines that a doctor drew: a PNG from a browser that nobody vouches for in, a measured mask out."""

import hashlib
import io
import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
from django.utils.translation import gettext as _
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError
from scipy import ndimage

from ml.findings import measure_axes
from ml.images import PNG_MAGIC
from studies.errors import OutlineError

# A slice of 40 million pixels drawn in two values stays far below this.
MAX_OUTLINE_BYTES: Final = 2 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A drawn outline and its sizes.

    ``png`` is an 8-bit grey PNG of the slice's size, 0 or 255; ``box`` x, y, width, height in pixels of the slice.
    Millimetres are None where the slice's spacing is not known.
    """

    png: bytes
    sha256: str
    box: tuple[int, int, int, int]
    area_px: int
    long_axis_px: float
    short_axis_px: float
    area_mm2: float | None
    long_axis_mm: float | None
    short_axis_mm: float | None


def read_outline(
    content: bytes, *, width: int, height: int, pixel_spacing_mm: tuple[float, float] | None = None
) -> Outline:
    """Check, re-encode and measure an outline of a slice of ``width`` x ``height`` pixels.

    Accepts a PNG, grey or coloured, whose pixels are all black (or see-through) or white. Raises ``OutlineError``.
    """
    mask = _mask(content, width=width, height=height)
    if not mask.any():
        raise OutlineError(
            _("The outline is empty. Please draw around the finding, or reject it if there is nothing to draw around.")
        )
    rows, columns = ndimage.find_objects(mask.astype(np.uint8))[0]
    piece = mask[rows, columns]
    area_px = int(piece.sum())
    axes = measure_axes(piece)
    axes_mm = measure_axes(piece, pixel_spacing_mm=pixel_spacing_mm) if pixel_spacing_mm else None
    stream = io.BytesIO()
    PillowImage.fromarray(mask.astype(np.uint8) * 255).save(stream, format="PNG", compress_level=6)
    png = stream.getvalue()
    return Outline(
        png=png,
        sha256=hashlib.sha256(png).hexdigest(),
        box=(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start),
        area_px=area_px,
        long_axis_px=axes.long,
        short_axis_px=axes.short,
        area_mm2=area_px * pixel_spacing_mm[0] * pixel_spacing_mm[1] if pixel_spacing_mm else None,
        long_axis_mm=axes_mm.long if axes_mm else None,
        short_axis_mm=axes_mm.short if axes_mm else None,
    )


def region_of(mask: bytes, *, box: tuple[int, int, int, int]) -> bytes:
    """Return, as a PNG of the same size, the one connected piece of an analysis' stored mask that fills ``box``."""
    with PillowImage.open(io.BytesIO(mask), formats=["PNG"]) as picture:
        pixels = np.asarray(picture.convert("L")) >= 128
    x, y, width, height = box
    labels, count = ndimage.label(pixels, structure=np.ones((3, 3), bool))
    alone = np.zeros(pixels.shape, np.uint8)
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels, max_label=count), start=1):
        if (columns.start, rows.start, columns.stop, rows.stop) == (x, y, x + width, y + height):
            alone[labels == label] = 255
    stream = io.BytesIO()
    PillowImage.fromarray(alone).save(stream, format="PNG", compress_level=6)
    return stream.getvalue()


def _mask(content: bytes, *, width: int, height: int) -> NDArray[np.bool_]:
    if len(content) > MAX_OUTLINE_BYTES:
        raise OutlineError(
            _(
                "The outline's file is larger than %(limit)d MB. An outline has only two values, black and white; "
                "please draw it again."
            )
            % {"limit": MAX_OUTLINE_BYTES // 1024 // 1024}
        )
    if not content:
        raise OutlineError(_("The outline's file is empty. Please draw the outline again."))
    if not content.startswith(PNG_MAGIC):
        raise OutlineError(_("The outline is not a PNG picture. Please draw it again, or send it as PNG."))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with PillowImage.open(io.BytesIO(content), formats=["PNG"]) as picture:
                # Told from the header, before a single pixel is unpacked.
                if picture.size != (width, height):
                    raise OutlineError(
                        _(
                            "The outline has %(width)d x %(height)d pixels, but the slice has %(slice_width)d x "
                            "%(slice_height)d. Please draw it on this slice again."
                        )
                        % {
                            "width": picture.size[0],
                            "height": picture.size[1],
                            "slice_width": width,
                            "slice_height": height,
                        }
                    )
                if getattr(picture, "n_frames", 1) > 1 or picture.mode.startswith("I"):
                    raise OutlineError(_("The outline is not a plain black and white picture. Please draw it again."))
                rgba = np.asarray(picture.convert("RGBA"))
        except OutlineError:
            raise
        except (OSError, SyntaxError, ValueError, EOFError, UnidentifiedImageError, PillowImage.DecompressionBombError):
            raise OutlineError(_("The outline's file is damaged. Please draw the outline again.")) from None
    is_seen = rgba[:, :, 3] > 0
    colours = rgba[:, :, :3][is_seen]
    is_binary = bool(np.isin(rgba[:, :, 3], (0, 255)).all() and np.isin(colours, (0, 255)).all())
    if not is_binary or bool((colours.min(axis=1, initial=255) != colours.max(axis=1, initial=0)).any()):
        raise OutlineError(
            _("The outline has other values than black and white. Please draw it with a hard brush, without shades.")
        )
    return np.asarray(is_seen & (rgba[:, :, 0] == 255), bool)
