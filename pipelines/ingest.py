"""Stage 1: look at every file of the class set before anything is trained on it.

Writes `manifest.csv` (one line a picture: sha256, size, mode, class, split, duplicate of, conflict with, group) and
`data_report.json` (counts, duplicates across splits, conflicts, files set aside with the reason). Both appear by rename
once they are complete, so an interrupted run leaves nothing half-written.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from PIL import Image

from ml.data import CLASSES, SPLITS, class_of_folder, find_folders, has_splits
from ml.errors import MlError, TrainingDataError

MANIFEST_NAME = "manifest.csv"
REPORT_NAME = "data_report.json"
# CT slices of the public set have a few megapixels at most; more is a mistake or an attack.
LARGEST_PICTURE_PX = 40_000_000


@dataclass(frozen=True)
class Picture:
    """One sound picture. `duplicate_of` is the first path with the same bytes, `conflict_with` one of another class."""

    path: str
    split: str
    class_name: str
    sha256: str
    width: int
    height: int
    mode: str
    format: str
    duplicate_of: str
    conflict_with: str
    same_slice_id: str
    patient_group_id: str


@dataclass(frozen=True)
class SetAside:
    """A file that takes no part, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Ingested:
    pictures: tuple[Picture, ...]
    set_aside: tuple[SetAside, ...]


def ingest(root: Path) -> Ingested:
    """Decode and check every file below `root`'s splits. Raises TrainingDataError where there are none."""
    data = root / "Data" if (root / "Data").is_dir() else root
    if not has_splits(data):
        raise TrainingDataError(f"There is no train, valid or test folder in {data}. Name the folder that holds them.")
    groups = _read_groups(root / "groups.csv")
    sound: list[Picture] = []
    set_aside: list[SetAside] = []
    for path in sorted(path for split in SPLITS for path in (data / split).rglob("*") if path.is_file()):
        relative = path.relative_to(data).as_posix()
        try:
            sound.append(_read(path, relative=relative, group=groups.get(relative, {})))
        except (TrainingDataError, OSError, ValueError, SyntaxError) as error:
            set_aside.append(SetAside(path=relative, reason=str(error)))
    return Ingested(pictures=tuple(_with_relations(sound)), set_aside=tuple(set_aside))


def _read_groups(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def _read(path: Path, *, relative: str, group: dict[str, str]) -> Picture:
    split, folder, *deeper = relative.split("/")
    if len(deeper) != 1:
        raise TrainingDataError("It does not lie in SPLIT/CLASS/, so it has no class.")
    content = path.read_bytes()
    with Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as image:
        if image.width * image.height > LARGEST_PICTURE_PX:
            raise TrainingDataError(f"It has {image.width} x {image.height} pixels, more than any CT slice.")
        image.load()
        return Picture(
            path=relative,
            split=split,
            class_name=CLASSES[class_of_folder(folder)],
            sha256=hashlib.sha256(content).hexdigest(),
            width=image.width,
            height=image.height,
            mode=image.mode,
            format=image.format or "",
            duplicate_of="",
            conflict_with="",
            same_slice_id=group.get("same_slice_id", ""),
            patient_group_id=group.get("patient_group_id", ""),
        )


def _with_relations(pictures: Sequence[Picture]) -> Iterable[Picture]:
    first: dict[str, str] = {}
    same: defaultdict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        first.setdefault(picture.sha256, picture.path)
        for key in _identities(picture):
            same[key].append(picture)
    for picture in pictures:
        others = (one for key in _identities(picture) for one in same[key] if one.class_name != picture.class_name)
        conflict = next(others, None)
        original = first[picture.sha256]
        yield Picture(
            **{
                **asdict(picture),
                "duplicate_of": "" if original == picture.path else original,
                "conflict_with": "" if conflict is None else conflict.path,
            }
        )


def _identities(picture: Picture) -> tuple[str, ...]:
    same_slice = (f"slice:{picture.same_slice_id}",) if picture.same_slice_id else ()
    return (f"sha256:{picture.sha256}", *same_slice)


def report_of(ingested: Ingested) -> dict[str, object]:
    """Return the data report: what a person should know before believing a figure measured on this set."""
    pictures = ingested.pictures
    splits_of_content: defaultdict[str, set[str]] = defaultdict(set)
    splits_of_group: defaultdict[str, set[str]] = defaultdict(set)
    for picture in pictures:
        splits_of_content[picture.sha256].add(picture.split)
        if picture.patient_group_id:
            splits_of_group[picture.patient_group_id].add(picture.split)
    counts = Counter((picture.split, picture.class_name) for picture in pictures)
    test_in_train = [
        picture for picture in pictures if picture.split == "test" and "train" in splits_of_content[picture.sha256]
    ]
    return {
        "pictures": len(pictures),
        "unique": len(splits_of_content),
        "counts": {split: {name: counts[split, name] for name in CLASSES} for split in SPLITS},
        "modes": dict(Counter(picture.mode for picture in pictures)),
        "formats": dict(Counter(picture.format for picture in pictures)),
        "test_pictures_in_train": len(test_in_train),
        "test_pictures_in_train_by_class": dict(Counter(picture.class_name for picture in test_in_train)),
        "conflicts": sorted(picture.path for picture in pictures if picture.conflict_with),
        "groups": len(splits_of_group),
        "groups_in_several_splits": sum(len(splits) > 1 for splits in splits_of_group.values()),
        "unique_by_class": {
            name: len({picture.sha256 for picture in pictures if picture.class_name == name}) for name in CLASSES
        },
        "set_aside": [asdict(one) for one in ingested.set_aside],
    }


def write(ingested: Ingested, *, out: Path) -> None:
    """Write manifest and report into `out`, each by rename."""
    out.mkdir(parents=True, exist_ok=True)
    lines = io.StringIO()
    writer = csv.DictWriter(lines, [field.name for field in fields(Picture)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(picture) for picture in ingested.pictures)
    _replace(out / MANIFEST_NAME, lines.getvalue())
    _replace(out / REPORT_NAME, json.dumps(report_of(ingested), indent=1, ensure_ascii=False) + "\n")


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("IRA_DATA_DIR"), help="folder of the sets")
    parser.add_argument("--out", type=Path, default=Path("var/ingest"))
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("name a data folder with --data or in the environment as IRA_DATA_DIR")
    try:
        root = find_folders(Path(options.data)).chest_ctscan
        if root is None:
            raise TrainingDataError(f"There is no chest-ctscan-images set below {options.data}.")
        ingested = ingest(root)
    except MlError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    write(ingested, out=options.out)
    sys.stdout.write(f"{len(ingested.pictures)} pictures, {len(ingested.set_aside)} set aside → {options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
