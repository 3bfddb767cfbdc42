"""The pictures of an answer: outline over the slice, bare mask, where the model looked; and what doctors left of it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from django.db.models.fields.files import FieldFile
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


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One outline to be drawn: its number, its box (x, y, width, height in pixels), and its mask as PNG (0 or 255)."""

    number: int
    box: tuple[int, int, int, int]
    outline: bytes
    is_doctors: bool


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
    drawn = [
        Drawn(number=found.number, box=found.box, outline=_outline_of(found), is_doctors=found.outline is not None)
        for found in findings
        if not found.is_rejected and found.box is not None
    ]
    return draw_outlines(_content(image.file), drawn)


def mask_of(found: EffectiveFinding) -> NDArray[np.uint8]:
    """Return a finding's outline, uint8 (H, W) of its slice, 0 or 255. Needs a finding with a box.

    Raises ``OSError`` if a file is missing.
    """
    return _pixels(_outline_of(found))


def draw_outlines(content: bytes, drawn: Sequence[Drawn]) -> bytes:
    """Draw a slice (the bytes of its file) with numbered outlines; those of doctors in a colour of their own."""
    pixels = read_slice(content).pixels
    masks = {is_doctors: np.zeros(pixels.shape, np.uint8) for is_doctors in (False, True)}
    for one in drawn:
        np.maximum(masks[one.is_doctors], _pixels(one.outline), out=masks[one.is_doctors])
    return draw_overlay(
        pixels,
        masks[False],
        boxes=[one.box for one in drawn],
        numbers=[one.number for one in drawn],
        doctor_mask=masks[True],
        doctor_numbers=[one.number for one in drawn if one.is_doctors],
    )


def _outline_of(found: EffectiveFinding) -> bytes:
    """Return the outline that holds as PNG: the doctor's drawing, else the software's region."""
    if found.outline is not None:
        return _content(found.outline)
    own = found.finding
    assert own is not None  # noqa: S101 - what a doctor added has an outline where it has a box
    return region_of(_content(own.analysis.mask), box=(own.box_x, own.box_y, own.box_width, own.box_height))


def _pixels(png: bytes) -> NDArray[np.uint8]:
    with PillowImage.open(io.BytesIO(png), formats=["PNG"]) as picture:
        return np.asarray(picture.convert("L"))


def _content(stored: FieldFile) -> bytes:
    with stored.open("rb") as file:
        content: bytes = file.read()
    return content


def _under_heat(pixels: NDArray[np.uint8], *, activation: NDArray[np.uint8]) -> PillowImage.Image:
    slice_ = PillowImage.fromarray(pixels).convert("RGBA")
    with PillowImage.open(io.BytesIO(draw_heat(activation)), formats=["PNG"]) as heat:
        return PillowImage.alpha_composite(slice_, heat.convert("RGBA")).convert("RGB")


def _png(picture: PillowImage.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", compress_level=6)
    return stream.getvalue()
