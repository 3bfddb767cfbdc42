"""The pictures of an answer: outline over the slice, bare mask, where the model looked; and what doctors left of it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from ml.images import read_slice
from ml.inference import AnalysisResult
from ml.overlay import draw_heat, draw_overlay
from studies.models import EffectiveFinding, Image
from studies.outlines import region_of


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
        mask=_png(PillowImage.fromarray(result.mask)),
        activation=_png(_under_heat(pixels, activation=result.activation)),
    )


def draw_judged(image: Image, findings: Sequence[EffectiveFinding]) -> bytes:
    """Draw a stored slice as the doctors left it: the findings that count, each with its outline and its number.

    A finding of which only a diameter is known has no place to be drawn at. Raises ``OSError`` if a file is missing.
    """
    with image.file.open("rb") as file:
        pixels = read_slice(file.read()).pixels
    drawn = [found for found in findings if not found.is_rejected and found.box is not None]
    mask = np.zeros(pixels.shape, np.uint8)
    for found in drawn:
        np.maximum(mask, mask_of(found), out=mask)
    boxes = [found.box for found in drawn if found.box is not None]
    return draw_overlay(pixels, mask, boxes=boxes, numbers=[found.number for found in drawn])


def mask_of(found: EffectiveFinding) -> NDArray[np.uint8]:
    """Return a finding's outline, uint8 (H, W) of its slice, 0 or 255. Needs a finding with a box.

    Raises ``OSError`` if a file is missing.
    """
    if found.outline is not None:
        with found.outline.open("rb") as file:
            png = file.read()
    else:
        assert found.finding is not None  # noqa: S101 - what a doctor added has an outline where it has a box
        with found.finding.analysis.mask.open("rb") as file:
            own = found.finding
            png = region_of(file.read(), box=(own.box_x, own.box_y, own.box_width, own.box_height))
    with PillowImage.open(io.BytesIO(png), formats=["PNG"]) as picture:
        return np.asarray(picture.convert("L"))


def _under_heat(pixels: NDArray[np.uint8], *, activation: NDArray[np.uint8]) -> PillowImage.Image:
    slice_ = PillowImage.fromarray(pixels).convert("RGBA")
    with PillowImage.open(io.BytesIO(draw_heat(activation)), formats=["PNG"]) as heat:
        return PillowImage.alpha_composite(slice_, heat.convert("RGBA")).convert("RGB")


def _png(picture: PillowImage.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", compress_level=6)
    return stream.getvalue()
