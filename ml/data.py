"""Readers of the three layouts of training data, and how their patients are split.

`chest-ctscan`: `{train,valid,test}/<class>/*.png|jpg` (the public "Chest CT-Scan images" set), beside it `groups.csv`.
`lidc-nodules`: `index.csv` with one nodule slice a row, crops of 128x128 with masks.
`whole-slices`: any tree of `NAME.png|jpg` + `NAME_mask.png|jpg`; a patient is a folder.
Nothing here imports the training stack.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ml.errors import TrainingDataError

CLASSES: tuple[str, ...] = ("adenocarcinoma", "large_cell_carcinoma", "normal", "squamous_cell_carcinoma")
SPLITS: tuple[str, ...] = ("train", "valid", "test")
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
MASK_ENDING = "_mask"
# Patients of `manage.py export_labels` are called so.
PORTAL_PREFIX = "portal-"
# At least half of the readers marked the pixel.
MASK_THRESHOLD = 128


@dataclass(frozen=True)
class NoduleSlice:
    """One row of a lidc-nodules index: a crop around a nodule. `malignancy` is 1-5, None where no reader gave one."""

    image: Path
    mask: Path
    patient: str
    nodule: str
    area_px: int
    malignancy: int | None

    @property
    def is_malignant(self) -> bool | None:
        """True for ratings 4-5, False for 1-2, None for 3 and for unknown: the usual task leaves those out."""
        return None if self.malignancy in (None, 3) else self.malignancy > 3


@dataclass(frozen=True)
class WholeSlice:
    """A whole slice with the mask of its tumour (all black where there is none)."""

    image: Path
    mask: Path
    patient: str


@dataclass(frozen=True)
class ChestImage:
    """One picture of the chest-ctscan layout. `label` indexes `CLASSES`; the groups are None without `groups.csv`."""

    image: Path
    relative_path: str
    split: str
    label: int
    sha1: str
    same_slice_id: str | None
    patient_group_id: str | None


@dataclass(frozen=True)
class DataFolders:
    """Where each set lies below a data folder; None where it does not."""

    chest_ctscan: Path | None
    lidc_nodules: Path | None
    whole_slices: Path | None


def find_folders(root: Path) -> DataFolders:
    """Return the sets found at or below `root`; raise TrainingDataError where there is none."""
    if not root.is_dir():
        raise TrainingDataError(f"The data folder {root} does not exist. Name one with --data or IRA_DATA_DIR.")
    found = DataFolders(
        chest_ctscan=_first(path for path in _candidates(root, "chest-ctscan-images") if has_splits(_data(path))),
        lidc_nodules=_first(path for path in _candidates(root, "lidc-nodules") if (path / "index.csv").is_file()),
        whole_slices=_first(path for path in (root / "msd-lung-slices", root / "whole-slices") if path.is_dir()),
    )
    if not any((found.chest_ctscan, found.lidc_nodules, found.whole_slices)):
        raise TrainingDataError(
            f"The folder {root} holds none of chest-ctscan-images, lidc-nodules and msd-lung-slices. "
            "Name the folder above them with --data."
        )
    return found


def _candidates(root: Path, name: str) -> tuple[Path, Path]:
    return root / name, root


def _first(paths: Iterable[Path]) -> Path | None:
    return next(iter(paths), None)


def _data(root: Path) -> Path:
    return root / "Data" if (root / "Data").is_dir() else root


def has_splits(root: Path) -> bool:
    """Tell whether `root` holds at least one split folder of the chest-ctscan layout."""
    return any((root / split).is_dir() for split in SPLITS)


def class_of_folder(name: str) -> int:
    """Return the class index of a folder such as `large.cell.carcinoma_left.hilum_T2_N2_M0_IIIa`.

    Raises TrainingDataError for a name that starts with none of the classes.
    """
    plain = name.lower().replace(".", "_").replace(" ", "_").replace("-", "_")
    for index, class_ in enumerate(CLASSES):
        if plain.startswith(class_):
            return index
    raise TrainingDataError(
        f"The class folder “{name}” is none of {', '.join(CLASSES)}. Rename it or move it out of the data set."
    )


def read_chest_ctscan(root: Path) -> tuple[ChestImage, ...]:
    """Return every picture below `root`, sorted by path; `groups.csv` beside or above the splits gives the groups."""
    data = _data(root)
    groups = _read_groups(root)
    images: list[ChestImage] = []
    for split in SPLITS:
        if not (data / split).is_dir():
            continue
        for folder in sorted(path for path in (data / split).iterdir() if path.is_dir()):
            label = class_of_folder(folder.name)
            for path in sorted(folder.iterdir()):
                if path.suffix.lower() not in PICTURE_SUFFIXES:
                    continue
                relative = path.relative_to(data).as_posix()
                row = groups.get(relative, {})
                images.append(
                    ChestImage(
                        image=path,
                        relative_path=relative,
                        split=split,
                        label=label,
                        sha1=row.get("sha1") or hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest(),
                        same_slice_id=row.get("same_slice_id"),
                        patient_group_id=row.get("patient_group_id"),
                    )
                )
    if not images:
        raise TrainingDataError(f"No PNG or JPEG pictures below {data}/train, valid and test.")
    return tuple(images)


def _read_groups(root: Path) -> dict[str, dict[str, str]]:
    path = root / "groups.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def without_conflicts(images: Sequence[ChestImage]) -> tuple[ChestImage, ...]:
    """Return the images of one training set once each, without those whose picture also carries another class.

    The same picture is judged by file content and, where known, by `same_slice_id`; of byte-identical copies the first
    stays.
    """
    labels: defaultdict[str, set[int]] = defaultdict(set)
    for image in images:
        for key in _identities(image):
            labels[key].add(image.label)
    kept, seen = [], set()
    for image in images:
        if image.sha1 in seen or any(len(labels[key]) > 1 for key in _identities(image)):
            continue
        seen.add(image.sha1)
        kept.append(image)
    return tuple(kept)


def _identities(image: ChestImage) -> tuple[str, ...]:
    same_slice = () if image.same_slice_id is None else (f"slice:{image.same_slice_id}",)
    return (f"sha1:{image.sha1}", *same_slice)


def read_lidc_nodules(root: Path) -> tuple[NoduleSlice, ...]:
    """Return the rows of `root/index.csv` in file order."""
    path = root / "index.csv"
    slices = []
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                slices.append(
                    NoduleSlice(
                        image=root / row["image"],
                        mask=root / row["mask"],
                        patient=row["patient"],
                        nodule=f"{row['patient']}/{row['nodule']}",
                        area_px=int(row["area_px"]),
                        malignancy=int(row["malignancy"]) if row["malignancy"] else None,
                    )
                )
            except (KeyError, ValueError) as error:
                raise TrainingDataError(
                    f"Line {number} of {path} cannot be read: {error}. Correct the index."
                ) from error
    if not slices:
        raise TrainingDataError(f"The index {path} lists no slices.")
    return tuple(slices)


def read_whole_slices(root: Path) -> tuple[WholeSlice, ...]:
    """Return every picture below `root` that has a mask, sorted by path; its folder is its patient."""
    slices = []
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() not in PICTURE_SUFFIXES or path.stem.endswith(MASK_ENDING):
            continue
        masks = [path.with_name(f"{path.stem}{MASK_ENDING}{suffix}") for suffix in (path.suffix, *PICTURE_SUFFIXES)]
        mask = _first(candidate for candidate in masks if candidate.is_file())
        if mask is not None:
            slices.append(WholeSlice(image=path, mask=mask, patient=path.parent.relative_to(root).as_posix()))
    if not slices:
        raise TrainingDataError(f"No pair of NAME.png and NAME_mask.png below {root}.")
    return tuple(slices)


def read_grey(path: Path) -> np.ndarray:
    """Return a training picture as uint8 (H, W); RGBA, RGB, palette and grey alike. Raises TrainingDataError."""
    try:
        with Image.open(path, formats=["PNG", "JPEG"]) as image:
            return np.asarray(image.convert("RGB").convert("L"))
    except (OSError, ValueError, SyntaxError) as error:
        raise TrainingDataError(
            f"The training picture {path} cannot be read: {error}. Remove or replace it."
        ) from error


def split_of_patients(patients: Iterable[str], *, seed: int, valid_share: float, test_share: float) -> dict[str, str]:
    """Return patient → "train", "valid" or "test".

    Each patient's place follows from the seed and its own name alone (a hash), so adding or leaving out patients moves
    nobody else, and a second reading of the same data can never leak one across.
    """
    return {patient: _split_of(_draw(patient, seed=seed), valid_share, test_share) for patient in set(patients)}


def _draw(name: str, *, seed: int) -> float:
    """Return a number in [0, 1) that depends on `name` and `seed` alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big") / 2**64


