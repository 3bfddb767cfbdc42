"""Pictures for people: the slice with its numbered outlines, and where the model looked as a see-through layer."""

import io
from collections.abc import Collection, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

# Amber on a near-black edge: visible on lung and on bone, and told apart from grey by colour-blind readers too.
OUTLINE_COLOUR: Final = (255, 176, 0)
# What a doctor drew: a light blue of the same brightness, as in the viewer.
DOCTOR_COLOUR: Final = (76, 201, 240)
EDGE_COLOUR: Final = (20, 16, 0)
SMALLEST_SIDE_PX: Final = 512
# Dark violet over orange to pale yellow: brightness rises all the way, so that it also reads in grey print.
_HEAT_STOPS: Final = np.array([[40, 11, 84], [120, 28, 109], [203, 65, 64], [248, 149, 21], [252, 255, 164]], float)
_HEAT_ALPHA: Final = 0.6


def draw_overlay(
    pixels: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    *,
    boxes: Sequence[tuple[int, int, int, int]] = (),
    numbers: Sequence[int] | None = None,
    doctor_mask: NDArray[np.uint8] | None = None,
    doctor_numbers: Collection[int] = (),
    smallest_side_px: int = SMALLEST_SIDE_PX,
) -> bytes:
    """The slice as a colour PNG with the outline drawn and the findings numbered.

    ``pixels`` and ``mask`` uint8 (H,W); ``boxes`` x, y, width, height, ``numbers`` as many (from 1 on if not given).
    ``doctor_mask`` (H,W) and ``doctor_numbers`` are what doctors drew: in a colour of its own.
    Small slices are enlarged by a whole number until the longer side has ``smallest_side_px``, so that the line stays
    thin beside what it surrounds.
    Raises ``ValueError`` when mask and pixels differ in shape.
    """
    layers = [(mask, OUTLINE_COLOUR), *([(doctor_mask, DOCTOR_COLOUR)] if doctor_mask is not None else [])]
    for layer, _colour in layers:
        if layer.shape != pixels.shape:
            raise ValueError(f"Mask and pixels must have one shape. Received: {layer.shape} and {pixels.shape}")
    height, width = pixels.shape
    factor = max(1, -(-smallest_side_px // max(height, width)))
    size = (width * factor, height * factor)
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    for layer, colour in layers:
        if layer.any():
            picture = _outlined(picture, mask=layer, colour=colour)
    enlarged = [tuple(value * factor for value in box) for box in boxes]
    named = numbers if numbers is not None else range(1, len(boxes) + 1)
    _number(picture, boxes=enlarged, numbers=named, doctor_numbers=doctor_numbers)
    return _png(picture)


def draw_heat(activation: NDArray[np.uint8]) -> bytes:
    """A see-through PNG (RGBA, H x W) to lay over the slice: the stronger the activation, the brighter and denser."""
    share = activation.astype(np.float64) / 255.0
    positions = np.linspace(0.0, 1.0, len(_HEAT_STOPS))
    channels = [np.interp(share, positions, _HEAT_STOPS[:, channel]) for channel in range(3)]
    layers = np.stack([*channels, share * 255 * _HEAT_ALPHA], axis=2)
    return _png(Image.fromarray(np.rint(layers).astype(np.uint8), mode=None))


def _outlined(picture: Image.Image, *, mask: NDArray[np.uint8], colour: tuple[int, int, int]) -> Image.Image:
    large = np.asarray(Image.fromarray(mask).resize(picture.size, Image.Resampling.BILINEAR)) >= 128
    line_px = max(2, round(max(picture.size) / 300))
    outer = ndimage.binary_dilation(large, iterations=line_px)
    edge = ndimage.binary_dilation(outer, iterations=max(1, line_px // 2)) & ~outer
    canvas = np.array(picture)
    canvas[edge] = EDGE_COLOUR
    canvas[outer & ~large] = colour
    return Image.fromarray(canvas)


def _number(
    picture: Image.Image,
    *,
    boxes: Sequence[tuple[int, ...]],
    numbers: Sequence[int],
    doctor_numbers: Collection[int] = (),
) -> None:
    draw = ImageDraw.Draw(picture)
    text_px = max(11, round(max(picture.size) / 32))
    font = ImageFont.load_default(size=text_px)
    for number, (x, y, width, _height) in zip(numbers, boxes, strict=True):
        colour = DOCTOR_COLOUR if number in doctor_numbers else OUTLINE_COLOUR
        left, top, right, bottom = draw.textbbox((0, 0), str(number), font=font)
        text_width, text_height = right - left, bottom - top
        pad = max(2, text_px // 5)
        # Beside the upper right corner of the finding, or moved inwards where the picture ends.
        at_x = min(max(pad, x + width + pad), picture.width - text_width - 2 * pad)
        at_y = min(max(pad, y - text_height - pad), picture.height - text_height - 2 * pad)
        draw.rectangle((at_x - pad, at_y - pad, at_x + text_width + pad, at_y + text_height + pad), fill=EDGE_COLOUR)
        draw.text((at_x - left, at_y - top), str(number), fill=colour, font=font)


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", compress_level=6)
    return stream.getvalue()
