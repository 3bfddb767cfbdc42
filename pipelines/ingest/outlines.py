"""The two sets with outlines: every picture and mask decoded and compared, sound pairs copied, the rest set aside."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ml.data import MASK_ENDING, PICTURE_SUFFIXES
from ml.errors import ImageError, TrainingDataError
from ml.images import Limits
from pipelines.ingest.pictures import SetAside, files_below, read_picture, read_regular
from pipelines.ingest.progress import Progress, silent

INDEX_NAME = "index.csv"
INDEX_COLUMNS = ("image", "mask", "patient", "nodule", "readers", "area_px", "malignancy")
OUTLINED_LIMITS = Limits(min_side_px=32, max_side_ratio=4.0)
LARGEST_INDEX_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class OutlinedPicture:
    """One sound picture with its mask; `patient` is its group."""

    path: str
    patient: str
    sha256: str
    mask_sha256: str
    width: int
    height: int
    mode: str
    format: str
    has_tumour: bool


Checked = tuple[tuple[OutlinedPicture, ...], tuple[SetAside, ...]]


def check_nodules(root: Path, *, out: Path, progress: Progress = silent) -> Checked:
    """Check a lidc-nodules folder; `out` receives the sound pairs and an index of them alone.

    Raises TrainingDataError where the index cannot be read at all.
    """
    header, rows = _read_index(root / INDEX_NAME)
    sound: list[OutlinedPicture] = []
    kept: list[dict[str, str]] = []
    set_aside: list[SetAside] = []
    named = {INDEX_NAME}
    for number, row in enumerate(rows, start=1):
        name = row.get("image") or f"line {number + 1} of {INDEX_NAME}"
        named.update(value for key in ("image", "mask") if (value := row.get(key)))
        try:
            _check_row(row)
            sound.append(_take(root, image=row["image"], mask=row["mask"], patient=row["patient"], out=out))
            kept.append(row)
        except (ImageError, TrainingDataError) as error:
            set_aside.append(SetAside(path=name, reason=str(error)))
        progress("checking nodules", number, len(rows))
    set_aside += [
        SetAside(path=name, reason=f"{INDEX_NAME} does not name it.")
        for name, _ in files_below(root)
        if name not in named
    ]
    out.mkdir(parents=True, exist_ok=True)
    with (out / INDEX_NAME).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
    return tuple(sound), tuple(set_aside)


def _read_index(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        reader = csv.DictReader(io.StringIO(read_regular(path, limit=LARGEST_INDEX_BYTES).decode(), newline=""))
        header = list(reader.fieldnames or ())
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise TrainingDataError(f"The index {path} cannot be read: {error}. Restore the file.") from error
    if missing := set(INDEX_COLUMNS) - set(header):
        raise TrainingDataError(
            f"The index {path} lacks the columns {', '.join(sorted(missing))}. Restore the file or leave the set out."
        )
    return header, rows


def _check_row(row: dict[str, str]) -> None:
    if any(row.get(column) is None for column in INDEX_COLUMNS):
        raise TrainingDataError("Its line in the index is cut short.")
    if not row["patient"].strip():
        raise TrainingDataError("Its line in the index names no patient, so it cannot be kept out of a split.")
    if not row["area_px"].isascii() or not row["area_px"].isdigit():
        raise TrainingDataError("Its line in the index gives no area in pixels.")
    if row["malignancy"] not in ("", "1", "2", "3", "4", "5"):
        raise TrainingDataError("Its malignancy is none of 1 to 5.")


def check_slices(root: Path, *, out: Path, progress: Progress = silent) -> Checked:
    """Check a tree of `NAME.png|jpg` and `NAME_mask.png|jpg`; `out` receives the sound pairs."""
    sound: list[OutlinedPicture] = []
    set_aside: list[SetAside] = []
    names = [name for name, _ in files_below(root)]
    present = set(names)
    masks_used: set[str] = set()
    pictures = [name for name in names if _is_picture(name) and not PurePosixPath(name).stem.endswith(MASK_ENDING)]
    for number, name in enumerate(pictures, start=1):
        path = PurePosixPath(name)
        endings = (path.suffix, *sorted(PICTURE_SUFFIXES))
        masks = (path.with_name(f"{path.stem}{MASK_ENDING}{ending}").as_posix() for ending in endings)
        mask = next((one for one in masks if one in present), None)
        try:
            if mask is None:
                raise TrainingDataError("It has no mask beside it.")
            masks_used.add(mask)
            sound.append(_take(root, image=name, mask=mask, patient=path.parent.as_posix(), out=out))
        except (ImageError, TrainingDataError) as error:
            set_aside.append(SetAside(path=name, reason=str(error)))
        progress("checking slices", number, len(pictures))
    for name in names:
        if not _is_picture(name):
            set_aside.append(SetAside(path=name, reason="It is no PNG or JPEG picture."))
        elif PurePosixPath(name).stem.endswith(MASK_ENDING) and name not in masks_used:
            set_aside.append(SetAside(path=name, reason="It is a mask without its picture."))
    return tuple(sound), tuple(set_aside)


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES


def _take(root: Path, *, image: str, mask: str, patient: str, out: Path) -> OutlinedPicture:
    """Check a pair and copy it. Raises ImageError or TrainingDataError and copies nothing."""
    contents = {name: read_regular(_inside(root, name), limit=OUTLINED_LIMITS.max_bytes) for name in (image, mask)}
    slice_ = read_picture(contents[image], limits=OUTLINED_LIMITS)
    outlined = _read_mask(contents[mask], width=slice_.width, height=slice_.height)
    for name, content in contents.items():
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return OutlinedPicture(
        path=image,
        patient=patient,
        sha256=hashlib.sha256(contents[image]).hexdigest(),
        mask_sha256=hashlib.sha256(contents[mask]).hexdigest(),
        width=slice_.width,
        height=slice_.height,
        mode=slice_.mode,
        format=slice_.format,
        has_tumour=bool(outlined.any()),
    )


def _inside(root: Path, name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts:
        raise TrainingDataError("The index names a file outside the set.")
    return root / path


def _read_mask(content: bytes, *, width: int, height: int) -> np.ndarray:
    """Return a mask's greys; unlike a slice it may be black all over. Its size is compared before it is decoded."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as image:
            if image.size != (width, height):
                raise TrainingDataError(
                    f"Its mask has {image.width} x {image.height} pixels, the picture {width} x {height}."
                )
            return np.asarray(image.convert("L"))
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise TrainingDataError(f"Its mask cannot be read: {error}") from error