def _split_of(draw: float, valid_share: float, test_share: float) -> str:
    if draw < test_share:
        return "test"
    return "valid" if draw < test_share + valid_share else "train"


def split_few_patients(patients: Collection[str], *, seed: int) -> dict[str, str]:
    """Return patient → split for a set of a handful of patients: one for test, one for validation, the rest train.

    Which one is drawn with the seed, not chosen. With fewer than three patients all are for training, and those whom
    doctors taught about in the portal always are: what is held out stays the same, so that versions can be compared.
    """
    taught = {patient for patient in patients if patient.startswith(PORTAL_PREFIX)}
    drawn = sorted(set(patients) - taught, key=lambda patient: _draw(patient, seed=seed))
    splits = dict.fromkeys((*taught, *drawn), "train")
    if len(drawn) >= 3:
        splits |= {drawn[0]: "test", drawn[1]: "valid"}
    return splits


@dataclass(frozen=True)
class ManifestEntry:
    """One file that took part in a training: its set, split, patient or group, and content hash."""

    set: str
    path: str
    split: str
    group: str
    sha256: str


def fingerprint(entries: Iterable[ManifestEntry]) -> str:
    """Return the SHA-256 of a training manifest: changes when any file, split or group does, not with their order."""
    lines = sorted(json.dumps(asdict(entry), sort_keys=True) for entry in entries)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
