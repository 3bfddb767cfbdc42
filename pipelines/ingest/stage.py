"""Ingestion as a whole: source in, complete folder out."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from ml.data import SPLITS, find_folders, has_splits
from pipelines.ingest.archive import DEFAULT_ARCHIVE_LIMITS, ArchiveLimits, unpack
from pipelines.ingest.errors import IngestError
from pipelines.ingest.folder import complete_folder
from pipelines.ingest.groups import Agreement, agreement, given_groups, infer_groups, write_groups
from pipelines.ingest.outlines import OutlinedPicture, check_nodules, check_slices
from pipelines.ingest.pictures import (
    GROUPS_NAME,
    Group,
    Picture,
    SetAside,
    files_below,
    read_class_set,
    with_groups,
    with_relations,
)
from pipelines.ingest.progress import Progress, silent
from pipelines.ingest.report import Ingested, as_markdown, report_of, without_surrogates

MANIFEST_NAME = "manifest.csv"
REPORT_NAME = "data_report.json"
READABLE_REPORT_NAME = "data_report.md"
DATA_NAME = "data"
CLASS_SET, NODULES, SLICES = "chest-ctscan-images", "lidc-nodules", "msd-lung-slices"
# Under these names the report lists what belongs to no set.
ARCHIVE, SOURCE = "archive", "source"


@dataclass(frozen=True)
class ManifestLine:
    """One sound picture. `group` is the patient, inferred for the class set; empty columns do not apply to the set."""

    set: str
    path: str
    split: str
    class_name: str
    sha256: str
    pixels_sha256: str
    width: int
    height: int
    mode: str
    format: str
    duplicate_of: str
    conflict_with: str
    same_slice_id: str
    group: str


def ingest(
    source: Path,
    *,
    out: Path,
    cache: Path,
    compares_groups: bool = False,
    limits: ArchiveLimits = DEFAULT_ARCHIVE_LIMITS,
    progress: Progress = silent,
) -> Ingested:
    """Check `source`, a folder or a ZIP archive, and write `out`: complete, or as it was before.

    `cache` keeps compared pairs of pictures between runs; with `compares_groups` groups are inferred even where they
    are given, and both are compared. Raises IngestError or TrainingDataError where nothing can be used.
    """
    if not source.exists():
        raise IngestError(f"There is nothing at {source}. Name the folder or the ZIP archive of the data with --data.")
    if source.resolve().is_relative_to(out.resolve()):
        raise IngestError(
            f"The source {source} lies in {out}, which would be replaced. Name another folder with --out."
        )
    with complete_folder(out) as partial:
        with _opened(source, beside=partial, limits=limits) as (root, refused):
            ingested = _ingest_folder(
                root, out=partial, cache=cache, compares_groups=compares_groups, progress=progress
            )
            if refused:
                ingested = replace(ingested, set_aside={ARCHIVE: refused, **ingested.set_aside})
        if not (ingested.pictures or ingested.nodules or ingested.slices):
            raise IngestError(f"Not one picture of {source} can be used. {_first_reason(ingested)}")
        _write_manifest(ingested, path=partial / MANIFEST_NAME)
        report = report_of(ingested)
        _write(partial / REPORT_NAME, text=json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        _write(partial / READABLE_REPORT_NAME, text=as_markdown(report))
    return ingested


def _first_reason(ingested: Ingested) -> str:
    first = next((one for files in ingested.set_aside.values() for one in files), None)
    return "Check the folder." if first is None else f"{without_surrogates(first.path)}: {first.reason}"


@contextmanager
def _opened(source: Path, *, beside: Path, limits: ArchiveLimits) -> Iterator[tuple[Path, tuple[SetAside, ...]]]:
    """Yield the folder to read and what of an archive was not unpacked; an unpacked archive is removed afterwards."""
    if source.is_dir():
        yield source, ()
        return
    unpacked = Path(tempfile.mkdtemp(prefix="unpacked-", dir=beside))
    try:
        refused = unpack(source, into=unpacked, limits=limits)
        yield _past_wrapping(unpacked), refused
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _past_wrapping(folder: Path) -> Path:
    """Return the folder within: archives made by hand often hold one folder and everything in it."""
    inside = [path for path in folder.iterdir() if path.name != "__MACOSX"]
    if len(inside) == 1 and inside[0].is_dir() and not has_splits(folder) and inside[0].name not in ("Data", *SPLITS):
        return inside[0] if inside[0].name not in (CLASS_SET, NODULES, SLICES) else folder
    return folder


def _ingest_folder(root: Path, *, out: Path, cache: Path, compares_groups: bool, progress: Progress) -> Ingested:
    folders = find_folders(root)
    ingested = Ingested()
    set_aside: dict[str, tuple[SetAside, ...]] = {}
    data = out / DATA_NAME
    known: list[Path] = []
    if folders.chest_ctscan is not None:
        known.append(folders.chest_ctscan)
        ingested, set_aside[CLASS_SET] = _ingest_class_set(
            folders.chest_ctscan, out=data / CLASS_SET, cache=cache, compares_groups=compares_groups, progress=progress
        )
    if folders.lidc_nodules is not None:
        known.append(folders.lidc_nodules)
        nodules, set_aside[NODULES] = check_nodules(folders.lidc_nodules, out=data / NODULES, progress=progress)
        ingested = replace(ingested, nodules=nodules)
    if folders.whole_slices is not None:
        known.append(folders.whole_slices)
        slices, set_aside[SLICES] = check_slices(folders.whole_slices, out=data / SLICES, progress=progress)
        ingested = replace(ingested, slices=slices)
    set_aside[SOURCE] = _strangers(root, known=known)
    return replace(ingested, set_aside={name: files for name, files in set_aside.items() if files})


def _strangers(root: Path, *, known: Sequence[Path]) -> tuple[SetAside, ...]:
    """Return what lies beside the sets, folders as one; nothing where `root` is itself a set."""
    if root in known:
        return ()
    return tuple(
        SetAside(path=path.name, reason="It belongs to none of the sets.")
        for path in sorted(root.iterdir())
        if path not in known
    )


def _ingest_class_set(
    root: Path, *, out: Path, cache: Path, compares_groups: bool, progress: Progress
) -> tuple[Ingested, tuple[SetAside, ...]]:
    data = root / "Data" if (root / "Data").is_dir() else root
    pictures, set_aside = read_class_set(data, out=out / "Data", progress=progress)
    if data == root:
        set_aside = tuple(one for one in set_aside if one.path != GROUPS_NAME)
    else:
        set_aside += _strays(root, besides=data)
    given = given_groups(root / GROUPS_NAME, pictures=pictures) if pictures else None
    inferred: dict[str, Group] | None = None
    if given is None or compares_groups:
        inferred = infer_groups(pictures, data=out / "Data", cache=cache, progress=progress)
    groups = inferred or {} if given is None else given
    pictures = with_relations(with_groups(pictures, groups=groups))
    if pictures:
        write_groups(pictures, path=out / GROUPS_NAME)
    ingested = Ingested(
        pictures=pictures,
        groups_from=_origin(root, is_given=given is not None),
        agreement=_compare(pictures, inferred=inferred, given=given),
    )
    return ingested, set_aside


def _strays(root: Path, *, besides: Path) -> tuple[SetAside, ...]:
    """Return the files that lie beside the `Data` folder."""
    return tuple(
        SetAside(path=f"../{name}", reason="It lies outside the folder Data.")
        for name, path in files_below(root)
        if besides not in path.parents and name != GROUPS_NAME
    )


def _origin(root: Path, *, is_given: bool) -> str:
    if is_given:
        return f"The groups are those of {GROUPS_NAME}."
    inferred = "groups were inferred from the pictures (perceptual hash, SIFT keypoints, RANSAC)."
    if (root / GROUPS_NAME).exists():
        return f"{GROUPS_NAME} does not speak of every picture as it now is, so the {inferred}"
    return f"The {inferred}"


def _compare(
    pictures: Sequence[Picture], *, inferred: dict[str, Group] | None, given: dict[str, Group] | None
) -> Agreement | None:
    if inferred is None or given is None:
        return None
    unique = {one.pixels_sha256: one.path for one in pictures}.values()
    return agreement(
        [inferred[path].patient_group_id for path in unique],
        truth=[given[path].patient_group_id for path in unique],
    )


def _write_manifest(ingested: Ingested, *, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(ManifestLine)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(line) for line in manifest_of(ingested))


def manifest_of(ingested: Ingested) -> Iterator[ManifestLine]:
    """Yield a line for every sound picture of every set."""
    for one in ingested.pictures:
        yield ManifestLine(
            set=CLASS_SET,
            path=one.path,
            split=one.split,
            class_name=one.class_name,
            sha256=one.sha256,
            pixels_sha256=one.pixels_sha256,
            width=one.width,
            height=one.height,
            mode=one.mode,
            format=one.format,
            duplicate_of=one.duplicate_of,
            conflict_with=one.conflict_with,
            same_slice_id=one.same_slice_id,
            group=one.patient_group_id,
        )
    for name, pictures in ((NODULES, ingested.nodules), (SLICES, ingested.slices)):
        for outlined in pictures:
            yield _line_of(outlined, name=name)


def _line_of(outlined: OutlinedPicture, *, name: str) -> ManifestLine:
    return ManifestLine(
        set=name,
        path=outlined.path,
        split="",
        class_name="",
        sha256=outlined.sha256,
        pixels_sha256="",
        width=outlined.width,
        height=outlined.height,
        mode=outlined.mode,
        format=outlined.format,
        duplicate_of="",
        conflict_with="",
        same_slice_id="",
        group=outlined.patient,
    )


def _write(path: Path, *, text: str) -> None:
    path.write_text(without_surrogates(text), encoding="utf-8")
