"""Reads DICOM: one axial CT slice as grey pixels, and what a file says about whom and what it belongs to.

Everything is refused that is not one plain axial slice of a CT, before its pixels are decoded. Compressed pixels are
unpacked by one library for each family of syntaxes (docs/decisions.md says why which).
"""

import datetime
import io
import math
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import pixel_array
from pydicom.uid import UID

from ml.errors import UnreadableImageError, UnsupportedImageError
from ml.images import (
    DECODER_ERRORS,
    DEFAULT_LIMITS,
    DICOM_MAGIC,
    Limits,
    Slice,
    check_not_blank,
    check_size,
    squeeze,
)
from ml.windows import WINDOWS, Window

DAMAGED: Final = "The DICOM file is damaged or cut short. Please export the slice again and upload the new file."
AN_AXIAL_SLICE: Final = "Please upload an axial slice of a chest CT."

_CT_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
_ENHANCED_CT_STORAGE: Final = frozenset({"1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"})
_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"  # and everything below it
_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_UNCOMPRESSED: Final = frozenset({_IMPLICIT, _EXPLICIT, "1.2.840.10008.1.2.2"})
_DEFLATED: Final = b"1.2.840.10008.1.2.1.99"
# Which library unpacks which compressed syntax. One each, so that no file chooses the code that reads it.
_DECODERS: Final = {
    "1.2.840.10008.1.2.4.50": "gdcm",  # JPEG baseline, 8 bits
    "1.2.840.10008.1.2.4.51": "gdcm",  # JPEG extended, 12 bits
    "1.2.840.10008.1.2.4.57": "gdcm",  # JPEG lossless
    "1.2.840.10008.1.2.4.70": "gdcm",  # JPEG lossless, first-order prediction: what most CT archives use
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg",
    "1.2.840.10008.1.2.5": "pydicom",  # run lengths
}
_RLE: Final = "1.2.840.10008.1.2.5"
# A slice counts as axial while its normal leans less than about 37 degrees from the body's axis: gantries tilt.
_LEAST_AXIAL: Final = 0.8


@dataclass(frozen=True, kw_only=True)
class DicomFacts:
    """What a DICOM slice says about itself. Names whom it shows: keep it no longer than it takes to file the slice.

    ``position_mm`` lies along the normal of the slice (towards the head grows); texts are empty where the file is
    silent, everything else is None.
    """

    study_uid: str
    series_uid: str
    series_number: int | None
    instance_number: int | None
    position_mm: float | None
    record_number: str
    family_name: str
    given_name: str
    birth_date: datetime.date | None
    study_date: datetime.date | None


def read_dicom(data: bytes, *, limits: Limits = DEFAULT_LIMITS, window: Window = WINDOWS["wide"]) -> Slice:
    """Decode one axial CT slice: uint8 (H,W) in ``window`` where the file tells Hounsfield units, else in its own.

    Raises an :class:`ml.errors.ImageError` whose message is for the user, as :func:`ml.images.read_slice` does.
    """
    with _damage_is_a_sentence():
        dataset = _parse(data, is_header_only=False)
        _check_kind(dataset)
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        _check_pixels(dataset, syntax=syntax, limits=limits)
        decoder = _DECODERS.get(syntax, "")
        values = np.asarray(pixel_array(dataset, decoding_plugin=decoder, raw=True))
        hu_window, pixels = _to_grey(values, dataset=dataset, window=window)
        spacing = _spacing(dataset.get("PixelSpacing"))
        mode = f"I;{int(dataset.BitsAllocated)}"
    check_not_blank(pixels)
    height, width = pixels.shape
    return Slice(
        pixels=pixels,
        width=width,
        height=height,
        format="DICOM",
        mode=mode,
        pixel_spacing_mm=spacing,
        window=hu_window,
    )


def read_dicom_facts(data: bytes) -> DicomFacts:
    """Return what the file says about itself, without decoding its pixels.

    Raises an :class:`ml.errors.ImageError` for anything but an axial CT slice, as :func:`read_dicom` does.
    """
    with _damage_is_a_sentence():
        dataset = _parse(data, is_header_only=True)
        _check_kind(dataset)
        family_name, given_name = _person(dataset.get("PatientName"))
        return DicomFacts(
            study_uid=_text(dataset.get("StudyInstanceUID"), longest=64),
            series_uid=_text(dataset.get("SeriesInstanceUID"), longest=64),
            series_number=_whole(dataset.get("SeriesNumber")),
            instance_number=_whole(dataset.get("InstanceNumber")),
            position_mm=_position(dataset),
            record_number=_text(dataset.get("PatientID"), longest=64),
            family_name=family_name,
            given_name=given_name,
            birth_date=_date(dataset.get("PatientBirthDate")),
            study_date=_date(dataset.get("StudyDate")) or _date(dataset.get("AcquisitionDate")),
        )


# --- the file ---------------------------------------------------------------------------------------------------------


