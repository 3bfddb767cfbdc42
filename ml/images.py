"""Reads one CT slice from bytes that nobody vouches for: PNG, JPEG or DICOM in, grey pixels out.

Everything that comes from outside passes through :func:`read_slice`: sizes are checked before anything is decoded,
the kind is told from the bytes and never from the name, and every refusal is a sentence that says what to do next.
"""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ml.errors import ImageTooLargeError, ImageTooSmallError, UnreadableImageError, UnsupportedImageError
from ml.windows import WINDOWS, Window

if TYPE_CHECKING:
    from ml.dicom import DicomFacts

PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC: Final = b"\xff\xd8\xff"
DICOM_MAGIC: Final = b"DICM"
WHAT_TO_SEND: Final = "Please upload the slice as PNG, JPEG or DICOM."

# What decoders raise on damaged or hostile bytes; anything else is a bug of ours and must show.
DECODER_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# The first bytes of what people upload by mistake, so that the refusal can name it.
_OTHER_KINDS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"%PDF", "a PDF document"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a GZIP archive"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML document"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (b"MZ", "a program"),
    (b"\x7fELF", "a program"),
)
# How a DICOM data set begins that was stored without the preamble of a DICOM file: with its meta group, or at once with
# one of the first elements of group 8 (its length, character set, image type, creation, class).
_BARE_DICOM: Final = (b"\x02\x00\x00\x00UL", *(bytes((8, 0, element, 0)) for element in (0, 5, 8, 18, 19, 20, 22)))


@dataclass(frozen=True)
class Limits:
    """What is accepted. Bytes of the file, pixels a side and in all, ratio of the sides, colour (mean spread of the
    channels).
    """

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 40_000_000
    max_side_px: int = 8192
    min_side_px: int = 64
    max_side_ratio: float = 4.0
    # Coloured arrows and watermarks of real slices stay below 4; photographs lie between 12 and 60.
    max_mean_chroma: float = 9.0


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True)
class Slice:
    """One decoded slice: ``pixels`` uint8 (H,W), upright as a viewer shows the file; spacing (row, column) where it
    is known.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str
    mode: str
    pixel_spacing_mm: tuple[float, float] | None
    # The Hounsfield units that became black and white; None where the file does not tell Hounsfield units.
    window: Window | None = None


def read_slice(source: bytes | Path, *, limits: Limits = DEFAULT_LIMITS, window: Window = WINDOWS["wide"]) -> Slice:
    """Decode one slice. ``window`` turns the Hounsfield units of a DICOM file into grey; PNG and JPEG carry their
    window already.

    Raises an :class:`ml.errors.ImageError` whose message is for the user: ``UnreadableImageError`` (missing, empty,
    damaged), ``UnsupportedImageError`` (another format, several pictures, a photograph, DICOM of another kind),
    ``ImageTooLargeError``, ``ImageTooSmallError``.
    """
    data = _read_bytes(source, limits=limits)
    if is_dicom(data):
        # Only DICOM needs pydicom, and it takes longer to import than the rest of the serving path together.
        from ml.dicom import read_dicom

        return read_dicom(data, limits=limits, window=window)
    if data.startswith((PNG_MAGIC, JPEG_MAGIC)):
        return _read_picture(data, limits=limits)
    raise UnsupportedImageError(_name_the_kind(data))


def is_dicom(data: bytes) -> bool:
    """Whether the bytes begin like a DICOM file, with or without its preamble; the name of the file says nothing."""
    return data[128:132] == DICOM_MAGIC or data.startswith(_BARE_DICOM)


def read_facts(data: bytes) -> "DicomFacts | None":
    """What a DICOM file says about itself, or None for every other kind.

    Raises an ``ImageError`` for a DICOM file that is no axial CT slice.
    """
    if not is_dicom(data):
        return None
    from ml.dicom import read_dicom_facts

    return read_dicom_facts(data)


def reencode_png(slice_: Slice) -> bytes:
    """The slice as an 8-bit grey PNG that holds the pixels and nothing else: no metadata, no colour profile, no
    trailing bytes.
    """
    stream = io.BytesIO()
    Image.fromarray(slice_.pixels).save(stream, format="PNG", optimize=False, compress_level=6)
    return stream.getvalue()


def _read_bytes(source: bytes | Path, *, limits: Limits) -> bytes:
    megabytes = limits.max_bytes / 1024 / 1024
    too_large = (
        f"The file is larger than the {megabytes:.0f} MB that are accepted. Please export the slice as an 8-bit PNG "
        f"or JPEG and upload that."
    )
    if isinstance(source, bytes):
        data = source
    else:
        try:
            if source.is_dir():
                raise UnreadableImageError("This is a folder, not a file. Please name the slices in it one by one.")
            with source.open("rb") as stream:
                data = stream.read(limits.max_bytes + 1)
        except FileNotFoundError as error:
            raise UnreadableImageError("There is no such file. Please check the path and try again.") from error
        except OSError as error:
            raise UnreadableImageError(
                "The file cannot be opened. Please check that it exists and that you may read it."
            ) from error
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(too_large)
    if not data:
        raise UnreadableImageError("The file is empty. Please export the slice again and upload the new file.")
    return data


def _name_the_kind(data: bytes) -> str:
    head = data.lstrip()[:16]
    for magic, kind in _OTHER_KINDS:
        if data.startswith(magic) or head.lower().startswith(magic.lower()):
            return f"This is {kind}, which cannot be read as a CT slice. {WHAT_TO_SEND}"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return f"This is a WebP picture, which cannot be read as a CT slice. {WHAT_TO_SEND}"
    if data[4:8] == b"ftyp":
        return f"This is a HEIC picture or a film, which cannot be read as a CT slice. {WHAT_TO_SEND}"
    return f"This file is not a picture of a kind that can be read. {WHAT_TO_SEND}"


def check_size(width: int, height: int, *, limits: Limits) -> None:
    """Raise an ``ImageError`` for a picture of a size that no slice has; called before anything is decoded."""
    if width <= 0 or height <= 0:
        raise UnreadableImageError("The picture has no pixels. Please export the slice again and upload the new file.")
    if width * height > limits.max_pixels or max(width, height) > limits.max_side_px:
        raise ImageTooLargeError(
            f"The picture has {width} x {height} pixels, which is more than is accepted "
            f"({limits.max_side_px} a side, {limits.max_pixels // 1_000_000} million in all). "
            "Please export the slice at its own resolution, usually 512 x 512."
        )
    if min(width, height) < limits.min_side_px:
        raise ImageTooSmallError(
            f"The picture has only {width} x {height} pixels; at least {limits.min_side_px} on each side are needed. "
            "Please export the slice at its own resolution, usually 512 x 512."
        )
    if max(width, height) > limits.max_side_ratio * min(width, height):
        raise UnsupportedImageError(
            f"The picture is {width} x {height} pixels, a strip and not a CT slice. Please upload one whole slice."
        )


# --- PNG and JPEG -----------------------------------------------------------------------------------------------------


def _read_picture(data: bytes, *, limits: Limits) -> Slice:
    kind = "PNG" if data.startswith(PNG_MAGIC) else "JPEG"
    damaged = f"The {kind} file is damaged or cut short. Please export the slice again and upload the new file."
    with warnings.catch_warnings():
        # Size warnings are ours to judge, and libraries' remarks on odd metadata are of no use to the reader of our
        # message.
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=[kind]) as image:
                check_size(*image.size, limits=limits)
                if getattr(image, "n_frames", 1) > 1:
                    raise UnsupportedImageError(
                        "The file holds several pictures (an animation or a burst). Please upload one slice a file."
                    )
                image.verify()
            with Image.open(io.BytesIO(data), formats=[kind]) as image:
                mode = image.mode
                image.load()
                upright = _upright(image)
                pixels = _to_grey(upright, limits=limits)
        except UnidentifiedImageError as error:
            raise UnreadableImageError(damaged) from error
        except Image.DecompressionBombError as error:
            raise ImageTooLargeError(
                "The picture has far more pixels than any CT slice. Please export the slice at its own resolution, "
                "usually 512 x 512."
            ) from error
        except DECODER_ERRORS as error:
            raise UnreadableImageError(damaged) from error
    check_not_blank(pixels)
    height, width = pixels.shape
    return Slice(pixels=pixels, width=width, height=height, format=kind, mode=mode, pixel_spacing_mm=None)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation says; unreadable EXIF is no reason to refuse sound pixels."""
    try:
        return ImageOps.exif_transpose(image)
    except DECODER_ERRORS:
        return image


