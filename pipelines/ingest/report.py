"""What a person should know before believing a figure measured on the class set, as JSON and as Markdown."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ml.data import CLASSES, SPLITS
from pipelines.ingest.groups import Agreement
from pipelines.ingest.outlines import OutlinedPicture
from pipelines.ingest.pictures import Picture, SetAside

NORMAL = "normal"
# How plainly one number alone must tell two kinds of pictures apart to be called a shortcut; 0.5 is chance.
PLAIN_AUC = 0.8


@dataclass(frozen=True)
class Ingested:
    """Everything that was found. `groups_from` says in a sentence where the groups come from."""

    pictures: tuple[Picture, ...] = ()
    nodules: tuple[OutlinedPicture, ...] = ()
    slices: tuple[OutlinedPicture, ...] = ()
    set_aside: Mapping[str, tuple[SetAside, ...]] = field(default_factory=dict)
    groups_from: str = "There is no class set."
    agreement: Agreement | None = None


def report_of(ingested: Ingested) -> dict[str, Any]:
    """Return the data report as it is written to data_report.json."""
    return {
        "class_set": _class_set(ingested),
        "nodules": _outlined(ingested.nodules),
        "slices": _outlined(ingested.slices),
        "set_aside": [{"set": name, **asdict(one)} for name, files in ingested.set_aside.items() for one in files],
    }


def _class_set(ingested: Ingested) -> dict[str, Any] | None:
    pictures = ingested.pictures
    if not pictures:
        return None
    splits_of: dict[str, defaultdict[str, set[str]]] = {
        name: defaultdict(set) for name in ("sha256", "pixels_sha256", "same_slice_id", "patient_group_id")
    }
    for picture in pictures:
        for name, splits in splits_of.items():
            if value := getattr(picture, name):
                splits[value].add(picture.split)
    counts = Counter((picture.split, picture.class_name) for picture in pictures)
    in_train = [
        one for one in pictures if one.split == "test" and "train" in splits_of["pixels_sha256"][one.pixels_sha256]
    ]
    return {
        "pictures": len(pictures),
        "unique_files": len(splits_of["sha256"]),
        "unique_pictures": len(splits_of["pixels_sha256"]),
        "counts": {split: {name: counts[split, name] for name in CLASSES} for split in SPLITS},
        "unique_by_class": {
            name: len({one.pixels_sha256 for one in pictures if one.class_name == name}) for name in CLASSES
        },
        "modes": dict(Counter(one.mode for one in pictures)),
        "formats": dict(Counter(one.format for one in pictures)),
        "misnamed": sum(not _is_named_as_it_is(one) for one in pictures),
        "duplicates": sum(bool(one.duplicate_of) for one in pictures),
        "test_pictures_in_train": len(in_train),
        "test_pictures_in_train_by_class": dict(Counter(one.class_name for one in in_train)),
        "slices_in_several_splits": sum(len(splits) > 1 for splits in splits_of["same_slice_id"].values()),
        "conflicts": [
            {"path": one.path, "class": one.class_name, "conflict_with": one.conflict_with}
            for one in pictures
            if one.conflict_with
        ],
        "groups": len(splits_of["patient_group_id"]),
        "groups_in_several_splits": sum(len(splits) > 1 for splits in splits_of["patient_group_id"].values()),
        "groups_from": ingested.groups_from,
        "groups_inferred_against_given": None if ingested.agreement is None else asdict(ingested.agreement),
        "style": _style_by(pictures, key=lambda one: one.class_name) | _style_by(pictures, key=lambda one: one.split),
        "shortcuts": shortcuts(pictures),
    }


def _is_named_as_it_is(picture: Picture) -> bool:
    return picture.path.lower().endswith({"PNG": (".png",), "JPEG": (".jpg", ".jpeg")}.get(picture.format, ()))


def _style_by(pictures: Sequence[Picture], *, key: Callable[[Picture], str]) -> dict[str, dict[str, Any]]:
    """Return what pictures of a class or split look like: medians of rim and size, modes, mean shares of greys."""
    groups: defaultdict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        groups[key(picture)].append(picture)
    return {
        name: {
            "pictures": len(members),
            "median_rim_brightness": float(np.median([one.style.rim for one in members])),
            "median_width_px": float(np.median([one.width for one in members])),
            "median_height_px": float(np.median([one.height for one in members])),
            "modes": dict(Counter(one.mode for one in members)),
            "grey_histogram": np.mean([one.style.histogram for one in members], axis=0).round(4).tolist(),
        }
        for name, members in sorted(groups.items())
    }


MEASURES: dict[str, Callable[[Picture], float]] = {
    "rim brightness": lambda one: one.style.rim,
    "width": lambda one: float(one.width),
    "height": lambda one: float(one.height),
    "shape": lambda one: one.width / one.height,
    "share of black": lambda one: one.style.histogram[0],
    "share of white": lambda one: one.style.histogram[-1],
    "mode is RGBA": lambda one: float(one.mode == "RGBA"),
    "format is JPEG": lambda one: float(one.format == "JPEG"),
}


def shortcuts(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """Return how well each single number of style parts normal from cancer, and training from test, best first.

    `auc` is 0.5 for chance and 1 for a number that gives the answer away; each picture counts once.
    """
    unique = {(one.pixels_sha256, one.split): one for one in pictures}.values()
    questions: dict[str, tuple[list[Picture], list[Picture]]] = {
        "normal or cancer": (
            [one for one in unique if one.class_name == NORMAL],
            [one for one in unique if one.class_name != NORMAL],
        ),
        "train or test": (
            [one for one in unique if one.split == "train"],
            [one for one in unique if one.split == "test"],
        ),
    }
    found = [
        {"question": question, "measure": name, "auc": round(separation(map(value, one), map(value, other)), 3)}
        for question, (one, other) in questions.items()
        if one and other
        for name, value in MEASURES.items()
    ]
    return sorted(found, key=lambda entry: -float(entry["auc"]))


def separation(one: Any, other: Any) -> float:
    """Return the area under the ROC curve of a number that parts two samples, whichever way round: 0.5 to 1."""
    first, second = np.fromiter(one, float), np.sort(np.fromiter(other, float))
    below = np.searchsorted(second, first, side="left")
    ties = np.searchsorted(second, first, side="right") - below
    area = float((below + ties / 2).mean() / len(second))
    return max(area, 1 - area)


def _outlined(pictures: Sequence[OutlinedPicture]) -> dict[str, Any] | None:
    if not pictures:
        return None
    return {
        "pictures": len(pictures),
        "unique_files": len({one.sha256 for one in pictures}),
        "patients": len({one.patient for one in pictures}),
        "without_tumour": sum(not one.has_tumour for one in pictures),
        "modes": dict(Counter(one.mode for one in pictures)),
        "formats": dict(Counter(one.format for one in pictures)),
    }


def as_markdown(report: Mapping[str, Any]) -> str:
    """Return data_report.json for people."""
    blocks = ["# Data report", ""]
    if report["class_set"]:
        blocks += _class_set_in_words(report["class_set"])
    for key, title in (("nodules", "Nodule crops with outlines"), ("slices", "Whole slices with outlines")):
        if block := report[key]:
            blocks += [
                f"## {title}",
                "",
                f"{block['pictures']} pictures ({block['unique_files']} different files) of {block['patients']} "
                f"patients; {block['without_tumour']} without tumour.",
                "",
            ]
    blocks += ["## Set aside", ""]
    if not report["set_aside"]:
        blocks.append("No file was set aside.")
    blocks += [
        f"- `{_plain(one['set'])}/{_plain(one['path'])}`: {_plain(one['reason'])}" for one in report["set_aside"]
    ]
    return "\n".join(blocks).rstrip() + "\n"


def _class_set_in_words(block: Mapping[str, Any]) -> list[str]:
    rows = [[split, *(block["counts"][split][name] for name in CLASSES)] for split in SPLITS]
    rows.append(["different pictures", *(block["unique_by_class"][name] for name in CLASSES)])
    leaks = ", ".join(f"{count} {name}" for name, count in block["test_pictures_in_train_by_class"].items())
    agreement = block["groups_inferred_against_given"]
    style_rows = [
        [
            name,
            one["pictures"],
            f"{one['median_rim_brightness']:.0f}",
            f"{one['median_width_px']:.0f} x {one['median_height_px']:.0f}",
            ", ".join(f"{mode} {count}" for mode, count in one["modes"].items()),
        ]
        for name, one in block["style"].items()
    ]
    plain = [one for one in block["shortcuts"] if one["auc"] >= PLAIN_AUC]
    return [
        "## Class set",
        "",
        f"{block['pictures']} pictures, {block['unique_files']} different files, {block['unique_pictures']} different "
        f"pictures; {block['misnamed']} files are of another format than their name says.",
        "",
        *_table(["", *(name.replace("_", " ") for name in CLASSES)], rows),
        "### Leaks",
        "",
        f"- {block['duplicates']} pictures show what another shows already.",
        f"- {block['test_pictures_in_train']} test pictures stand in training too{f' ({leaks})' if leaks else ''}.",
        f"- {block['slices_in_several_splits']} slices and {block['groups_in_several_splits']} of {block['groups']} "
        "patient groups stand in several splits.",
        f"- {block['groups_from']}",
        *(
            [
                "- Inferred anew for comparison, the patient groups agree with the given ones: adjusted Rand index "
                f"{agreement['adjusted_rand_index']:.3f}, precision of pairs {agreement['pair_precision']:.3f}, "
                f"recall {agreement['pair_recall']:.3f}."
            ]
            if agreement
            else []
        ),
        "",
        "### Conflicts",
        "",
        *([] if block["conflicts"] else ["No slice carries two classes."]),
        *(
            f"- `{_plain(one['path'])}` ({one['class'].replace('_', ' ')}) shows the slice of "
            f"`{_plain(one['conflict_with'])}`."
            for one in block["conflicts"]
        ),
        "",
        "### Shortcuts",
        "",
        "Numbers that tell nothing about the patient and yet give an answer away (area under the ROC curve, 0.5 is "
        f"chance, {PLAIN_AUC} and more is listed; each picture counts once):",
        "",
        *([] if plain else ["None."]),
        *(f"- {one['question']}: {one['measure']} {one['auc']:.2f}" for one in plain),
        "",
        *_table(["pictures of", "count", "median rim brightness", "median size (px)", "modes"], style_rows),
    ]


def _table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [*(f"| {' | '.join(map(str, line))} |" for line in lines), ""]


def _plain(text: str) -> str:
    """Return text that cannot break out of a line of Markdown."""
    return "".join(letter if letter.isprintable() else "?" for letter in text).replace("`", "'")


def without_surrogates(text: str) -> str:
    """Return a file's name as it can be written as UTF-8: Linux allows names that are no text."""
    return text.encode("utf-8", "backslashreplace").decode()
