"""Writes what doctors taught into a folder that `train` and the pipeline read, complete or not at all."""

import csv
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from django.utils import timezone
from django.utils.translation import gettext as _
from numpy.typing import NDArray
from PIL import Image as PillowImage

from portal.learning.labels import Label, LeftOut

DATA: Final = "data"
MANIFEST_NAME: Final = "manifest.csv"
RECORD_NAME: Final = "export.json"
CLASS_SET: Final = "chest-ctscan-images"
OUTLINE_SET: Final = "msd-lung-slices"
GROUP_COLUMNS: Final = ("path", "split", "class", "sha1", "width", "height", "same_slice_id", "patient_group_id")
ERASED: Final = "It is no longer in the portal."


class ExportError(Exception):
    """The labels could not be written; the message is a sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One file of an export. ``label`` is the class of a class picture, empty for outlines."""

    path: str
    sha256: str
    label: str
    slice: str
    study: str
    patient: str


@dataclass(frozen=True, kw_only=True)
class Export:
    """What an export came to. ``version`` changes with any file; ``gone`` are slices that the former export had."""

    version: str
    fingerprint: str
    slices: int
    outlines: int
    classes: dict[str, int]
    patients: int
    with_text: tuple[str, ...]
    left_out: dict[str, int]
    gone: tuple[dict[str, str], ...]
    exported_at: str


def export_labels(found: Iterable[Label | LeftOut], *, out: Path, base: Path | None = None) -> Export:
    """Write labels to ``out``: ``data/`` in the layouts of training, ``manifest.csv``, ``export.json``.

    ``base`` is a folder with the training sets: its files stand in ``data/`` too (as links to the same bytes where the
    disk allows it), so that ``data/`` alone is what to train on. Raises ``ExportError``; ``out`` is then as it was.
    """
    before = read_record(out)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    former = out.with_name(f".{out.name}.former-{os.getpid()}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        (partial / DATA).mkdir(parents=True)
        if base is not None:
            _take_over(base, data=partial / DATA)
        export = _write(found, folder=partial, before=before)
        # What lies beside, such as DVC's pointer, stays.
        for name in (DATA, MANIFEST_NAME, RECORD_NAME):
            _exchange(out / name, new=partial / name, former=former / name)
    except OSError as error:
        raise ExportError(
            _("The labels cannot be written to %(folder)s: %(reason)s. Please check space and rights.")
            % {"folder": out, "reason": error.strerror or error}
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)
    return export


def read_record(out: Path) -> dict[str, str]:
    """Return the slices of the export that lies in ``out``: name → study; nothing where there is none."""
    path = out / MANIFEST_NAME
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["slice"]: row["study"] for row in csv.DictReader(file)}


def _exchange(target: Path, *, new: Path, former: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        former.parent.mkdir(parents=True, exist_ok=True)
        target.rename(former)
    new.rename(target)


def _take_over(base: Path, *, data: Path) -> None:
    for set_folder in sorted(path for path in base.iterdir() if path.is_dir()):
        shutil.copytree(set_folder, data / set_folder.name, copy_function=_link)


def _link(source: str, target: str) -> None:
    # Another disk, or one without links: copied.
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write(found: Iterable[Label | LeftOut], *, folder: Path, before: dict[str, str]) -> Export:
    lines: list[Line] = []
    groups: list[dict[str, object]] = []
    left_out: dict[str, str] = {}
    with_text: list[str] = []
    for one in found:
        if isinstance(one, LeftOut):
            left_out[one.name] = one.reason
            continue
        lines += _write_label(one, data=folder / DATA, groups=groups)
        if one.had_text:
            with_text.append(one.name)
    if groups:
        _add_groups(groups, path=folder / DATA / CLASS_SET / "groups.csv")
    lines.sort(key=lambda line: line.path)
    with (folder / MANIFEST_NAME).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(Line.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(line) for line in lines)
    fingerprint = hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
    now = timezone.now()
    kept = {line.slice for line in lines}
    export = Export(
        version=f"{now:%Y.%m.%d}-{fingerprint[:8]}",
        fingerprint=fingerprint,
        slices=len(kept),
        outlines=sum(not line.label and not line.path.endswith("_mask.png") for line in lines),
        classes=dict(sorted(Counter(line.label for line in lines if line.label).items())),
        patients=len({line.patient for line in lines}),
        with_text=tuple(with_text),
        left_out=dict(sorted(Counter(left_out.values()).items())),
        gone=tuple(
            {"slice": name, "study": study, "reason": left_out.get(name, ERASED)}
            for name, study in sorted(before.items())
            if name not in kept
        ),
        exported_at=now.isoformat(timespec="seconds"),
    )
    text = json.dumps(asdict(export), indent=1, ensure_ascii=False)
    (folder / RECORD_NAME).write_text(text + "\n", encoding="utf-8")
    return export


def _write_label(label: Label, *, data: Path, groups: list[dict[str, object]]) -> Iterator[Line]:
    def line(path: Path, *, of: str) -> Line:
        return Line(
            path=path.relative_to(data).as_posix(),
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            label=of,
            slice=label.name,
            study=label.study,
            patient=label.patient,
        )

    if label.mask is not None:
        place = data / OUTLINE_SET / label.patient
        yield line(_save(place / f"{label.name}.png", pixels=label.pixels), of="")
        yield line(_save(place / f"{label.name}_mask.png", pixels=label.mask), of="")
    if label.diagnosis:
        root = data / CLASS_SET / "Data"
        path = _save(root / "train" / label.diagnosis / f"{label.name}.png", pixels=label.pixels)
        height, width = label.pixels.shape
        groups.append(
            {
                "path": path.relative_to(root).as_posix(),
                "split": "train",
                "class": label.diagnosis,
                "sha1": hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest(),
                "width": width,
                "height": height,
                "same_slice_id": label.name,
                "patient_group_id": label.patient,
            }
        )
        yield line(path, of=label.diagnosis)


def _save(path: Path, *, pixels: NDArray[np.uint8]) -> Path:
    """Write grey values as PNG: nothing of the stored file's own bytes, and no metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(pixels).save(path, format="PNG")
    return path


def _add_groups(groups: list[dict[str, object]], *, path: Path) -> None:
    """Add to the base's own table, which is a link to it: written anew, never into."""
    rows: list[dict[str, object]] = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{name: row.get(name, "") for name in GROUP_COLUMNS} for row in csv.DictReader(file)]
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, GROUP_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, *groups])