def _to_grey(image: Image.Image, *, limits: Limits) -> NDArray[np.uint8]:
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        return squeeze(np.asarray(image).astype(np.float32))
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"), np.uint8)
    has_alpha = image.mode in ("LA", "La", "PA", "RGBa") or "transparency" in image.info
    colour = image.convert("RGBA" if has_alpha or image.mode == "RGBA" else "RGB")
    if colour.mode == "RGBA":
        # What is see-through shows the black of a viewing screen.
        black = Image.new("RGBA", colour.size, (0, 0, 0, 255))
        colour = Image.alpha_composite(black, colour).convert("RGB")
    _check_colour(colour, limits=limits)
    return np.array(colour.convert("L"), np.uint8)


def _check_colour(colour: Image.Image, *, limits: Limits) -> None:
    small = colour.copy()
    small.thumbnail((256, 256))
    channels = np.asarray(small, np.int16)
    chroma = float((channels.max(axis=2) - channels.min(axis=2)).mean())
    if chroma > limits.max_mean_chroma:
        raise UnsupportedImageError(
            "This looks like a colour photograph; a CT slice is grey. Please upload the slice itself as your viewer "
            "exports it, not a photograph of a screen or a coloured rendering."
        )


def squeeze(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """More than 8 bits to 8: the darkest thousandth becomes black, the brightest white, so that one hot pixel does
    not dim the rest.
    """
    if not np.isfinite(values).all():
        raise UnreadableImageError("The picture holds values that are no numbers. Please export the slice again.")
    low, high = (float(value) for value in np.percentile(values, (0.1, 99.9)))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    scaled = (values - low) * (255.0 / max(high - low, 1e-6))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def check_not_blank(pixels: NDArray[np.uint8]) -> None:
    """Raise ``UnsupportedImageError`` for one even grey."""
    if int(pixels.max()) - int(pixels.min()) < 8:
        raise UnsupportedImageError(
            "The picture is one even grey and shows no slice. Please check the export and its window, and upload it "
            "again."
        )
