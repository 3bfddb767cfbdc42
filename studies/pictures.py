"""The pictures that go with an answer: outline over the slice, the bare mask, and where the model looked."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.images import read_slice
from ml.inference import AnalysisResult
from ml.overlay import draw_heat, draw_overlay


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """PNG bytes: the slice with numbered outlines, the mask (0 or 255), the slice under the activation's colours."""

    overlay: bytes
    mask: bytes
    activation: bytes


def draw_pictures(content: bytes, *, result: AnalysisResult) -> Pictures:
    """Draw the pictures of an answer about the slice whose file is ``content``."""
    pixels = read_slice(content).pixels
    return Pictures(
        overlay=draw_overlay(pixels, result.mask, boxes=[finding.box for finding in result.findings]),
        mask=_png(Image.fromarray(result.mask)),
        activation=_png(_under_heat(pixels, activation=result.activation)),
    )


def _under_heat(pixels: NDArray[np.uint8], *, activation: NDArray[np.uint8]) -> Image.Image:
    slice_ = Image.fromarray(pixels).convert("RGBA")
    with Image.open(io.BytesIO(draw_heat(activation)), formats=["PNG"]) as heat:
        return Image.alpha_composite(slice_, heat.convert("RGBA")).convert("RGB")


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", compress_level=6)
    return stream.getvalue()
