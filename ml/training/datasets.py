"""Loads the sets for training, applies the splits, and writes down who was where (the training manifest)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ml.data import (
    CLASSES,
    ChestImage,
    DataFolders,
    ManifestEntry,
    NoduleSlice,
    WholeSlice,
    read_chest_ctscan,
    read_grey,
    read_lidc_nodules,
    read_whole_slices,
    split_few_patients,
    split_of_patients,
    without_conflicts,
)
from ml.training.outline import OutlineData
from ml.training.parameters import Parameters
from ml.training.patches import load_nodules, load_slices, whole_example

NORMAL = CLASSES.index("normal")
# One normal patient group in so many chooses thresholds instead of teaching.
THRESHOLD_SHARE = 3


@dataclass(frozen=True)
class OutlineSplits:
    """The slices of each split, patients disjoint."""

    nodules: dict[str, tuple[NoduleSlice, ...]]
    slices: dict[str, tuple[WholeSlice, ...]]


def split_outline_sets(folders: DataFolders, *, parameters: Parameters, limit: int | None = None) -> OutlineSplits:
    """Return lidc-nodules and whole slices by split; `limit` keeps the first so many rows of each set."""
    nodules = read_lidc_nodules(folders.lidc_nodules)[:limit] if folders.lidc_nodules else ()
    slices = read_whole_slices(folders.whole_slices) if folders.whole_slices else ()
    place = split_of_patients(
        (one.patient for one in nodules),
        seed=parameters.seed,
        valid_share=parameters.splits.valid_share,
        test_share=parameters.splits.test_share,
    )
    few = split_few_patients({one.patient for one in slices}, seed=parameters.seed)
    return OutlineSplits(
        nodules={split: tuple(n for n in nodules if place[n.patient] == split) for split in ("train", "valid", "test")},
        slices={
            split: tuple(s for s in slices if few[s.patient] == split)[:limit] for split in ("train", "valid", "test")
        },
    )


def load_outline_data(
    folders: DataFolders, *, splits: OutlineSplits, parameters: Parameters, limit: int | None = None
) -> OutlineData:
    """Read the train and valid pictures; the test pictures are not opened."""
    negatives = []
    if folders.chest_ctscan is not None:
        chest = without_conflicts([one for one in read_chest_ctscan(folders.chest_ctscan) if one.split == "train"])
        taught, _ = split_normals(chest)
        negatives = [whole_example(read_grey(one.image)) for one in taught][:limit]
    return OutlineData(
        train_nodules=load_nodules(splits.nodules["train"]),
        train_slices=load_slices(splits.slices["train"]),
        negatives=negatives,
        valid_nodules=evenly_spread(
            _flat(load_nodules(splits.nodules["valid"])), count=parameters.outline.valid_slices
        ),
        valid_slices=evenly_spread(load_slices(splits.slices["valid"]), count=12),
    )


def split_normals(train: Sequence[ChestImage]) -> tuple[list[ChestImage], list[ChestImage]]:
    """Return the normal slices of a training split, each once: those to teach, and those to choose thresholds by.

    One patient group of three goes to the thresholds; a slice without a group is a group of its own.
    """
    slices = {one.same_slice_id or one.sha1: one for one in train if one.label == NORMAL}
    names = sorted({one.patient_group_id or one.sha1 for one in slices.values()})
    kept = set(names[THRESHOLD_SHARE - 1 :: THRESHOLD_SHARE])
    taught = [one for one in slices.values() if (one.patient_group_id or one.sha1) not in kept]
    return taught, [one for one in slices.values() if (one.patient_group_id or one.sha1) in kept]


def _flat(groups: dict) -> list:
    return [example for name in sorted(groups) for example in groups[name]]


def evenly_spread(items: Sequence, *, count: int) -> list:
    """Return at most `count` of `items`, evenly spread over them."""
    if len(items) <= count:
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]


def outline_manifest(splits: OutlineSplits) -> tuple[ManifestEntry, ...]:
    """Return an entry for every picture of every split, test included, so that leaks can be looked for later."""
    entries = []
    for name, sets in (("lidc-nodules", splits.nodules), ("whole-slices", splits.slices)):
        for split, slices in sets.items():
            for one in slices:
                digest = hashlib.sha256(one.image.read_bytes()).hexdigest()
                path = f"{one.patient}/{one.image.name}"
                entries.append(ManifestEntry(set=name, path=path, split=split, group=one.patient, sha256=digest))
    return tuple(entries)
