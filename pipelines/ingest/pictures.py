"""The class set as it was found: every file decoded and checked, none dropped in silence."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ml.data import CLASSES, SPLITS, class_of_folder
from ml.errors import ImageError, TrainingDataError
from ml.images import DICOM_MAGIC, Limits, Slice, read_slice
from pipelines.ingest.progress import Progress, silent

GROUPS_NAME = "groups.csv"
# Slices of the public set have at least 122 pixels a side; LIDC's crops 128.
PICTURE_LIMITS = Limits(min_side_px=32, max_side_ratio=4.0)
RIM_SHARE = 1 / 40
HISTOGRAM_BINS = 16


@dataclass(frozen=True)
class SetAside:
    """A file that takes no part, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Style:
    """What a picture shows besides the patient: brightness of its rim (0-255) and shares of 16 greys."""

    rim: float
    histogram: tuple[float, ...]


@dataclass(frozen=True)
class Picture:
    """One sound picture of the class set.

    `pixels_sha256` is that of the decoded greys: two files may differ and show the same. `duplicate_of` is the first
    path that shows the same, training first; `conflict_with` one that shows the same or the same slice and carries
    another class.
    """

    path: str
    split: str
    class_name: str
    sha256: str
    sha1: str
    pixels_sha256: str
    width: int
    height: int
    mode: str
    format: str
    style: Style
    duplicate_of: str = ""
    conflict_with: str = ""
    same_slice_id: str = ""
    patient_group_id: str = ""


def files_below(root: Path) -> list[tuple[str, Path]]:
    """Return (path relative to `root`, path) of everything below it that is no folder, sorted; links unfollowed.

    A folder that may not be read stands for what is in it.
    """
    found: list[Path] = []

    def refused(error: OSError) -> None:
        found.append(Path(error.filename))

    for folder, folders, files in os.walk(root, onerror=refused):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        found += [Path(folder, name) for name in (*files, *links)]
    return sorted((path.relative_to(root).as_posix(), path) for path in found)


def read_regular(path: Path, *, limit: int) -> bytes:
    """Return a file's content. Raises TrainingDataError for links, devices, too large and unreadable files."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise TrainingDataError("It is a link, a pipe or a device, not a file.")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise TrainingDataError(f"It cannot be read: {error.strerror}.") from error
    if len(content) > limit:
        raise TrainingDataError(f"It has more than {limit / 1024**2:.0f} MB, more than any slice.")
    return content


def read_picture(content: bytes, *, limits: Limits = PICTURE_LIMITS) -> Slice:
    """Decode a training picture by the code that serves users. Raises ImageError or TrainingDataError."""
    if content[128:132] == DICOM_MAGIC:
        raise TrainingDataError("It is a DICOM file; training reads PNG and JPEG. Export it as an 8-bit PNG.")
    return read_slice(content, limits=limits)


def read_class_set(
    data: Path, *, out: Path, progress: Progress = silent
) -> tuple[tuple[Picture, ...], tuple[SetAside, ...]]:
    """Check everything below `data` (the folder of the splits) and copy what is sound to the same place below `out`.

    Returns the pictures, training first, without relations and groups, and what was set aside.
    """
    sound: list[Picture] = []
    set_aside: list[SetAside] = []
    files = list(files_below(data))
    for number, (relative, path) in enumerate(files, start=1):
        try:
            split, class_name = place_of(relative)
            content = read_regular(path, limit=PICTURE_LIMITS.max_bytes)
            picture = _describe(relative, split=split, class_name=class_name, content=content)
        except (ImageError, TrainingDataError) as error:
            set_aside.append(SetAside(path=relative, reason=str(error)))
        else:
            target = out / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            sound.append(picture)
        progress("checking pictures", number, len(files))
    return tuple(sorted(sound, key=lambda picture: (SPLITS.index(picture.split), picture.path))), tuple(set_aside)


def place_of(relative: str) -> tuple[str, str]:
    """Return split and class name of `SPLIT/CLASS/FILE`. Raises TrainingDataError for any other place."""
    if not relative.isprintable():
        raise TrainingDataError("Its name holds letters that cannot be printed. Rename it.")
    parts = relative.split("/")
    if len(parts) != 3 or parts[0] not in SPLITS:
        raise TrainingDataError("It does not lie in SPLIT/CLASS/ with one of the splits train, valid and test.")
    return parts[0], CLASSES[class_of_folder(parts[1])]


def _describe(relative: str, *, split: str, class_name: str, content: bytes) -> Picture:
    slice_ = read_picture(content)
    return Picture(
        path=relative,
        split=split,
        class_name=class_name,
        sha256=hashlib.sha256(content).hexdigest(),
        sha1=hashlib.sha1(content, usedforsecurity=False).hexdigest(),
        pixels_sha256=hashlib.sha256(repr(slice_.pixels.shape).encode() + slice_.pixels.tobytes()).hexdigest(),
        width=slice_.width,
        height=slice_.height,
        mode=slice_.mode,
        format=slice_.format,
        style=_style_of(slice_),
    )


def _style_of(slice_: Slice) -> Style:
    pixels = slice_.pixels
    rim = max(2, round(min(pixels.shape) * RIM_SHARE))
    inside = np.zeros(pixels.shape, dtype=bool)
    inside[rim:-rim, rim:-rim] = True
    counts = np.bincount(pixels.ravel() >> 4, minlength=HISTOGRAM_BINS)
    return Style(
        rim=round(float(pixels[~inside].mean()), 2),
        histogram=tuple(round(float(value), 5) for value in counts / pixels.size),
    )


@dataclass(frozen=True)
class Group:
    """To which slice and which patient, as far as can be told, a picture belongs."""

    same_slice_id: str
    patient_group_id: str


def with_groups(pictures: Sequence[Picture], *, groups: Mapping[str, Group]) -> tuple[Picture, ...]:
    """Return the pictures with the groups that `groups` (by path) gives them."""
    return tuple(
        replace(picture, same_slice_id=group.same_slice_id, patient_group_id=group.patient_group_id)
        if (group := groups.get(picture.path))
        else picture
        for picture in pictures
    )


def with_relations(pictures: Sequence[Picture]) -> tuple[Picture, ...]:
    """Return the pictures with `duplicate_of` and `conflict_with`; needs the groups."""
    first: dict[str, str] = {}
    same: defaultdict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        first.setdefault(picture.pixels_sha256, picture.path)
        for key in _identities(picture):
            same[key].append(picture)
    related = []
    for picture in pictures:
        others = (one for key in _identities(picture) for one in same[key] if one.class_name != picture.class_name)
        conflict = next(others, None)
        original = first[picture.pixels_sha256]
        related.append(
            replace(
                picture,
                duplicate_of="" if original == picture.path else original,
                conflict_with="" if conflict is None else conflict.path,
            )
        )
    return tuple(related)


def _identities(picture: Picture) -> Iterable[str]:
    yield f"pixels:{picture.pixels_sha256}"
    if picture.same_slice_id:
        yield f"slice:{picture.same_slice_id}"