@contextmanager
def _damage_is_a_sentence() -> Iterator[None]:
    """Turn whatever the libraries raise on damaged bytes into one sentence, and keep their remarks to themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (*DECODER_ERRORS, BytesLengthException, InvalidDicomError) as error:
            raise UnreadableImageError(DAMAGED) from error


def _parse(data: bytes, *, is_header_only: bool) -> Any:
    if _DEFLATED in data:
        # A deflated data set is unpacked whole before anything about it is known: a way to fill the memory. The whole
        # file is looked through, because a header may be padded until its syntax lies anywhere.
        raise UnsupportedImageError(_compressed("deflate"))
    has_preamble = data[128:132] == DICOM_MAGIC
    dataset = dcmread(io.BytesIO(data), force=not has_preamble, stop_before_pixels=is_header_only)
    if "TransferSyntaxUID" not in getattr(dataset, "file_meta", {}):
        if has_preamble:
            raise UnreadableImageError(DAMAGED)
        # A bare data set has no header that names its encoding; which of the two it is was told from its first bytes.
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = UID(_IMPLICIT if dataset.original_encoding[0] else _EXPLICIT)
    return dataset


def _compressed(name: str) -> str:
    return (
        f"The DICOM file is compressed in a way that is not unpacked here ({name}). "
        "Please export it uncompressed (explicit VR little endian), or as PNG."
    )


# --- what it is -------------------------------------------------------------------------------------------------------


def _check_kind(dataset: Any) -> None:
    """Refuse what is not one plain axial CT slice."""
    if "Modality" not in dataset and "Rows" not in dataset:
        raise UnreadableImageError(
            "The DICOM file says neither what it is nor how large; it is damaged or cut short. "
            "Please export the slice again and upload the new file."
        )
    storage = str(dataset.get("SOPClassUID", ""))
    if storage.startswith(_SECONDARY_CAPTURE):
        raise UnsupportedImageError(
            f"This DICOM file is a secondary capture (a screenshot, a scanned page), not a CT slice. {AN_AXIAL_SLICE}"
        )
    modality = str(dataset.get("Modality", "")).upper()
    if modality != "CT":
        kind = modality if modality.isalnum() and len(modality) <= 4 else "not given"
        raise UnsupportedImageError(f"This DICOM file is not a CT picture (its modality is {kind}). {AN_AXIAL_SLICE}")
    if "Rows" not in dataset or "Columns" not in dataset:
        raise UnsupportedImageError(f"This DICOM file holds no picture (a report, a plan, an index). {AN_AXIAL_SLICE}")
    if storage in _ENHANCED_CT_STORAGE or int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        raise UnsupportedImageError(
            "This DICOM file holds many slices in one file. Please export it as one file a slice and upload the "
            "slice you mean."
        )
    if storage not in ("", _CT_STORAGE):
        raise UnsupportedImageError(f"This DICOM file is of a kind (SOP class) that is no CT slice. {AN_AXIAL_SLICE}")
    if int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise UnsupportedImageError(
            "This DICOM file is a colour picture, such as a rendering or a screen capture. Please upload the CT "
            "slice itself."
        )
    _check_origin([str(part).upper() for part in dataset.get("ImageType", None) or []])
    _check_axial(dataset.get("ImageOrientationPatient", None))


def _check_origin(image_type: list[str]) -> None:
    if "LOCALIZER" in image_type or "SCOUT" in image_type:
        raise UnsupportedImageError(
            "This DICOM file is the planning view (localizer), not a slice. Please upload an axial slice of the chest."
        )
    if image_type[:2] == ["DERIVED", "SECONDARY"]:
        raise UnsupportedImageError(
            "This DICOM picture is derived from others (a reformatting, a projection, a dose page), not taken by the "
            "scanner. Please upload the original axial slices."
        )


def _check_axial(orientation: Any) -> None:
    try:
        parts = [float(part) for part in orientation]
    except (TypeError, ValueError):
        parts = []
    if len(parts) != 6 or not all(math.isfinite(part) for part in parts) or not any(parts):
        raise UnsupportedImageError(
            "The DICOM file does not say how the slice lies in the body, so it cannot be told whether it is axial. "
            "Please export the original slice with its orientation, or as PNG if you know that it is axial."
        )
    normal = _normal(parts)
    length = float(np.linalg.norm(normal))
    if not 0.8 < length < 1.2 or abs(float(normal[2])) < _LEAST_AXIAL * length:
        raise UnsupportedImageError(
            "This DICOM slice is not axial (it is coronal, sagittal or oblique). Please upload an axial slice "
            "of the chest."
        )


def _normal(orientation: list[float]) -> NDArray[np.float64]:
    return np.cross(np.array(orientation[:3]), np.array(orientation[3:]))


# --- pixels -----------------------------------------------------------------------------------------------------------


def _check_pixels(dataset: Any, *, syntax: str, limits: Limits) -> None:
    """Refuse pixels that are missing, too many, or packed as something else than the header says."""
    if "PixelData" not in dataset:
        raise UnsupportedImageError(f"This DICOM file holds no picture (a report, a plan, an index). {AN_AXIAL_SLICE}")
    if syntax not in _UNCOMPRESSED and syntax not in _DECODERS:
        raise UnsupportedImageError(_compressed(dataset.file_meta.TransferSyntaxUID.name))
    width, height = int(dataset.Columns), int(dataset.Rows)
    check_size(width, height, limits=limits)
    if syntax in _DECODERS and syntax != _RLE:
        # The header may say 512 x 512 and the stream inside unfold to anything.
        if _stream_size(get_frame(dataset.PixelData, 0, number_of_frames=1)) != (width, height):
            raise UnreadableImageError(DAMAGED)


def _stream_size(stream: bytes) -> tuple[int, int]:
    """Return the width and height that a compressed stream (JPEG, JPEG-LS, JPEG 2000) itself names.

    Sources: ITU-T T.81 B.2.2 (frame header), T.87 C.2.2, T.800 A.5.1 (SIZ). Raises ``ValueError`` if it names none.
    """
    start = stream.find(b"\xff\x4f\xff\x51", 0, 1024)
    if start >= 0:
        right, bottom, left, top = struct.unpack_from(">IIII", stream, start + 8)
        return right - left, bottom - top
    place = 2
    while place + 9 < len(stream) and stream[place] == 0xFF:
        marker = stream[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            height, width = struct.unpack_from(">HH", stream, place + 5)
            return width, height
        place += 2 + int(struct.unpack_from(">H", stream, place + 2)[0])
    raise ValueError("The stream names no size.")


def _to_grey(values: NDArray[Any], *, dataset: Any, window: Window) -> tuple[Window | None, NDArray[np.uint8]]:
    """Stored values (H,W) as grey, and the window in Hounsfield units where the file tells them."""
    if values.ndim != 2:
        raise UnreadableImageError(DAMAGED)
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    if slope == 0 or not (math.isfinite(slope) and math.isfinite(intercept)):
        raise UnreadableImageError(DAMAGED)
    modality_values = values.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    is_hounsfield = "RescaleIntercept" in dataset or int(dataset.get("PixelRepresentation", 0)) == 1
    own = _own_window(dataset)
    if is_hounsfield:
        pixels = window.apply(modality_values)
    elif own is not None:
        pixels = own.apply(modality_values)
    else:
        pixels = squeeze(modality_values)
    if str(dataset.get("PhotometricInterpretation", "")) == "MONOCHROME1":
        # Low values are meant to be shown white: so a viewer shows the file, and so it is read.
        pixels = np.asarray(255 - pixels, np.uint8)
        return None, pixels
    return (window if is_hounsfield else None), pixels


def _own_window(dataset: Any) -> Window | None:
    """The first window that the file itself asks for."""
    centre, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None or not (math.isfinite(centre) and width >= 1 and math.isfinite(width)):
        return None
    return Window("own", centre, width)


def _first(value: Any) -> float | None:
    try:
        return float(value[0] if not isinstance(value, str) and hasattr(value, "__getitem__") else value)
    except (TypeError, ValueError, IndexError):
        return None


def _spacing(value: Any) -> tuple[float, float] | None:
    """Row and column spacing in millimetres, or ``None`` where absent or beyond what a CT can have (0.05..5 mm)."""
    try:
        row, column = (float(part) for part in value)
    except (TypeError, ValueError):
        return None
    return (row, column) if all(0.05 <= part <= 5.0 for part in (row, column)) else None


# --- facts ------------------------------------------------------------------------------------------------------------


def _position(dataset: Any) -> float | None:
    """Where the slice lies along its normal, in millimetres."""
    try:
        place = np.array([float(part) for part in dataset.get("ImagePositionPatient")])
        if place.shape != (3,):
            return None
        normal = _normal([float(part) for part in dataset.ImageOrientationPatient])
        position = float(place @ normal) * (1 if normal[2] >= 0 else -1)
    except (TypeError, ValueError):
        return None
    return round(position, 3) if math.isfinite(position) else None


def _text(value: Any, *, longest: int) -> str:
    """One line of printable text without what was only padding."""
    joined = "".join(character for character in str(value or "") if character.isprintable())
    return " ".join(joined.split())[:longest]


def _person(value: Any) -> tuple[str, str]:
    """Family and given name of a DICOM person name; the alphabetic spelling where there are several."""
    alphabetic = str(value or "").split("=")[0]
    family, _, rest = alphabetic.partition("^")
    return _text(family, longest=80), _text(" ".join(rest.split("^")[:2]), longest=80)


def _whole(value: Any) -> int | None:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < 2**31 else None


def _date(value: Any) -> datetime.date | None:
    try:
        return datetime.datetime.strptime(str(value or "").replace(".", ""), "%Y%m%d").date()
    except ValueError:
        return None
